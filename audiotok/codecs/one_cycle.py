"""Training of a small part beside a frozen codec: AdamW, its rate one cycle long."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from rich.console import Console
from torch import Tensor

from audiotok.codecs.latents import progress


def descend(
    weights: Iterable[Tensor],
    step: Callable[[], float],
    *,
    steps: int,
    rate: float,
    what: str,
    clip: float = 1.0,
    console: Console | None = None,
) -> list[float]:
    """Train weights in place, and return the loss of each step.

    Args:
        weights: what is trained.
        step: function that adds the gradients of a step to them, and returns its loss.
        steps: number of steps.
        rate: largest learning rate, which is reached after a twentieth of them and falls by a
            cosine (Smith and Topin 2018, arXiv:1708.07120).
        what: what is trained, for the progress bar.
        clip: largest norm of the gradient.
        console: where progress is shown; stderr if None.
    """
    weights = list(weights)
    optimiser = torch.optim.AdamW(weights, rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, rate, total_steps=steps + 1, pct_start=0.05
    )
    losses = []
    for _ in progress(range(steps), what, console):
        optimiser.zero_grad()
        losses.append(step())
        torch.nn.utils.clip_grad_norm_(weights, clip)
        optimiser.step()
        schedule.step()
    return losses
