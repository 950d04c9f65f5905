"""Progress of a build: a bar on a terminal, and figures at the end."""

from __future__ import annotations

import threading
import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from audiotok.data.sources.base import Listing, Split


class BuildProgress:
    """Counters of a run, shown on a terminal.

    Args:
        console: console for the bar.
        workers: number of processes.
        done: number of recordings done in earlier runs.
    """

    def __init__(self, console: Console, workers: int, done: int) -> None:
        self.seconds = 0.0
        self.cpu = 0.0
        self.bad = 0
        self.start = self.first = self.last = time.perf_counter()
        self.workers = workers
        self._count = done
        self._cpu_first = 0.0
        self._shown = console.is_terminal
        # Short, so that the time left fits.
        self._times = "x real time" if console.width >= 100 else "x"
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not self._shown,
        )
        self._bar = self._progress.add_task(
            "building", total=None, figures="starting", completed=done
        )

    def __enter__(self) -> BuildProgress:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def total(self, listing: Listing, path: str, part: Split) -> None:
        """Count the recordings of a listing in a thread, to estimate the time that is left."""

        def count() -> None:
            try:
                number = sum(1 for _ in listing.items(path, part))
            except ValueError:  # the build itself raises it
                return
            self._progress.update(self._bar, total=number)

        if self._shown and not listing.costly:
            threading.Thread(target=count, daemon=True).start()

    def outcome(self, busy: float) -> None:
        """Count a recording that a process has done in so many seconds of processor time."""
        now = time.perf_counter()
        if not self.cpu:
            self.first = now
            self._cpu_first = busy
        self.last = now
        self.cpu += busy

    def committed(self, seconds: float, bad: bool) -> None:
        """Count a committed recording.

        Args:
            seconds: its length in seconds.
            bad: whether it failed.
        """
        self.seconds += seconds
        self.bad += bad
        self._count += 1
        if self._shown:
            speed = self.seconds / (time.perf_counter() - self.start)
            figures = f"{self.seconds / 3600:.2f} h, {speed:.0f}{self._times}, {self.bad} errors"
            figures += f", {self.busy:.0%} busy"
            self._progress.update(self._bar, completed=self._count, figures=figures)

    @property
    def busy(self) -> float:
        """Share of the processes' time spent computing, from the first outcome to the last.

        It is taken from the start where an executor returns so many outcomes at once that the share
        would exceed 1.
        """
        wall = self.last - self.first
        share = (self.cpu - self._cpu_first) / (wall * self.workers) if wall > 0 else 0.0
        return share if share < 1.1 else self.cpu / (self.took * self.workers)

    @property
    def took(self) -> float:
        """Seconds since the start of the run."""
        return time.perf_counter() - self.start
