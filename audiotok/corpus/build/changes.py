"""Comparison of a listing and its files with those that were encoded."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

from audiotok.corpus.base import CorpusError
from audiotok.corpus.inputs import UNSEEN, FileStamp, changes, look, read_inputs
from audiotok.corpus.location import storage_of
from audiotok.corpus.storage import Storage
from audiotok.data.locator import is_url
from audiotok.data.recording import Recording, digest_of
from audiotok.data.sources.base import Listing, Split

log = logging.getLogger("audiotok")

NAMED = 3  # changed files that a message names


def chained(chain: str, item: Recording) -> str:
    """Return the hash of a listing up to an item, given the hash up to the previous item."""
    return linked(chain, digest_of(item))


def linked(chain: str, digest: bytes) -> str:
    """Return the hash of a listing up to an item, given the item's digest (`digest_of`)."""
    return hashlib.blake2b(chain.encode() + digest, digest_size=8).hexdigest()


def other_listing(listing: str, count: int) -> CorpusError:
    """Return the error that a listing differs from the one that was encoded."""
    return CorpusError(
        f"{listing}: not the {count} recordings any more that were done already; "
        "bring back what was there, or begin anew with force=True"
    )


class ChangeCheck:
    """Comparison of files with their stamps at the time of encoding.

    Args:
        listing: path of the listing, for messages.
        keep: whether to keep the codes of changed files, with a warning, instead of raising.
    """

    def __init__(self, listing: str, *, keep: bool) -> None:
        self.listing = listing
        self.keep = keep
        self.count = 0
        self.changes: list[str] = []

    def item(self, item: Recording, before: FileStamp) -> None:
        """Compare the file of an item with its earlier stamp."""
        how = changes(before, look(item.locator.path)) if before != UNSEEN else ""
        if how:
            self.count += 1
            if len(self.changes) < NAMED:
                self.changes.append(f"{item.locator.name}: {how}")

    def say(self) -> None:
        """Report changed files: log a warning, or raise.

        Raises:
            CorpusError: files have changed, and their codes are not to be kept.
        """
        if not self.count:
            return
        more = f", and {self.count - NAMED} more" if self.count > NAMED else ""
        text = f"{self.listing}: changed since it was encoded: {'; '.join(self.changes)}{more}"
        if not self.keep:
            raise CorpusError(
                f"{text}; bring back what was there, begin anew with force=True, or keep "
                "the codes with keep_changed=True"
            )
        log.warning("%s; the codes are kept", text)

    def corpus(self, out: str | Path | Storage, source: Listing, part: Split) -> None:
        """Compare all files that a finished corpus was built of, unless listing them is costly.

        Args:
            out: folder or URL of the corpus.
            source: reader of the listing.
            part: part of the listing.

        Raises:
            CorpusError: as `say`, or the listing has changed.
        """
        kept = read_inputs(storage_of(out))
        if kept is None or source.costly or is_url(self.listing):
            return
        was, looks = kept
        chain, number = "", 0
        for number, item in enumerate(source.items(self.listing, part), 1):
            chain = chained(chain, item)
            if number <= len(looks):
                self.item(item, looks[number - 1])
        if (number, chain) != (len(looks), was):
            error = other_listing(self.listing, len(looks))
            if not self.keep:
                raise error
            log.warning("%s", error)
        self.say()
