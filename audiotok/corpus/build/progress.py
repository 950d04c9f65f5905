"""Progress of a build: a bar on a terminal, and figures at the end."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from dataclasses import dataclass
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

SHOWN = 0.1  # seconds between updates of the bar


@dataclass(frozen=True)
class NodeSummary:
    """Counts of a machine of a cluster in a run."""

    name: str
    recordings: int = 0
    failed: int = 0
    seconds: float = 0.0  # of audio

    def words(self, took: float) -> str:
        """Return the summary as text.

        Args:
            took: seconds that the run took.
        """
        failed = f", {self.failed:,} failed" if self.failed else ""
        speed = self.seconds / max(took, 1e-9)
        return f"{self.recordings:,} recordings{failed}, {speed:,.1f}x real time"


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
        self._available = 0.0  # seconds of all processes from the first outcome to the last
        self._drawn = 0.0  # time of the last update of the bar
        self._nodes: defaultdict[str, list[float]] = defaultdict(lambda: [0, 0, 0.0])
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

    def outcome(self, busy: float, workers: int = 0) -> None:
        """Count a recording that a process has done.

        Args:
            busy: seconds of processor time.
            workers: number of processes that run now; as many as at the start if 0.
        """
        now = time.perf_counter()
        if not self.cpu:
            self.first = self.last = now
            self._cpu_first = busy
        self._available += (now - self.last) * (workers or self.workers)
        self.last = now
        self.cpu += busy

    def committed(self, seconds: float, bad: bool, node: str = "") -> None:
        """Count a committed recording.

        Args:
            seconds: its length in seconds.
            bad: whether it failed.
            node: machine that encoded it.
        """
        self.seconds += seconds
        self.bad += bad
        self._count += 1
        counts = self._nodes[node]
        counts[0] += 1
        counts[1] += bad
        counts[2] += seconds
        if self._shown and (now := time.perf_counter()) > self._drawn + SHOWN:
            self._drawn = now
            self._draw()

    def _draw(self) -> None:
        """Update the bar."""
        speed = self.seconds / max(self.took, 1e-9)
        figures = f"{self.seconds / 3600:.2f} h, {speed:.0f}{self._times}, {self.bad} errors"
        figures += f", {self.busy:.0%} busy"
        self._progress.update(self._bar, completed=self._count, figures=figures)

    @property
    def nodes(self) -> tuple[NodeSummary, ...]:
        """Machines that have encoded recordings, by name; none where there is only this one."""
        return tuple(
            NodeSummary(name, int(recordings), int(failed), seconds)
            for name, (recordings, failed, seconds) in sorted(self._nodes.items())
            if name
        )

    @property
    def busy(self) -> float:
        """Share of the processes' time spent computing, from the first outcome to the last.

        It is taken from the start where an executor returns so many outcomes at once that the share
        would exceed 1.
        """
        share = (self.cpu - self._cpu_first) / self._available if self._available > 0 else 0.0
        return share if share < 1.1 else self.cpu / (self.took * self.workers)

    @property
    def took(self) -> float:
        """Seconds since the start of the run."""
        return time.perf_counter() - self.start
