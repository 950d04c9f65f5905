"""audiotok turns audio into discrete tokens and back.

>>> import audiotok
>>> codec = audiotok.load("speech")
>>> tokens = codec.encode(audiotok.Audio.load("in.wav"))
>>> codec.decode(tokens).save("out.wav")

The names below load when they are first used, so that reading a token file needs numpy only.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from audiotok.audio.audio import Audio
    from audiotok.codecs.load import load, names
    from audiotok.codecs.models.base import Codec
    from audiotok.runtime.stream import Stream, StreamBatch
    from audiotok.tokens.tokens import Tokens

__version__ = "0.1.0"
__all__ = ["Audio", "Codec", "Stream", "StreamBatch", "Tokens", "load", "names"]

_HOME = {
    "Audio": "audio.audio",
    "Codec": "codecs.models.base",
    "Stream": "runtime.stream",
    "StreamBatch": "runtime.stream",
    "Tokens": "tokens.tokens",
    "load": "codecs.load",
    "names": "codecs.load",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"audiotok.{_HOME[name]}"), name)
    raise AttributeError(f"module 'audiotok' has no attribute {name!r}; it has {sorted(_HOME)}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
