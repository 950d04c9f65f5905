"""Many files: what to do with which, in processes, past the bad ones, with progress."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

# Extensions that a folder is searched for; files named one by one may have any.
_SNDFILE = "wav flac ogg opus oga mp3 aiff aif aifc au caf w64 rf64 snd sph voc"
_OTHERS = "m4a aac webm mp4 mkv mov wma amr 3gp"  # through ffmpeg or torchcodec
AUDIO = [f".{name}" for name in f"{_SNDFILE} {_OTHERS}".split()]

Job = Callable[[Path, Path], dict[str, Any]]


@dataclass(frozen=True)
class Plan:
    """Files and what is to become of them, and what cannot be planned."""

    pairs: list[tuple[Path, Path]]
    errors: list[tuple[str, str]]


@dataclass
class Report:
    """What came of a plan."""

    made: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    errors: list[tuple[str, str]] = field(default_factory=list)


def plan(paths: Iterable[str], out: Path, *, suffixes: Iterable[str], suffix: str) -> Plan:
    """Pair each file with its place under `out`; folders keep their tree.

    Args:
        paths: files, folders, globs, or "-" for stdin.
        out: a folder; or, for a single file, a file with an extension.
        suffixes: extensions to take from folders.
        suffix: extension of what is made.
    """
    paths = list(paths)
    pairs: list[tuple[Path, Path]] = []
    errors: list[tuple[str, str]] = []
    for given in paths:
        path = Path(given)
        if given == "-":
            pairs.append((path, Path("stdin")))
        elif path.is_dir():
            found = sorted(p for p in path.rglob("*") if p.suffix.lower() in suffixes)
            pairs += [(p, p.relative_to(path)) for p in found if p.is_file()]
            if not found:
                errors.append((given, "a folder with no files of a known extension in it"))
        elif path.exists() or not glob.has_magic(given):
            pairs.append((path, Path(path.name)))
        else:
            matched = sorted(glob.glob(given, recursive=True))  # noqa: PTH207 - absolute too
            pairs += [(Path(p), Path(Path(p).name)) for p in matched if Path(p).is_file()]
            if not matched:
                errors.append((given, "no file matches"))
    alone = len(paths) == 1 and not Path(paths[0]).is_dir() and len(pairs) == 1
    if alone and out.suffix and not out.is_dir():
        return Plan([(pairs[0][0], out)], errors)
    taken: dict[Path, Path] = {}
    kept = []
    for source, relative in pairs:
        target = out / relative.with_suffix(suffix)
        if target in taken:
            errors.append((str(source), f"{target} is already made of {taken[target]}"))
            continue
        taken[target] = source
        kept.append((source, target))
    return Plan(kept, errors)


_job: Job | None = None


def _begin(build: Callable[[], Job], threads: int) -> None:
    global _job
    torch.set_num_threads(threads)
    _job = build()


def _one(source: Path, target: Path) -> dict[str, Any]:
    """Do one job; an error comes back as a row, for it may not survive pickling."""
    assert _job is not None
    try:
        return _job(source, target)
    except (ValueError, OSError, ImportError) as error:
        return {"error": " ".join(str(error).split())}
    except MemoryError:
        return {"error": f"{source}: not enough memory"}


def run(
    build: Callable[[], Job],
    plan: Plan,
    *,
    done: Callable[[Path, Path], bool],
    jobs: int = 1,
    console: Console | None = None,
    verb: str = "working",
) -> Report:
    """Run the job that `build` makes on every pair of the plan, past the ones that fail.

    Args:
        build: called once a process; must be picklable if `jobs` is more than one.
        plan: what to do.
        done: whether a pair is done already and can be skipped; may raise ValueError.
        jobs: processes.
        console: where progress goes.
        verb: what it says.
    """
    report = Report(errors=list(plan.errors))
    todo = []
    for source, target in plan.pairs:
        try:
            if done(source, target):
                report.skipped.append(str(target))
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
        except (ValueError, OSError) as error:
            report.errors.append((str(source), " ".join(str(error).split())))
            continue
        todo.append((source, target))
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
    )
    seconds = 0.0
    with Progress(*columns, console=console, transient=True, disable=len(todo) < 2) as progress:
        bar = progress.add_task(verb, total=len(todo), speed="")
        for source, row in _results(build, todo, jobs):
            if "error" in row:
                report.errors.append((str(source), row["error"]))
                progress.console.print(f"[red]failed[/] {row['error']}", highlight=False)
            else:
                report.made.append(row)
                seconds += row.get("seconds", 0.0)
            elapsed = progress.tasks[0].elapsed or 1e-9
            progress.update(bar, advance=1, speed=f"{seconds / elapsed:.0f}x real time")
    return report


def _results(
    build: Callable[[], Job], todo: list[tuple[Path, Path]], jobs: int
) -> Iterator[tuple[Path, dict[str, Any]]]:
    jobs = min(jobs, len(todo))
    if jobs <= 1:
        if todo:
            _begin(build, torch.get_num_threads())
        for source, target in todo:
            yield source, _one(source, target)
        return
    threads = max(1, (os.cpu_count() or 1) // jobs)
    # Forking a process that has run torch can hang it.
    pool = ProcessPoolExecutor(jobs, get_context("spawn"), _begin, (build, threads))
    try:
        waiting: dict[Future[dict[str, Any]], Path] = {}
        rest = iter(todo)
        while True:
            # A few in hand, not all: a million futures would fill memory.
            while len(waiting) < 4 * jobs and (pair := next(rest, None)):
                waiting[pool.submit(_one, *pair)] = pair[0]
            if not waiting:
                return
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                yield waiting.pop(future), future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
