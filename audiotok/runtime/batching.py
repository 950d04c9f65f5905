"""Many conversations through one codec, a step of all that are ready at a time.

    stream 0   |--|--|..        a step takes what is ready of each:   |--|  0
    stream 1   |--|                                                   |--|  1   one matrix product
    stream 2   ......           (not ready: its state stays as it is)

States lie side by side in memory as long as the same streams step together; one that falls behind
or leaves takes its row along. So a stream steps with whom it likes, and gets what it gets alone, up
to the rounding of a matrix product of another height.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from audiotok.runtime import states
from audiotok.runtime.session import Passage


@torch.no_grad()
def abreast(passages: Sequence[Passage], pieces: Sequence[Tensor]) -> list[Tensor]:
    """What a further piece completes of each signal, all that are ready side by side.

    Args:
        passages: encodings or decodings of one codec, a signal each; none twice.
        pieces: `[1 d n]`, one for each, of any length.
    """
    for passage, piece in zip(passages, pieces, strict=True):
        passage.hold(piece)
    made: list[list[Tensor]] = [[] for _ in passages]
    while ready := [i for i, passage in enumerate(passages) if passage.ready()]:
        alike: dict[Hashable, list[int]] = {}
        for i in ready:
            alike.setdefault((passages[i].kind, states.form(passages[i].row)), []).append(i)
        for some in alike.values():
            _step([passages[i] for i in some], [made[i] for i in some])
    return [passage.join(parts) for passage, parts in zip(passages, made, strict=True)]


def _step(passages: Sequence[Passage], made: Sequence[list[Tensor]]) -> None:
    x = torch.cat([passage.take() for passage in passages])
    y, state = passages[0].run(x, states.beside([passage.row for passage in passages]))
    parts = states.rows(state, len(passages))
    for i, (passage, mine) in enumerate(zip(passages, made, strict=True)):
        passage.row = parts[i]
        mine.append(passage.give(y[i : i + 1]))
