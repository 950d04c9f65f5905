"""How far recordings may hold up those who are live."""

from __future__ import annotations

SHARE = 0.1  # of the time that passes, recordings may hold up those who are live
MOST = 0.01  # seconds of it that are kept for later


class Allowance:
    """The time for which recordings may yet hold up live conversations.

    It grows with the time that passes and shrinks by the time that a live message really waited for
    a recording's step. So recordings take what the live leave idle, and a tenth of the time where
    they leave nothing: neither starves, however many there are of each.

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
