"""What a build would come to: hours, tokens, bytes and time, from the listing and a short trial."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace

from audiotok.corpus.build.run import listing_of
from audiotok.corpus.write import SHARD_BYTES
from audiotok.corpus.build.executors.base import cores
from audiotok.data.sources.base import ALL, Item, Split
from audiotok.data.locator import opened
from audiotok.corpus.build.worker import Stage, Work

TRIED = 5  # seconds that the trial may take
PROBED = 200  # recordings whose length is looked up where the listing does not say it


@dataclass(frozen=True)
class Forecast:
    """What `--dry-run` says; all but `recordings` is estimated where lengths are not listed."""

    recordings: int
    listed: int  # recordings whose length the listing says
    hours: float
    tokens: float
    gigabytes: float  # codes, index and rows
    shards: int
    speed: float  # seconds of audio a second, all processes
    workers: int
    took: float  # hours

    def words(self) -> dict[str, str]:
        """For people."""
        about = "" if self.listed == self.recordings else "about "
        return {
            "recordings": f"{self.recordings:,}",
            "audio": f"{about}{self.hours:,.2f} h",
            "tokens": f"{about}{self.tokens:,.0f}",
            "size": f"{about}{self.gigabytes:,.3f} GB in {self.shards:,} shards",
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
    """Reads the listing, encodes a few of its recordings, and writes nothing.

    Args:
        listing: as for `build`.
        work: the codec, and how a process runs it.
        kind: of listing.
        audio: which column or member is the audio, as for `build`.
        workers: processes.
        part: of the listing.
        limit: bytes of codes in a shard.

    Raises:
        ListingError: the listing cannot be read.
        ValueError: no recording can be read, or no such codec.
    """
    source = listing_of(listing, kind, audio)
    number = listed = 0
    seconds = text = 0.0
    some: list[Item] = []  # spread over the listing, ever thinner
    step = 1
    for number, item in enumerate(source.items(listing, part), 1):
        listed += item.seconds is not None
        seconds += item.seconds or 0.0
        text += 180 + len(json.dumps(item.row))
        if number % step == 0:
            some.append(item)
            if len(some) > PROBED:
                some, step = some[::2], 2 * step
    if not some:
        raise ValueError(f"{listing}: no recording is listed there")
    lengths, stage = [], Stage(replace(work, readers=1, group=1, device=work.device.split(",")[0]))
    began, done, spent = time.perf_counter(), 0.0, 0.0
    stage.all([(0, some[0])])  # the first time is slower
    for item in some:
        length, took = item.seconds or 0.0, time.perf_counter()
        if spent < TRIED:
            coded = stage.all([(0, item)])[0][1]
            if not coded.error:
                length = coded.samples / stage.codec.sample_rate
                done, spent = done + length, spent + time.perf_counter() - took
        elif item.seconds is None:
            length = _probed(item, work)
        lengths.append(length)
        if time.perf_counter() - began > 6 * TRIED:
            break
    stage.close()
    if not done:
        raise ValueError(f"{listing}: none of the first {len(lengths)} recordings can be read")
    if listed < number:
        seconds += (number - listed) * sum(lengths) / max(1, len(lengths))
    codec, workers = stage.codec, workers or cores()
    frames = seconds * float(codec.frame_rate)
    bits = sum((size - 1).bit_length() for size in codec.sizes[: stage.codebooks])
    codes = frames * bits / 8
    speed = done / spent * workers
    return Forecast(
        recordings=number,
        listed=listed,
        hours=seconds / 3600,
        tokens=frames * stage.codebooks,
        gigabytes=(codes + text + 60 * number) / 1e9,
        shards=max(1, round(codes / limit + 0.5)),
        speed=speed,
        workers=workers,
        took=seconds / speed / 3600,
    )


def _probed(item: Item, work: Work) -> float:
    try:
        with opened(item.place, commands=work.commands) as source:
            return (source.samples or 0) / source.rate
    except ValueError:
        return 0.0
