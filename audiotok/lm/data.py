"""Training sequences of a language model: the text of a recording, then the ids of its codes.

Text is UTF-8 with one id per byte; in the first row these ids follow the layout's own.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from audiotok._platform.errors import InputError
from audiotok.corpus import Corpus
from audiotok.lm.bpe import learn_pieces
from audiotok.lm.layout import Layout
from audiotok.lm.layout.base import MASK, NONE, PAD
from audiotok.lm.patterns.base import Rows, Serial
from audiotok.lm.phonetic import PHONE_INPUT_SIZES, TimedPhones, phone_ends, phone_inputs, timed
from audiotok.lm.recipe import LmData, LmRecipe
from audiotok.lm.spans import read_spans

TEXT = 256  # ids of text, one per byte
Transcript = str | TimedPhones | None  # text, phones with their frames, or neither
IGNORED = -100  # target of a position that the loss leaves out


class Segment(NamedTuple):
    """Segment of a recording, or all of it.

    A model must not learn where recordings were cut. So a segment begins with the mark `begin` only
    where its recording begins, and with `separator` otherwise, and `end` is a target only where the
    recording ends.

    Attributes:
        codes: the codes `[k f]`.
        transcript: the text or the phones.
        starts: whether it starts where the recording starts.
        ends: whether it ends where the recording ends.
    """

    codes: np.ndarray
    transcript: Transcript = None
    starts: bool = True
    ends: bool = True


class SequenceBatch(NamedTuple):
    """Batch of sequences, padded on the right.

    Attributes:
        ids: input ids `[b r n]`.
        targets: ids to predict `[b r n]`; `IGNORED` where there is none.
        lengths: number of positions of each sequence before padding `[b]`.
        frames: number of frames of all sequences.
        phones: phone inputs `[b p n]`, see `audiotok.lm.phonetic.phone_inputs`; or None.
        phone_ends: `[b n]`, 1 where a phone ends, 0 where it does not, `IGNORED` outside frames; or
            None.
    """

    ids: Tensor
    targets: Tensor
    lengths: Tensor
    frames: int
    phones: Tensor | None = None
    phone_ends: Tensor | None = None

    def to(self, device: torch.device) -> SequenceBatch:
        """Return the batch on a device."""
        ids, targets, lengths = (part.to(device) for part in self[:3])
        phones, ends = (None if part is None else part.to(device) for part in self[4:])
        return SequenceBatch(ids, targets, lengths, self.frames, phones, ends)


class Recordings:
    """Recordings of one split that a recipe selects; their codes are read when they are needed.

    Args:
        corpus: the token corpus.
        split: value of a row's `split`; "" takes all rows.
        data: further conditions on rows, and the length of segments.

    Attributes:
        indices: index of each recording in the corpus.
        transcripts: transcript of each recording.
        rows: row of each recording.
        spans: alignments of `data.spans` by recording id.

    Raises:
        NoCodesError: the corpus holds latents.
        ValueError: no recording is selected, or an alignment does not fit its recording.
    """

    def __init__(self, corpus: Corpus, split: str, data: LmData) -> None:
        corpus.needs_codes("a language model")
        self.corpus = corpus
        self.data = data
        self.indices: list[int] = []
        self.transcripts: list[Transcript] = []
        self.rows: list[dict[str, Any]] = []
        self.spans = read_spans(data.spans) if data.spans else {}
        index = 0
        for shard in corpus.shards:
            for row in shard.rows():
                if self._wanted(row, split):
                    self.indices.append(index)
                    self.transcripts.append(self._transcript(row))
                    self.rows.append(row)
                index += 1
        if not self.indices:
            others = {str(row.get("split", "")) for shard in corpus.shards for row in shard.rows()}
            raise InputError(
                f"{corpus.location}: no recording of split {split!r} fits the recipe; its splits: "
                f"{', '.join(sorted(others - {''})) or 'none'}; data.train and data.validate name"
                ' them, "" takes all recordings'
            )

    def _wanted(self, row: dict[str, Any], split: str) -> bool:
        """Return whether the recipe selects a row."""
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

    def _transcript(self, row: dict[str, Any]) -> Transcript:
        """Return the text or the phones of a row, as the recipe asks."""
        if not self.data.spans:
            return str(row["text"]) if self.data.text else None
        try:
            return timed(self.spans[row["id"]], row["frames"], self.corpus.frame_rate)
        except ValueError as error:
            raise InputError(f"{self.data.spans}: {row['id']}: {error}") from None

    def __len__(self) -> int:
        return len(self.indices)

    def codes(self, i: int) -> np.ndarray:
        """Return the codes `[k f]` of all of recording i."""
        return self.corpus.codes(self.indices[i])

    def random_segment(self, i: int, random: np.random.Generator) -> Segment:
        """Draw a segment of recording i, `data.frames` long or shorter at the recording's end.

        The window may start before the recording and pass its end. So segments end where the
        recording ends as often as in whole recordings, and after any number of frames.
        """
        frames, longest = self.rows[i]["frames"], self.data.frames
        start = int(random.integers(-longest, frames)) if frames > longest else 0
        return self._segment(i, max(0, start))

    def segments(self, i: int) -> list[Segment]:
        """Return all of recording i, in consecutive segments of at most `data.frames` frames."""
        frames = self.rows[i]["frames"]
        return [self._segment(i, start) for start in range(0, frames, self.data.frames)]

    def all_segments(self, limit: int = 0) -> list[Segment]:
        """Return the segments of the first `limit` recordings, or of all if 0."""
        return [part for i in range(len(self))[: limit or None] for part in self.segments(i)]

    def _segment(self, i: int, start: int) -> Segment:
        codes, stop = self.codes(i), start + self.data.frames
        ends = stop >= codes.shape[1]
        return Segment(codes[:, start:stop], self.transcripts[i], start == 0, ends)


def plain_layout(recipe: LmRecipe, corpus: Corpus) -> Layout:
    """Return the recipe's layout for a corpus, without learned pieces."""
    options = recipe.layout
    return Layout.of(
        corpus,
        codebooks=options.codebooks or None,
        pattern=options.pattern,
        options=options.options,
        runs=options.runs,
    )


def new_layout(recipe: LmRecipe, recordings: Recordings) -> Layout:
    """Return the recipe's layout, its pieces learned from the recordings."""
    options, layout = recipe.layout, plain_layout(recipe, recordings.corpus)
    if not options.pieces:
        return layout
    k = len(layout.sizes)
    codes = (recordings.codes(i)[:k] for i in range(len(recordings)))
    progress = sys.stderr.isatty()
    return learn_pieces(layout, codes, size=options.pieces, kind=options.kind, progress=progress)


def sequence(
    layout: Layout, codes: np.ndarray, text: Transcript = None, *, starts: bool = True
) -> tuple[np.ndarray, int]:
    """Return the ids `[r n]` of a recording and how many of their positions are text.

    Args:
        layout: the layout.
        codes: codes `[k f]`, at least those of the layout's codebooks.
        text: text to precede the codes; phones add no positions.
        starts: whether codes follow `begin`, not `separator`.
    """
    ids = np.atleast_2d(layout.encode(codes[: len(layout.sizes)]))
    if not starts:
        ids[:, 0] = layout.special("separator")
    letters = text if isinstance(text, str) else ""
    data = np.frombuffer(letters.encode(), np.uint8).astype(np.int64)
    front = np.full((len(ids), len(data)), PAD)
    front[0] = data + layout.vocabulary[0]
    return np.concatenate([front, ids], 1), len(data)


def causal_batch(layout: Layout, parts: Sequence[Segment]) -> SequenceBatch:
    """Return a batch in which each position predicts the next ids; text and padding are ignored."""
    sequences = [
        sequence(layout, part.codes, part.transcript, starts=part.starts) for part in parts
    ]
    ids = _padded([whole[:, :-1] for whole, _ in sequences], PAD)
    targets = [whole[:, 1:].copy() for whole, _ in sequences]
    for target, (_, front), part in zip(targets, sequences, parts, strict=True):
        target[:, :front] = IGNORED
        target[target == layout.special("pad")] = IGNORED
        if not (part.starts and part.ends):
            target[:, front:][_due_to_cut(layout, part, target[:, front:])] = IGNORED
    lengths = [target.shape[1] for target in targets]
    return _batch(ids, _padded(targets, IGNORED), lengths, parts, before=0)


def _due_to_cut(layout: Layout, part: Segment, ids: np.ndarray) -> np.ndarray:
    """Return which of a segment's ids `[r n]` after `begin` depend on where it was cut.

    These are `end`, the first id of the second group of codebooks in a serial pattern of several
    groups (it shows that there is no next frame), and durations of runs that continue outside the
    segment.
    """
    frames = layout.ordered(part.codes[: len(layout.sizes)]).shape[1]
    order, marked = layout.order, np.zeros(ids.shape, bool)
    if not part.ends:
        marked |= ids == layout.special("end")
        if isinstance(order, Serial) and not order.streams:
            first = frames * order.groups[0]  # position counted in units; converted to pieces below
            if layout.learned is not None:
                units = np.cumsum(layout.learned.lengths[ids[0, :-1] - layout.offset - NONE])
                first = int(np.searchsorted(units, first, "right"))
            marked[0, first] = True
    if layout.runs == "durations" and layout.learned is None:
        cells, last = order.cells(frames), len(layout.books) * frames - 1
        cut = [last] * (not part.ends) + [last - frames + 1] * (not part.starts)
        marked[:, : cells.shape[1]] |= np.isin(cells, cut)
    return marked


def masked(
    layout: Layout, batch: SequenceBatch, share: float, random: np.random.Generator
) -> SequenceBatch:
    """Return the batch with a share of its input codes replaced by `mask`; targets stay.

    Args:
        layout: the layout of the ids.
        batch: the batch.
        share: probability that a code is masked, from 0 to 1.
        random: draws the codes to mask.
    """
    ids = batch.ids.numpy()
    code = (ids >= layout.offset + NONE) & (ids < np.array(layout.vocabulary)[:, None])
    chosen = code & (random.random(ids.shape) < share)
    return batch._replace(ids=torch.from_numpy(np.where(chosen, layout.special("mask"), ids)))


def nar_batch(
    layout: Layout,
    parts: Sequence[Segment],
    random: np.random.Generator,
    *,
    codebook: int | None = None,
    prompt: int = 0,
) -> SequenceBatch:
    """Return a batch for a non-autoregressive model, VALL-E's second (arXiv:2301.02111).

    The model predicts one codebook of all frames at once, from the codebooks before it, the text
    and a prompt of which it sees all codebooks.

    Args:
        layout: a layout of the parallel pattern.
        parts: segments of recordings.
        random: draws the codebook and the length of the prompt of each segment.
        codebook: the codebook to predict, instead of a drawn one; the prompt then has `prompt`
            frames.
        prompt: length of the prompt in frames. After it, codebooks from `codebook` on are masked.
    """
    hidden, chosen = [], []
    for codes, *_ in parts:
        q = int(random.integers(1, len(layout.sizes))) if codebook is None else codebook
        seen = int(random.integers(0, codes.shape[1] // 2 + 1)) if codebook is None else prompt
        hide = np.zeros((len(layout.sizes), codes.shape[1]), bool)
        hide[q:, seen:] = True
        hidden.append(hide)
        chosen.append(q)
    batch = infill_batch(layout, parts, hidden)
    other = torch.arange(len(layout.sizes)) != torch.tensor(chosen)[:, None]
    batch.targets[other] = IGNORED
    return batch


def infill_batch(
    layout: Layout, parts: Sequence[Segment], hidden: Sequence[np.ndarray]
) -> SequenceBatch:
    """Return a batch in which some codes are masked, and are the targets.

    Args:
        layout: a layout of the parallel pattern.
        parts: segments of recordings.
        hidden: for each segment which of its codes are masked, bool `[k f]`.
    """
    ids, targets = [], []
    for (codes, text, starts, _), hide in zip(parts, hidden, strict=True):
        whole, front = sequence(layout, codes, text, starts=starts)
        # `end` is left out, because the number of frames is known.
        whole = whole[:, : front + 1 + codes.shape[1]]
        target, frames = np.full_like(whole, IGNORED), whole[:, front + 1 :]
        target[:, front + 1 :][hide] = frames[hide]
        frames[hide] = MASK
        ids.append(whole)
        targets.append(target)
    lengths = [each.shape[1] for each in ids]
    return _batch(_padded(ids, PAD), _padded(targets, IGNORED), lengths, parts, before=1)


def _batch(
    ids: np.ndarray,
    targets: np.ndarray,
    lengths: list[int],
    parts: Sequence[Segment],
    *,
    before: int,
) -> SequenceBatch:
    """Return a batch, with phone inputs if segments have phones; frame i is at i + `before`."""
    frames = sum(part.codes.shape[1] for part in parts)
    batch = SequenceBatch(
        torch.from_numpy(ids), torch.from_numpy(targets), torch.tensor(lengths), frames
    )
    if not any(isinstance(part.transcript, TimedPhones) for part in parts):
        return batch
    phones = np.zeros((len(parts), len(PHONE_INPUT_SIZES), ids.shape[2]), np.int64)
    ends = np.full((len(parts), ids.shape[2]), IGNORED)
    for i, (codes, transcript, *_) in enumerate(parts):
        assert isinstance(transcript, TimedPhones)
        here = slice(before, before + codes.shape[1])
        phones[i, :, here] = phone_inputs(*transcript)
        ends[i, here] = phone_ends(transcript.lengths)
    return batch._replace(phones=torch.from_numpy(phones), phone_ends=torch.from_numpy(ends))


def one_step_a_frame(layout: Layout) -> bool:
    """Return whether each step of a layout starts a frame, as conditioning on phones requires."""
    order = layout.order
    plain = layout.runs == "keep" and layout.learned is None
    rows = isinstance(order, Rows) and not order.phased
    return plain and (rows or len(layout.sizes) == 1)


def _padded(parts: Sequence[np.ndarray], value: int) -> np.ndarray:
    """Return arrays `[r n]` of any n as one `[b r longest]`, padded on the right with a value."""
    longest = max(part.shape[1] for part in parts)
    padded = np.full((len(parts), len(parts[0]), longest), value, np.int64)
    for i, part in enumerate(parts):
        padded[i, :, : part.shape[1]] = part
    return padded
