"""Random weights by name and shape, the same on any machine, so that golden files need none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from zlib import crc32

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor


def random_weights(shapes: Mapping[str, Sequence[int]], *, gain: float = 1.0) -> dict[str, Tensor]:
    """Return weights for which outputs depend on the input, of each name and shape.

    Args:
        shapes: shapes by name.
        gain: factor of matrices, beyond what keeps the size of features.
    """
    weights = {}
    for name, shape in shapes.items():
        x = np.random.RandomState(crc32(name.encode())).standard_normal(tuple(shape))
        if len(shape) > 1:
            x *= gain / np.sqrt(np.prod(shape[1:]))
        else:  # of a normalisation, or a bias
            x = 0.1 * x + (name.endswith("weight"))
        weights[name] = torch.from_numpy(x.astype(np.float32))
    return weights


def dac_weights(
    shapes: Mapping[str, Sequence[int]], gains: Mapping[str, float] | None = None
) -> dict[str, Tensor]:
    """Return weights of DAC's layers that say something of the signal, of each name and shape.

    Args:
        shapes: shapes by name.
        gains: factors of some, by name.
    """
    state = random_weights(shapes)
    for name, value in state.items():
        if name.endswith(("weight_g", "alpha")):
            value.abs_().mul_(0.1).add_(1)
        if name.endswith(".block.3.weight_g"):  # of branches, which would add up to large numbers
            value.mul_(0.2)
    for name, gain in (gains or {}).items():
        state[name] *= gain
    return state


def folder_of(state: Mapping[str, Tensor], options: str, folder: Path) -> Path:
    """Write weights and options as they are published, and return the folder.

    Args:
        state: weights by name.
        options: content of config.json.
        folder: an existing folder.
    """
    save_file({k: v.contiguous().clone() for k, v in state.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(options, "utf-8")
    return folder
