"""Many conversations with an exported codec, a step of all that are ready at a time, in numpy.

    row 0   |##|  steps     What a conversation remembers is a row of tables. Rows that are ready
    row 1   |##|  steps     are run where they lie, and what was run in vain between them is
    row 2   |..|  waits     dropped: its row stays as it is. Few among many are copied out.
    row 3   |##|  steps

`stream.StreamBatch` is the same for a codec in torch.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from audiotok.runtime.exported import Exported
from audiotok.runtime.sessions_numpy import Decoding, Encoding
from audiotok.runtime.signature import Passage, Plan, State, entered

DENSE = 0.75  # of the rows up to the last must be ready to be run where they lie
ROWS = 16  # of a table at first


@dataclass(frozen=True, eq=False)
class Voice:
    """One conversation: its way there, and its way back."""

    encoding: Encoding
    decoding: Decoding


class Crowd:
    """Conversations that start and stop when they like; each gets the codes that it gets alone.

    >>> crowd = Crowd(audiotok.load("speech-onnx/", backend="onnx"))
    >>> one, other = crowd.open(), crowd.open()
    >>> codes = crowd.encode({one: piece, other: piece_of_other_length})    # numpy [c t]
    >>> sound = crowd.decode(codes)

    Args:
        codec: exported with steps; with rings it takes 0.6 of the time.

    Raises:
        ValueError: it was exported whole.
    """

    def __init__(self, codec: Exported) -> None:
        if not codec.plan.steps:
            raise ValueError(
                f"this export of {codec.name} has no steps, so it cannot stream: export it again"
                " with --rings"
            )
        self.codec = codec
        self._tables = {way: _Table(codec.plan, way) for way in ("encoder", "decoder")}

    @property
    def block(self) -> int:
        """Frames a step that a recording goes fastest in."""
        return self.codec.plan.block

    @property
    def first_frames(self) -> int:
        """Frames that the first step needs at least."""
        return self.codec.plan.first_frames

    @property
    def latency(self) -> float:
        """Seconds from a sample's arrival to its decoded self, at most, computing apart."""
        return self.codec.about["latency_ms"] / 1000

    def open(self, block: int = 1) -> Voice:
        """A new conversation that is stepped so many frames at a time."""
        voice = Voice(self.codec.encoding(block=block), self.codec.decoding(block=block))
        if block == 1:  # others are stepped alone, and keep their own states
            for passage in (voice.encoding, voice.decoding):
                self._tables[passage.way].expect(passage)
        return voice

    def close(self, voice: Voice) -> None:
        """Forget one."""
        for passage in (voice.encoding, voice.decoding):
            self._tables[passage.way].leave(passage)

    def encode(self, pieces: Mapping[Voice, np.ndarray]) -> dict[Voice, np.ndarray]:
        """Samples `[c t]` of each to the codes `[k f]` that they complete."""
        return self._abreast([voice.encoding for voice in pieces], pieces)

    def decode(self, codes: Mapping[Voice, np.ndarray]) -> dict[Voice, np.ndarray]:
        """Codes `[k f]` of each to the samples `[c t]` that they complete."""
        return self._abreast([voice.decoding for voice in codes], codes)

    def finish_encode(self, voice: Voice) -> np.ndarray:
        """The codes `[k f]` of what is left; the last frame is filled up with silence."""
        return voice.encoding.finish()[0]

    def finish_decode(self, voice: Voice) -> np.ndarray:
        """The samples `[c t]` that are left, up to the end of the last frame."""
        return voice.decoding.finish()[0]

    # -- inside ------------------------------------------------------------------------------------

    def _abreast(
        self, passages: Sequence[Passage], pieces: Mapping[Voice, np.ndarray]
    ) -> dict[Voice, np.ndarray]:
        for passage, piece in zip(passages, pieces.values(), strict=True):
            passage.hold(piece[None])
        made: list[list[np.ndarray]] = [[] for _ in passages]
        while ready := [i for i, passage in enumerate(passages) if passage.ready()]:
            alike = [i for i in ready if self._alike(passages[i])]
            for i in set(ready) - set(alike):
                made[i].append(passages[i].step())
            if alike:
                results = self._step([passages[i] for i in alike])
                for i, result in zip(alike, results, strict=True):
                    made[i].append(result)
        parts = zip(pieces, passages, made, strict=True)
        return {voice: passage.join(mine)[0] for voice, passage, mine in parts}

    def _alike(self, passage: Passage) -> bool:
        """Whether it is stepped with others; how a codec begins that mirrors it does alone."""
        return passage.block == 1 and (passage.begun or self.codec.plan.fills_up)

    def _step(self, passages: Sequence[Passage]) -> list[np.ndarray]:
        x = np.concatenate([passage.take() for passage in passages])
        first = passages[0]
        run, table = f"{first.way}_step", self._tables[first.way]
        rows = np.array([table.row(passage) for passage in passages])
        at = np.array([passage.stepped for passage in passages])
        end = int(rows.max()) + 1
        if len(rows) >= DENSE * end:
            wide = np.zeros((end, *x.shape[1:]), x.dtype)
            wide[rows] = x
            made = self.codec.graphs.run(run, {first.takes: wide, **table.first(end)})
            y = made[first.gives][rows]
            order = np.argsort(rows)
            rows, at = rows[order], at[order]
            if len(rows) < end:
                made = {name: value[rows] for name, value in made.items()}
        else:
            made = self.codec.graphs.run(run, {first.takes: x, **table.some(rows)})
            y = made[first.gives]
        entered(table.state, made, slice(end) if len(rows) == end else rows, at, 1)
        for passage in passages:
            passage.stepped += 1
        return [passage.give(y[i : i + 1]) for i, passage in enumerate(passages)]


class _Table:
    """States of many signals, a row each; the lowest rows that are free are taken first."""

    def __init__(self, plan: Plan, way: str) -> None:
        self.state = plan.start(way, ROWS)
        self._free = list(range(ROWS))
        self._rows: dict[Passage, int] = {}

    def expect(self, passage: Passage) -> None:
        """Give it a row when it begins."""
        passage.start = lambda: self._enter(passage)

    def row(self, passage: Passage) -> int:
        """Its row; it begins now if it has not."""
        passage.begin()
        return self._rows[passage]

    def leave(self, passage: Passage) -> None:
        """Its row is free."""
        row = self._rows.pop(passage, None)
        if row is not None:
            heapq.heappush(self._free, row)

    def first(self, rows: int) -> State:
        """So many rows, where they lie."""
        return {name: values[:rows] for name, values in self.state.items()}

    def some(self, rows: np.ndarray) -> State:
        """A copy of some."""
        return {name: values[rows] for name, values in self.state.items()}

    def _enter(self, passage: Passage) -> State:
        if not self._free:
            self._grow()
        self._rows[passage] = row = heapq.heappop(self._free)
        mine = self._view(row)
        for values in mine.values():
            values[:] = 0
        return mine

    def _view(self, row: int) -> State:
        return {name: values[row : row + 1] for name, values in self.state.items()}

    def _grow(self) -> None:
        """Twice as many rows; whoever has one looks at the new."""
        have = len(next(iter(self.state.values())))
        self._free = list(range(have, 2 * have))
        for name, values in self.state.items():
            more = np.zeros((2 * have, *values.shape[1:]), values.dtype)
            more[:have] = values
            self.state[name] = more
        for passage, row in self._rows.items():
            passage.move(self._view(row))
