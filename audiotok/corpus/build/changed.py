"""Comparison of a listing and its files with those that codes were made of."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

from audiotok.corpus.base import CorpusError
from audiotok.corpus.inputs import INPUTS, UNSEEN, Look, changes, look, read_inputs
from audiotok.data.sources.base import Item, Listing, Split, digest_of
from audiotok.data.locator import is_url

log = logging.getLogger("audiotok")

NAMED = 3  # changed files that a message names


def chained(chain: str, item: Item) -> str:
    """Return the hash of a listing up to an item, from that up to the item before."""
    return hashlib.blake2b(chain.encode() + digest_of(item), digest_size=8).hexdigest()


def other_listing(listing: str, count: int) -> CorpusError:
    """Return the error that a listing is not what was encoded of it."""
    return CorpusError(
        f"{listing}: not the {count} recordings any more that were done already; "
        "bring back what was there, or begin anew with --force"
    )


class Compared:
    """Compares files with what they were like when they were encoded.

    Args:
        listing: for messages.
        keep: warn of what has changed, and keep its codes.
    """

    def __init__(self, listing: str, *, keep: bool) -> None:
        self.listing, self.keep = listing, keep
        self.count = 0
        self.said: list[str] = []

    def item(self, item: Item, before: Look) -> None:
        """Compare the file of an item."""
        how = changes(before, look(item.place.path)) if before != UNSEEN else ""
        if how:
            self.count += 1
            if len(self.said) < NAMED:
                self.said.append(f"{item.place.name}: {how}")

    def say(self) -> None:
        """Say what has changed.

        Raises:
            CorpusError: something has, and its codes are not to be kept.
        """
        if not self.count:
            return
        more = f", and {self.count - NAMED} more" if self.count > NAMED else ""
        text = f"{self.listing}: changed since it was encoded: {'; '.join(self.said)}{more}"
        if not self.keep:
            raise CorpusError(
                f"{text}; bring back what was there, begin anew with --force, or keep the codes "
                "with --keep-changed"
            )
        log.warning("%s; the codes are kept", text)

    def corpus(self, out: Path, source: Listing, part: Split) -> None:
        """Compare all that a finished corpus was built of, where a look is cheap.

        Raises:
            CorpusError: as `say`, or the listing is another.
        """
        kept = read_inputs(out / INPUTS)
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
