"""Cuts and recordings of Lhotse: what a line of JSON says of one, as a recording of ours."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from audiotok._platform.errors import InputError
from audiotok._platform.jsonfile import number, parse, shown, whole
from audiotok.data.locator import LONGEST, AudioLocator, ListingError
from audiotok.data.recording import Recording

CUTS = ("MonoCut", "MultiCut", "MixedCut", "PaddingCut", "Cut")
_STRETCHES = ("MonoCut", "Cut")  # cuts of one channel; "Cut" was written by lhotse before 0.8
TOLERANCE = 0.025  # seconds by which lhotse lets a file be shorter than its manifest says


def read_entry(line: str | bytes, where: str) -> Any:
    """Return the JSON value of a line; raise ListingError if it is none."""
    try:
        return parse(line, where)
    except ValueError as error:
        raise ListingError(str(error)) from None


@contextmanager
def naming(where: str) -> Iterator[None]:
    """Raise ListingError with the name of the line for what is wrong with a cut."""
    try:
        yield
    except ListingError:
        raise
    except KeyError as error:
        raise ListingError(f"{where}: not a cut (it has no {error})") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise ListingError(f"{where}: not a cut ({error})") from None


def is_recording(entry: Any) -> bool:
    """Return whether a JSON value is a recording of lhotse."""
    return isinstance(entry, dict) and {"id", "sources", "sampling_rate"} <= entry.keys()


def recording_of(recording: Any, line: str) -> Recording:
    """Return the item of a whole recording with all its channels."""
    name, seconds = _name(recording), _time(recording["duration"], "duration")
    sources, locator = recording["sources"], AudioLocator(name, cut=line)
    if len(sources) == 1 and not recording.get("transforms"):
        locator = _locator(name, sources[0]) or locator
    return Recording(name, locator, {}, seconds, _rate(recording))


def cut_of(cut: Any, line: str) -> Recording:
    """Return the item of a cut, with text, speaker and language of its supervisions."""
    if not isinstance(cut, dict):
        raise InputError(f"but {shown(cut)}")
    if cut["type"] not in CUTS:
        raise InputError(f"its type is {shown(cut['type'])}")
    name = _name(cut)
    row = dict(cut.get("custom") or {})
    supervisions = sorted(_supervisions(cut), key=lambda pair: pair[0])
    for key in ("text", "speaker", "language"):
        values = [str(each[key]) for _, each in supervisions if each.get(key) not in (None, "")]
        different = list(dict.fromkeys(values))
        if key == "text" and values:
            row[key] = " ".join(values)
        elif len(different) == 1:
            row[key] = values[0]
        elif different:  # none of several values holds for the whole cut
            row[f"{key}s"] = different
    locator = _part_of_file(cut) or AudioLocator(name, cut=line)
    return Recording(name, locator, row, _seconds(cut), _rate(cut.get("recording")))


def _rate(recording: Any) -> int | None:
    """Return the sample rate of a recording in Hz; None where it has none."""
    rate = recording.get("sampling_rate") if isinstance(recording, dict) else None
    return rate if isinstance(rate, int) and not isinstance(rate, bool) else None


def _name(entry: Any) -> str:
    """Return the id of a cut or recording."""
    name = entry["id"]
    if isinstance(name, bool) or not isinstance(name, str | int) or name == "":
        raise InputError(f"its id is {shown(name)}")
    return str(name)


def _time(value: Any, what: str) -> float:
    """Return a value as seconds, or raise ValueError with the name of the field."""
    return number(value, what, least=0, most=LONGEST)


def _supervisions(cut: Any) -> Iterator[tuple[float, Any]]:
    """Yield the supervisions of a cut and of those mixed into it, each with its start, seconds."""
    for each in cut.get("supervisions") or []:
        yield number(each.get("start", 0.0), "the start of a supervision"), each
    for track in _tracks(cut):
        offset = _time(track.get("offset", 0.0), "the offset of a track")
        yield from ((offset + start, each) for start, each in _supervisions(track["cut"]))


def _tracks(cut: Any) -> list[Any]:
    """Return the tracks of a cut without the muted ones, unless all are muted."""
    tracks = cut.get("tracks") or []
    return [track for track in tracks if not track.get("mute")] or tracks


def _seconds(cut: Any) -> float:
    """Return the duration of a cut in seconds; of a mixed one, to the end of its last track."""
    if "tracks" not in cut:
        return _time(cut["duration"], "duration")
    return max(  # raises where there is no track
        _time(track.get("offset", 0.0), "the offset of a track") + _seconds(track["cut"])
        for track in _tracks(cut)
    )


def _part_of_file(cut: Any) -> AudioLocator | None:
    """Return the locator of a cut that is only a part of a file, or None."""
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
    return _locator(_name(cut), sources[0], first / rate, last / rate, only)


def _locator(
    name: str,
    source: Any,
    start: float = 0.0,
    end: float | None = None,
    channel: int | None = None,
) -> AudioLocator | None:
    """Return the locator of a source whose audio audiotok can read itself, or None."""
    value = source["source"]
    stretch: tuple[Any, ...] = (start, end, channel)
    if source["type"] not in ("file", "url", "command"):
        return None
    if not isinstance(value, str) or not value:
        raise InputError(f"its source is {shown(value)}")
    if source["type"] == "command":
        return AudioLocator(name, "", *stretch, command=value, overshoot=TOLERANCE)
    if value.startswith("pipe:"):
        return None
    return AudioLocator(name, value, *stretch, overshoot=TOLERANCE)


def _samples(seconds: float, rate: int) -> int:
    """Return seconds as samples like `lhotse.utils.compute_num_samples`: halves are rounded up."""
    return math.floor(round(seconds * rate, 8) + 0.5)
