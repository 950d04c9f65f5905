"""Input buffer: pieces of a signal that have arrived and not yet been processed."""

from __future__ import annotations

from typing import Any, Generic

from audiotok._platform.errors import InputError
from audiotok.runtime.base import A, Executor

ENDED = "this stream has ended"
FAILED = "a step of this stream failed, and its input is lost"


class InputBuffer(Generic[A]):
    """Input `[b d n]` that has arrived and not yet been processed.

    Pieces are concatenated only when they are read.

    Args:
        executor: executor whose arrays the pieces are.

    Attributes:
        size: number of steps n in the buffer.
        closed: why it takes no more; empty while it does.
    """

    def __init__(self, executor: Executor[A]) -> None:
        self.size = 0
        self.closed = ""
        self._executor = executor
        self._pieces: list[Any] = []

    def push(self, x: Any) -> None:
        """Add a piece `[b d n]` at the end.

        Raises:
            ValueError: there is something in the piece, and the buffer is closed.
        """
        if x.shape[2]:
            self.check_open()
        if not self.size:  # an empty piece may have another width
            self._pieces = []
        self._pieces.append(x)
        self.size += x.shape[2]

    def check_open(self) -> None:
        """Raise ValueError if the buffer is closed."""
        if self.closed:
            raise InputError(f"{self.closed}: start another, or reset it")

    def peek(self, size: int) -> A:
        """Return the first `size` steps, or as many as there are, and keep them."""
        # A long recording that came in one piece is not copied at every step.
        if len(self._pieces) > 1:
            self._pieces = [self._executor.join(self._pieces, 2)]
        return self._pieces[0][:, :, :size]

    def take(self, size: int) -> A:
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

    def select(self, members: slice) -> InputBuffer[A]:
        """Return a buffer of some signals of the batch."""
        selected = InputBuffer(self._executor)
        for piece in self._pieces:
            selected.push(piece[members])
        return selected
