"""Interface of executors, which turn tasks into outcomes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import ClassVar

from audiotok.corpus.build.work import Outcome, Task, Work


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class BuildExecutor:
    """Executor that encodes recordings with a codec.

    Attributes:
        description: a phrase in one line, for the command line.
        window: number of tasks that it takes at a time.
    """

    description: ClassVar[str] = ""
    window: ClassVar[int] = 256

    def workers(self, work: Work) -> int:
        """Return the default number of processes: one per core, or one per device."""
        return cores() if work.device == "cpu" else len(work.device.split(","))

    def run(self, work: Work, tasks: Iterator[Task | None], workers: int) -> Iterator[Outcome]:
        """Yield the outcome of every task, in any order.

        Args:
            work: options of encoding.
            tasks: tasks, read lazily; None means that outcomes must come before more tasks.
            workers: number of processes.

        Raises:
            ValueError: no process can start.
        """
        raise NotImplementedError
