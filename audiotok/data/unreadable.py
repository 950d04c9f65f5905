"""Counting of recordings that are left out: each is named, and too many are an error."""

from __future__ import annotations

import logging

from audiotok._platform.console import plain
from audiotok._platform.errors import InputError

log = logging.getLogger("audiotok")

BAD = 0.1  # share of the recordings of a list that may be unreadable


class Unreadable:
    """A counter of unreadable recordings that warns of each, and raises when they are too many.

    Args:
        recordings: number of recordings in the list.
    """

    def __init__(self, recordings: int) -> None:
        self.recordings = recordings
        self.count = 0

    def add(self, name: str, error: ValueError) -> None:
        """Count an unreadable recording and warn of it.

        Args:
            name: the recording.
            error: the reason why it cannot be read.

        Raises:
            ValueError: more than a tenth of the recordings are unreadable, so the list is wrong.
        """
        self.count += 1
        # A log may be a file of UTF-8, and a name any bytes.
        line = plain(str(error) if name in str(error) else f"{name}: {error}")
        if self.count > BAD * self.recordings:
            raise InputError(
                f"{line}; that makes {self.count} of {self.recordings} recordings, more than "
                f"{BAD:.0%}, that are left out; mend the manifest"
            )
        log.warning("%s; left out", line)
