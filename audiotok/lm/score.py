"""What a language model thinks of recordings: bits a second, and which of two it finds likelier."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch

from audiotok.lm.data import IGNORED, Parts, Stretch, causal_batch
from audiotok.lm.layout import Layout
from audiotok.lm.loop import lost
from audiotok.lm.model import Transformer
from audiotok.lm.ngram import Ngram


@torch.no_grad()
def bits_of(
    model: Transformer,
    layout: Layout,
    parts: Parts,
    *,
    batch: int = 8,
) -> list[tuple[float, float]]:
    """For each stretch: bits, and ids that they are for.

    Args:
        model: causal.
        layout: of the model.
        parts: with text where the model reads it.
        batch: stretches at a time.
    """
    device = next(model.parameters()).device
    made: list[tuple[float, float]] = []
    for a in range(0, len(parts), batch):
        nats, count = lost(model, causal_batch(layout, parts[a : a + batch]).to(device))
        made += zip((nats / math.log(2)).tolist(), count.tolist(), strict=True)
    return made


def ngram_bits(layout: Layout, learn: Parts, held: Parts, *, order: int = 3) -> tuple[float, int]:
    """What held-out stretches cost an n-gram of each row by itself: bits, and ids they are for.

    Asked for the very ids that a network is asked for.
    """
    models = [Ngram(n, order=order) for n in layout.vocabulary]
    for model, row in zip(models, _rows(layout, learn), strict=True):
        model.fit(row)
    bits, count = 0.0, 0
    for model, row in zip(models, _rows(layout, held), strict=True):
        bits += sum(model.bits(ids) for ids in row)
        count += sum(len(ids) - 1 for ids in row)
    return bits, count


def _rows(layout: Layout, parts: Parts) -> list[list[np.ndarray]]:
    """Of each row, and each stretch, its first id and those that are asked for."""
    made: list[list[np.ndarray]] = [[] for _ in layout.vocabulary]
    for part in parts:
        batch = causal_batch(layout, [part._replace(said=None)])
        for row, begin, target in zip(made, batch.ids[0, :, 0], batch.targets[0], strict=True):
            row.append(np.r_[begin.numpy(), target[target != IGNORED].numpy()])
    return made


def spoilt(
    codes: np.ndarray,
    other: np.ndarray,
    kind: Literal["shuffled", "spliced"],
    random: np.random.Generator,
    *,
    piece: int = 10,
) -> np.ndarray:
    """The same length of codes, with something in it that nobody says (cf. sWUGGY).

    Args:
        codes: `[k f]` of a recording.
        other: of another, that pieces are taken from.
        kind: pieces of it in another order, or every third from the other.
        random: draws order and places.
        piece: frames of a piece.
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


def preferred(
    model: Transformer,
    layout: Layout,
    recordings: Sequence[np.ndarray],
    kind: Literal["shuffled", "spliced"],
    *,
    seed: int = 0,
) -> list[bool]:
    """Of each recording, whether the model finds it likelier than itself `spoilt`; chance is half.

    Raises:
        ValueError: fewer than two recordings.
    """
    if len(recordings) < 2:
        raise ValueError("pairs need two recordings or more: pieces are taken from another one")
    random = np.random.default_rng(seed)
    spoils = [spoilt(codes, recordings[i - 1], kind, random) for i, codes in enumerate(recordings)]
    # That it ends is not asked: they may be cut.
    good = bits_of(model, layout, [Stretch(codes, ends=False) for codes in recordings])
    bad = bits_of(model, layout, [Stretch(codes, ends=False) for codes in spoils])
    return [a[0] / a[1] < b[0] / b[1] for a, b in zip(good, bad, strict=True)]
