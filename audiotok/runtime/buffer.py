"""Input buffer: pieces of a signal that have arrived and not yet been processed."""

from __future__ import annotations

import torch
from torch import Tensor


class InputBuffer:
    """Input `[b d n]` that has arrived and not yet been processed.

    Pieces are concatenated only when they are read.

    Attributes:
        size: number of steps n in the buffer.
    """

    def __init__(self) -> None:
        self.size = 0
        self._pieces: list[Tensor] = []

    def push(self, x: Tensor) -> None:
        """Add a piece `[b d n]` at the end."""
        if not self.size:  # an empty piece may have another width
            self._pieces = []
        self._pieces.append(x)
        self.size += x.shape[2]

    def peek(self, size: int) -> Tensor:
        """Return the first `size` steps, or as many as there are, and keep them."""
        # A long recording that came in one piece is not copied at every step.
        if len(self._pieces) > 1:
            self._pieces = [torch.cat(self._pieces, 2)]
        return self._pieces[0][:, :, :size]

    def take(self, size: int) -> Tensor:
        """Return the first `size` steps, or as many as there are, and remove them."""
        taken = self.peek(size)
        rest = self._pieces[0][:, :, size:]
        self._pieces = [rest]
        self.size = rest.shape[2]
        return taken

    @property
    def width(self) -> int:
        """Number of features d; 0 before the first piece."""
        return self._pieces[0].shape[1] if self._pieces else 0

    def select(self, members: slice) -> InputBuffer:
        """Return a buffer of some signals of the batch."""
        selected = InputBuffer()
        for piece in self._pieces:
            selected.push(piece[members])
        return selected
