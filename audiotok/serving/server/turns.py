"""Whose turn it is: those who are live, or a recording, and how far that may hold them up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar, runtime_checkable

SHARE = 0.05  # of the time that passes, recordings may hold up those who are live
MOST = 0.01  # seconds of it that are kept for later


class Allowance:
    """The time for which recordings may yet hold up live conversations.

    It grows with the time that passes and shrinks by the time that a live message really waited for
    a recording's step. So recordings take what the live leave idle, and a twentieth of the time
    where they leave nothing: neither starves, however many there are of each.

    Args:
        now: seconds, of any clock.
        share: of the time that passes.
        most: seconds that it grows to.
    """

    def __init__(self, now: float, *, share: float = SHARE, most: float = MOST) -> None:
        self._share, self._most = share, most
        self._seconds, self._now = most, now

    def wait(self, now: float, *, waits: bool) -> float:
        """Return the seconds until a recording may be stepped, 0 if it may be now.

        Args:
            now: seconds, of the same clock.
            waits: whether a live message waits, which the step would hold up for certain; then the
                whole allowance must be there.
        """
        passed, self._now = max(0.0, now - self._now), now
        self._seconds = min(self._most, self._seconds + self._share * passed)
        return max(0.0, (self._most if waits else 0.0) - self._seconds) / self._share

    def spend(self, seconds: float) -> None:
        """Take off what a live message waited for a recording."""
        self._seconds -= seconds


@runtime_checkable
class Waiting(Protocol):
    """A message that waits for its turn; times are seconds of one clock."""

    arrived: float
    stepped: float  # when it last had one

    @property
    def live(self) -> bool:
        """True for speech as it is spoken, False for a recording."""
        ...


Job = TypeVar("Job", bound=Waiting)


class Turns:
    """Choose who is stepped next: none starves, and recordings hold up the live for a twentieth of
    the time at most.

    Args:
        gather: seconds that a live message may wait for others to be stepped with.
        now: seconds of the clock that all times are of.
    """

    def __init__(self, gather: float, now: float) -> None:
        self._gather, self._allowance = gather, Allowance(now)
        self._free = now  # when the last step of those who are live ended

    def choose(
        self, waiting: Sequence[Job], expected: int, now: float
    ) -> tuple[list[Job], float | None]:
        """Return all that are live, or the recording whose turn it is; or nobody, and the seconds
        to wait for somebody (None: until one comes).

        Args:
            waiting: messages, in the order of their arrival.
            expected: live conversations that are open.
            now: the time.
        """
        live = [job for job in waiting if job.live]
        recordings = [job for job in waiting if not job.live]
        if not waiting:
            return [], None
        if len(live) < expected:
            until = max([self._free, *(job.arrived for job in live[:1])]) + self._gather
            if now < until:
                return [], until - now
        if not recordings:
            return live, 0
        wait = self._allowance.wait(now, waits=bool(live)) if expected else 0
        if wait:
            return live, wait
        first = min(recordings, key=lambda job: job.stepped)
        first.stepped = now
        return [first], 0

    def stepped(
        self, jobs: Sequence[Job], waiting: Sequence[Job], start: float, end: float
    ) -> None:
        """Take notice of a step.

        Args:
            jobs: that were in it.
            waiting: that are left.
            start: of the step.
            end: of it.
        """
        if jobs[0].live:
            self._free = end
        elif held := [job.arrived for job in waiting if job.live]:
            self._allowance.spend(end - max(start, min(held)))
