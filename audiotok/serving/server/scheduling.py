"""Scheduling of steps: live conversations first, and recordings in the time that is left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar, runtime_checkable

SHARE = 0.05  # of the time that recordings may delay live conversations
MOST = 0.01  # seconds of delay that may be saved up


class Allowance:
    """Time for which recordings may still delay live conversations.

    It grows with time and shrinks by the time that live messages have waited for a step of a
    recording. So recordings get the idle time, and a twentieth of the time where there is none:
    neither kind starves, however many there are of each.

    Args:
        now: current time in seconds, of any clock.
        share: growth in seconds per second.
        most: upper limit in seconds.
    """

    def __init__(self, now: float, *, share: float = SHARE, most: float = MOST) -> None:
        self._share = share
        self._most = most
        self._seconds = most
        self._now = now

    def wait(self, now: float, *, waits: bool) -> float:
        """Return the seconds until a recording may be stepped; 0 for at once.

        Args:
            now: current time in seconds, of the same clock.
            waits: whether a live message waits, which the step would certainly delay; then the
                whole allowance is required.
        """
        passed = max(0.0, now - self._now)
        self._now = now
        self._seconds = min(self._most, self._seconds + self._share * passed)
        return max(0.0, (self._most if waits else 0.0) - self._seconds) / self._share

    def spend(self, seconds: float) -> None:
        """Subtract the seconds that a live message has waited for a recording."""
        self._seconds -= seconds


@runtime_checkable
class Waiting(Protocol):
    """Message that waits for its step; times are seconds of one clock."""

    arrived: float
    stepped: float  # time of its last step

    @property
    def live(self) -> bool:
        """True if the job is of live speech, and not of a recording."""
        ...


Job = TypeVar("Job", bound=Waiting)


class Scheduler:
    """Scheduler of steps, in which recordings delay live messages for at most 5 % of the time.

    Args:
        gather: seconds that a live message may wait for others, to be stepped together.
        now: current time in seconds, of the clock of all times.
    """

    def __init__(self, gather: float, now: float) -> None:
        self._gather = gather
        self._allowance = Allowance(now)
        self._free = now  # end of the last step of live messages

    def choose(
        self, waiting: Sequence[Job], expected: int, now: float
    ) -> tuple[list[Job], float | None]:
        """Choose the messages of the next step.

        Args:
            waiting: messages in the order of their arrival.
            expected: number of open live conversations.
            now: current time in seconds.

        Returns:
            All live messages, or one recording's, or none; and the seconds to wait where there are
            none (None: until a message arrives).
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
        """Record a step.

        Args:
            jobs: messages that were in it.
            waiting: messages that are left.
            start: start of the step in seconds.
            end: end of the step in seconds.
        """
        if jobs[0].live:
            self._free = end
        elif arrivals := [job.arrived for job in waiting if job.live]:
            self._allowance.spend(end - max(start, min(arrivals)))
