"""Coding of a recording in pieces as numpy arrays, by a codec in torch or by an exported one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from audiotok.runtime.exported import Exported

if TYPE_CHECKING:
    from audiotok.runtime.base import RunnableCodec


class _ArraySession:
    """Session of torch that takes and returns arrays."""

    def __init__(self, session: Any, device: Any) -> None:
        self.session = session
        self.device = device

    @property
    def samples(self) -> int:
        return self.session.samples

    @property
    def frames(self) -> int:
        return self.session.frames

    def push(self, x: np.ndarray) -> np.ndarray:
        import torch

        x = x if x.flags.writeable else x.copy()
        return self.session.push(torch.from_numpy(x).to(self.device)).cpu().numpy()

    def finish(self) -> np.ndarray:
        return self.session.finish().cpu().numpy()


def encoding(codec: RunnableCodec | Exported, codebooks: int) -> Any:
    """Return a session that takes waves `[1 c t]` and returns codes `[1 k f]`, as arrays."""
    if isinstance(codec, Exported):
        return codec.encoding(codebooks=codebooks)
    from audiotok.runtime.sessions import Encoding

    return _ArraySession(Encoding(codec, codebooks=codebooks), codec.device)


def decoding(codec: RunnableCodec | Exported, samples: int) -> Any:
    """Return a session that takes codes `[1 k f]` and returns waves `[1 c t]`, as arrays."""
    if isinstance(codec, Exported):
        return codec.decoding(samples=samples)
    from audiotok.runtime.sessions import Decoding

    return _ArraySession(Decoding(codec, samples=samples), codec.device)
