"""Masked prediction of sums of residual codebooks: batches, loss and scores (ResGen).

    frame      1  2  3  4
    codebook 1 c  c  c  -     any number of a frame's codebooks is masked, from the deepest upward;
    codebook 2 c  -  c  -     a mixture of Gaussians predicts the sum of their entries at once
    codebook 3 -  -  c  -

Masked codes are drawn without replacement: `n` of all `f k` codes are masked, each equally likely,
and those of a frame are moved to its deepest codebooks.

A density of sums is no probability of codes. What is comparable with other layouts is a bound, of
masked diffusion: if codes are revealed in random order, those of a frame from the first codebook
on, the chance of each of them is told by the mixture (`SumHead.log_chances`), and its cost

    -log p(codes) <= f k E[sum over frames of (masked of the frame / n) -log p(its next code)]

is estimated over n from 1 to f k and the masks of n codes (cf. Hoogeboom et al. 2022,
arXiv:2110.02037, equation 5). It is a bound and no exact cost, and what the model is trained for is
the density.

Source: ResGen (arXiv:2412.10208), without code of its authors; the schedule is MaskGIT's
(arXiv:2202.04200), section 3.3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from audiotok.lm.data import IGNORED, Segment, SequenceBatch, infill_batch
from audiotok.lm.layout import Layout
from audiotok.lm.layout.base import NONE
from audiotok.lm.mixture import Mixture, SumHead
from audiotok.lm.model import Transformer

READ = 128  # frames of a batch, at least, from which reading codes learns
DRAWS = 8  # masks of each segment that a score is of


def masked_codes(share: float, codes: int) -> int:
    """Return how many of the codes are masked after a share of the steps, by a cosine."""
    return math.ceil(codes * math.cos(math.pi / 2 * share) - 1e-9)


def drawn_masks(counts: np.ndarray, total: int, random: np.random.Generator) -> np.ndarray:
    """Draw how many codes `[f]` of each frame are masked, without replacement.

    Args:
        counts: number of codes `[f]` of each frame that may be masked.
        total: number of codes to mask.
        random: draws them.
    """
    return random.multivariate_hypergeometric(counts, total)


def hidden_codes(masked: np.ndarray, codebooks: int) -> np.ndarray:
    """Return which codes `[k f]` are masked, given how many `[f]` of each frame, as bool."""
    return np.arange(codebooks)[:, None] >= codebooks - masked


def sums_batch(
    layout: Layout, parts: Sequence[Segment], random: np.random.Generator
) -> SequenceBatch:
    """Return a batch for training: masks of a cosine schedule, over all of a segment or a span.

    Of every second segment the codes outside a random span are all known, as in the continuation of
    a prompt and in infilling.

    Args:
        layout: a layout of the parallel pattern.
        parts: segments of recordings.
        random: draws the masks.
    """
    k, hidden = len(layout.sizes), []
    for part in parts:
        counts = np.full(part.codes.shape[1], k)
        if random.random() < 0.5:
            a, b = np.sort(random.integers(0, len(counts) + 1, 2))
            a = min(a, len(counts) - 1)
            counts[:a] = counts[max(b, a + 1) :] = 0
        total = masked_codes(random.random(), int(counts.sum()))
        hidden.append(hidden_codes(drawn_masks(counts, total, random), k))
    return infill_batch(layout, parts, hidden)


def sum_nats(model: Transformer, batch: SequenceBatch) -> tuple[Tensor, Tensor]:
    """Return the negative logarithm of the density of sums, and the number of sums, each `[b]`.

    In training the nats include those of next codes of some frames, which reading them learns from.

    Args:
        model: a model with `gaussians`.
        batch: a batch of `infill_batch`, on the device of the model.
    """
    head, mixture, codes, known, which = masked_frames(model, batch)
    each = -mixture.log_density(head.sums(codes, known))
    zeros = each.new_zeros(len(batch.ids))
    if model.training:
        some = slice(None, None, 1 + len(known) // READ)
        few = Mixture(*(part[some] for part in mixture))
        each[some] += code_nats(head, few, codes[some], known[some])
    count = zeros.index_add(0, which, torch.ones_like(each))
    return zeros.index_add(0, which, each), count


def code_nats(head: SumHead, mixture: Mixture, codes: Tensor, known: Tensor) -> Tensor:
    """Return the negative logarithms of the chances of the first masked code of frames `[m]`.

    Args:
        head: the output layer of a model.
        mixture: its mixtures of m frames.
        codes: codes `[m k]` of the frames.
        known: number of known codebooks of each frame `[m]`.
    """
    nats = mixture.weights.new_zeros(len(known))
    for q in known.unique().tolist():
        here = known == q
        chances = head.log_chances(Mixture(*(part[here] for part in mixture)), q)
        nats[here] = -chances.gather(1, codes[here, q, None])[:, 0]
    return nats


def masked_frames(
    model: Transformer, batch: SequenceBatch
) -> tuple[SumHead, Mixture, Tensor, Tensor, Tensor]:
    """Return the predictions of all frames with masked codes, sequence by sequence.

    Args:
        model: a model with `gaussians`.
        batch: a batch of `infill_batch`, on the device of the model.

    Returns:
        The output layer, the mixtures of the m frames, their codes `[m k]`, masked ones included,
        how many of them are known `[m]`, and which sequence each frame is of `[m]`.
    """
    head = model.sums
    assert head is not None
    hidden, _ = model.hidden(batch.ids, phones=batch.phones, lengths=batch.lengths)
    masked = (batch.targets != IGNORED).sum(1)
    chosen = masked > 0
    codes = torch.where(batch.targets != IGNORED, batch.targets, batch.ids) - NONE
    known = len(head.sizes) - masked[chosen]
    mixture = head(hidden[chosen], known)
    return head, mixture, codes.transpose(1, 2)[chosen], known, chosen.nonzero()[:, 0]


@torch.no_grad()
def held_out_sums(
    model: Transformer,
    layout: Layout,
    parts: Sequence[Segment],
    *,
    batch: int = 8,
    draws: int = DRAWS,
) -> dict[str, float]:
    """Return what segments cost a model of sums, and the codes that sums do not give back.

    Args:
        model: a model with `gaussians`.
        layout: the layout of the model.
        parts: the segments.
        batch: number of segments per forward pass.
        draws: number of masks of each segment.

    Returns:
        `held_bits_a_second`, an estimate of the upper bound of the module's text per second of
        audio; `held_bits`, the same per code, and `held_bits_1` and so forth of each codebook;
        `held_nats`, the negative logarithm of the density of normalized sums per feature, which is
        what is trained and is comparable only between models of one layout;
        `held_not_given_back`, the share of codes that change when the sum of a whole frame is
        quantized again, and `held_not_given_back_1` and so forth of each codebook.
    """
    k, random = len(layout.sizes), np.random.default_rng(0)
    device = next(model.parameters()).device
    bits, nats, features = np.zeros(k), 0.0, 0
    for a in range(0, len(parts), batch):
        some = parts[a : a + batch]
        for draw in range(draws):
            hidden, weights = [], []
            for part in some:
                codes = k * part.codes.shape[1]
                total = min(codes, 1 + int((draw + random.random()) / draws * codes))
                counts = np.full(part.codes.shape[1], k)
                hidden.append(hidden_codes(drawn_masks(counts, total, random), k))
                weights.append(codes / total / draws / math.log(2))
            scored = infill_batch(layout, some, hidden).to(device)
            head, mixture, codes, known, which = masked_frames(model, scored)
            nats -= mixture.log_density(head.sums(codes, known)).sum().item()
            features += int(mixture.features.sum())
            weight = torch.tensor(weights, device=device)[which] * (k - known)
            cost = code_nats(head, mixture, codes, known) * weight
            bits += np.bincount(known.cpu().numpy(), cost.cpu().numpy(), k)
    frames = sum(part.codes.shape[1] for part in parts)
    lost = _not_given_back(model, parts, k)
    total = float(bits.sum())
    return {
        "held_bits_a_second": total * layout.sample_rate / layout.frame_size / frames,
        "held_bits": total / (frames * k),
        "held_nats": nats / features,
        "held_not_given_back": lost.mean().item(),
        **{f"held_bits_{q + 1}": each / frames for q, each in enumerate(bits.tolist())},
        **{f"held_not_given_back_{q + 1}": each for q, each in enumerate(lost.tolist())},
    }


def _not_given_back(model: Transformer, parts: Sequence[Segment], k: int) -> Tensor:
    """Return the share of the codes of each codebook `[k]` that sums of frames do not give back."""
    head = model.sums
    assert head is not None
    lost, frames = torch.zeros(k), 0
    for part in parts:
        codes = torch.from_numpy(part.codes[:k].T.astype(np.int64)).to(head.entries.device)
        none = torch.zeros_like(codes[:, 0])
        lost += (head.codes(head.sums(codes, none), codes, none) != codes).sum(0).cpu()
        frames += len(codes)
    return lost / frames
