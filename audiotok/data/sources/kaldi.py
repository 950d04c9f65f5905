"""A Kaldi data directory: wav.scp, and segments, text, utt2spk and utt2dur where they exist."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path

from audiotok.data.locator import LONGEST, AudioLocator, ListingError, is_url
from audiotok.data.recording import Recording
from audiotok.data.sources.base import ALL, Listing, Split, every, joined, names_in, text_lines

log = logging.getLogger("audiotok")

_SPACE = " \t\r\f\v"  # Kaldi's white space, which has no other spaces of Unicode
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_SORT = "run `LC_ALL=C sort`, or Kaldi's utils/fix_data_dir.sh"


class Kaldi(Listing):
    """Utterances of `wav.scp`, or the `segments` of its recordings, with Kaldi's ids.

    Entries of wav.scp are paths (relative to the working directory, as in Kaldi), `file:offset`
    into an archive of wav files, or commands ending in "|", which run only if the user allows
    commands, once a recording. Segments are cut as by extract-segments: channel 0 is the left one,
    an end of -1 is the end of the recording, and an end more than 0.5 s after it is refused.
    """

    description = "a Kaldi data directory (wav.scp, segments, text, utt2spk)"

    @classmethod
    def takes(cls, path: str) -> bool:
        """See `Listing.takes`."""
        if is_url(path):
            return "wav.scp" in names_in(path)
        return (Path(path) / "wav.scp").is_file()

    def items(self, path: str, part: Split = ALL) -> Iterator[Recording]:
        """See `Listing.items`."""
        if is_url(path):
            raise ListingError(
                f"{path}: a Kaldi directory is read from a disk; copy it, the audio may stay, or "
                "list it as a folder of audio without its texts"
            )
        known = {
            "text": _SortedTable(path, "text"),
            "speaker": _SortedTable(path, "utt2spk"),
            "language": _SortedTable(path, "utt2lang"),
        }
        lengths = _SortedTable(path, "utt2dur")
        # All tables are read side by side, so that none is in memory whole; this needs every
        # utterance, so a part is taken of the result.
        yield from every(self._items(path, known, lengths), part)

    def _items(
        self, path: str, known: dict[str, _SortedTable], lengths: _SortedTable
    ) -> Iterator[Recording]:
        """Yield all utterances of a directory, reading its tables side by side."""
        for where, name, locator in _locators(path):
            row = {key: value for key, table in known.items() if (value := table.of(name, where))}
            duration = lengths.of(name, where)
            seconds = locator.end - locator.start if locator.end is not None else None
            if duration:
                seconds = _number(duration, f"{lengths.path}, {name}")
                if seconds < 0:
                    raise ListingError(f"{lengths.path}, {name}: lasts {seconds} s")
            yield Recording(name, locator, row, seconds)
        for table in (*known.values(), lengths):
            table.end()


def _locators(path: str) -> Iterator[tuple[str, str, AudioLocator]]:
    """Yield the line, the name and the audio locator of each utterance."""
    scp = joined(path, "wav.scp")
    segments = joined(path, "segments")
    if not Path(segments).is_file():
        for where, name, entry in _lines(scp):
            yield where, name, _locator(entry, where)
        return
    recordings: dict[str, AudioLocator] = {}
    for where, name, entry in _lines(scp):
        if name in recordings:
            raise ListingError(f"{where}: `{name:.40}` stands there twice")
        recordings[name] = _locator(entry, where)
    unused = dict.fromkeys(recordings)
    for where, name, rest in _lines(segments):
        yield where, name, _segment(name, rest, where, recordings)
        unused.pop(_split(rest)[0], None)
    if unused:
        log.warning(
            "%s: %d recordings have no segment (%.40s)", scp, len(unused), next(iter(unused))
        )


def _segment(name: str, rest: str, where: str, recordings: dict[str, AudioLocator]) -> AudioLocator:
    """Return the locator of the part of a recording that a line of `segments` names.

    Raises:
        ListingError: the line is not what extract-segments accepts.
    """
    fields = _split(rest)
    if len(fields) not in (3, 4) or fields[0] not in recordings:
        raise ListingError(f"{where}: not `utterance recording start end` of a known recording")
    whole = recordings[fields[0]]
    start, end = (_number(field, where) for field in fields[1:3])
    channel = None
    if len(fields) == 4:
        if not re.fullmatch(r"\+?\d{1,9}", fields[3], re.ASCII):
            raise ListingError(
                f"{where}: channel `{fields[3]:.20}` is no number; 0 is left, 1 is right"
            )
        channel = int(fields[3])
    try:
        return AudioLocator(
            name,
            whole.path,
            start,
            None if end == -1 else end,
            channel,
            whole.offset,
            command=whole.command,
        )
    except ValueError as error:
        raise ListingError(f"{where}: {error}") from None


def _locator(entry: str, where: str) -> AudioLocator:
    """Return the locator of an entry of wav.scp."""
    if entry.endswith("|"):
        command = entry[:-1].strip(_SPACE)
        if not command:
            raise ListingError(f"{where}: a pipe without a command")
        return AudioLocator(entry, command=command)
    inside = re.fullmatch(r"(.+):(\d{1,18})", entry, re.ASCII)
    if inside and not is_url(entry):
        return AudioLocator(entry, inside[1], offset=int(inside[2]))
    return AudioLocator(entry, entry)


def _number(text: str, where: str) -> float:
    """Return a number in Kaldi's notation, which has no inf and nan."""
    if not _NUMBER.fullmatch(text) or abs(float(text)) > LONGEST:
        raise ListingError(f"{where}: `{text:.40}` is no number of seconds")
    return float(text)


def _split(text: str, most: int = -1) -> list[str]:
    """Return the words of a line, split at Kaldi's white space, at most `most` times."""
    return re.split(f"[{_SPACE}]+", text.strip(_SPACE), maxsplit=max(0, most))


def _lines(path: str) -> Iterator[tuple[str, str, str]]:
    """Yield the position of each line of a table, its first word and the rest."""
    for number, line in text_lines(path):
        name, *rest = _split(line, 1)
        if not rest:
            raise ListingError(f"{path}, line {number}: `{name:.40}` and nothing after it")
        yield f"{path}, line {number}", name, rest[0]


class _SortedTable:
    """A table sorted like wav.scp and read along with it; entries that it lacks are empty."""

    def __init__(self, folder: str, name: str) -> None:
        self.path = joined(folder, name)
        self.exists = Path(self.path).is_file()
        self.lines = self._sorted() if self.exists else iter(())
        self.next = next(self.lines, None)
        self.last = b""
        self.first = ""  # first entry of no utterance
        self.count = 0  # entries of no utterance

    def end(self) -> None:
        """Read the remaining lines, so that disorder is noticed, and warn of unused entries."""
        if self.next and self.next[0].encode() == self.last:
            self._advance(used=True)
        while self.next:
            self._advance()
        if self.count:
            log.warning(
                "%s: %d entries are of no utterance (%.40s)", self.path, self.count, self.first
            )

    def _advance(self, *, used: bool = False) -> None:
        """Go to the next entry, and count this one if no utterance has used it."""
        if self.next and not used:
            self.count += 1
            self.first = self.first or self.next[0]
        self.next = next(self.lines, None)

    def of(self, name: str, where: str) -> str:
        """Return the entry of the utterance at `where`; utterances are asked for in order."""
        if not self.exists:
            return ""
        if name.encode() < self.last:
            raise ListingError(f"{where}: utterances are not sorted ({name:.40}); {_SORT}")
        while self.next and self.next[0].encode() < name.encode():
            self._advance(used=self.next[0].encode() == self.last)
        self.last = name.encode()
        return self.next[1] if self.next and self.next[0] == name else ""

    def _sorted(self) -> Iterator[tuple[str, str]]:
        """Yield the entries of the table, and raise ListingError where they are not sorted."""
        last = None
        for number, line in text_lines(self.path):
            name, *rest = _split(line, 1)
            if last is not None and name.encode() <= last:
                what = "not sorted" if name.encode() < last else f"`{name:.40}` stands there twice"
                raise ListingError(f"{self.path}, line {number}: {what}; {_SORT}")
            last = name.encode()
            yield name, rest[0] if rest else ""
