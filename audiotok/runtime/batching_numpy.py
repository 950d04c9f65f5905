"""Continuous batching of many conversations with an exported codec, in numpy.

    row 0   |##|  steps     The state of a conversation is a row of a table. If most rows are ready,
    row 1   |##|  steps     the table is run as it is, and the outputs of rows that were not ready
    row 2   |..|  waits     are discarded, so that their states are unchanged. If only a few rows
    row 3   |##|  steps     are ready, copies of them are run.

`stream.StreamBatch` is the counterpart for a codec in torch.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from audiotok._platform.errors import InputError
from audiotok.runtime.exported import Exported
from audiotok.runtime.sessions_numpy import GraphDecoding, GraphEncoding
from audiotok.runtime.signature import GraphPlan, GraphSession, State, store_outputs

DENSE = 0.75  # share of rows up to the last that must be ready for a run without copies
ROWS = 16  # initial size of a table


@dataclass(frozen=True, eq=False)
class GraphStream:
    """Conversation: a session that encodes and a session that decodes."""

    encoding: GraphEncoding
    decoding: GraphDecoding


class GraphStreamBatch:
    """Conversations that start and stop at any time; each gets the codes that it gets alone.

    >>> batch = GraphStreamBatch(audiotok.load("speech-onnx/", backend="onnx"))
    >>> one, other = batch.open(), batch.open()
    >>> codes = batch.encode({one: piece, other: piece_of_other_length})    # numpy [c t]
    >>> sound = batch.decode(codes)

    Args:
        codec: codec that was exported with steps; with rings a step takes 0.6 of the time.

    Raises:
        ValueError: the codec was exported without steps.
    """

    def __init__(self, codec: Exported) -> None:
        if not codec.plan.steps:
            raise InputError(
                f"this export of {codec.name} has no steps, so it cannot stream: export it again"
                " with rings=True"
            )
        self.codec = codec
        self._tables = {way: _Table(codec.plan, way) for way in ("encoder", "decoder")}

    @property
    def block(self) -> int:
        """Frames per step with which a recording is coded fastest."""
        return self.codec.plan.block

    @property
    def first_frames(self) -> int:
        """Least number of frames in the first step."""
        return self.codec.plan.first_frames

    @property
    def latency(self) -> float:
        """Algorithmic latency: most seconds from the arrival of a sample to its decoded value."""
        return self.codec.latency

    def open(self, block: int = 1) -> GraphStream:
        """Start a conversation.

        Args:
            block: frames per step; only conversations of one frame per step run together.
        """
        voice = GraphStream(self.codec.encoding(block=block), self.codec.decoding(block=block))
        if block == 1:  # others take their steps alone, and keep their own states
            for session in (voice.encoding, voice.decoding):
                self._tables[session.direction].admit(session)
        return voice

    def close(self, voice: GraphStream) -> None:
        """End a conversation, and free its memory."""
        for session in (voice.encoding, voice.decoding):
            self._tables[session.direction].release(session)

    def encode(self, pieces: Mapping[GraphStream, np.ndarray]) -> dict[GraphStream, np.ndarray]:
        """Encode samples `[c t]` of each conversation to the codes `[k f]` that they complete."""
        return self._step_together([voice.encoding for voice in pieces], pieces)

    def decode(self, codes: Mapping[GraphStream, np.ndarray]) -> dict[GraphStream, np.ndarray]:
        """Decode codes `[k f]` of each conversation to the samples `[c t]` that they complete."""
        return self._step_together([voice.decoding for voice in codes], codes)

    def finish_encode(self, voice: GraphStream) -> np.ndarray:
        """Return the remaining codes `[k f]`; the last frame is filled up with silence."""
        return voice.encoding.finish()[0]

    def finish_decode(self, voice: GraphStream) -> np.ndarray:
        """Return the remaining samples `[c t]`, up to the end of the last frame."""
        return voice.decoding.finish()[0]

    # -- inside ------------------------------------------------------------------------------------

    def _step_together(
        self, sessions: Sequence[GraphSession], pieces: Mapping[GraphStream, np.ndarray]
    ) -> dict[GraphStream, np.ndarray]:
        for session, piece in zip(sessions, pieces.values(), strict=True):
            session.append(piece[None])
        outputs: list[list[np.ndarray]] = [[] for _ in sessions]
        while ready := [i for i, session in enumerate(sessions) if session.ready()]:
            batch = [i for i in ready if self._is_batched(sessions[i])]
            for i in set(ready) - set(batch):
                outputs[i].append(sessions[i].step())
            if batch:
                results = self._step([sessions[i] for i in batch])
                for i, result in zip(batch, results, strict=True):
                    outputs[i].append(result)
        parts = zip(pieces, sessions, outputs, strict=True)
        return {voice: session.join(own)[0] for voice, session, own in parts}

    def _is_batched(self, session: GraphSession) -> bool:
        """Return whether a session steps with others; a mirrored first step is run alone."""
        return session.block == 1 and (session.begun or self.codec.plan.fills_up)

    def _step(self, sessions: Sequence[GraphSession]) -> list[np.ndarray]:
        x = np.concatenate([session.take_input() for session in sessions])
        first = sessions[0]
        graph, table = f"{first.direction}_step", self._tables[first.direction]
        rows = np.array([table.row(session) for session in sessions])
        positions = np.array([session.stepped for session in sessions])
        end = int(rows.max()) + 1
        if len(rows) >= DENSE * end:
            wide = np.zeros((end, *x.shape[1:]), x.dtype)
            wide[rows] = x
            outputs = self.codec.graphs.run(graph, {first.takes: wide, **table.view(end)})
            y = outputs[first.gives][rows]
            order = np.argsort(rows)
            rows, positions = rows[order], positions[order]
            if len(rows) < end:
                outputs = {name: value[rows] for name, value in outputs.items()}
        else:
            outputs = self.codec.graphs.run(graph, {first.takes: x, **table.copied(rows)})
            y = outputs[first.gives]
        every = len(rows) == end
        store_outputs(table.state, outputs, slice(end) if every else rows, positions, 1)
        for session in sessions:
            session.stepped += 1
        return [session.trim(y[i : i + 1]) for i, session in enumerate(sessions)]


class _Table:
    """States of many signals, one row each; the lowest free rows are used first."""

    def __init__(self, plan: GraphPlan, direction: str) -> None:
        self.state = plan.start(direction, ROWS)
        self._free = list(range(ROWS))
        self._rows: dict[GraphSession, int] = {}

    def admit(self, session: GraphSession) -> None:
        """Make a session use a row of the table from its first step on."""
        session.start = lambda: self._allocate(session)

    def row(self, session: GraphSession) -> int:
        """Return the row of a session, which is allocated if it has none."""
        session.begin()
        return self._rows[session]

    def release(self, session: GraphSession) -> None:
        """Free the row of a session."""
        row = self._rows.pop(session, None)
        if row is not None:
            heapq.heappush(self._free, row)

    def view(self, rows: int) -> State:
        """Return the first rows without copying them."""
        return {name: values[:rows] for name, values in self.state.items()}

    def copied(self, rows: np.ndarray) -> State:
        """Return a copy of some rows."""
        return {name: values[rows] for name, values in self.state.items()}

    def _allocate(self, session: GraphSession) -> State:
        if not self._free:
            self._grow()
        self._rows[session] = row = heapq.heappop(self._free)
        own = self._view(row)
        for values in own.values():
            values[:] = 0
        return own

    def _view(self, row: int) -> State:
        return {name: values[row : row + 1] for name, values in self.state.items()}

    def _grow(self) -> None:
        """Double the number of rows, and point the sessions to the new arrays."""
        size = len(next(iter(self.state.values())))
        self._free = list(range(size, 2 * size))
        for name, values in self.state.items():
            doubled = np.zeros((2 * size, *values.shape[1:]), values.dtype)
            doubled[:size] = values
            self.state[name] = doubled
        for session, row in self._rows.items():
            session.move(self._view(row))
