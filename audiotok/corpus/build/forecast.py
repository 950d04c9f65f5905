"""Forecast of a build from its listing and a short trial: hours, tokens, bytes and time."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace

from audiotok._platform.errors import InputError
from audiotok.corpus.build.executors.base import cores
from audiotok.corpus.build.work import Work
from audiotok.corpus.build.worker import Worker
from audiotok.corpus.write import SHARD_BYTES
from audiotok.data.locator import opened
from audiotok.data.manifest import listing_of
from audiotok.data.recording import Recording
from audiotok.data.sources.base import ALL, Split

TRIED = 5  # seconds that the trial may take
PROBED = 200  # recordings whose length is read from the file where the listing has none


@dataclass(frozen=True)
class Forecast:
    """Forecast of a build; all but `recordings` is estimated where lengths are not listed."""

    recordings: int
    listed: int  # recordings whose length is listed
    hours: float
    tokens: float
    gigabytes: float  # size of codes, index and rows
    shards: int
    speed: float  # seconds of audio per second, of all processes
    workers: int  # processes
    took: float  # hours that the build takes

    def words(self) -> dict[str, str]:
        """Return the forecast as labelled text."""
        prefix = "" if self.listed == self.recordings else "about "
        return {
            "recordings": f"{self.recordings:,}",
            "audio": f"{prefix}{self.hours:,.2f} h",
            "tokens": f"{prefix}{self.tokens:,.0f}",
            "size": f"{prefix}{self.gigabytes:,.3f} GB in {self.shards:,} shards",
            "speed": f"{self.speed:,.0f}x real time with {self.workers} processes (a short trial)",
            "time": f"about {self.took:,.2f} h",
        }


def forecast(
    listing: str,
    work: Work,
    *,
    kind: str = "auto",
    audio: str = "",
    workers: int = 0,
    part: Split = ALL,
    limit: int = SHARD_BYTES,
) -> Forecast:
    """Read a listing and encode a few of its recordings, without writing anything.

    Args:
        listing: as for `build`.
        work: the codec, and how a process runs it.
        kind: kind of the listing.
        audio: column or member that is the audio, as for `build`.
        workers: number of processes; one per core if 0.
        part: part of the listing, (i, n).
        limit: bytes of codes in a shard.

    Raises:
        ListingError: the listing cannot be read.
        ValueError: no recording can be read, or there is no such codec.
    """
    source = listing_of(listing, kind, audio)
    number = listed = 0
    seconds = text = 0.0
    sample: list[Recording] = []  # recordings spread evenly over the listing
    step = 1
    for number, item in enumerate(source.items(listing, part), 1):
        listed += item.seconds is not None
        seconds += item.seconds or 0.0
        text += 180 + len(json.dumps(item.fields))
        if number % step == 0:
            sample.append(item)
            if len(sample) > PROBED:
                sample, step = sample[::2], 2 * step
    if not sample:
        raise InputError(f"{listing}: no recording is listed there")
    lengths, worker = (
        [],
        Worker(replace(work, readers=1, group=1, device=work.device.split(",")[0])),
    )
    start, done, spent = time.perf_counter(), 0.0, 0.0
    worker.all([(0, sample[0])])  # the first run is slower
    for item in sample:
        length, begin = item.seconds or 0.0, time.perf_counter()
        if spent < TRIED:
            coded = worker.all([(0, item)])[0][1]
            if not coded.error:
                length = coded.samples / worker.codec.sample_rate
                done, spent = done + length, spent + time.perf_counter() - begin
        elif item.seconds is None:
            length = _probed(item, work)
        lengths.append(length)
        if time.perf_counter() - start > 6 * TRIED:
            break
    worker.close()
    if not done:
        raise InputError(f"{listing}: none of the first {len(lengths)} recordings can be read")
    if listed < number:
        seconds += (number - listed) * sum(lengths) / max(1, len(lengths))
    codec, workers = worker.codec, workers or cores()
    frames = seconds * float(codec.frame_rate)
    codes = frames * worker.header.frame_bits / 8
    speed = done / spent * workers
    return Forecast(
        recordings=number,
        listed=listed,
        hours=seconds / 3600,
        tokens=frames * (worker.codebooks or 1),
        gigabytes=(codes + text + 60 * number) / 1e9,
        shards=max(1, round(codes / limit + 0.5)),
        speed=speed,
        workers=workers,
        took=seconds / speed / 3600,
    )


def _probed(item: Recording, work: Work) -> float:
    try:
        with opened(item.locator, commands=work.commands) as source:
            return (source.samples or 0) / source.rate
    except (ValueError, OSError):
        return 0.0
