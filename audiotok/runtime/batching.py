"""Continuous batching: many sessions of one codec, whose ready members take a step together.

    stream 0   |--|--|..        a step takes the next input of each:   |--|  0
    stream 1   |--|                                                    |--|  1   one matrix product
    stream 2   ......           (not ready: its state is unchanged)

States stay stacked in one tensor as long as the same streams step together; a stream that falls
behind or leaves copies its row. So a stream may step with any others, and its results are those it
has alone, up to the rounding of a matrix product of another height.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from audiotok.runtime import states
from audiotok.runtime.session import CodingSession


@torch.no_grad()
def step_together(sessions: Sequence[CodingSession], pieces: Sequence[Tensor]) -> list[Tensor]:
    """Process a further piece of each signal, with all steps that are ready run as batches.

    Args:
        sessions: encodings or decodings of one codec with one signal each, all different.
        pieces: one piece `[1 d n]` for each, of any length.

    Returns:
        The outputs that the piece of each session completes.
    """
    for session, piece in zip(sessions, pieces, strict=True):
        session.append(piece)
    outputs: list[list[Tensor]] = [[] for _ in sessions]
    while ready := [i for i, session in enumerate(sessions) if session.ready()]:
        groups: dict[Hashable, list[int]] = {}
        for i in ready:
            groups.setdefault((sessions[i].batch_key, states.form(sessions[i].row)), []).append(i)
        for group in groups.values():
            _step([sessions[i] for i in group], [outputs[i] for i in group])
    return [session.join(parts) for session, parts in zip(sessions, outputs, strict=True)]


def _step(sessions: Sequence[CodingSession], outputs: Sequence[list[Tensor]]) -> None:
    x = torch.cat([session.take_input() for session in sessions])
    y, state = sessions[0].run(x, states.stack([session.row for session in sessions]))
    parts = states.split_rows(state, len(sessions))
    for i, (session, own) in enumerate(zip(sessions, outputs, strict=True)):
        session.row = parts[i]
        own.append(session.trim(y[i : i + 1]))
