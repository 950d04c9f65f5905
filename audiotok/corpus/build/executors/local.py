"""Processes on this machine, each with a codec of its own; one that dies is replaced."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any

from audiotok.corpus.build.executors.base import Engine
from audiotok._platform.signals import no_interrupt
from audiotok.corpus.build.worker import Coded, Outcome, Stage, Task, Work

log = logging.getLogger("audiotok")

DEATHS = 2  # of processes that had nothing but this recording in hand


class Local(Engine):
    """As many processes as there are cores, or one for each GPU.

    Of a process that dies, each recording it had in hand is tried again with nothing beside it.
    """

    about = "processes on this machine"

    def run(self, work: Work, tasks: Iterator[Task | None], workers: int) -> Iterator[Outcome]:
        """See `Engine.run`."""
        pool = _Pool(work, tasks, workers)
        try:
            yield from pool.outcomes()
        finally:
            pool.stop()


class _Sender(logging.Handler):
    """Sends what a process warns of to its parent."""

    def __init__(self, send: Any) -> None:
        super().__init__(logging.WARNING)
        self.send = send

    def emit(self, record: logging.LogRecord) -> None:
        self.send(("log", record.getMessage()))


def _work(pipe: Connection, work: Work) -> None:
    """What a process does: tasks in, outcomes out, until the pipe closes."""
    # Ctrl-C goes to all processes of a terminal; the parent says who stops.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    lock = threading.Lock()

    def send(message: tuple[str, Any]) -> None:
        with lock, suppress(OSError):  # the parent is gone: so is the pipe, which ends all
            pipe.send(message)

    log.handlers, log.propagate = [_Sender(send)], False
    try:
        stage = Stage(work)
    except Exception as error:
        send(("failed", str(error)))
        return
    send(("ready", None))

    def receive() -> None:
        with suppress(EOFError, OSError):
            while True:
                stage.put(pipe.recv())
        stage.inbox.put(None)

    threading.Thread(target=receive, daemon=True).start()
    while (outcomes := stage.step()) is not None:
        for outcome in outcomes:
            send(("done", outcome))


class _Process:
    """A process and what it has in hand."""

    def __init__(self, work: Work) -> None:
        context = get_context("spawn")  # forking a process that has run torch can hang it
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, work), daemon=True)
        with no_interrupt():
            self.process.start()
        theirs.close()
        self.work, self.started = work, False
        self.hand: dict[int, Task] = {}
        self.alone = False  # with a recording that may have ended another process

    def give(self, task: Task) -> None:
        self.hand[task[0]] = task
        with suppress(OSError):  # it died: its pipe will say so
            self.pipe.send(task)


class _Pool:
    def __init__(self, work: Work, tasks: Iterator[Task | None], workers: int) -> None:
        self.tasks, self.more = tasks, True
        devices = work.device.split(",")
        works = [replace(work, device=devices[i % len(devices)]) for i in range(workers)]
        self.processes = [_Process(each) for each in works]
        self.suspects: deque[Task] = deque()
        self.deaths = Counter[int]()
        self.said = set[str]()

    def outcomes(self) -> Iterator[Outcome]:
        self._fill()
        while self.suspects or self.more or any(p.hand for p in self.processes):
            for pipe in wait([p.pipe for p in self.processes]):
                process = next(p for p in self.processes if p.pipe is pipe)
                try:
                    kind, what = process.pipe.recv()
                except (EOFError, OSError):
                    yield from self._died(process)
                    continue
                if kind == "done":
                    del process.hand[what[0]]
                    process.alone = process.alone and bool(process.hand)
                    yield what
                elif kind == "ready":
                    process.started = True
                elif kind == "failed":
                    raise ValueError(what)
                elif what not in self.said:
                    self.said.add(what)
                    log.warning("%s", what)
            self._fill()

    def _fill(self) -> None:
        """Gives every process what it can take; the emptiest first."""
        ready = [p for p in self.processes if p.started and not p.alone]
        while self.suspects and (idle := next((p for p in ready if not p.hand), None)):
            idle.give(self.suspects.popleft())
            idle.alone = True
            ready.remove(idle)
        if self.suspects:
            return  # a process must become idle
        while self.more and ready:
            emptiest = min(ready, key=lambda p: len(p.hand))
            if len(emptiest.hand) >= emptiest.work.ahead:
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
            raise ValueError(f"a starting process ended {how} (out of memory?); use fewer --jobs")
        log.warning("a process ended %s; another takes its place", how)
        for number, task in process.hand.items():
            if process.alone:
                self.deaths[number] += 1
            if self.deaths[number] < DEATHS:
                self.suspects.append(task)
            else:
                yield number, Coded(f"the process working on it ended {how} (out of memory?)")
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
