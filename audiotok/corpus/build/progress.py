"""How a build is going: a bar on a terminal, and figures at the end."""

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


class Watch:
    """Counts what a run does, and shows it on a terminal.

    Args:
        console: where to.
        workers: processes.
        done: recordings that were there before.
    """

    def __init__(self, console: Console, workers: int, done: int) -> None:
        self.seconds, self.cpu, self.bad = 0.0, 0.0, 0
        self.began = self.first = self.last = time.perf_counter()
        self.workers, self._count, self._cpu_first = workers, done, 0.0
        self._shown = console.is_terminal
        self._times = "x real time" if console.width >= 100 else "x"  # the time left must fit
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[said]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not self._shown,
        )
        self._bar = self._progress.add_task("building", total=None, said="starting", completed=done)

    def __enter__(self) -> Watch:
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
        """Counts the recordings of a listing meanwhile, for the time that is left."""

        def count() -> None:
            try:
                number = sum(1 for _ in listing.items(path, part))
            except ValueError:  # the build says it
                return
            self._progress.update(self._bar, total=number)

        if self._shown and not listing.costly:
            threading.Thread(target=count, daemon=True).start()

    def outcome(self, busy: float) -> None:
        """A process has done a recording, with so many seconds of CPU."""
        now = time.perf_counter()
        if not self.cpu:
            self.first, self._cpu_first = now, busy
        self.last = now
        self.cpu += busy

    def committed(self, seconds: float, bad: bool) -> None:
        """A recording of so many seconds is in its place."""
        self.seconds += seconds
        self.bad += bad
        self._count += 1
        if self._shown:
            speed = self.seconds / (time.perf_counter() - self.began)
            said = f"{self.seconds / 3600:.2f} h, {speed:.0f}{self._times}, {self.bad} errors"
            said += f", {self.busy:.0%} busy"
            self._progress.update(self._bar, completed=self._count, said=said)

    @property
    def busy(self) -> float:
        """Share of the processes' time that they computed, from the first outcome to the last; or
        from the start, where an engine hands over so many at once that this says nothing."""
        wall = self.last - self.first
        share = (self.cpu - self._cpu_first) / (wall * self.workers) if wall > 0 else 0.0
        return share if share < 1.1 else self.cpu / (self.took * self.workers)

    @property
    def took(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.began
