"""Makes batches ahead of training, in processes that end with it."""

from __future__ import annotations

import io
import logging
import os
import pickle
import signal
import traceback
from collections.abc import Generator
from contextlib import closing
from multiprocessing import get_context
from multiprocessing.connection import Connection
from queue import Queue
from threading import Thread
from typing import Any

import torch
from torch import Tensor

from audiotok._platform.signals import no_interrupt
from audiotok.data.batches import Batch, Batches

log = logging.getLogger("audiotok")

AHEAD = 4  # batches each process has ready, beside the one on its way


def loader(
    batches: Batches, *, first: int, last: int, workers: int = 0
) -> Generator[Batch, None, None]:
    """The batches of steps `first` to `last` - 1, in order; the same for any number of processes.

    Closing it (as `contextlib.closing` does) ends the processes; so does its end, an exception, and
    the death of this process, however it dies. They hear no Ctrl-C: this process decides.

    (torch's DataLoader needs shared memory, which containers have little of, and raises the death
    of a process in the middle of whatever the training does by then.)

    Args:
        batches: of which.
        first: step to begin with.
        last: step to stop before.
        workers: processes that read ahead; 0: each batch is made when it is asked for.

    Raises:
        ValueError: files cannot be read, or a process ended.
    """
    steps, said = range(first, last), set[str]()
    with closing(_ahead(batches, steps, workers) if workers else _now(batches, steps)) as made:
        for batch in made:
            for line in batch.skipped:
                if line not in said:
                    log.warning("%s; another crop is taken instead", line)
                said.add(line)
            yield batch


def _now(batches: Batches, steps: range) -> Generator[Batch, None, None]:
    for step in steps:
        yield batches[step]


def _ahead(batches: Batches, steps: range, workers: int) -> Generator[Batch, None, None]:
    """Each process makes every so-manieth batch; they are taken in turn."""
    workers = min(workers, len(steps))
    started: list[_Worker] = []
    try:
        with no_interrupt():
            started.extend(_Worker(batches, steps[i::workers]) for i in range(workers))
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
    """A process, and the pipe that its batches come through."""

    def __init__(self, batches: Batches, steps: range) -> None:
        context = get_context("spawn")  # a forked process hangs in torch where its parent used it
        self.pipe, theirs = context.Pipe(duplex=False)
        self.process = context.Process(target=_work, args=(theirs, batches, steps), daemon=True)
        self.process.start()
        theirs.close()

    def take(self) -> Batch:
        try:
            made = pickle.loads(self.pipe.recv_bytes())
        except (EOFError, OSError):
            self.process.join()
            code = self.process.exitcode or 0
            how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
            raise ValueError(
                f"a process that reads training data ended {how} (out of memory?); "
                "run again with fewer workers"
            ) from None
        if isinstance(made, Exception):
            raise made
        return made


def _work(pipe: Connection, batches: Batches, steps: range) -> None:
    """What a process does: batches into the pipe until the steps or the other end are gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    ready: Queue[bytes | None] = Queue(AHEAD)
    sender = Thread(target=_send, args=(pipe, ready))
    sender.start()
    try:
        for step in steps:
            ready.put(_packed(batches[step]))
    except ValueError as error:
        ready.put(_packed(error))
    except Exception:  # our fault: with all there is to know of it
        ready.put(_packed(RuntimeError(f"in a process that reads data:\n{traceback.format_exc()}")))
    ready.put(None)
    sender.join()


def _send(pipe: Connection, ready: Queue[bytes | None]) -> None:
    try:
        while (item := ready.get()) is not None:
            pipe.send_bytes(item)
    except OSError:  # nobody listens any more
        os._exit(0)


class _Pickler(pickle.Pickler):
    """Sends tensors as arrays: their own way is through shared memory, or slow."""

    def reducer_override(self, obj: Any, /) -> Any:
        if isinstance(obj, Tensor):
            return torch.from_numpy, (obj.numpy(),)
        return NotImplemented


def _packed(item: Batch | Exception) -> bytes:
    buffer = io.BytesIO()
    _Pickler(buffer, pickle.HIGHEST_PROTOCOL).dump(item)
    return buffer.getvalue()
