"""A loader that prepares batches ahead of training, in processes that end with it."""

from __future__ import annotations

import io
import logging
import pickle
import signal
import sys
import tempfile
import traceback
from collections.abc import Generator
from contextlib import closing
from multiprocessing import get_context
from multiprocessing.connection import Connection
from queue import Queue
from threading import Event, Thread
from typing import Any

import torch
from torch import Tensor

from audiotok._platform.errors import InputError
from audiotok._platform.signals import no_interrupt
from audiotok.data.batches import Batch, Batches

log = logging.getLogger("audiotok")

PREFETCH = 4  # batches that each process has ready, beside the one being sent


def loader(
    batches: Batches, *, first: int, last: int, workers: int = 0
) -> Generator[Batch, None, None]:
    """Yield the batches of steps `first` to `last` - 1, in order.

    They are the same for any number of processes.

    Closing the generator (as `contextlib.closing` does) ends the processes; so does its end, an
    exception, and the death of this process, however it dies. They ignore Ctrl-C: this process
        decides.

    (torch's DataLoader needs shared memory, which containers have little of, and raises the death
    of a process in the middle of whatever the training does by then.)

    Args:
        batches: the batches by step.
        first: first step.
        last: step to stop before.
        workers: processes that prepare batches ahead; with 0 each is prepared when it is asked for.

    Raises:
        ValueError: files cannot be read, or a process ended.
    """
    steps, logged = range(first, last), set[str]()
    source = _prefetched(batches, steps, workers) if workers else _in_process(batches, steps)
    with closing(source):
        for batch in source:
            for line in batch.skipped:
                if line not in logged:
                    log.warning("%s; another crop is taken instead", line)
                logged.add(line)
            yield batch


def _in_process(batches: Batches, steps: range) -> Generator[Batch, None, None]:
    """Yield the batches of these steps, each prepared when it is asked for."""
    for step in steps:
        yield batches[step]


def _prefetched(batches: Batches, steps: range, workers: int) -> Generator[Batch, None, None]:
    """Yield the batches in order from several processes, of which each prepares every n-th."""
    workers = min(workers, len(steps))
    started: list[_Worker] = []
    # The folder outlives the processes, which leave in it what they were in the midst of.
    with tempfile.TemporaryDirectory(prefix="audiotok-") as folder:
        try:
            with no_interrupt():
                started.extend(_Worker(batches, steps[i::workers], folder) for i in range(workers))
            for i in range(len(steps)):
                yield started[i % workers].take()
        finally:
            for worker in started:
                worker.process.terminate()
                worker.pipe.close()
            for worker in started:
                worker.process.join(10)
                worker.process.kill()
                worker.process.join()


class _Worker:
    """A process that prepares batches, and the pipe they arrive through."""

    def __init__(self, batches: Batches, steps: range, folder: str) -> None:
        context = get_context("spawn")  # a forked process hangs in torch where its parent used it
        self.pipe, theirs = context.Pipe(duplex=False)
        arguments = theirs, batches, steps, folder
        self.process = context.Process(target=_work, args=arguments, daemon=True)
        self.process.start()
        theirs.close()

    def take(self) -> Batch:
        """Return the next batch of the process, or raise the exception it sent.

        Raises:
            ValueError: the process ended.
        """
        try:
            received = pickle.loads(self.pipe.recv_bytes())
        except (EOFError, OSError):
            self.process.join()
            code = self.process.exitcode or 0
            how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
            raise InputError(
                f"a process that reads training data ended {how} (out of memory?); "
                "run again with fewer workers"
            ) from None
        if isinstance(received, Exception):
            raise received
        return received


def _work(pipe: Connection, batches: Batches, steps: range, folder: str) -> None:
    """Send batches through a pipe until the steps are done or the receiver is gone."""
    # The receiver stops workers by SIGTERM, which raises SystemExit in what is being read; what it
    # was in the midst of is left in the folder, which is the receiver's.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    tempfile.tempdir = folder
    torch.set_num_threads(1)
    ready: Queue[bytes | None] = Queue(PREFETCH)
    gone = Event()
    sender = Thread(target=_send, args=(pipe, ready, gone), daemon=True)
    sender.start()
    try:
        for step in steps:
            if gone.is_set():
                break
            ready.put(_packed(batches[step]))
    except ValueError as error:
        ready.put(_packed(error))
    except Exception:  # a programming error: send the whole traceback
        ready.put(_packed(RuntimeError(f"in a process that reads data:\n{traceback.format_exc()}")))
    ready.put(None)
    sender.join()


def _send(pipe: Connection, ready: Queue[bytes | None], gone: Event) -> None:
    """Send the items of a queue through a pipe up to None, and set `gone` if nobody receives."""
    while (item := ready.get()) is not None:
        try:
            pipe.send_bytes(item)
        except OSError:
            gone.set()


class _Pickler(pickle.Pickler):
    """A pickler that sends tensors as arrays: torch's own way needs shared memory, or is slow."""

    def reducer_override(self, obj: Any, /) -> Any:
        if isinstance(obj, Tensor):
            return torch.from_numpy, (obj.numpy(),)
        return NotImplemented


def _packed(item: Batch | Exception) -> bytes:
    """Return a batch or an exception as bytes."""
    buffer = io.BytesIO()
    _Pickler(buffer, pickle.HIGHEST_PROTOCOL).dump(item)
    return buffer.getvalue()
