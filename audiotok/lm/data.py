"""Recordings of a corpus as sequences a language model learns: text, then ids.

Text is UTF-8, a byte an id, in the first row behind the layout's own ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from audiotok.corpus import Corpus
from audiotok.layout import Layout
from audiotok.layout.base import MASK, PAD
from audiotok.lm.bpe import learn_pieces
from audiotok.lm.recipe import LmData, LmRecipe

TEXT = 256  # ids of text: bytes
IGNORED = -100  # a target that does not count


class Batch(NamedTuple):
    """Sequences side by side, filled up on the right.

    Attributes:
        ids: `[b r n]` of what the model sees.
        targets: `[b r n]` of what it is to say there; `IGNORED` where nothing.
        lengths: `[b]` real positions.
        frames: of audio, in all.
    """

    ids: Tensor
    targets: Tensor
    lengths: Tensor
    frames: int

    def to(self, device: torch.device) -> Batch:
        """The batch on a device."""
        ids, targets, lengths = (part.to(device) for part in self[:3])
        return Batch(ids, targets, lengths, self.frames)


class Recordings:
    """Recordings of one split that a recipe asks for, read when they are needed.

    Raises:
        ValueError: none is left, or one has no text where text is needed.
    """

    def __init__(self, corpus: Corpus, split: str, data: LmData) -> None:
        self.corpus, self.data = corpus, data
        self.places: list[int] = []
        self.texts: list[str] = []
        self.rows: list[dict[str, Any]] = []
        place = 0
        for shard in corpus.shards:
            for row in shard.rows():
                if self._wanted(row, split):
                    self.places.append(place)
                    self.texts.append(str(row.get("text", "")))
                    self.rows.append(row)
                place += 1
        if not self.places:
            raise ValueError(f"{corpus.path}: no recording of split {split!r} fits the recipe")

    def _wanted(self, row: dict[str, Any], split: str) -> bool:
        if split and row.get("split", "") != split:
            return False
        if any(str(row.get(key, "")) not in values for key, values in self.data.where.items()):
            return False
        if not self.data.text:
            return row["frames"] > 0
        return bool(row.get("text")) and 0 < row["frames"] <= self.data.frames

    def __len__(self) -> int:
        return len(self.places)

    def codes(self, i: int) -> np.ndarray:
        """Codes `[k f]` of recording i, whole."""
        return self.corpus.codes(self.places[i])

    def cut(self, i: int, random: np.random.Generator) -> np.ndarray:
        """A stretch of recording i of the length that the recipe allows."""
        codes, most = self.codes(i), self.data.frames
        start = int(random.integers(0, max(1, codes.shape[1] - most + 1)))
        return codes[:, start : start + most]

    def stretches(self, i: int) -> list[np.ndarray]:
        """All of recording i, in stretches of the length that the recipe allows."""
        codes, most = self.codes(i), self.data.frames
        return [codes[:, a : a + most] for a in range(0, codes.shape[1], most)]


def plain_layout(recipe: LmRecipe, corpus: Corpus) -> Layout:
    """The recipe's layout for a corpus, before any pieces are learned."""
    options = recipe.layout
    return Layout.of(
        corpus,
        codebooks=options.codebooks or None,
        pattern=options.pattern,
        options=options.options,
        runs=options.runs,
    )


def new_layout(recipe: LmRecipe, recordings: Recordings) -> Layout:
    """The recipe's layout; pieces are learned from recordings."""
    options, layout = recipe.layout, plain_layout(recipe, recordings.corpus)
    if not options.pieces:
        return layout
    k = len(layout.sizes)
    codes = (recordings.codes(i)[:k] for i in range(len(recordings)))
    return learn_pieces(layout, codes, size=options.pieces, kind=options.kind)


def sequence(layout: Layout, codes: np.ndarray, text: str | None) -> tuple[np.ndarray, int]:
    """Ids `[r n]`, text first, and how many positions text takes."""
    ids = np.atleast_2d(layout.encode(codes[: len(layout.sizes)]))
    said = np.frombuffer((text or "").encode(), np.uint8).astype(np.int64)
    front = np.full((len(ids), len(said)), PAD)
    front[0] = said + layout.vocabulary[0]
    return np.concatenate([front, ids], 1), len(said)


def causal_batch(layout: Layout, parts: Sequence[tuple[np.ndarray, str | None]]) -> Batch:
    """Every position says the ids of the next; text is not predicted, nor is filling."""
    made = [sequence(layout, codes, text) for codes, text in parts]
    ids = _filled([whole[:, :-1] for whole, _ in made], PAD)
    targets = [whole[:, 1:].copy() for whole, _ in made]
    for target, (_, front) in zip(targets, made, strict=True):
        target[:, :front] = IGNORED
        target[target == layout.special("pad")] = IGNORED
    return _batch(ids, _filled(targets, IGNORED), [t.shape[1] for t in targets], parts)


def stroke_batch(
    layout: Layout,
    parts: Sequence[tuple[np.ndarray, str | None]],
    random: np.random.Generator,
    *,
    stage: int | None = None,
    prompt: int = 0,
) -> Batch:
    """One codebook of all frames at one stroke, from those before it, text and a prompt (VALL-E).

    Args:
        layout: parallel.
        parts: codes `[k f]` and text of each recording.
        random: draws a codebook and the length of a prompt for each.
        stage: the codebook of all; then the prompt is of `prompt` frames.
        prompt: frames of which all codebooks are seen. After them those from `stage` on are masked.
    """
    rows, ids, targets = len(layout.sizes), [], []
    for codes, text in parts:
        q = int(random.integers(1, rows)) if stage is None else stage
        whole, front = sequence(layout, codes, text)
        whole = whole[:, : front + 1 + codes.shape[1]]  # no `end`: the frames are known
        seen = int(random.integers(0, codes.shape[1] // 2 + 1)) if stage is None else prompt
        target = np.full_like(whole, IGNORED)
        target[q, front + 1 + seen :] = whole[q, front + 1 + seen :]
        whole[q:, front + 1 + seen :] = MASK
        ids.append(whole)
        targets.append(target)
    return _batch(_filled(ids, PAD), _filled(targets, IGNORED), [i.shape[1] for i in ids], parts)


def _batch(ids: np.ndarray, targets: np.ndarray, lengths: list[int], parts: Sequence[Any]) -> Batch:
    frames = sum(codes.shape[1] for codes, _ in parts)
    return Batch(torch.from_numpy(ids), torch.from_numpy(targets), torch.tensor(lengths), frames)


def _filled(parts: Sequence[np.ndarray], value: int) -> np.ndarray:
    longest = max(part.shape[1] for part in parts)
    made = np.full((len(parts), len(parts[0]), longest), value, np.int64)
    for i, part in enumerate(parts):
        made[i, :, : part.shape[1]] = part
    return made
