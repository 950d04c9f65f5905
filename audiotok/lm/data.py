"""Recordings of a corpus as sequences a language model learns: text, then ids.

Text is UTF-8, a byte an id, in the first row behind the layout's own ids.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from audiotok.corpus import Corpus
from audiotok.lm.bpe import learn_pieces
from audiotok.lm.layout import Layout
from audiotok.lm.layout.base import MASK, NONE, PAD
from audiotok.lm.patterns.base import Rows, Serial
from audiotok.lm.phonetic import TOLD, Timed, timed, told, turns
from audiotok.lm.recipe import LmData, LmRecipe
from audiotok.lm.spans import read_spans

TEXT = 256  # ids of text: bytes
Said = str | Timed | None  # text, or its phones, or neither
IGNORED = -100  # a target that does not count


class Stretch(NamedTuple):
    """Of a recording, or all of it.

    What is cut off teaches nothing: a stretch begins with `begin` only where its recording does,
    else with `separator`, and that it ends is said only where the recording ends.

    Attributes:
        codes: `[k f]`.
        said: in it.
        opens: whether the recording begins with it.
        ends: whether the recording ends with it.
    """

    codes: np.ndarray
    said: Said = None
    opens: bool = True
    ends: bool = True


Parts = Sequence[Stretch]


class Batch(NamedTuple):
    """Sequences side by side, filled up on the right.

    Attributes:
        ids: `[b r n]` of what the model sees.
        targets: `[b r n]` of what it is to say there; `IGNORED` where nothing.
        lengths: `[b]` real positions.
        frames: of audio, in all.
        told: `[b rows n]` of what the model is told of phones, or None.
        turns: `[b n]` 1 where a phone ends, 0 where it does not, `IGNORED`; or None.
    """

    ids: Tensor
    targets: Tensor
    lengths: Tensor
    frames: int
    told: Tensor | None = None
    turns: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """The batch on a device."""
        ids, targets, lengths = (part.to(device) for part in self[:3])
        told, turns = (None if part is None else part.to(device) for part in self[4:])
        return Batch(ids, targets, lengths, self.frames, told, turns)


class Recordings:
    """Recordings of one split that a recipe asks for, read when they are needed.

    Raises:
        ValueError: none is left, or one has no text where text is needed.
    """

    def __init__(self, corpus: Corpus, split: str, data: LmData) -> None:
        self.corpus, self.data = corpus, data
        self.places: list[int] = []
        self.said: list[Said] = []
        self.rows: list[dict[str, Any]] = []
        self.spans = read_spans(data.spans) if data.spans else {}
        place = 0
        for shard in corpus.shards:
            for row in shard.rows():
                if self._wanted(row, split):
                    self.places.append(place)
                    self.said.append(self._said(row))
                    self.rows.append(row)
                place += 1
        if not self.places:
            raise ValueError(f"{corpus.path}: no recording of split {split!r} fits the recipe")

    def _wanted(self, row: dict[str, Any], split: str) -> bool:
        if split and row.get("split", "") != split:
            return False
        if any(str(row.get(key, "")) not in values for key, values in self.data.where.items()):
            return False
        if self.data.spans and row["id"] not in self.spans:
            return False
        if self.data.text and not row.get("text"):
            return False
        whole = self.data.text or self.data.spans
        return 0 < row["frames"] <= (self.data.frames if whole else row["frames"])

    def _said(self, row: dict[str, Any]) -> Said:
        if not self.data.spans:
            return str(row["text"]) if self.data.text else None
        try:
            return timed(self.spans[row["id"]], row["frames"], self.corpus.frame_rate)
        except ValueError as error:
            raise ValueError(f"{self.data.spans}: {row['id']}: {error}") from None

    def __len__(self) -> int:
        return len(self.places)

    def codes(self, i: int) -> np.ndarray:
        """Codes `[k f]` of recording i, whole."""
        return self.corpus.codes(self.places[i])

    def cut(self, i: int, random: np.random.Generator) -> Stretch:
        """A stretch of recording i of the length that the recipe allows, or less at its end.

        A window that slides in from before the recording and out at its end: an end comes as often
        as it does in whole recordings, and after any number of frames.
        """
        frames, most = self.rows[i]["frames"], self.data.frames
        start = int(random.integers(-most, frames)) if frames > most else 0
        return self._stretch(i, max(0, start))

    def stretches(self, i: int) -> list[Stretch]:
        """All of recording i, in stretches of the length that the recipe allows."""
        frames = self.rows[i]["frames"]
        return [self._stretch(i, start) for start in range(0, frames, self.data.frames)]

    def every(self, most: int = 0) -> list[Stretch]:
        """All of the first `most` recordings, or of all, in stretches."""
        return [part for i in range(len(self))[: most or None] for part in self.stretches(i)]

    def _stretch(self, i: int, start: int) -> Stretch:
        codes, stop = self.codes(i), start + self.data.frames
        ends = stop >= codes.shape[1]
        return Stretch(codes[:, start:stop], self.said[i], start == 0, ends)


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
    progress = sys.stderr.isatty()
    return learn_pieces(layout, codes, size=options.pieces, kind=options.kind, progress=progress)


def sequence(
    layout: Layout, codes: np.ndarray, text: Said = None, *, opens: bool = True
) -> tuple[np.ndarray, int]:
    """Ids `[r n]`, text (but not phones) first, and how many positions text takes."""
    ids = np.atleast_2d(layout.encode(codes[: len(layout.sizes)]))
    if not opens:
        ids[:, 0] = layout.special("separator")
    letters = text if isinstance(text, str) else ""
    said = np.frombuffer(letters.encode(), np.uint8).astype(np.int64)
    front = np.full((len(ids), len(said)), PAD)
    front[0] = said + layout.vocabulary[0]
    return np.concatenate([front, ids], 1), len(said)


def causal_batch(layout: Layout, parts: Parts) -> Batch:
    """Every position says the ids of the next; text is not predicted, nor is filling."""
    made = [sequence(layout, part.codes, part.said, opens=part.opens) for part in parts]
    ids = _filled([whole[:, :-1] for whole, _ in made], PAD)
    targets = [whole[:, 1:].copy() for whole, _ in made]
    for target, (_, front), part in zip(targets, made, parts, strict=True):
        target[:, :front] = IGNORED
        target[target == layout.special("pad")] = IGNORED
        if not (part.opens and part.ends):
            target[:, front:][_cut_off(layout, part, target[:, front:])] = IGNORED
    lengths = [target.shape[1] for target in targets]
    return _batch(ids, _filled(targets, IGNORED), lengths, parts, before=0)


def _cut_off(layout: Layout, part: Stretch, ids: np.ndarray) -> np.ndarray:
    """Which of a stretch's ids `[r n]` after `begin` are so because it was cut.

    Where there is no next frame: `end`, and in a series of groups of codebooks the first id of the
    second group. And the durations of runs that go on beyond.
    """
    frames = layout.ordered(part.codes[: len(layout.sizes)]).shape[1]
    order, made = layout.order, np.zeros(ids.shape, bool)
    if not part.ends:
        made |= ids == layout.special("end")
        if isinstance(order, Serial) and not order.streams:
            first = frames * order.groups[0]  # of its units, and then of its pieces
            if layout.learned is not None:
                units = np.cumsum(layout.learned.lengths[ids[0, :-1] - layout.offset - NONE])
                first = int(np.searchsorted(units, first, "right"))
            made[0, first] = True
    if layout.runs == "durations" and layout.learned is None:
        cells, last = order.cells(frames), len(layout.books) * frames - 1
        cut = [last] * (not part.ends) + [last - frames + 1] * (not part.opens)
        made[:, : cells.shape[1]] |= np.isin(cells, cut)
    return made


def masked(layout: Layout, batch: Batch, share: float, random: np.random.Generator) -> Batch:
    """The batch with a share of what the model sees of codes masked, what it is to say kept."""
    ids = batch.ids.numpy()
    code = (ids >= layout.offset + NONE) & (ids < np.array(layout.vocabulary)[:, None])
    chosen = code & (random.random(ids.shape) < share)
    return batch._replace(ids=torch.from_numpy(np.where(chosen, layout.special("mask"), ids)))


def stroke_batch(
    layout: Layout,
    parts: Parts,
    random: np.random.Generator,
    *,
    stage: int | None = None,
    prompt: int = 0,
) -> Batch:
    """One codebook of all frames at one stroke, from those before it, text and a prompt (VALL-E).

    Args:
        layout: parallel.
        parts: stretches of recordings.
        random: draws a codebook and the length of a prompt for each.
        stage: the codebook of all; then the prompt is of `prompt` frames.
        prompt: frames of which all codebooks are seen. After them those from `stage` on are masked.
    """
    rows, ids, targets = len(layout.sizes), [], []
    for codes, text, opens, _ in parts:
        q = int(random.integers(1, rows)) if stage is None else stage
        whole, front = sequence(layout, codes, text, opens=opens)
        whole = whole[:, : front + 1 + codes.shape[1]]  # no `end`: the frames are known
        seen = int(random.integers(0, codes.shape[1] // 2 + 1)) if stage is None else prompt
        target = np.full_like(whole, IGNORED)
        target[q, front + 1 + seen :] = whole[q, front + 1 + seen :]
        whole[q:, front + 1 + seen :] = MASK
        ids.append(whole)
        targets.append(target)
    lengths = [each.shape[1] for each in ids]
    return _batch(_filled(ids, PAD), _filled(targets, IGNORED), lengths, parts, before=1)


def _batch(
    ids: np.ndarray, targets: np.ndarray, lengths: list[int], parts: Parts, *, before: int
) -> Batch:
    """A batch, in which the position of frame i is i + `before`."""
    frames = sum(part.codes.shape[1] for part in parts)
    made = Batch(torch.from_numpy(ids), torch.from_numpy(targets), torch.tensor(lengths), frames)
    if not any(isinstance(part.said, Timed) for part in parts):
        return made
    heard = np.zeros((len(parts), len(TOLD), ids.shape[2]), np.int64)
    ends = np.full((len(parts), ids.shape[2]), IGNORED)
    for i, (codes, said, *_) in enumerate(parts):
        assert isinstance(said, Timed)
        here = slice(before, before + codes.shape[1])
        heard[i, :, here], ends[i, here] = told(*said), turns(said.lengths)
    return made._replace(told=torch.from_numpy(heard), turns=torch.from_numpy(ends))


def one_step_a_frame(layout: Layout) -> bool:
    """Whether a model of this layout can be told of phones: at each step a frame begins."""
    order = layout.order
    plain = layout.runs == "keep" and layout.learned is None
    rows = isinstance(order, Rows) and not order.phased
    return plain and (rows or len(layout.sizes) == 1)


def _filled(parts: Sequence[np.ndarray], value: int) -> np.ndarray:
    longest = max(part.shape[1] for part in parts)
    made = np.full((len(parts), len(parts[0]), longest), value, np.int64)
    for i, part in enumerate(parts):
        made[i, :, : part.shape[1]] = part
    return made
