"""Runs a build: tasks to the engine, outcomes into the state in the listing's order."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from audiotok._platform.console import error, said
from audiotok.corpus.build.changed import Compared, chained, other_listing
from audiotok.corpus.build.folder import finished
from audiotok.corpus.build.progress import Watch
from audiotok.corpus.build.state import State
from audiotok.codecs.models.base import Codec
from audiotok.corpus.base import About, CorpusError
from audiotok.corpus.write import SHARD_BYTES
from audiotok.audio.decoders import AUDIO
from audiotok.data.sources.base import ALL, Item, Listing, Split
from audiotok.codecs.load import load_once
from audiotok._platform.registry import find, names
from audiotok.corpus.build.worker import Coded, Task, Work

log = logging.getLogger("audiotok")

HELD = 1 << 28  # bytes of codes that wait for a recording before them
BAD = 0.1  # share of the recordings that may fail
FIRST = 200  # recordings of which the share that failed is not taken before they are done


@dataclass(frozen=True)
class Built:
    """What a build came to; `run_` is of this run alone."""

    out: str
    recordings: int
    seconds: float
    frames: int
    shards: int
    quarantined: int
    bytes: int
    run_recordings: int = 0
    run_seconds: float = 0.0
    took: float = 0.0  # seconds
    busy: float = 0.0  # share of the processes' time that they computed

    @property
    def speed(self) -> float:
        """Seconds of audio a second."""
        return self.run_seconds / max(self.took, 1e-9)

    def words(self) -> dict[str, str]:
        """For people."""
        facts = {
            "corpus": self.out,
            "recordings": f"{self.recordings:,}",
            "audio": f"{self.seconds / 3600:,.3f} h",
            "frames": f"{self.frames:,}",
            "shards": f"{self.shards:,}, {self.bytes / 1e6:,.1f} MB in all",
        }
        if self.quarantined:
            facts["quarantined"] = f"{self.quarantined:,}, see {self.out}/quarantine.tsv"
        if self.run_recordings:
            facts["this run"] = f"{self.run_recordings:,} recordings in {self.took:,.1f} s"
            facts["speed"] = f"{self.speed:,.1f}x real time, processes {self.busy:.0%} busy"
        else:
            facts["this run"] = "nothing left to do"
        return facts


def listing_of(path: str, kind: str = "auto", audio: str = "") -> Listing:
    """Return the way to read what is at a path.

    Args:
        path: a folder, manifest, data directory, archive or URL.
        kind: a name of `audiotok.data.sources`; "auto" looks.
        audio: which column, or which member of a sample, is the audio; "" where there is but one.

    Raises:
        ValueError: there is none, or no such way, or it has no columns or members to choose from.
    """
    listing = _listing_of(path, kind)
    if audio and not listing.chooses:
        name = type(listing).__module__.rpartition(".")[2]
        raise ValueError(f"{path}: a listing of kind {name} has no column or member `{audio}`")
    listing.audio = audio
    return listing


def _listing_of(path: str, kind: str) -> Listing:
    if kind != "auto":
        return find("listings", kind)()
    # What tells most about itself is asked first: a folder may be anything.
    order = ["huggingface", "kaldi", "lhotse", "webdataset", "parquet", "table", "folder"]
    for name in [*order, *(other for other in names("listings") if other not in order)]:
        part = find("listings", name)
        if part.takes(path):
            return part()
    if path.lower().endswith(AUDIO):
        raise ValueError(f"{path}: is audio, not a list of recordings; name the folder it is in")
    raise ValueError(
        f"{path}: no such folder, manifest or archive; --kind says what it is "
        f"({', '.join(names('listings'))})"
    )


def about_of(
    codec: Codec, listing: str, part: Split, codebooks: int | None, audio: str = ""
) -> About:
    """What corpus.json will say, before there is a shard."""
    chosen = {"audio": audio} if audio else {}
    return About(
        codec=codec.name,
        fingerprint=codec.fingerprint,
        sizes=tuple(codec.sizes[: codec.quantizer.check(codebooks)]),
        sample_rate=codec.sample_rate,
        frame_size=codec.frame_size,
        channels=codec.channels,
        shards=(),
        job={"listing": listing, "part": f"{part[0]}/{part[1]}", **chosen},
    )


def build(
    listing: str,
    out: str | Path,
    work: Work,
    *,
    kind: str = "auto",
    audio: str = "",
    engine: str = "local",
    workers: int = 0,
    part: Split = ALL,
    limit: int = SHARD_BYTES,
    most_bad: float = BAD,
    force: bool = False,
    keep_changed: bool = False,
    console: Console = said,
) -> Built:
    """Encodes all recordings of a listing into a corpus; goes on where an earlier run ended.

    Whatever ended it: the corpus is the same to the byte as that of a run that nothing disturbed,
    as long as the listing and the options are the same.

    Args:
        listing: a folder, manifest, data directory, archive or URL; see `audiotok.data.sources`.
        out: a folder.
        work: the codec, and how a process runs it.
        kind: of listing; "auto" looks.
        audio: which column, or which member of a sample, is the audio, where there are several.
        engine: see `audiotok.corpus.build.executors`.
        workers: processes; one a core, or one a device, if 0.
        part: (i, n): only each n-th recording, or file of recordings, from the i-th on.
        limit: bytes of codes in a shard.
        most_bad: share of the recordings that may fail: of all, when the build ends, and of those
            done, but not fewer than 200, as it goes on. More stop it.
        force: begin anew, whatever is in `out`.
        keep_changed: keep the codes of recordings whose files have changed since.
        console: where progress and errors go.

    Raises:
        CorpusError: `out` holds something else, too many recordings fail, one cannot be read for
            a reason that passes, or files have changed since they were encoded.
        LockedError: another process builds there.
        ListingError: the listing cannot be read, or is not the one that was begun with.
        TokenFileError: a shard cannot be written.
        ValueError: no such codec, engine or kind.
    """
    out, source = Path(out), listing_of(listing, kind, audio)
    codec = load_once(work.codec, "cpu")
    about = about_of(codec, listing, part, work.codebooks, audio)
    work = replace(work, fingerprint=codec.fingerprint)
    compared = Compared(listing, keep=keep_changed)
    made = None if force else finished(out, about)
    if made and not (out / ".build").is_dir():
        compared.corpus(out, source, part)
        if made.quarantined:
            log.warning("%s: without %d recordings; see quarantine.tsv", out, made.quarantined)
        return _built(out, made)
    runner = find("engines", engine)()
    workers = workers or runner.workers(work)
    # Recordings between the next to be committed and the next to be begun.
    window = max(runner.window, 4 * workers * work.ahead)
    with State(out, about, limit=limit, force=force) as state, _with_scratch(work) as work:
        if state.finished:
            return _built(out, state.finished)
        queue = _Queue(state, source.items(listing, part), compared, window)
        with Watch(console, workers, state.next) as watch:
            watch.total(source, listing, part)
            outcomes = runner.run(work, queue.tasks(), workers)
            with closing(outcomes):  # pyright: ignore[reportArgumentType]
                for number, coded in outcomes:
                    watch.outcome(coded.busy)
                    for item, made, fault in queue.put(number, coded):
                        seconds = made.samples / about.sample_rate
                        watch.committed(seconds, bool(fault))
                        if fault:
                            error(f"{item.place.name}: {fault}", console=console)
                            _stop_if_too_many(state, most_bad)
        if not state.recordings and part == ALL:
            what = f"could be encoded; see {out}/quarantine.tsv" if state.bad else "is listed there"
            raise CorpusError(f"{listing}: no recording {what}")
        if state.bad > most_bad * state.next:
            raise _too_many(state, most_bad)
        done = state.finish()
    built = _built(out, done)
    counts = (built.recordings + built.quarantined - queue.before, watch.seconds)
    return replace(
        built, run_recordings=counts[0], run_seconds=counts[1], took=watch.took, busy=watch.busy
    )


@contextmanager
def _with_scratch(work: Work) -> Iterator[Work]:
    """The work with a folder for what commands write, as long as it lasts, if any may run."""
    if work.commands:
        with tempfile.TemporaryDirectory(prefix="audiotok-") as folder:
            yield replace(work, scratch=folder)
    else:
        yield work


class _Queue:
    """Tasks on their way out, and outcomes on their way back into the listing's order."""

    def __init__(
        self, state: State, items: Iterator[Item], compared: Compared, window: int
    ) -> None:
        self.state, self.items, self.compared, self.window = state, items, compared, window
        self.stopped = False  # something could not be read for now: nothing new is begun
        self.before = state.next
        self.out: dict[int, tuple[Item, str]] = {}  # begun, not committed
        self.back: dict[int, Coded] = {}
        self.held = 0  # bytes

    def tasks(self) -> Iterator[Task | None]:
        """What is left of the listing; None as long as too much waits for its turn."""
        chain, number, before = "", -1, self.state.looks(0, self.before)
        for number, item in enumerate(self.items):
            chain = chained(chain, item)
            if number < self.before:
                self.compared.item(item, before[number])
                if number == self.before - 1:
                    if chain != self.state.chain:
                        break
                    self.compared.say()
                continue
            while not self.stopped and (len(self.out) >= self.window or self.held >= HELD):
                yield None
            if self.stopped:
                return
            place = replace(item.place, data=None)
            self.out[number] = (replace(item, place=place), chain)
            yield number, item
        if number < self.before - 1 or (number == self.before - 1 and chain != self.state.chain):
            raise other_listing(self.compared.listing, self.before)

    def put(self, number: int, coded: Coded) -> Iterator[tuple[Item, Coded, str]]:
        """Takes an outcome, and commits all whose turn it is: item, outcome, and what is wrong."""
        self.back[number] = coded
        self.held += coded.codes.nbytes
        self.stopped = self.stopped or coded.passing
        while (coded := self.back.pop(self.state.next, None)) is not None:  # pyright: ignore
            item, chain = self.out.pop(self.state.next)
            self.held -= coded.codes.nbytes
            if coded.passing:
                raise CorpusError(
                    f"{item.place.name}: {coded.error}; this may pass, so it is not left out: run "
                    "the same again when it can be read, and the build goes on from here"
                )
            yield item, coded, self.state.commit(item, coded, chain)


def _stop_if_too_many(state: State, most: float) -> None:
    if state.bad > most * max(state.next, FIRST):  # while few are done, a share says little
        raise _too_many(state, most)


def _too_many(state: State, most: float) -> CorpusError:
    return CorpusError(
        f"{state.folder}: {state.bad} of {state.next} recordings failed, more than {most:.0%} "
        "(see quarantine.tsv); mend the listing and begin anew, or go on with a higher --most-bad"
    )


def _built(out: Path, about: About) -> Built:
    shards = about.shards
    return Built(
        out=str(out),
        recordings=sum(files.recordings for files in shards),
        seconds=sum(files.samples for files in shards) / about.sample_rate,
        frames=sum(files.frames for files in shards),
        shards=len(shards),
        quarantined=about.quarantined,
        bytes=sum(sum(files.bytes.values()) for files in shards),
    )
