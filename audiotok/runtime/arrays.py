"""A recording through a codec as numpy arrays, piece by piece, whatever executes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from audiotok.runtime.exported import Exported

if TYPE_CHECKING:
    from audiotok.runtime.base import RunnableCodec


class _Arrays:
    """A passage of torch that takes and gives arrays."""

    def __init__(self, passage: Any, device: Any) -> None:
        self.passage, self.device = passage, device

    @property
    def samples(self) -> int:
        return self.passage.samples

    @property
    def frames(self) -> int:
        return self.passage.frames

    def push(self, x: np.ndarray) -> np.ndarray:
        import torch

        x = x if x.flags.writeable else x.copy()
        return self.passage.push(torch.from_numpy(x).to(self.device)).cpu().numpy()

    def finish(self) -> np.ndarray:
        return self.passage.finish().cpu().numpy()


def encoding(codec: RunnableCodec | Exported, codebooks: int) -> Any:
    """What takes waves `[1 c t]` and gives codes `[1 k f]`, as arrays."""
    if isinstance(codec, Exported):
        return codec.encoding(codebooks=codebooks)
    from audiotok.runtime.sessions import Encoding

    return _Arrays(Encoding(codec, codebooks=codebooks), codec.device)


def decoding(codec: RunnableCodec | Exported, samples: int) -> Any:
    """What takes codes `[1 k f]` and gives waves `[1 c t]`, as arrays."""
    if isinstance(codec, Exported):
        return codec.decoding(samples=samples)
    from audiotok.runtime.sessions import Decoding

    return _Arrays(Decoding(codec, samples=samples), codec.device)
