"""Lhotse's cuts and recordings, one JSON object a line."""

from __future__ import annotations

from collections.abc import Iterator

from audiotok._platform.jsonfile import parse
from audiotok.data.cuts import CUTS, cut_of, is_recording, naming, read_entry, recording_of
from audiotok.data.recording import Recording
from audiotok.data.sources.base import ALL, Listing, Split, every, text_lines


class Lhotse(Listing):
    """Cuts of a `cuts.jsonl` or `cuts.jsonl.gz`, or whole recordings of a `recordings.jsonl`.

    Relative paths are relative to the working directory, as in lhotse. A cut that is a part of one
    file or of one command's output is read by audiotok, to the sample as lhotse reads it. Any other
    (mixed, padded, sped up, several files) is loaded by lhotse, which must be installed. Commands
    run only if the user allows them, wherever in a cut they stand.
    """

    description = "Lhotse's cuts or recordings (.jsonl or .jsonl.gz)"

    @classmethod
    def takes(cls, path: str) -> bool:
        """See `Listing.takes`."""
        if not path.lower().endswith((".jsonl", ".jsonl.gz")):
            return False
        try:
            first = parse(next(text_lines(path), (0, "{}"))[1], path)
        except ValueError:
            return False
        return isinstance(first, dict) and (is_recording(first) or first.get("type") in CUTS)

    def items(self, path: str, part: Split = ALL) -> Iterator[Recording]:
        """See `Listing.items`."""
        for line_number, line in every(text_lines(path), part):
            where = f"{path}, line {line_number}"
            entry = read_entry(line, where)
            with naming(where):
                yield recording_of(entry, line) if is_recording(entry) else cut_of(entry, line)
