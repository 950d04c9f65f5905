"""Ctrl-C: where it may strike, and the processes that it is not meant for."""

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
    """Processes started within are not reached by Ctrl-C, not even before they can ignore it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # The first process brings this one along, which would let interrupts through again.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Patience(AbstractContextManager["Patience"]):
    """Ctrl-C and SIGTERM strike only where it is `allowed`; what lies between is done whole.

    >>> with Patience() as patience:
    ...     with patience.allowed():
    ...         data = file.read()  # KeyboardInterrupt comes here, or on the way in
    ...     consume(data)

    Outside the main thread, which alone hears signals, it does nothing.
    """

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        self._open = self._asked = False

    def __enter__(self) -> Patience:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._heard)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """Here it may strike; raises KeyboardInterrupt at once if it has been heard."""
        self._open = True
        try:
            if self._asked:
                self._asked = False
                raise KeyboardInterrupt
            yield
        finally:
            self._open = False

    def _heard(self, _number: int, _frame: FrameType | None) -> None:
        if self._open:
            raise KeyboardInterrupt
        self._asked = True
