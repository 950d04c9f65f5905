"""Failures that pass: of the network or the disk, and not of the file that was being read."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

PASSING = {
    getattr(errno, name)
    for name in (
        *("EIO", "EAGAIN", "EBUSY", "EINTR", "ETIMEDOUT", "ESTALE", "ENOLINK", "EREMOTEIO"),
        *("ECONNRESET", "ECONNABORTED", "ECONNREFUSED", "ENETDOWN", "ENETUNREACH", "ENETRESET"),
        *("EHOSTDOWN", "EHOSTUNREACH", "EPIPE", "EMFILE", "ENFILE", "ENOMEM", "ENOTCONN"),
        *("EKEYEXPIRED", "EKEYREVOKED", "ENOKEY"),
    )
    if hasattr(errno, name)
}
DENIED = (401, 403, 407)  # keys that have expired, more often than not
STATUS = (*DENIED, 408, 425, 429)  # of HTTP, beside all from 500 on
# Errors of libraries that are no OSError: of their names and codes these say it.
WORDS = (
    *("timeout", "timedout", "connection", "disconnected", "payloaderror", "incompleteread"),
    *("chunkedencoding", "expiredtoken", "tokenexpired", "credential", "slowdown", "throttl"),
    *("serviceunavailable", "internalerror", "protocolerror", "ratelimit"),
)


Made = TypeVar("Made")


class PassingError(OSError):
    """A failure that passes, where nothing of it but the message says so."""


def passes(error: BaseException, *, remote: bool = False) -> bool:
    """Return whether a failure is likely to be gone when the same is tried again.

    Args:
        error: what was raised; what it was raised from is looked at too.
        remote: the file is behind a URL, where a refusal may come of keys that have expired.
    """
    return any(_passes(each, remote=remote) for each in _chain(error))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _passes(error: BaseException, *, remote: bool) -> bool:
    if isinstance(error, PassingError | ConnectionError | TimeoutError):
        return True
    if isinstance(error, OSError) and error.errno in PASSING:
        return True
    if not remote:
        return False
    if isinstance(error, PermissionError):
        return True
    if any(status in STATUS or status >= 500 for status in _statuses(error)):
        return True
    said = f"{type(error).__name__} {_code(error)}".lower().replace("_", "")
    return any(word in said for word in WORDS)


def _statuses(error: BaseException) -> Iterator[int]:
    """HTTP's status, wherever libraries put it."""
    answer = getattr(error, "response", None)
    for holder in (error, answer):
        for name in ("status", "status_code", "code", "http_status"):
            value = getattr(holder, name, None)
            if isinstance(value, int) and 100 <= value < 600:
                yield value
    if isinstance(answer, dict):
        value = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
        if isinstance(value, int):
            yield value


def _code(error: BaseException) -> str:
    answer = getattr(error, "response", None)
    said = answer.get("Error", {}).get("Code") if isinstance(answer, dict) else None
    return said if isinstance(said, str) else str(getattr(error, "code", ""))


def retried(
    work: Callable[[], Made], waits: Iterable[float], again: Callable[[Made], bool]
) -> Made:
    """Return what comes of some work, done again after each of these waits (seconds) if need be."""
    for wait in waits:
        made = work()
        if not again(made):
            return made
        time.sleep(wait)
    return work()
