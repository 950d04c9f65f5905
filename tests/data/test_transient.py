"""Work that is repeated after transient errors: how often, after which pauses, and what is said."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable

import pytest

from audiotok.data import transient
from audiotok.data.transient import MissingError, TransientError, patiently, pause, retry


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that are made, in seconds; none is waited for."""
    made: list[float] = []
    monkeypatch.setattr(transient.time, "sleep", made.append)
    return made


def failing(times: int, error: Callable[[], Exception]) -> Callable[[], str]:
    """Return work that raises an error so many times, and returns "done" then."""
    left = [times]

    def work() -> str:
        if left[0]:
            left[0] -= 1
            raise error()
        return "done"

    return work


def refused() -> Exception:
    return OSError(errno.EIO, "Input/output error")


def test_work_is_repeated_after_each_pause(pauses: list[float], caplog: pytest.LogCaptureFixture):
    assert patiently(failing(2, refused), (1.0, 4.0, 16.0), "a.wav") == "done"
    assert len(pauses) == 2
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert "a.wav: cannot be read for now (OSError: [Errno 5]" in caplog.text


def test_the_last_error_names_the_file(pauses: list[float]):
    with pytest.raises(TransientError, match=r"^a\.wav: cannot be read for now \(OSError: "):
        patiently(failing(9, refused), (1.0, 4.0), "a.wav")
    assert len(pauses) == 2


def test_an_error_without_words_is_said_to_be_late(pauses: list[float]):
    with pytest.raises(TransientError, match=r"\(TimeoutError: no answer in time\)$"):
        patiently(failing(9, TimeoutError), (), "a.wav")


def test_an_error_of_ours_stays_as_it_is(pauses: list[float]):
    with pytest.raises(MissingError, match=r"^b\.wav: not mounted$"):
        patiently(failing(9, lambda: MissingError("b.wav: not mounted")), (1.0,), "a.wav")


def test_what_lasts_is_not_repeated(pauses: list[float]):
    with pytest.raises(FileNotFoundError):
        patiently(failing(1, FileNotFoundError), (1.0,), "a.wav")
    assert not pauses


def test_pauses_are_of_different_length_around_what_is_asked(pauses: list[float]):
    """Many workers that failed at once do not return at once."""
    for _ in range(200):
        pause(8.0)
    assert min(pauses) >= 4
    assert max(pauses) <= 12
    assert min(pauses) < 6 < 10 < max(pauses)


def test_results_that_ask_for_it_are_repeated(pauses: list[float]):
    results = iter([1, 2, 3, 4])
    assert retry(lambda: next(results), (1.0, 2.0), lambda result: result < 9) == 3
    assert len(pauses) == 2
