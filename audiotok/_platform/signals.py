"""Signals: Ctrl-C kept from child processes, and deferred to points where it does no harm."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from multiprocessing import resource_tracker
from types import FrameType
from typing import Any


@contextmanager
def no_interrupt() -> Iterator[None]:
    """Keep Ctrl-C from the processes that are started within, from their first moment on."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # Starting the first process starts the resource tracker too, which unblocks SIGINT again.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class DeferredInterrupts(AbstractContextManager["DeferredInterrupts"]):
    """Context in which Ctrl-C and SIGTERM take effect only within `allowed`.

    Work outside `allowed` is always done to its end; a signal that comes meanwhile is raised at
    the next `allowed`.

    >>> with DeferredInterrupts() as interrupts:
    ...     with interrupts.allowed():
    ...         data = file.read()  # KeyboardInterrupt is raised here, or on entering
    ...     consume(data)

    Outside the main thread, the only one that receives signals, it does nothing.
    """

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        self._allowed = False
        self._pending = False

    def __enter__(self) -> DeferredInterrupts:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """Let signals raise KeyboardInterrupt while the context lasts.

        Raises:
            KeyboardInterrupt: a signal comes, or came before, on entering.
        """
        self._allowed = True
        try:
            if self._pending:
                self._pending = False
                raise KeyboardInterrupt
            yield
        finally:
            self._allowed = False

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self._allowed:
            raise KeyboardInterrupt
        self._pending = True
