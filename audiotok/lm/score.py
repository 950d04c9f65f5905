"""Scoring of recordings by a language model: bits, and comparisons with corrupted copies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch

from audiotok._platform.errors import InputError
from audiotok.lm.data import IGNORED, Segment, causal_batch
from audiotok.lm.layout import Layout
from audiotok.lm.loop import target_nats
from audiotok.lm.model import Transformer
from audiotok.lm.ngram import Ngram


@torch.no_grad()
def bits_of(
    model: Transformer,
    layout: Layout,
    parts: Sequence[Segment],
    *,
    batch: int = 8,
) -> list[tuple[float, float]]:
    """Return, for each segment, its bits and the number of ids that they are for.

    Args:
        model: a causal model.
        layout: the layout of the model.
        parts: the segments, with text if the model reads text.
        batch: number of segments per forward pass.

    Raises:
        InputError: the model is not causal.
    """
    if not model.config.causal:
        raise InputError("a model that is not causal has no bits of a whole recording to compare")
    device = next(model.parameters()).device
    scores: list[tuple[float, float]] = []
    for a in range(0, len(parts), batch):
        nats, count = target_nats(model, causal_batch(layout, parts[a : a + batch]).to(device))
        scores += zip((nats / math.log(2)).tolist(), count.tolist(), strict=True)
    return scores


def ngram_bits(
    layout: Layout, training: Sequence[Segment], validation: Sequence[Segment], *, order: int = 3
) -> tuple[float, int]:
    """Return the bits of held-out segments by n-gram models, and the number of ids they are for.

    Each row has a model of its own, which predicts the same ids as a transformer does.

    Args:
        layout: the layout.
        training: segments to train on.
        validation: segments to score.
        order: order of the n-grams.
    """
    models = [Ngram(n, order=order) for n in layout.vocabulary]
    for model, row in zip(models, _rows(layout, training), strict=True):
        model.fit(row)
    bits, count = 0.0, 0
    for model, row in zip(models, _rows(layout, validation), strict=True):
        bits += sum(model.bits(ids) for ids in row)
        count += sum(len(ids) - 1 for ids in row)
    return bits, count


def _rows(layout: Layout, parts: Sequence[Segment]) -> list[list[np.ndarray]]:
    """Return, for each row and segment, the first id and then the targets."""
    rows: list[list[np.ndarray]] = [[] for _ in layout.vocabulary]
    for part in parts:
        batch = causal_batch(layout, [part._replace(transcript=None)])
        for row, begin, target in zip(rows, batch.ids[0, :, 0], batch.targets[0], strict=True):
            row.append(np.r_[begin.numpy(), target[target != IGNORED].numpy()])
    return rows


def corrupted(
    codes: np.ndarray,
    other: np.ndarray,
    kind: Literal["shuffled", "spliced"],
    random: np.random.Generator,
    *,
    piece: int = 10,
) -> np.ndarray:
    """Return codes of the same length that do not occur in speech (cf. sWUGGY).

    Args:
        codes: codes `[k f]` of a recording.
        other: codes `[k f]` of another recording, to take pieces from.
        kind: "shuffled" permutes the pieces, "spliced" replaces every third by one of `other`.
        random: draws the permutation and the positions.
        piece: length of a piece in frames.
    """
    pieces = [codes[:, a : a + piece] for a in range(0, codes.shape[1], piece)]
    whole = [i for i, each in enumerate(pieces) if each.shape[1] == piece]
    if kind == "shuffled":
        order = dict(zip(whole, random.permutation(whole).tolist(), strict=True))
        pieces = [pieces[order.get(i, i)] for i in range(len(pieces))]
    else:
        for i in whole[1::3]:
            start = int(random.integers(0, max(1, other.shape[1] - piece + 1)))
            if other.shape[1] >= piece:
                pieces[i] = other[:, start : start + piece]
    return np.concatenate(pieces, 1) if pieces else codes


def prefers_original(
    model: Transformer,
    layout: Layout,
    recordings: Sequence[np.ndarray],
    kind: Literal["shuffled", "spliced"],
    *,
    seed: int = 0,
) -> list[bool]:
    """Return, for each recording, whether the model prefers it to its `corrupted` copy.

    It prefers the one with fewer bits per id. Chance is one half.

    Args:
        model: a causal model.
        layout: the layout of the model.
        recordings: codes `[k f]` of each recording.
        kind: the kind of corruption.
        seed: random seed of the corruption.

    Raises:
        ValueError: there are fewer than two recordings.
    """
    if len(recordings) < 2:
        raise InputError("pairs need two recordings or more: pieces are taken from another one")
    random = np.random.default_rng(seed)
    corruptions = [
        corrupted(codes, recordings[i - 1], kind, random) for i, codes in enumerate(recordings)
    ]
    # `end` is not scored, because recordings may be cut.
    good = bits_of(model, layout, [Segment(codes, ends=False) for codes in recordings])
    bad = bits_of(model, layout, [Segment(codes, ends=False) for codes in corruptions])
    return [a[0] / a[1] < b[0] / b[1] for a, b in zip(good, bad, strict=True)]
