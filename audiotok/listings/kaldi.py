"""A Kaldi data directory: wav.scp, and segments, text, utt2spk, utt2dur where they are there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from audiotok.listings.base import ALL, Item, Listing, Split, every, joined, text_lines
from audiotok.place import ListingError, Place, is_url


class Kaldi(Listing):
    """Utterances of `wav.scp`, or the `segments` of its recordings; ids are Kaldi's.

    Entries of wav.scp are paths (relative ones from where you are, as Kaldi has it), `file:offset`
    into an archive of wav files, or commands ending in "|", which run only with --commands.
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
        for name, place in _places(path):
            row = {key: value for key, beside in known.items() if (value := beside.of(name))}
            seconds = lengths.of(name)
            length = place.end - place.start if place.end is not None else None
            yield Item(name, place, row, float(seconds) if seconds else length)
        for beside in (*known.values(), lengths):
            beside.end()


def _places(path: str) -> Iterator[tuple[str, Place]]:
    scp = _lines(joined(path, "wav.scp"))
    segments = joined(path, "segments")
    if not Path(segments).is_file():
        for _, name, entry in scp:
            yield name, _place(entry)
        return
    recordings = {name: entry for _, name, entry in scp}
    for number, name, rest in _lines(segments):
        where = f"{segments}, line {number}"
        fields = rest.split()
        if len(fields) not in (3, 4) or fields[0] not in recordings:
            raise ListingError(f"{where}: not `utterance recording start end` of a known recording")
        start, end = float(fields[1]), float(fields[2])
        if not 0 <= start < end and end != -1:
            raise ListingError(f"{where}: cannot cut from {start} s to {end} s")
        channel = int(fields[3]) - 1 if len(fields) == 4 and fields[3].isdigit() else None
        place = _place(recordings[fields[0]])
        yield (
            name,
            Place(
                name,
                place.path,
                start,
                None if end == -1 else end,
                channel,
                place.offset,
                command=place.command,
            ),
        )


def _place(entry: str) -> Place:
    if entry.endswith("|"):
        return Place(entry, command=entry[:-1].strip())
    inside = re.fullmatch(r"(.+):(\d+)", entry)
    if inside and not is_url(entry):
        return Place(entry, inside[1], offset=int(inside[2]))
    return Place(entry, entry)


def _lines(path: str) -> Iterator[tuple[int, str, str]]:
    for number, line in text_lines(path):
        name, _, rest = line.strip().partition(" ") if " " in line else line.partition("\t")
        if not rest.strip():
            raise ListingError(f"{path}, line {number}: `{name:.40}` and nothing after it")
        yield number, name, rest.strip()


class _Beside:
    """A table sorted as wav.scp is, read along with it; what it does not have is empty."""

    def __init__(self, folder: str, name: str) -> None:
        self.path = joined(folder, name)
        self.lines = self._sorted() if Path(self.path).is_file() else iter(())
        self.next = next(self.lines, None)
        self.last = b""

    def end(self) -> None:
        """Reads what is left, so that an unsorted table is found."""
        for _ in self.lines:
            pass

    def of(self, name: str) -> str:
        """What the table says of an utterance; they must be asked for in order."""
        if name.encode() < self.last:
            way = "run `LC_ALL=C sort`, or Kaldi's utils/fix_data_dir.sh"
            raise ListingError(f"{self.path}: utterances are not sorted ({name}); {way}")
        self.last = name.encode()
        while self.next and self.next[0].encode() < name.encode():
            self.next = next(self.lines, None)
        return self.next[1] if self.next and self.next[0] == name else ""

    def _sorted(self) -> Iterator[tuple[str, str]]:
        last = b""
        for number, line in text_lines(self.path):
            name, _, rest = line.strip().partition(" ")
            if name.encode() < last:
                way = "not sorted; run `LC_ALL=C sort`, or Kaldi's utils/fix_data_dir.sh"
                raise ListingError(f"{self.path}, line {number}: {way}")
            last = name.encode()
            yield name, rest.strip()
