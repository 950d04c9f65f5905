"""Continuous batching: many sessions of one codec, whose ready members take a step together.

    stream 0   |--|--|..        a step takes the next input of each:   |--|  0
    stream 1   |--|                                                    |--|  1   one matrix product
    stream 2   ......           (not ready: its state is unchanged)

The executor keeps the states together as long as the same streams step together, each in its own
way: in torch they stay stacked in one tensor (`states`), those of graphs are rows of a table that
is updated in place (`table`). So a stream may step with any others, and its results are those it
has alone, up to the rounding of a matrix product of another height.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from audiotok.runtime.base import A
from audiotok.runtime.buffer import FAILED
from audiotok.runtime.session import CodingSession


def step_together(sessions: Sequence[CodingSession[A]], pieces: Sequence[A]) -> list[A]:
    """Process a further piece of each signal, with all steps that are ready run as batches.

    Args:
        sessions: encodings or decodings of one codec with one signal each, all different.
        pieces: one piece `[1 d n]` for each, of any length.

    Returns:
        The outputs that the piece of each session completes.

    Raises:
        ValueError: a signal has ended, or one of its steps has failed.
    """
    for session, piece in zip(sessions, pieces, strict=True):
        session.append(piece)
    for session in sessions:
        session.close(FAILED)
    outputs: list[list[A]] = [[] for _ in sessions]
    while ready := [i for i, session in enumerate(sessions) if session.ready()]:
        groups: dict[Hashable, list[int]] = {}
        for i in ready:
            session = sessions[i]
            key = session.batch_key, session.executor.form(session.row)
            groups.setdefault(key, []).append(i)
        for group in groups.values():
            _step([sessions[i] for i in group], [outputs[i] for i in group])
    for session in sessions:
        session.close("")
    return [session.join(parts) for session, parts in zip(sessions, outputs, strict=True)]


def _step(sessions: Sequence[CodingSession[A]], outputs: Sequence[list[A]]) -> None:
    first, executor = sessions[0], sessions[0].executor
    x = executor.join([session.take_input() for session in sessions], 0)
    state = None if first.row is None else executor.gather([session.row for session in sessions])
    y: Any
    y, state = first.run(x, state)
    rows = executor.scatter(state, len(sessions))
    for i, (session, own) in enumerate(zip(sessions, outputs, strict=True)):
        session.row = rows[i]
        own.append(session.trim(y[i : i + 1]))
