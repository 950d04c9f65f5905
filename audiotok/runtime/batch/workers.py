"""Processes that do one file each at a time; one that dies takes nothing but its file along."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Callable, Generator
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from audiotok._platform.console import one_line, plain
from audiotok._platform.signals import no_interrupt
from audiotok.audio.decoders import HeaderlessError

log = logging.getLogger("audiotok")

Pair = tuple[Path, Path]  # what to read, what to write
Job = Callable[[Path, Path], dict[str, Any]]


def one(job: Job, pair: Pair) -> dict[str, Any]:
    """The row of one job; whatever goes wrong is a row too, `{"error": line}`."""
    try:
        return job(*pair)
    except Exception as error:  # whatever one file does, the rest go on
        log.debug("%s", pair[0], exc_info=True)
        return {"error": explained(error, pair)}


def explained(error: Exception, pair: Pair) -> str:
    """What went wrong in one line that names a file of the pair."""
    names = ["<stdin>" if str(path) == "-" else str(path) for path in pair]
    text = str(error)
    for name in names:  # a name may have a line break in it
        text = text.replace(name, plain(name))
    text = one_line(text)
    if isinstance(error, OSError) and error.strerror and error.filename:
        text = f"{error.filename}: {error.strerror}"
    elif isinstance(error, MemoryError):
        text = "not enough memory; free some, or use fewer --jobs"
    elif isinstance(error, HeaderlessError):
        text += f"; or give their rate: `audiotok stream encode --rate HZ < {names[0]}`"
    elif not isinstance(error, (ValueError, OSError, ImportError)):
        text = f"{type(error).__name__}: {text[:300]}"
    names = [plain(name) for name in names]
    return text if any(name in text for name in names) else f"{names[0]}: {text}"


class _Collected(logging.Handler):
    """Keeps what a job warns of, for the parent to say above its progress bar."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def _work(pipe: Connection, build: Callable[[], Job]) -> None:
    """What a worker does: a pair in, a row out, until the pipe closes."""
    # Ctrl-C goes to all processes of a terminal; the parent says who stops, by SIGTERM, which
    # unwinds the job, so that it cleans up behind itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    warned = _Collected()
    log.handlers, log.propagate = [warned], False
    with suppress(EOFError, OSError):  # the parent is gone, or needs no more
        try:
            job = build()
        except Exception as error:
            pipe.send(({"error": str(error)}, []))
            return
        pipe.send(({}, []))
        while True:
            pair = pipe.recv()
            row = one(job, pair)
            pipe.send((row, warned.lines))
            warned.lines = []


class _Worker:
    """A process, and the pair it has in hand."""

    def __init__(self, build: Callable[[], Job]) -> None:
        # Forking a process that has run torch can hang it.
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, build), daemon=True)
        with no_interrupt():
            self.process.start()
        theirs.close()
        self.pair: Pair | None = None  # None: it is starting

    def answer(self) -> tuple[dict[str, Any], list[str]] | None:
        """What it sent; None: it died."""
        try:
            return self.pipe.recv()
        except (EOFError, OSError):
            return None

    def give(self, pair: Pair) -> None:
        self.pair = pair
        with suppress(OSError):  # it died meanwhile: its answer will be None
            self.pipe.send(pair)


def pooled(
    build: Callable[[], Job], pairs: list[Pair], jobs: int
) -> Generator[tuple[Pair, dict[str, Any]], None, None]:
    """The row of each pair, as they come, from `jobs` processes.

    Closing the iterator stops the processes; what they have in hand leaves nothing behind.

    Args:
        build: called once in each process; must be picklable.
        pairs: what to do.
        jobs: processes.

    Raises:
        ValueError: no process can start.
    """
    rest, said = iter(pairs), set[str]()
    workers = [_Worker(build) for _ in range(jobs)]
    busy = {worker.pipe: worker for worker in workers}
    try:
        while busy:
            for pipe in wait(list(busy)):
                assert isinstance(pipe, Connection)
                worker = busy.pop(pipe)
                answer = worker.answer()
                row, lines = answer or ({"error": _died(worker)}, [])
                for line in lines:
                    if line not in said:
                        log.warning("%s", line)
                    said.add(line)
                if worker.pair is not None:
                    yield worker.pair, row
                elif "error" in row and not busy:
                    raise ValueError(row["error"])
                elif "error" in row:
                    continue  # the others do its part
                pair = next(rest, None)
                if pair is None:
                    continue
                if answer is None:  # a new one takes its place, and the pair when it has started
                    rest = iter([pair, *rest])
                    worker = _Worker(build)
                    workers.append(worker)
                else:
                    worker.give(pair)
                busy[worker.pipe] = worker
    finally:
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.process.join(10)
            worker.process.kill()
            worker.process.join()
            worker.pipe.close()


def _died(worker: _Worker) -> str:
    worker.process.join(5)
    code = worker.process.exitcode or 0
    how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
    what = f"{worker.pair[0]}: the process working on it" if worker.pair else "a starting process"
    return f"{what} ended {how} (out of memory?); run again with fewer --jobs"
