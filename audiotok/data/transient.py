"""Transient failures: of the network or the disk, and not of the file that was being read."""

from __future__ import annotations

import errno
import logging
import random
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from audiotok._platform.errors import Error, in_one_line

log = logging.getLogger("audiotok")

READING_WAITS = (0.5, 2.0, 8.0)  # seconds before each retry of reading from a URL
TRANSIENT = {
    getattr(errno, name)
    for name in (
        *("EIO", "EAGAIN", "EBUSY", "EINTR", "ETIMEDOUT", "ESTALE", "ENOLINK", "EREMOTEIO"),
        *("ECONNRESET", "ECONNABORTED", "ECONNREFUSED", "ENETDOWN", "ENETUNREACH", "ENETRESET"),
        *("EHOSTDOWN", "EHOSTUNREACH", "EPIPE", "EMFILE", "ENFILE", "ENOMEM", "ENOTCONN"),
        *("EKEYEXPIRED", "EKEYREVOKED", "ENOKEY"),
    )
    if hasattr(errno, name)
}
# HTTP status codes that mostly mean expired keys: 400 is S3's, for a token (a HEAD says no more).
DENIED = (400, 401, 403, 407)
STATUS = (*DENIED, 408, 425, 429)  # transient HTTP status codes, beside all from 500 on
# Parts of names and codes of transient errors of libraries that are no OSError.
WORDS = (
    *("timeout", "timedout", "connection", "disconnected", "payloaderror", "incompleteread"),
    *("chunkedencoding", "expiredtoken", "tokenexpired", "credential", "slowdown", "throttl"),
    *("invalidtoken", "tokenrefresh", "requestexpired", "requesttime"),
    *("serviceunavailable", "internalerror", "protocolerror", "ratelimit"),
)


Result = TypeVar("Result")


class TransientError(Error, OSError):
    """A transient failure that only its message tells apart from a lasting one."""


class MissingError(TransientError):
    """A file that this machine cannot see, nor the folder, mount or bucket that it should be in."""


def is_transient(error: BaseException, *, remote: bool = False) -> bool:
    """Return whether a failure is transient: likely to be gone when the same is tried again.

    Args:
        error: the exception; its causes are considered too.
        remote: whether the file is behind a URL, where a refusal may come of expired keys.
    """
    return _transient_of(error, remote=remote) is not None


def is_refusal(error: BaseException) -> bool:
    """Return whether a server refused a request, as it does when keys have expired."""
    return any(
        isinstance(each, PermissionError) or any(status in DENIED for status in _statuses(each))
        for each in _chain(error)
    )


def _transient_of(error: BaseException, *, remote: bool) -> BaseException | None:
    """Return the exception that is transient: this one, or one that it came of; None if none is."""
    return next((each for each in _chain(error) if _passes(each, remote=remote)), None)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and the exceptions that it came of."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _passes(error: BaseException, *, remote: bool) -> bool:
    """Return whether this exception alone is transient."""
    if isinstance(error, TransientError | ConnectionError | TimeoutError | PermissionError):
        return True
    if isinstance(error, OSError) and error.errno in TRANSIENT:
        return True
    if not remote:
        return False
    if any(status in STATUS or status >= 500 for status in _statuses(error)):
        return True
    description = f"{type(error).__name__} {_code(error)}".lower().replace("_", "")
    return any(word in description for word in WORDS)


def _statuses(error: BaseException) -> Iterator[int]:
    """Yield the HTTP status codes of an exception, in all attributes where libraries store them."""
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
    """Return the error code of a cloud library's exception, or ""."""
    answer = getattr(error, "response", None)
    code = answer.get("Error", {}).get("Code") if isinstance(answer, dict) else None
    return code if isinstance(code, str) else str(getattr(error, "code", ""))


def retry(
    work: Callable[[], Result], waits: Iterable[float], again: Callable[[Result], bool]
) -> Result:
    """Return the result of some work, repeated after each of these waits while it needs repeating.

    Args:
        work: the work to do.
        waits: pauses before each repetition, seconds.
        again: function that returns whether a result calls for a repetition.
    """
    for wait in waits:
        result = work()
        if not again(result):
            return result
        pause(wait)
    return work()


def patiently(
    work: Callable[[], Result], waits: Iterable[float], what: str, *, remote: bool = False
) -> Result:
    """Return the result of some work that is repeated after transient errors.

    Args:
        work: the work to do.
        waits: pauses before each repetition, seconds.
        what: the file or URL, for messages.
        remote: whether it is behind a URL.

    Raises:
        TransientError: the last repetition failed for a transient reason too.
    """
    for wait in waits:
        try:
            return work()
        except Exception as error:  # any library's
            if not is_transient(error, remote=remote):
                raise
            log.warning("%s; trying again", passing(what, error, remote=remote))
        pause(wait)
    try:
        return work()
    except Exception as error:
        if not is_transient(error, remote=remote):
            raise
        raise passing(what, error, remote=remote) from error


def passing(what: str, error: Exception, *, remote: bool = False) -> TransientError:
    """Return a transient error as one that names the file or URL; one of ours as it is."""
    of = _transient_of(error, remote=remote) or error
    if isinstance(of, TransientError):
        return of
    why = in_one_line(of) if str(of) else f"{type(of).__name__}: no answer in time"
    return TransientError(f"{what}: cannot be read for now ({why})")


def pause(seconds: float) -> None:
    """Sleep for about this time: half to one and a half, lest many workers return at once."""
    time.sleep(seconds * random.uniform(0.5, 1.5))
