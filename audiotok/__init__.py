"""audiotok turns audio into discrete tokens and back.

>>> import audiotok
>>> codec = audiotok.load("speech")
>>> tokens = codec.encode(audiotok.Audio.load("in.wav"))
>>> codec.decode(tokens).save("out.wav")

Public is what an `__all__` lists: that of this package, those of its rooms (`audiotok.lm`,
`audiotok.nn` ...; the `__init__.pyi` beside each is the list), and those of the few modules that
have one. The base classes that a part from outside derives from are among them. Any other name or
module may change in any release without notice.

A public name stays for two minor releases after the first that warns of its end, with a
FutureWarning that says what to write instead. All errors that are raised on purpose derive from
`audiotok.Error`.

Names load when they are first used, so that reading a token file needs numpy only.
"""

from __future__ import annotations

from audiotok._platform.optional import lazy_names

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
