"""What every engine does: tasks in, outcomes out as they come."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from audiotok.stage import Outcome, Task, Work


class Engine:
    """Runs recordings through a codec.

    Attributes:
        about: a line for `--help`.
    """

    about: ClassVar[str] = ""

    def run(self, work: Work, tasks: Iterator[Task | None], workers: int) -> Iterator[Outcome]:
        """The outcome of every task, in any order.

        Args:
            work: what to do.
            tasks: read lazily; None means "not now, outcomes are waited for".
            workers: processes.

        Raises:
            ValueError: no process can start.
        """
        raise NotImplementedError
