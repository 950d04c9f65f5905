"""Values that change from step to step: the learning rate, and the codebooks a crop uses."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from audiotok.training.recipe import Train


def learning_rate(step: int, train: Train, rate: float | None = None) -> float:
    """Return the learning rate of a step: a linear warm-up, then one of three schedules.

    linear       `rate`, falling to zero over the last `cooldown` steps
    cosine       the same, along half a cosine (Loshchilov and Hutter 2017, arXiv:1608.03983)
    exponential  `rate` x `gamma` ** step (DAC, EnCodec's successors)

    Args:
        step: number of the step, from 0.
        train: options of the recipe.
        rate: highest learning rate; None for `train.rate`.
    """
    high = (train.rate if rate is None else rate) * min(1.0, (step + 1) / max(1, train.warmup))
    if train.schedule == "exponential":
        return high * train.gamma**step
    left = min(1.0, max(0.0, (train.steps - step) / max(1, train.cooldown)))
    return high * (left if train.schedule == "linear" else 0.5 - 0.5 * math.cos(math.pi * left))


def draw_keep(batch: int, codebooks: int, train: Train, *, seed: tuple[int, ...]) -> Tensor:
    """Draw the number of codebooks to use for each crop of a batch.

    With `train.keep` the numbers have the probabilities that it gives. Otherwise all codebooks are
    used with probability `train.whole`, else a uniformly random number of them.

    Args:
        batch: number of crops.
        codebooks: number of codebooks of the codec.
        train: options of the recipe.
        seed: integers that seed the random numbers.

    Returns:
        Numbers of codebooks, int64 `[b]`.
    """
    random = torch.Generator().manual_seed(hash(seed) & 0x7FFFFFFF)
    if train.keep:
        shares = torch.tensor(train.keep, dtype=torch.float32)
        return 1 + torch.multinomial(shares, batch, replacement=True, generator=random)
    some = torch.randint(1, codebooks + 1, (batch,), generator=random)
    return torch.where(torch.rand(batch, generator=random) < train.whole, codebooks, some)
