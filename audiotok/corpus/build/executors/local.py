"""Executor with processes on this machine, each with a codec; one that dies is replaced."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from typing import Any

from audiotok._platform.errors import InputError
from audiotok.corpus.build.executors.base import BuildExecutor
from audiotok.corpus.build.work import EncodedRecording, Outcome, Task, Work
from audiotok.runtime.batch.processes import imports_of, start_process

log = logging.getLogger("audiotok")

DEATHS = 2  # of processes that had only this recording


class Local(BuildExecutor):
    """Executor with one process per core, or one per GPU.

    Each recording of a process that dies is tried again, alone in its process.
    """

    description = "processes on this machine"

    def run(self, work: Work, tasks: Iterator[Task | None], workers: int) -> Iterator[Outcome]:
        """See `BuildExecutor.run`."""
        pool = _Pool(work, tasks, workers)
        try:
            yield from pool.outcomes()
        finally:
            pool.stop()


class _Sender(logging.Handler):
    """Log handler that sends the warnings of a process to its parent."""

    def __init__(self, send: Any) -> None:
        super().__init__(logging.WARNING)
        self.send = send

    def emit(self, record: logging.LogRecord) -> None:
        self.send(("log", record.getMessage()))


def _work(pipe: Connection, work: Work) -> None:
    """Run a process: receive tasks and send outcomes until the pipe closes."""
    # Ctrl-C goes to all processes of a terminal; the parent decides which of them stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    lock = threading.Lock()

    def send(message: tuple[str, Any]) -> None:
        with lock, suppress(OSError):  # the parent has ended; the closed pipe ends this process
            pipe.send(message)

    log.handlers = [_Sender(send)]
    log.propagate = False
    from audiotok.corpus.build.worker import Worker

    try:
        worker = Worker(work)
    except Exception as error:
        send(("failed", str(error)))
        return
    send(("ready", None))

    def receive() -> None:
        with suppress(EOFError, OSError):
            while True:
                worker.put(pipe.recv())
        worker.inbox.put(None)

    threading.Thread(target=receive, daemon=True).start()
    while (outcomes := worker.step()) is not None:
        for outcome in outcomes:
            send(("done", outcome))


class _Process:
    """Process with the tasks that it was given."""

    def __init__(self, work: Work) -> None:
        imports = imports_of(work.backend)
        self.process, self.pipe = start_process(_work, work, imports=imports)
        self.work = work
        self.started = False
        self.hand: dict[int, Task] = {}
        self.alone = False  # only has a recording that may have ended another process

    def give(self, task: Task) -> None:
        self.hand[task[0]] = task
        with suppress(OSError):  # it died, which reading its pipe will show
            self.pipe.send(task)


class _Pool:
    def __init__(self, work: Work, tasks: Iterator[Task | None], workers: int) -> None:
        self.tasks = tasks
        self.more = True
        devices = work.device.split(",")
        works = [replace(work, device=devices[i % len(devices)]) for i in range(workers)]
        self.processes = [_Process(each) for each in works]
        self.suspects: deque[Task] = deque()
        self.deaths = Counter[int]()
        self.warned = set[str]()

    def outcomes(self) -> Iterator[Outcome]:
        self._fill()
        while self.suspects or self.more or any(p.hand for p in self.processes):
            for pipe in wait([p.pipe for p in self.processes]):
                process = next(p for p in self.processes if p.pipe is pipe)
                try:
                    kind, content = process.pipe.recv()
                except (EOFError, OSError):
                    yield from self._died(process)
                    continue
                if kind == "done":
                    del process.hand[content[0]]
                    process.alone = process.alone and bool(process.hand)
                    yield content
                elif kind == "ready":
                    process.started = True
                elif kind == "failed":
                    raise InputError(content)
                elif content not in self.warned:
                    self.warned.add(content)
                    log.warning("%s", content)
            self._fill()

    def _fill(self) -> None:
        """Give tasks to every process that can take some, the one with the fewest first."""
        ready = [p for p in self.processes if p.started and not p.alone]
        while self.suspects and (idle := next((p for p in ready if not p.hand), None)):
            idle.give(self.suspects.popleft())
            idle.alone = True
            ready.remove(idle)
        if self.suspects:
            return  # a process must become idle
        while self.more and ready:
            emptiest = min(ready, key=lambda p: len(p.hand))
            if len(emptiest.hand) >= emptiest.work.prefetch:
                return
            try:
                task = next(self.tasks)
            except StopIteration:
                self.more = False
                return
            if task is None:
                return
            emptiest.give(task)

    def _died(self, process: _Process) -> Iterator[Outcome]:
        process.process.join(5)
        code = process.process.exitcode or 0
        how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        if not process.started:
            raise InputError(f"a starting process ended {how} (out of memory?); start fewer")
        log.warning("a process ended %s; another takes its place", how)
        for number, task in process.hand.items():
            if process.alone:
                self.deaths[number] += 1
            if self.deaths[number] < DEATHS:
                self.suspects.append(task)
            else:
                yield (
                    number,
                    EncodedRecording(f"the process working on it ended {how} (out of memory?)"),
                )
        process.pipe.close()
        self.processes.remove(process)
        self.processes.append(_Process(process.work))

    def stop(self) -> None:
        for process in self.processes:
            process.process.terminate()
        for process in self.processes:
            process.process.join(5)
            process.process.kill()
            process.process.join()
            process.pipe.close()
