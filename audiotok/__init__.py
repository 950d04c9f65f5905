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
    from audiotok.audio import Audio
    from audiotok.codecs.base import Codec
    from audiotok.opening import load
    from audiotok.registry import names
    from audiotok.stream import Stream, StreamBatch
    from audiotok.tokens import Tokens

__version__ = "0.1.0"
__all__ = ["Audio", "Codec", "Stream", "StreamBatch", "Tokens", "load", "names"]

_HOME = {
    "Audio": "audio",
    "Codec": "codecs.base",
    "Stream": "stream",
    "StreamBatch": "stream",
    "Tokens": "tokens",
    "load": "opening",
    "names": "registry",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"audiotok.{_HOME[name]}"), name)
    raise AttributeError(f"module 'audiotok' has no attribute {name!r}; it has {sorted(_HOME)}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
