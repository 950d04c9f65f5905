"""Runner of a batch job: worker processes, progress, and a report with the errors of files."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from audiotok._platform.atomic import remove_stale_parts
from audiotok._platform.console import error, stderr_console
from audiotok.runtime.backends.base import limit_threads, thread_limit
from audiotok.runtime.batch.plan import Failure, FilePlan
from audiotok.runtime.batch.workers import Job, Pair, explain_error, run_one, run_pool


@dataclass
class BatchReport:
    """Results of a batch job: rows of finished files, skipped pairs, and failures."""

    finished: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[Pair] = field(default_factory=list)
    errors: list[Failure] = field(default_factory=list)

    def rows(self) -> list[dict[str, Any]]:
        """Return all results as JSON."""
        skipped = [{"source": str(a), "target": str(b), "skipped": True} for a, b in self.skipped]
        return [*self.finished, *skipped, *({"source": a, "error": b} for a, b in self.errors)]


def run(
    build: Callable[[], Job],
    planned: FilePlan,
    *,
    done: Callable[[Path, Path], bool],
    jobs: int = 1,
    console: Console = stderr_console,
    verb: str = "working",
    imports: Sequence[str] = (),
) -> BatchReport:
    """Run a job on every pair of a plan, and continue past the pairs that fail.

    Args:
        build: function that creates the job, called once in each process; it must be picklable if
            `jobs` is more than 1.
        planned: plan of the job.
        done: function that returns whether a pair is done and can be skipped; it may raise
            ValueError.
        jobs: number of processes.
        console: console for progress and errors.
        verb: label of the progress bar.
        imports: what every process imports at its start (`processes.imports_of`).

    Raises:
        ValueError: the job cannot be built.
    """
    report = BatchReport()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
    )

    def failed(source: object, line: str) -> None:
        report.errors.append((str(source), line))
        error(line, console=console)

    for source, line in planned.errors:
        failed(source, line)
    todo = []
    for pair in planned.pairs:
        try:
            if done(*pair):
                report.skipped.append(pair)
            else:
                todo.append(pair)
        except (ValueError, OSError) as problem:
            failed(pair[0], explain_error(problem, pair))
    remove_stale_parts({target.parent for _, target in todo})
    seconds, shown = 0.0, console.is_terminal and len(todo) > 1
    with (
        Progress(*columns, console=console, transient=True, disable=not shown) as progress,
        closing(_results(build, todo, jobs, imports)) as results,
    ):
        bar = progress.add_task(verb, total=len(todo), speed="")
        for (source, _), row in results:
            if "error" in row:
                failed(source, row["error"])
            else:
                report.finished.append(row)
                seconds += row.get("seconds", 0.0)
            elapsed = progress.tasks[0].elapsed or 1e-9
            progress.update(bar, advance=1, speed=f"{seconds / elapsed:.0f}x real time")
    return report


def _results(
    build: Callable[[], Job], todo: list[Pair], jobs: int, imports: Sequence[str]
) -> Generator[tuple[Pair, dict[str, Any]], None, None]:
    jobs = min(jobs, len(todo))
    if jobs > 1 and all(str(source) != "-" for source, _ in todo):  # only this process has stdin
        threads = thread_limit() or max(1, (os.cpu_count() or 1) // jobs)
        yield from run_pool(partial(_with_threads, threads, build), todo, jobs, imports)
    elif todo:
        job = build()
        for pair in todo:
            yield pair, run_one(job, pair)


def _with_threads(threads: int, build: Callable[[], Job]) -> Job:
    limit_threads(threads)
    job = build()
    limit_threads(threads)  # of torch, which may be loaded now
    return job
