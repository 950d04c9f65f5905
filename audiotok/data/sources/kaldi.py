"""A Kaldi data directory: wav.scp, and segments, text, utt2spk, utt2dur where they are there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from audiotok.data.locator import LONGEST, ListingError, Place, is_url
from audiotok.data.sources.base import ALL, Item, Listing, Split, every, joined, text_lines

_SPACE = " \t\r\f\v"  # what parts words for Kaldi: no other space of Unicode
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_SORT = "run `LC_ALL=C sort`, or Kaldi's utils/fix_data_dir.sh"


class Kaldi(Listing):
    """Utterances of `wav.scp`, or the `segments` of its recordings; ids are Kaldi's.

    Entries of wav.scp are paths (relative ones from where you are, as Kaldi has it), `file:offset`
    into an archive of wav files, or commands ending in "|", which run only with --commands, once a
    recording. Segments are as extract-segments cuts them: channel 0 is the left one, an end of -1
    is that of the recording, and one more than 0.5 s after it is refused.
    """

    about = "a Kaldi data directory (wav.scp, segments, text, utt2spk)"

    @classmethod
    def takes(cls, path: str) -> bool:
        """See `Listing.takes`."""
        return not is_url(path) and (Path(path) / "wav.scp").is_file()

    def items(self, path: str, part: Split = ALL) -> Iterator[Item]:
        """See `Listing.items`."""
        known = {
            "text": _Beside(path, "text"),
            "speaker": _Beside(path, "utt2spk"),
            "language": _Beside(path, "utt2lang"),
        }
        lengths = _Beside(path, "utt2dur")
        # All tables move on together, so that none is in memory whole; so parts come last.
        yield from every(self._items(path, known, lengths), part)

    def _items(self, path: str, known: dict[str, _Beside], lengths: _Beside) -> Iterator[Item]:
        for where, name, place in _places(path):
            row = {key: value for key, beside in known.items() if (value := beside.of(name, where))}
            said = lengths.of(name, where)
            seconds = place.end - place.start if place.end is not None else None
            if said:
                seconds = _number(said, f"{lengths.path}, {name}")
                if seconds < 0:
                    raise ListingError(f"{lengths.path}, {name}: lasts {seconds} s")
            yield Item(name, place, row, seconds)
        for beside in (*known.values(), lengths):
            beside.end()


def _places(path: str) -> Iterator[tuple[str, str, Place]]:
    """Yield the line, the name and the audio of each utterance."""
    scp = joined(path, "wav.scp")
    segments = joined(path, "segments")
    if not Path(segments).is_file():
        for where, name, entry in _lines(scp):
            yield where, name, _place(entry, where)
        return
    recordings: dict[str, Place] = {}
    for where, name, entry in _lines(scp):
        if name in recordings:
            raise ListingError(f"{where}: `{name:.40}` stands there twice")
        recordings[name] = _place(entry, where)
    for where, name, rest in _lines(segments):
        yield where, name, _segment(name, rest, where, recordings)


def _segment(name: str, rest: str, where: str, recordings: dict[str, Place]) -> Place:
    """The stretch of a recording that a line of `segments` names.

    Raises:
        ListingError: it is not as extract-segments wants it.
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
        return Place(
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


def _place(entry: str, where: str) -> Place:
    if entry.endswith("|"):
        command = entry[:-1].strip(_SPACE)
        if not command:
            raise ListingError(f"{where}: a pipe without a command")
        return Place(entry, command=command)
    inside = re.fullmatch(r"(.+):(\d{1,18})", entry, re.ASCII)
    if inside and not is_url(entry):
        return Place(entry, inside[1], offset=int(inside[2]))
    return Place(entry, entry)


def _number(text: str, where: str) -> float:
    """A number as Kaldi writes it; inf and nan are none."""
    if not _NUMBER.fullmatch(text) or abs(float(text)) > LONGEST:
        raise ListingError(f"{where}: `{text:.40}` is no number of seconds")
    return float(text)


def _split(text: str, most: int = -1) -> list[str]:
    """The words of a line, parted by any white space that Kaldi knows; `most` + 1 at most."""
    return re.split(f"[{_SPACE}]+", text.strip(_SPACE), maxsplit=max(0, most))


def _lines(path: str) -> Iterator[tuple[str, str, str]]:
    """Yield the place of each line of a table, its first word and the rest."""
    for number, line in text_lines(path):
        name, *rest = _split(line, 1)
        if not rest:
            raise ListingError(f"{path}, line {number}: `{name:.40}` and nothing after it")
        yield f"{path}, line {number}", name, rest[0]


class _Beside:
    """A table sorted as wav.scp is, read along with it; what it does not have is empty."""

    def __init__(self, folder: str, name: str) -> None:
        self.path = joined(folder, name)
        self.there = Path(self.path).is_file()
        self.lines = self._sorted() if self.there else iter(())
        self.next = next(self.lines, None)
        self.last = b""

    def end(self) -> None:
        """Reads what is left, so that an unsorted table is found."""
        for _ in self.lines:
            pass

    def of(self, name: str, where: str) -> str:
        """Return the entry of an utterance, which stands at `where`; ask for them in order."""
        if not self.there:
            return ""
        if name.encode() < self.last:
            raise ListingError(f"{where}: utterances are not sorted ({name:.40}); {_SORT}")
        self.last = name.encode()
        while self.next and self.next[0].encode() < name.encode():
            self.next = next(self.lines, None)
        return self.next[1] if self.next and self.next[0] == name else ""

    def _sorted(self) -> Iterator[tuple[str, str]]:
        last = None
        for number, line in text_lines(self.path):
            name, *rest = _split(line, 1)
            if last is not None and name.encode() <= last:
                what = "not sorted" if name.encode() < last else f"`{name:.40}` stands there twice"
                raise ListingError(f"{self.path}, line {number}: {what}; {_SORT}")
            last = name.encode()
            yield name, rest[0] if rest else ""
