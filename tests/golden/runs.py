"""What a program makes of noise, by the names that it has in a golden file."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor


def runs_of(
    lengths: Sequence[int],
    noise: Callable[[int], Tensor],
    encode: Callable[[Tensor], Tensor],
    decode: Callable[[Tensor], Tensor],
) -> dict[str, np.ndarray]:
    """Return codes `[k f]` and waves `[1 t]` of noise, and print how the codes spread.

    Args:
        lengths: numbers of samples.
        noise: function that makes so many samples.
        encode: the program's, of that noise.
        decode: the program's, of codes.
    """
    runs: dict[str, np.ndarray] = {}
    for samples in lengths:
        codes = encode(noise(samples))
        runs[f"codes {samples}"] = codes.numpy().astype(np.int16)
        runs[f"wave {samples}"] = decode(codes).numpy()
        print(samples, codes.shape, [len(row.unique()) for row in codes])
    print("peak", float(np.abs(runs[f"wave {lengths[-1]}"]).max()))
    return runs
