"""Executor with processes on this machine, each with a codec; one that dies is replaced."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection, wait

from audiotok.corpus.build.executors.base import BuildExecutor
from audiotok.corpus.build.pool import Launcher, Pool, WorkerDiedError, WorkerHandle
from audiotok.corpus.build.work import Event, Sent, Task, Work
from audiotok.runtime.batch.processes import imports_of, start_process


class Local(BuildExecutor):
    """Executor with one process per core, or one per GPU."""

    description = "processes on this machine"

    def run(self, work: Work, tasks: Iterator[Task | None], workers: int) -> Iterator[Event]:
        """See `BuildExecutor.run`."""
        pool = Pool(_Processes(work, workers or self.workers(work)), tasks, work)
        try:
            for event in pool.events():
                self.active = pool.started
                yield event
        finally:
            pool.stop()


class _Processes(Launcher):
    """Processes of this machine."""

    def __init__(self, work: Work, workers: int) -> None:
        self.works = [replace(work, device=device) for device in work.device.split(",")]
        self.workers = workers
        self.alive: list[_Process] = []

    def wanted(self) -> int:
        return self.workers

    def start(self) -> WorkerHandle:
        self.alive = [process for process in self.alive if not process.stopped]
        devices = [process.work.device for process in self.alive]
        process = _Process(min(self.works, key=lambda work: devices.count(work.device)))
        self.alive.append(process)
        return process

    def wait(self, handles: Sequence[WorkerHandle], seconds: float) -> Sequence[WorkerHandle]:
        processes = [handle for handle in handles if isinstance(handle, _Process)]
        pipes = wait([process.pipe for process in processes], seconds)
        return [process for process in processes if process.pipe in pipes]

    def stop(self, handles: Sequence[WorkerHandle]) -> None:
        for process in self.alive:  # all at once, as each takes a moment
            process.process.terminate()
        super().stop(handles)


class _Process(WorkerHandle):
    """A process and our end of its pipe."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.stopped = False
        self.process, self.pipe = start_process(
            _work, work, folder=work.scratch, imports=imports_of(work.backend)
        )

    def give(self, tasks: Sequence[Sent]) -> None:
        with suppress(OSError):  # it died, which reading its pipe will show
            self.pipe.send(tasks)

    def receive(self) -> list[tuple[str, object]]:
        try:
            return self.pipe.recv()
        except (EOFError, OSError):
            self.process.join(5)
            code = self.process.exitcode or 0
            how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
            raise WorkerDiedError(how) from None

    def stop(self) -> None:
        self.stopped = True
        self.process.terminate()
        self.process.join(5)
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _work(pipe: Connection, work: Work) -> None:
    """Run a process: receive tasks and send messages until the pipe closes."""
    # Ctrl-C goes to all processes of a terminal; the parent decides which of them stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    lock = threading.Lock()

    def send(messages: list[tuple[str, object]]) -> None:
        with lock, suppress(OSError):  # the parent has ended; the closed pipe ends this process
            pipe.send(messages)

    from audiotok.corpus.build.service import Service

    try:
        service = Service(work, send)
    except Exception as error:
        send([("failed", str(error))])
        return
    send([("ready", None)])

    def receive() -> None:
        with suppress(EOFError, OSError):
            while True:
                service.put(pipe.recv())
        service.end()

    threading.Thread(target=receive, daemon=True).start()
    service.run()
