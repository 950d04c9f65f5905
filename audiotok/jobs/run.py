"""Many files through one codec: in processes, past the bad ones, with progress."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from audiotok import show
from audiotok.exported import is_exported
from audiotok.io.part import sweep
from audiotok.jobs.files import decode_file, encode_file
from audiotok.jobs.plan import Failure, Plan
from audiotok.jobs.workers import Job, Pair, explained, one, pooled
from audiotok.opening import load
from audiotok.registry import presets
from audiotok.tokfile import TokenReader

if TYPE_CHECKING:
    from audiotok.codecs.base import Codec
    from audiotok.exported import Exported


@dataclass
class Report:
    """What came of a plan."""

    made: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[Pair] = field(default_factory=list)
    errors: list[Failure] = field(default_factory=list)

    def rows(self) -> list[dict[str, Any]]:
        """For `--json`."""
        skipped = [{"source": str(a), "target": str(b), "skipped": True} for a, b in self.skipped]
        return [*self.made, *skipped, *({"source": a, "error": b} for a, b in self.errors)]


@cache
def codec_on(codec: str, device: str) -> Codec:
    """The codec of a name or checkpoint in torch, loaded once a process.

    Raises:
        CheckpointError: it is not there, or damaged.
        UsageError: there is no such device.
    """
    try:
        return load(codec, device=device)
    except (RuntimeError, AssertionError) as error:  # torch's words for a device it has not
        raise show.UsageError(f"--device {device}: {str(error).splitlines()[0]}") from None


def codec_by(codec: str, device: str, backend: str | None) -> Codec | Exported:
    """The same by a backend: if None, torch, or onnxruntime for an exported codec.

    Raises:
        ValueError: as `codec_on`, or the backend cannot run it.
    """
    backend = backend or ("onnx" if is_exported(codec) else "torch")
    return codec_on(codec, device) if backend == "torch" else _run_by(codec, backend, device)


@cache
def _run_by(codec: str, backend: str, device: str) -> Exported:
    return load(codec, backend=backend, device=device, threads=_threads)


def encoder(codec: str, device: str, backend: str | None = None, **options: Any) -> Job:
    """The job of encoding a file; options as for `encode_file`."""
    model = codec_by(codec, device, backend)
    return lambda source, target: encode_file(model, source, target, **options).row()


def decoder(codec: str | None, device: str, backend: str | None = None, **options: Any) -> Job:
    """The job of decoding a file, by the codec it names if None; options as for `decode_file`."""

    def decode(source: Path, target: Path) -> dict[str, Any]:
        return decode_file(
            codec_for(source, codec, device, backend), source, target, **options
        ).row()

    return decode


def codec_for(
    tokens: Path, codec: str | None, device: str, backend: str | None = None
) -> Codec | Exported:
    """Return the codec that decodes a .tok file, loaded once a process.

    Args:
        tokens: the file.
        codec: a name or a checkpoint; None for the codec that the file names.
        device, backend: as for `codec_by`.

    Raises:
        ValueError: as `codec_by`, or a codec that is not here.
    """
    if codec is None:
        with TokenReader(tokens) as reader:
            codec = reader.header.codec
        if not _known(codec):
            raise ValueError(
                f"{tokens}: tokens of codec {codec!r}, which is not here (`audiotok codecs` lists "
                "those that are); give its checkpoint, or its exported folder, with --codec"
            )
    return codec_by(codec, device, backend)


def run(
    build: Callable[[], Job],
    planned: Plan,
    *,
    done: Callable[[Path, Path], bool],
    jobs: int = 1,
    console: Console = show.said,
    verb: str = "working",
) -> Report:
    """Run the job that `build` makes on every pair of the plan, past the ones that fail.

    Args:
        build: called once a process; must be picklable if `jobs` is more than one.
        planned: what to do.
        done: whether a pair is done already and can be skipped; may raise ValueError.
        jobs: processes.
        console: where progress goes, and each error as it comes.
        verb: what progress says.

    Raises:
        ValueError: the job cannot be built.
    """
    report = Report()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
    )

    def failed(source: object, line: str) -> None:
        report.errors.append((str(source), line))
        show.error(line, console=console)

    for source, line in planned.errors:
        failed(source, line)
    todo = []
    for pair in planned.pairs:
        try:
            if done(*pair):
                report.skipped.append(pair)
            else:
                todo.append(pair)
        except (ValueError, OSError) as error:
            failed(pair[0], explained(error, pair))
    sweep({target.parent for _, target in todo})
    seconds, shown = 0.0, console.is_terminal and len(todo) > 1
    with (
        Progress(*columns, console=console, transient=True, disable=not shown) as progress,
        closing(_results(build, todo, jobs)) as results,
    ):
        bar = progress.add_task(verb, total=len(todo), speed="")
        for (source, _), row in results:
            if "error" in row:
                failed(source, row["error"])
            else:
                report.made.append(row)
                seconds += row.get("seconds", 0.0)
            elapsed = progress.tasks[0].elapsed or 1e-9
            progress.update(bar, advance=1, speed=f"{seconds / elapsed:.0f}x real time")
    return report


def _results(
    build: Callable[[], Job], todo: list[Pair], jobs: int
) -> Generator[tuple[Pair, dict[str, Any]], None, None]:
    jobs = min(jobs, len(todo))
    if jobs > 1 and all(str(source) != "-" for source, _ in todo):  # stdin is this process's
        threads = max(1, (os.cpu_count() or 1) // jobs)
        yield from pooled(partial(_with_threads, threads, build), todo, jobs)
    elif todo:
        job = build()
        for pair in todo:
            yield pair, one(job, pair)


_threads: int | None = None  # of a backend in this process; as many as there are cores if None


def _with_threads(threads: int, build: Callable[[], Job]) -> Job:
    global _threads
    _threads = threads
    with suppress(ImportError):  # a backend may do without it
        import torch

        torch.set_num_threads(threads)
    return build()


def _known(name: str) -> bool:
    """Whether there is a codec of this name; without torch none can be looked up."""
    try:
        return name in presets("codecs")
    except ImportError:
        return False
