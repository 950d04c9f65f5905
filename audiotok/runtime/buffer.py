"""Pieces of a signal that have arrived and not yet run."""

from __future__ import annotations

import torch
from torch import Tensor


class Held:
    """What has arrived and not yet run, `[b d n]`: joined only when it is taken."""

    def __init__(self) -> None:
        self.size = 0
        self._pieces: list[Tensor] = []

    def push(self, x: Tensor) -> None:
        """Add a piece at the end."""
        if not self.size:  # what is empty may be of another width
            self._pieces = []
        self._pieces.append(x)
        self.size += x.shape[2]

    def first(self, size: int) -> Tensor:
        """The first `size` steps, or as many as there are; they stay."""
        # A long recording that came in one piece is not copied at every step.
        if len(self._pieces) > 1:
            self._pieces = [torch.cat(self._pieces, 2)]
        return self._pieces[0][:, :, :size]

    def take(self, size: int) -> Tensor:
        """The first `size` steps, or as many as there are; they go."""
        taken = self.first(size)
        rest = self._pieces[0][:, :, size:]
        self._pieces, self.size = [rest], rest.shape[2]
        return taken

    @property
    def width(self) -> int:
        """d; 0 before the first piece."""
        return self._pieces[0].shape[1] if self._pieces else 0

    def only(self, members: slice) -> Held:
        """The same of some signals of the batch."""
        held = Held()
        for piece in self._pieces:
            held.push(piece[members])
        return held
