"""Worker processes that each process one file at a time; if one dies, only its file fails."""

from __future__ import annotations

import logging
import signal
import sys
import tempfile
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from audiotok._platform.console import one_line, plain
from audiotok._platform.errors import Error, InputError
from audiotok.audio.decoders import HeaderlessError
from audiotok.runtime.batch.processes import start_process
from audiotok.tokens.tokenizer import NoDecoderError

log = logging.getLogger("audiotok")

Pair = tuple[Path, Path]  # source and target
Job = Callable[[Path, Path], dict[str, Any]]


def run_one(job: Job, pair: Pair) -> dict[str, Any]:
    """Run a job on one pair, and return its row, or `{"error": line}` if it fails."""
    try:
        return job(*pair)
    except Exception as error:  # the error of one file must not stop the others
        log.debug("%s", pair[0], exc_info=True)
        return {"error": explain_error(error, pair)}


def explain_error(error: Exception, pair: Pair) -> str:
    """Return an error in one line that names a file of the pair."""
    names = ["<stdin>" if str(path) == "-" else str(path) for path in pair]
    text = str(error)
    for name in names:  # a name may have a line break in it
        text = text.replace(name, plain(name))
    text = one_line(text)
    if isinstance(error, OSError) and error.strerror and error.filename:
        text = f"{error.filename}: {error.strerror}"
    elif isinstance(error, MemoryError):
        text = "not enough memory; free some, or use fewer jobs"
    elif isinstance(error, HeaderlessError):
        text += f"; or give their rate: `audiotok stream encode --rate HZ < {names[0]}`"
    elif isinstance(error, NoDecoderError):
        text += " (--decoder NAME)"
    elif not isinstance(error, (Error, ValueError, OSError, ImportError)):
        text = f"{type(error).__name__}: {text[:300]}"
    names = [plain(name) for name in names]
    return text if any(name in text for name in names) else f"{names[0]}: {text}"


class _WarningCollector(logging.Handler):
    """Handler that keeps warnings of a job, for the parent to log above its progress bar."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def _work(pipe: Connection, build: Callable[[], Job]) -> None:
    """Run jobs in a worker: receive a pair and send its row, until the pipe closes."""
    # Ctrl-C goes to all processes of a terminal; the parent stops workers by SIGTERM, which raises
    # SystemExit in the job, so that it cleans up.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    warned = _WarningCollector()
    log.handlers = [warned]
    log.propagate = False
    with suppress(EOFError, OSError):  # the parent has ended or closed the pipe
        try:
            job = build()
        except Exception as error:
            pipe.send(({"error": str(error)}, []))
            return
        pipe.send(({}, []))
        while True:
            pair = pipe.recv()
            row = run_one(job, pair)
            pipe.send((row, warned.lines))
            warned.lines = []


class _Worker:
    """Worker process, and the pair it is working on."""

    def __init__(self, build: Callable[[], Job], imports: Sequence[str], folder: str) -> None:
        self.process, self.pipe = start_process(_work, build, folder=folder, imports=imports)
        self.pair: Pair | None = None  # None while it is starting

    def answer(self) -> tuple[dict[str, Any], list[str]] | None:
        """Return the row and warnings that it sent, or None if it died."""
        try:
            return self.pipe.recv()
        except (EOFError, OSError):
            return None

    def assign(self, pair: Pair) -> None:
        """Send it a pair to work on."""
        self.pair = pair
        with suppress(OSError):  # it has died: its answer will be None
            self.pipe.send(pair)


def run_pool(
    build: Callable[[], Job], pairs: list[Pair], jobs: int, imports: Sequence[str] = ()
) -> Generator[tuple[Pair, dict[str, Any]], None, None]:
    """Run a job on pairs in worker processes, and yield rows in the order of completion.

    Closing the iterator stops the processes, and unfinished jobs leave no files behind.

    Args:
        build: function that creates the job, called once in each process; it must be picklable.
        pairs: pairs of source and target.
        jobs: number of processes.
        imports: what every process imports at its start.

    Raises:
        ValueError: no process can start.
    """
    # The folder outlives the processes, which leave in it what they were in the midst of.
    with tempfile.TemporaryDirectory(prefix="audiotok-") as folder:
        start = partial(_Worker, build, imports, folder)
        yield from _run_workers([start() for _ in range(jobs)], start, pairs)


def _run_workers(
    workers: list[_Worker], start: Callable[[], _Worker], pairs: list[Pair]
) -> Generator[tuple[Pair, dict[str, Any]], None, None]:
    """Yield rows of pairs from some workers; `start` starts one for each that dies."""
    rest, logged = iter(pairs), set[str]()
    busy = {worker.pipe: worker for worker in workers}
    try:
        while busy:
            for pipe in wait(list(busy)):
                assert isinstance(pipe, Connection)
                worker = busy.pop(pipe)
                answer = worker.answer()
                row, lines = answer or ({"error": _died(worker)}, [])
                for line in lines:
                    if line not in logged:
                        log.warning("%s", line)
                    logged.add(line)
                if worker.pair is not None:
                    yield worker.pair, row
                elif "error" in row and not busy:
                    raise InputError(row["error"])
                elif "error" in row:
                    continue  # the other workers take over its share
                pair = next(rest, None)
                if pair is None:
                    continue
                if answer is None:  # a new worker replaces it, and takes a pair once it has started
                    rest = iter([pair, *rest])
                    worker = start()
                    workers.append(worker)
                else:
                    worker.assign(pair)
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
    return f"{what} ended {how} (out of memory?); run again with fewer jobs"
