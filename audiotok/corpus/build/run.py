"""Run of a build: tasks go to the executor, outcomes into the state in the listing's order."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from audiotok._platform.console import error, stderr_console
from audiotok._platform.registry import find
from audiotok.codecs.catalogue import shipped_codec
from audiotok.codecs.load import choose_backend, load_in_backend
from audiotok.corpus.base import CorpusError, CorpusInfo
from audiotok.corpus.build.changes import ChangeCheck
from audiotok.corpus.build.executors.base import BuildExecutor
from audiotok.corpus.build.folder import finished
from audiotok.corpus.build.order import Containers, Order, Recordings
from audiotok.corpus.build.progress import BuildProgress, NodeSummary
from audiotok.corpus.build.retry import RetrySummary, retry
from audiotok.corpus.build.reuse import recommit
from audiotok.corpus.build.state import State
from audiotok.corpus.build.work import EncodedRecording, Outcome, Work
from audiotok.corpus.location import storage_of
from audiotok.corpus.write import SHARD_BYTES
from audiotok.data.locator import normal_path
from audiotok.data.manifest import listing_of
from audiotok.data.recording import Recording
from audiotok.data.sources.base import ALL, Listing, Split
from audiotok.runtime.exported import is_exported
from audiotok.tokens.tokenizer import Tokenizer

log = logging.getLogger("audiotok")

BAD = 0.1  # share of the recordings that may fail
FIRST = 200  # recordings that must be done before the share of failures is checked


@dataclass(frozen=True)
class BuildSummary:
    """Summary of a build; fields with `run_` count this run alone."""

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
    busy: float = 0.0  # share of the processes' time spent computing
    nodes: tuple[NodeSummary, ...] = ()  # machines of a cluster
    tries: RetrySummary = field(default_factory=RetrySummary)

    @property
    def speed(self) -> float:
        """Seconds of audio encoded per second."""
        return self.run_seconds / max(self.took, 1e-9)

    def words(self) -> dict[str, str]:
        """Return the summary as labelled text."""
        facts = {
            "corpus": self.out,
            "recordings": f"{self.recordings:,}",
            "audio": f"{self.seconds / 3600:,.3f} h",
            "frames": f"{self.frames:,}",
            "shards": f"{self.shards:,}, {self.bytes / 1e6:,.1f} MB in all",
        }
        if self.quarantined:
            facts["quarantined"] = f"{self.quarantined:,}, see {self.out}/quarantine.tsv"
        if self.tries.tried:
            tries = self.tries
            facts["tried again"] = f"{tries.tried:,}, of which {tries.encoded:,} are encoded now"
        if self.run_recordings:
            facts["this run"] = f"{self.run_recordings:,} recordings in {self.took:,.1f} s"
            facts["speed"] = f"{self.speed:,.1f}x real time, processes {self.busy:.0%} busy"
        elif not self.tries.encoded:
            facts["this run"] = "nothing left to do"
        if len(self.nodes) > 1:
            facts |= {f"node {node.name}": node.words(self.took) for node in self.nodes}
        return facts


def info_of(
    codec: Tokenizer,
    listing: str,
    part: Split,
    codebooks: int | None,
    audio: str = "",
    half: bool = False,
    search: int | None = None,
) -> CorpusInfo:
    """Return the content of corpus.json before there are shards.

    Args:
        codec: the codec.
        listing: path of the listing.
        part: part of the listing, (i, n).
        codebooks: number of codebooks to use, from the first; all if None.
        audio: column or member that is the audio.
        half: whether latents are stored in half precision.
        search: paths of the search for codes; the codec's own if None.
    """
    chosen: dict[str, Any] = {"audio": audio} if audio else {}
    if search is not None:
        chosen["search"] = search
    header = codec.header(codec.sample_rate, streams=1, codebooks=codec.kept(codebooks), half=half)
    return CorpusInfo(
        codec=codec.name,
        fingerprint=codec.fingerprint,
        sizes=header.sizes,
        sample_rate=codec.sample_rate,
        frame_size=codec.frame_size,
        channels=codec.channels,
        shards=(),
        job={"listing": listing, "part": f"{part[0]}/{part[1]}", **chosen},
        semantic_codebooks=header.semantic_codebooks,
        width=header.width,
        dtype=header.dtype,
    )


def build(
    listing: str,
    out: str | Path,
    work: Work,
    *,
    kind: str = "auto",
    audio: str = "",
    engine: str = "local",
    address: str = "",
    workers: int = 0,
    part: Split = ALL,
    limit: int = SHARD_BYTES,
    most_bad: float = BAD,
    force: bool = False,
    keep_changed: bool = False,
    retry_quarantined: bool = False,
    console: Console = stderr_console,
) -> BuildSummary:
    """Encode all recordings of a listing into a corpus, or resume an earlier run that did not end.

    However that run ended, the corpus equals that of an undisturbed run to the byte, as long as the
    listing and the options are the same.

    Args:
        listing: a folder, manifest, data directory, archive or URL; see `audiotok.data.sources`.
        out: folder of the corpus, or its URL in object storage.
        work: the codec, and how a process runs it.
        kind: kind of the listing; "auto" chooses by the path.
        audio: column, or member of a sample, that is the audio, where there are several.
        engine: name of an executor, see `audiotok.corpus.build.executors`.
        address: address of the cluster, of an executor that runs on one.
        workers: number of processes; one per core, or one per device, if 0.
        part: (i, n) for each n-th recording, or file of recordings, from the i-th on.
        limit: bytes of codes in a shard.
        most_bad: share of the recordings that may fail, of all when the build ends, and of those
            done (from 200 on) while it runs. More failures stop the build.
        force: whether to start anew, whatever is in `out`.
        keep_changed: whether to keep the codes of recordings whose files have changed since.
        retry_quarantined: whether to encode anew the recordings that failed in earlier runs; the
            corpus is then that of a build in which they did not fail.
        console: console for progress and errors.

    Returns:
        The summary of the build.

    Raises:
        CorpusError: `out` holds something else, too many recordings fail, one cannot be read for
            a transient reason, or files have changed since they were encoded.
        LockedError: another process builds into `out`.
        ListingError: the listing cannot be read, or is not the one that the build started with.
        TokenFileError: a shard cannot be written.
        StorageError: the object storage cannot be read or written.
        ValueError: there is no such codec, executor or kind.
    """
    listing = normal_path(listing)
    storage, source = storage_of(out), listing_of(listing, kind, audio)
    if engine == "local" and not work.backend:  # other machines choose for themselves
        backend = choose_backend(work.codec, work.device, search=work.search)
        work = replace(work, backend=backend)
    searching = (work.search or 1) > 1  # which not every codec can
    light = None if searching or is_exported(work.codec) else shipped_codec(work.codec)
    codec = light or load_in_backend(work.codec, "cpu", work.backend or None, search=work.search)
    info = info_of(codec, listing, part, work.codebooks, audio, work.half, work.search)
    work = replace(work, fingerprint=codec.fingerprint)
    compared = ChangeCheck(listing, keep=keep_changed)
    earlier = None if force else finished(storage, info)
    if earlier and earlier.quarantined and retry_quarantined:
        # So many were accepted before.
        total = sum(files.recordings for files in earlier.shards) + earlier.quarantined
        most_bad = max(most_bad, earlier.quarantined / total)
    elif earlier and not storage.begun:
        compared.corpus(storage, source, part)
        return _summary(out, earlier)
    runner = find("executors", engine)(address)
    count = workers or runner.workers(work)
    state = State(storage, info, limit=limit, force=force, keep=retry_quarantined)
    with state, _with_scratch(work) as work:
        tries = RetrySummary()
        if retry_quarantined:
            again = ChangeCheck(listing, keep=keep_changed)
            encode = partial(_encode, runner, work, workers, console)
            tries = retry(state, source.items(listing, part), encode, again)
        if state.finished:
            return replace(_summary(out, state.finished), tries=tries)
        recommit(state, source.items(listing, part), listing)
        order = _order(state, compared, source, part, runner, count)
        with BuildProgress(console, count, state.next) as watch, closing(order):
            watch.total(source, listing, part)
            events = runner.run(work, order.tasks(), workers)
            with closing(events):  # pyright: ignore[reportArgumentType]
                for event in events:
                    if isinstance(event, Outcome):
                        watch.outcome(event.coded.busy, runner.active)
                    for item, outcome, fault in order.put(event):
                        seconds = outcome.coded.samples / info.sample_rate
                        watch.committed(seconds, bool(fault), outcome.node)
                        if fault:
                            error(f"{item.locator.name}: {fault}", console=console)
                            _stop_if_too_many(state, most_bad)
        if not state.recordings and part == ALL:
            what = f"could be encoded; see {out}/quarantine.tsv" if state.bad else "is listed there"
            raise CorpusError(f"{listing}: no recording {what}")
        if state.bad > most_bad * state.next:
            raise _too_many(state, most_bad)
        info = state.finish()
    summary = _summary(out, info)
    return replace(
        summary,
        run_recordings=summary.recordings + summary.quarantined - order.before,
        run_seconds=watch.seconds,
        took=watch.took,
        busy=watch.busy,
        nodes=watch.nodes,
        tries=tries,
    )


def _order(
    state: State,
    compared: ChangeCheck,
    source: Listing,
    part: Split,
    runner: BuildExecutor,
    workers: int,
) -> Order:
    """Return the order of a build: by container where there is one for every worker."""
    listing = compared.listing
    files = source.files(listing, part)
    if files and len(files) >= workers:

        def most() -> int:
            return 2 * max(workers, runner.active)

        return Containers(state, compared, source, listing, files, most)
    return Recordings(state, compared, source.items(listing, part), runner.window)


def _encode(
    runner: BuildExecutor,
    work: Work,
    workers: int,
    console: Console,
    tasks: Iterator[tuple[int, Recording]],
) -> Generator[tuple[int, EncodedRecording], None, None]:
    """Yield the outcomes of some recordings, in any order."""
    with BuildProgress(console, workers or runner.workers(work), 0) as watch:
        events = runner.run(work, tasks, workers)
        with closing(events):  # pyright: ignore[reportArgumentType]
            for event in events:
                if isinstance(event, Outcome):
                    watch.outcome(event.coded.busy, runner.active)
                    watch.committed(0.0, bool(event.coded.error), event.node)
                    yield event.number, event.coded


@contextmanager
def _with_scratch(work: Work) -> Iterator[Work]:
    """Yield the work with a temporary folder, in which workers that die leave their copies."""
    with tempfile.TemporaryDirectory(prefix="audiotok-") as folder:
        yield replace(work, scratch=folder)


def _stop_if_too_many(state: State, most: float) -> None:
    if state.bad > most * max(state.next, FIRST):  # the share of few recordings means little
        raise _too_many(state, most)


def _too_many(state: State, most: float) -> CorpusError:
    return CorpusError(
        f"{state.folder}: {state.bad} of {state.next} recordings failed, more than {most:.0%} "
        "(see quarantine.tsv); mend what is wrong and give retry_quarantined=True, begin anew with "
        "force=True, or let more of them fail"
    )


def _summary(out: str | Path, info: CorpusInfo) -> BuildSummary:
    """Return the summary of a finished corpus; a warning says what it is without."""
    if info.quarantined:
        log.warning(
            "%s: without %d recordings; see quarantine.tsv, and try them again with "
            "retry_quarantined=True",
            out,
            info.quarantined,
        )
    shards = info.shards
    return BuildSummary(
        out=str(out),
        recordings=sum(files.recordings for files in shards),
        seconds=sum(files.samples for files in shards) / info.sample_rate,
        frames=sum(files.frames for files in shards),
        shards=len(shards),
        quarantined=info.quarantined,
        bytes=sum(sum(files.bytes.values()) for files in shards),
    )
