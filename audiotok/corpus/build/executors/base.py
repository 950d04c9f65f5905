"""Interface of executors, which turn tasks into outcomes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import ClassVar

from audiotok._platform.errors import InputError
from audiotok.corpus.build.work import Event, Task, Work


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class BuildExecutor:
    """Executor that encodes recordings with a codec.

    Args:
        address: address of a cluster, where it runs on one.

    Attributes:
        description: a phrase in one line, for the command line.
        window: number of recordings between the next to be committed and the next to be started.
        active: number of workers that run now.
        machines: whether workers may be on other machines than this process.

    Raises:
        ValueError: it runs on no cluster, and an address is given.
    """

    description: ClassVar[str] = ""
    window: ClassVar[int] = 1 << 15
    machines: ClassVar[bool] = False

    def __init__(self, address: str = "") -> None:
        if address and not self.machines:
            raise InputError(f"{address}: this executor has no address; choose ray for a cluster")
        self.address = address
        self.active = 0

    def workers(self, work: Work) -> int:
        """Return the default number of processes: one per core, or one per device."""
        return cores() if work.device == "cpu" else len(work.device.split(","))

    def run(self, work: Work, tasks: Iterator[Task | None], workers: int) -> Iterator[Event]:
        """Yield the outcome of every recording, in any order, and the end of every container.

        Args:
            work: options of encoding.
            tasks: tasks, read lazily; None means that outcomes must come before more tasks.
            workers: number of processes; as many as there is room for, at any time, if 0.

        Raises:
            ValueError: no process can start.
        """
        raise NotImplementedError
