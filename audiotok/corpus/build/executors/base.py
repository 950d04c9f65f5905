"""What every engine does: tasks in, outcomes out as they come."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import ClassVar

from audiotok.corpus.build.worker import Outcome, Task, Work


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Engine:
    """Runs recordings through a codec.

    Attributes:
        about: a line for `--help`.
        window: tasks that it wants to have at hand at once.
    """

    about: ClassVar[str] = ""
    window: ClassVar[int] = 256

    def workers(self, work: Work) -> int:
        """Processes, unless told: one a core, or one a device."""
        return cores() if work.device == "cpu" else len(work.device.split(","))

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
