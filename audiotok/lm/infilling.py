"""Generation by a model of sums of codebooks: masked codes are filled in by a number of steps.

    all masked -> model -> a sum is drawn for each frame -> codes -> the first ones are kept -> ...

The steps do not grow with the number of codebooks. How many codes of each frame are kept after a
step is drawn as masks are in training; of frames with equally many masked codes, those whose sums
are more likely, by their density, keep more.

Source: ResGen (arXiv:2412.10208), without code of its authors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from audiotok._platform.errors import InputError
from audiotok.lm.data import Segment, Transcript, infill_batch
from audiotok.lm.layout import Layout
from audiotok.lm.masked import drawn_masks, hidden_codes, masked_codes, masked_frames
from audiotok.lm.mixture import Mixture
from audiotok.lm.model import Transformer

__all__ = ["continued", "infill"]


@torch.no_grad()
def infill(
    model: Transformer,
    layout: Layout,
    parts: Sequence[Segment],
    known: Sequence[np.ndarray],
    *,
    steps: int = 16,
    temperature: float = 1.0,
    seeds: Sequence[int],
) -> list[np.ndarray]:
    """Fill in the codes of frames that are not known.

    Args:
        model: a model with `gaussians`.
        layout: the layout of the model.
        parts: codes `[k f]` of each recording, those of unknown frames ignored, and its text if
            the model reads text. What is generated does not depend on the other recordings.
        known: for each recording which frames are known, bool `[f]`.
        steps: number of steps, each a forward pass.
        temperature: factor of the deviations, and of the logarithms of weights its inverse; 0 takes
            the mean of the likeliest Gaussian.
        seeds: a random seed for each recording.

    Returns:
        Codes `[k f]` of each recording.

    Raises:
        InputError: the model predicts no sums, text is missing or not read, or steps or temperature
            are out of range.
    """
    if model.sums is None:
        raise InputError("this model predicts no sums of codebooks: it was trained otherwise")
    if steps < 1 or not 0 <= temperature < math.inf:
        raise InputError(f"steps={steps}, temperature={temperature:g}: from 1, and from 0")
    shapes = [part.codes.shape[1:] for part in parts]
    if shapes != [each.shape for each in known] or len(seeds) != len(parts):
        raise InputError("a known or unknown for each frame of each recording, and a seed for each")
    if any(bool(part.transcript) != bool(model.text) for part in parts):
        raise InputError(
            "this model reads text: give some" if model.text else "this model reads no text"
        )
    k, device = len(layout.sizes), model.sums.entries.device
    randoms = [np.random.default_rng(seed) for seed in seeds]
    filled = [part.codes[:k].astype(np.int64) for part in parts]
    masked = [np.where(frames, 0, k) for frames in known]
    totals = [int(each.sum()) for each in masked]
    for codes, frames in zip(filled, known, strict=True):
        codes[:, ~frames] = 0
    for step in range(1, steps + 1):
        some = [part._replace(codes=codes) for part, codes in zip(parts, filled, strict=True)]
        hidden = [hidden_codes(each, k) for each in masked]
        batch = infill_batch(layout, some, hidden).to(device)
        head, mixture, codes, before, which = masked_frames(model, batch)
        for i, random in enumerate(randoms):
            here, frames = which == i, masked[i] > 0
            part = Mixture(*(each[here] for each in mixture))
            sums = _draw(part, temperature, random)
            rows = head.codes(sums, codes[here], before[here]).T.cpu().numpy()
            filled[i][:, frames] = rows
            confidence = np.zeros(len(frames))
            confidence[frames] = part.log_density(sums).cpu().numpy()
            left = min(masked_codes(step / steps, totals[i]), int(masked[i].sum()))
            masked[i] = remaining(masked[i], left, confidence, random)
    return filled


def continued(
    model: Transformer,
    layout: Layout,
    frames: int,
    *,
    text: Transcript = None,
    prompt: np.ndarray | None = None,
    steps: int = 16,
    temperature: float = 1.0,
    seed: int = 0,
) -> np.ndarray:
    """Return codes `[k f]` of a number of frames that begin with a prompt, or are free.

    Args:
        model: a model with `gaussians`.
        layout: the layout of the model.
        frames: number of frames f, those of the prompt included.
        text: the text of all frames, if the model reads text.
        prompt: codes `[k p]` of the first p frames.
        steps: see `infill`.
        temperature: see `infill`.
        seed: random seed.

    Raises:
        InputError: the prompt leaves no frame to fill in, or see `infill`.
    """
    before = 0 if prompt is None else prompt.shape[1]
    if frames <= before:
        raise InputError(
            f"a prompt of {before} frames leaves none of {frames} to fill in: "
            "take less of it, or more frames"
        )
    codes = np.zeros((len(layout.sizes), frames), np.int64)
    known = np.zeros(frames, bool)
    if prompt is not None:
        codes[:, :before] = prompt
        known[:before] = True
    parts = [Segment(codes, text or None)]
    return infill(
        model, layout, parts, [known], steps=steps, temperature=temperature, seeds=[seed]
    )[0]


def remaining(
    masked: np.ndarray, total: int, confidence: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    """Draw how many codes `[f]` of each frame stay masked.

    Args:
        masked: number of masked codes `[f]` of each frame.
        total: number of codes that stay masked.
        confidence: `[f]`; of frames with equally many masked codes, the more confident keep fewer
            masked.
        random: draws them.
    """
    drawn = drawn_masks(masked, total, random)
    for count in np.unique(masked):
        here = np.flatnonzero(masked == count)
        drawn[here[np.argsort(-confidence[here], kind="stable")]] = np.sort(drawn[here])
    return drawn


def _draw(mixture: Mixture, temperature: float, random: np.random.Generator) -> torch.Tensor:
    """Draw a normalized sum `[n d]` of each mixture."""
    rows = torch.arange(len(mixture.means), device=mixture.means.device)
    if temperature == 0:
        return mixture.means[rows, mixture.weights.argmax(-1)] * mixture.features
    chances = (mixture.weights / temperature).softmax(-1).cumsum(-1)
    level = torch.from_numpy(random.random(len(rows))).to(chances)
    chosen = (chances < level[:, None]).sum(-1).clamp(max=chances.shape[1] - 1)
    noise = torch.from_numpy(random.standard_normal(mixture.features.shape)).to(chances)
    scale = temperature * mixture.deviations[rows, chosen].exp()
    return (mixture.means[rows, chosen] + scale[:, None] * noise) * mixture.features
