"""Lhotse's cuts and recordings, as JSON a line."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from audiotok._platform.jsonfile import number, parse, shown, whole
from audiotok.data.locator import LONGEST, ListingError, Place
from audiotok.data.sources.base import ALL, Item, Listing, Split, every, text_lines

_CUTS = ("MonoCut", "MultiCut", "MixedCut", "PaddingCut", "Cut")
_STRETCHES = ("MonoCut", "Cut")  # of one channel; the second is what lhotse before 0.8 wrote
TOLERANCE = 0.025  # seconds by which lhotse lets a file be shorter than its manifest says


class Lhotse(Listing):
    """Cuts of a `cuts.jsonl` or `cuts.jsonl.gz`, or whole recordings of a `recordings.jsonl`; paths
    are from where you are, as lhotse has it.

    A cut that is a stretch of one file or of one command's output is read by audiotok, to the
    sample as lhotse reads it. Any other (mixed, padded, sped up, several files) is loaded by
    lhotse, which must be there. Commands run only with --commands, wherever in a cut they stand.
    """

    about = "Lhotse's cuts or recordings (.jsonl or .jsonl.gz)"

    @classmethod
    def takes(cls, path: str) -> bool:
        """See `Listing.takes`."""
        if not path.lower().endswith((".jsonl", ".jsonl.gz")):
            return False
        try:
            first = parse(next(text_lines(path), (0, "{}"))[1], path)
        except ValueError:
            return False
        return isinstance(first, dict) and (_is_recording(first) or first.get("type") in _CUTS)

    def items(self, path: str, part: Split = ALL) -> Iterator[Item]:
        """See `Listing.items`."""
        for line_number, line in every(text_lines(path), part):
            where = f"{path}, line {line_number}"
            try:
                found = parse(line, where)
            except ValueError as error:
                raise ListingError(str(error)) from None
            try:
                yield _recording(found, line) if _is_recording(found) else _item(found, line)
            except KeyError as error:
                raise ListingError(f"{where}: not a cut (it has no {error})") from None
            except (ValueError, TypeError, AttributeError) as error:
                raise ListingError(f"{where}: not a cut ({error})") from None


def _is_recording(found: Any) -> bool:
    return isinstance(found, dict) and {"id", "sources", "sampling_rate"} <= found.keys()


def _recording(recording: Any, line: str) -> Item:
    """All channels of a recording, from its beginning to its end."""
    name, seconds = _name(recording), _time(recording["duration"], "duration")
    sources, place = recording["sources"], Place(name, cut=line)
    if len(sources) == 1 and not recording.get("transforms"):
        place = _read(name, sources[0]) or place
    return Item(name, place, {}, seconds)


def _item(cut: Any, line: str) -> Item:
    if not isinstance(cut, dict):
        raise ValueError(f"but {shown(cut)}")
    if cut["type"] not in _CUTS:
        raise ValueError(f"its type is {shown(cut['type'])}")
    name = _name(cut)
    row = dict(cut.get("custom") or {})
    spoken = sorted(_supervisions(cut), key=lambda pair: pair[0])
    for key in ("text", "speaker", "language"):
        said = [str(each[key]) for _, each in spoken if each.get(key) not in (None, "")]
        different = list(dict.fromkeys(said))
        if key == "text" and said:
            row[key] = " ".join(said)
        elif len(different) == 1:
            row[key] = said[0]
        elif different:  # of several, none is that of the cut
            row[f"{key}s"] = different
    return Item(name, _simple(cut) or Place(name, cut=line), row, _seconds(cut))


def _name(found: Any) -> str:
    name = found["id"]
    if isinstance(name, bool) or not isinstance(name, str | int) or name == "":
        raise ValueError(f"its id is {shown(name)}")
    return str(name)


def _time(value: Any, what: str) -> float:
    return number(value, what, least=0, most=LONGEST)


def _supervisions(cut: Any) -> Iterator[tuple[float, Any]]:
    """Yield the supervisions of a cut and of those mixed into it, each with its begin."""
    for each in cut.get("supervisions") or []:
        yield number(each.get("start", 0.0), "the start of a supervision"), each
    for track in _tracks(cut):
        offset = _time(track.get("offset", 0.0), "the offset of a track")
        yield from ((offset + start, each) for start, each in _supervisions(track["cut"]))


def _tracks(cut: Any) -> list[Any]:
    """Return the tracks of a cut; muted ones do not count, unless all are."""
    tracks = cut.get("tracks") or []
    return [track for track in tracks if not track.get("mute")] or tracks


def _seconds(cut: Any) -> float:
    """Return the seconds of a cut; of a mixed one, to the end of its last track."""
    if "tracks" not in cut:
        return _time(cut["duration"], "duration")
    return max(  # raises where there is no track
        _time(track.get("offset", 0.0), "the offset of a track") + _seconds(track["cut"])
        for track in _tracks(cut)
    )


def _simple(cut: Any) -> Place | None:
    """The stretch of a file that a cut is, if it is no more than that."""
    recording = cut.get("recording") or {}
    sources = recording.get("sources") or []
    if cut["type"] not in _STRETCHES or recording.get("transforms") or len(sources) != 1:
        return None
    rate = whole(recording["sampling_rate"], "sampling_rate", least=1, most=10**9)
    channels, channel = sources[0]["channels"], whole(cut["channel"], "channel")
    # lhotse rounds the start and the length, not the start and the end.
    first = _samples(_time(cut["start"], "start"), rate)
    last = first + _samples(_time(cut["duration"], "duration"), rate)
    if channel not in channels or first == last:
        return None
    only = None if len(channels) == 1 else channels.index(channel)
    return _read(_name(cut), sources[0], first / rate, last / rate, only)


def _read(
    name: str,
    source: Any,
    start: float = 0.0,
    end: float | None = None,
    channel: int | None = None,
) -> Place | None:
    """Return the place of a source whose audio audiotok can read itself, or None."""
    said = source["source"]
    stretch: tuple[Any, ...] = (start, end, channel)
    if source["type"] not in ("file", "url", "command"):
        return None
    if not isinstance(said, str) or not said:
        raise ValueError(f"its source is {shown(said)}")
    if source["type"] == "command":
        return Place(name, "", *stretch, command=said, overshoot=TOLERANCE)
    if said.startswith("pipe:"):
        return None
    return Place(name, said, *stretch, overshoot=TOLERANCE)


def _samples(seconds: float, rate: int) -> int:
    """Samples as `lhotse.utils.compute_num_samples` counts them: halves up."""
    return math.floor(round(seconds * rate, 8) + 0.5)
