"""Service of a worker process: tasks come in, messages go out; containers are listed here.

    tasks --> feeding thread: lists containers --> Worker --> messages, some at a time

It is the same in a process of this machine and in an actor on another one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from queue import SimpleQueue
from typing import Any

from audiotok._platform.console import one_line
from audiotok.corpus.build.work import (
    Container,
    EncodedRecording,
    Listed,
    Outcome,
    Sent,
    Task,
    Work,
)
from audiotok.corpus.build.worker import Worker
from audiotok.data.recording import Recording, digest_of
from audiotok.data.transient import is_transient, retry

log = logging.getLogger("audiotok")

# A message is a pair of its kind and content:
#     ready    None                       the codec is loaded
#     failed   text                       it cannot be
#     log      text                       a warning
#     done     Outcome
#     next     Outcome without codes      a recording of a container is encoded next, by itself;
#                                         the service waits until that is known
#     end      number, count, error       a container is listed
Message = tuple[str, Any]
Send = Callable[[list[Message]], None]

TOGETHER = 32  # outcomes in one sending
OFTEN = 0.1  # seconds between sendings while there is more to do


class _Sender(logging.Handler):
    """Log handler that sends the warnings of a worker to the build."""

    def __init__(self, send: Send) -> None:
        super().__init__(logging.WARNING)
        self.send = send

    def emit(self, record: logging.LogRecord) -> None:
        self.send([("log", record.getMessage())])


class Service:
    """A worker with its codec loaded.

    Args:
        work: options of encoding.
        send: function that sends messages to the build, of any thread.

    Raises:
        ValueError: the codec cannot be loaded, its fingerprint differs, or the version of audiotok.
    """

    def __init__(self, work: Work, send: Send) -> None:
        log.handlers = [_Sender(send)]
        log.propagate = False
        self.work = work
        self.send = send
        self.worker = Worker(work)
        self._tasks: SimpleQueue[Task | None] = SimpleQueue()
        self._busy = 0  # recordings of containers in the worker
        self._space = threading.Condition()
        self._known_of = threading.Semaphore(0)  # announced recordings
        threading.Thread(target=self._feed, daemon=True).start()

    def put(self, sent: Sequence[Sent]) -> None:
        """Add tasks."""
        for number, what in sent:
            if what is None:
                self._known_of.release()
            else:
                self._tasks.put((number, what))

    def end(self) -> None:
        """Make `run` return."""
        self.worker.inbox.put(None)

    def run(self) -> None:
        """Encode, until `end`."""
        pending: list[Message] = []
        sent = time.monotonic()
        while (outcomes := self.worker.step()) is not None:
            for key, coded in outcomes:
                number, index, listed = self._known(key)
                pending.append(("done", Outcome(number, coded, index, listed)))
                late = time.monotonic() > sent + OFTEN
                if late or len(pending) >= TOGETHER or self.worker.inbox.empty():
                    self.send(pending)
                    pending, sent = [], time.monotonic()
            if pending and self.worker.inbox.empty():
                self.send(pending)
                pending, sent = [], time.monotonic()

    def _known(self, key: Any) -> tuple[int, int, Listed | None]:
        """Return number, index and item of an outcome, and make room if it is of a container."""
        if isinstance(key, int):
            return key, 0, None
        with self._space:
            self._busy -= 1
            self._space.notify()
        return key

    # -- feeding, in a thread ---------------------------------------------------------------------

    def _feed(self) -> None:
        while (task := self._tasks.get()) is not None:
            number, what = task
            if isinstance(what, Recording):
                self.worker.put(number, what)
            else:
                self._list(number, what)

    def _list(self, number: int, container: Container) -> None:
        """List a container to its end, and put its recordings into the worker."""
        count, error = 0, ""

        def attempt() -> bool:
            """Go on listing; return whether that failed for a transient reason."""
            nonlocal count, error
            error = ""
            skipped = count
            try:
                where = (container.listing, container.file, container.folder)
                for index, item in enumerate(container.source.absolute_items_of(*where)):
                    if index >= skipped:
                        self._item(number, container, index, item)
                        count = index + 1
            except Exception as problem:
                error = one_line(problem)
                return is_transient(problem, remote="://" in container.file)
            return False

        retry(attempt, self.work.waits, lambda again: again)
        self.send([("end", (number, count, error))])

    def _item(self, number: int, container: Container, index: int, item: Recording) -> None:
        """Put a recording of a container into the worker as soon as there is room."""
        if index < container.first or index in container.done:
            return
        light = replace(item, locator=replace(item.locator, data=None))
        listed = Listed(light, digest_of(light))
        if not container.coded:
            self.send([("done", Outcome(number, EncodedRecording(), index, listed))])
            return
        last = container.first + container.careful  # the first that is not announced
        careful = index < last
        most = 1 if container.careful and index <= last else self.work.prefetch
        with self._space:
            self._space.wait_for(lambda: self._busy < most)
            self._busy += 1
        if careful:
            self.send([("next", Outcome(number, EncodedRecording(), index, listed))])
            self._known_of.acquire()
        self.worker.put((number, index, listed), item)
