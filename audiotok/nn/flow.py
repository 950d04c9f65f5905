"""Flow matching: straight paths from noise to data, and the steps that follow a learnt velocity.

    noise z  ----------- x_t = (1 - (1 - sigma) t) z + t x ----------->  data x
    t = 0               velocity u = x - (1 - sigma) z                  t = 1

A network is trained to give the velocity at any point of the way (conditional flow matching), and
an ODE solver follows it from noise.

Source: Lipman et al. 2022, arXiv:2210.02747, section 4.1, example II (optimal transport paths);
guidance: Ho & Salimans 2022, arXiv:2207.12598.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from audiotok._platform.config import SEED
from audiotok._platform.errors import InputError
from audiotok.nn.quantizer import check_type

METHODS = ("euler", "midpoint", "centred")
VelocityField = Callable[[Tensor, float], Tensor]
"""Function of a point `[b d f]` and a time from 0 to 1 that gives the velocity `[b d f]`."""


@dataclass(frozen=True)
class Sampling:
    """Settings of sampling by a flow.

    Attributes:
        steps: steps from noise to data.
        method: "euler", one evaluation of the velocity a step; "midpoint", two; or "centred",
            which is "euler" but for the time, which is that of the middle of the step.
        guidance: how far the velocity goes from what it is without a condition to what it is with
            it: 1 is the latter alone, which costs half as much.
        seed: random seed of the noise.

    Raises:
        InputError: no steps, no such method, guidance that is negative or not finite, or no seed.
    """

    steps: int = 16
    method: str = "midpoint"
    guidance: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise InputError(f"{self.steps} steps from noise to data: at least one is needed")
        if self.method not in METHODS:
            raise InputError(f"method {self.method!r} of a flow: there are {', '.join(METHODS)}")
        if not 0 <= self.guidance < math.inf:
            raise InputError(f"guidance {self.guidance:g}: 0 or more; 1 is none")
        check_type("seed", self.seed, Annotated[int, SEED])


def straight_path(
    data: Tensor, noise: Tensor, time: Tensor, *, sigma: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Return points on straight paths from noise to data, and the velocities there.

    Args:
        data: `[b d f]`.
        noise: `[b d f]`, standard normal.
        time: `[b]`, from 0, noise, to 1, data.
        sigma: deviation of the noise that is left at time 1.
    """
    time = time[:, None, None]
    return (1 - (1 - sigma) * time) * noise + time * data, data - (1 - sigma) * noise


def noise_of(seed: int, features: int, frames: int, like: Tensor) -> Tensor:
    """Return standard normal noise `[features frames]` of a seed, on a tensor's device.

    It is the same on any machine, and that of fewer frames is the beginning of it.
    """
    random = np.random.default_rng(seed)
    drawn = random.standard_normal((frames, features), dtype=np.float32)
    return torch.from_numpy(drawn).T.contiguous().to(like.device)


def integrate(velocity: VelocityField, noise: Tensor, sampling: Sampling) -> Tensor:
    """Return where a velocity leads from noise `[b d f]`, in equal steps of time."""
    x, size = noise, 1 / sampling.steps
    for step in range(sampling.steps):
        time = step * size
        if sampling.method == "midpoint":
            x_half = x + size / 2 * velocity(x, time)
            x = x + size * velocity(x_half, time + size / 2)
        elif sampling.method == "centred":
            x = x + size * velocity(x, time + size / 2)
        else:
            x = x + size * velocity(x, time)
    return x


def guided(
    conditional: VelocityField,
    without: VelocityField,
    guidance: float,
    *,
    rescale: float = 0.0,
) -> VelocityField:
    """Return a velocity that is guided by a condition.

    Args:
        conditional: velocity under the condition.
        without: velocity without one.
        guidance: 1 is `conditional` as it is, and `without` is never asked.
        rescale: share of the result that has the deviation of `conditional`, of each recording,
            from 0 to 1 (Lin et al. 2023, arXiv:2305.08891, section 3.4).
    """
    if guidance == 1:
        return conditional

    def velocity(x: Tensor, time: float) -> Tensor:
        base, given = without(x, time), conditional(x, time)
        further = base + guidance * (given - base)
        if rescale == 0:
            return further
        spreads = (y.std((1, 2), keepdim=True) for y in (given, further))
        ratio = torch.div(*spreads).nan_to_num(1.0, posinf=1.0)
        return further * (rescale * ratio + 1 - rescale)

    return velocity
