"""State of a build on the disk, from which it resumes however it ended.

    OUT/.build/job.json         source and options; a build with others is refused here
    OUT/.build/000002.log       write-ahead log of outcomes since the last shard, in order
    OUT/.build/000001.inputs    stamps of the files of shard 1 when they were encoded
    OUT/.build/000001.seal      commit record of shard 1: its checksums, and the start of shard 2

A shard's content depends on the listing's order and the limit alone, never on the time of outcomes.
Its files are flushed to the disk before its commit record is, and its log is deleted last:

    log ... log full -> shard files -> seal -> log deleted         killed anywhere, a build resumes
                                                                   from the last complete one
"""

from __future__ import annotations

import logging
from array import array
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from audiotok._platform.errors import Error
from audiotok.corpus.base import CorpusError, CorpusInfo, ShardFiles, hashed
from audiotok.corpus.build.commits import (
    Bad,
    CommitRecord,
    HashSet,
    build_file,
    read_commits,
    write_commit,
)
from audiotok.corpus.build.folder import begin, check, clear, finished, remove, remove_if_bare
from audiotok.corpus.build.log import (
    TOGETHER,
    Log,
    Record,
    cut_log,
    drop_log,
    logs,
    open_log,
    records,
    restore_log,
)
from audiotok.corpus.build.reuse import OLD_LOG, settle
from audiotok.corpus.build.work import EncodedRecording
from audiotok.corpus.inputs import (
    INPUT,
    INPUTS,
    UNSEEN,
    FileStamps,
    inputs_bytes,
    parse_inputs,
)
from audiotok.corpus.location import storage_of
from audiotok.corpus.storage import Storage, link
from audiotok.corpus.write import (
    ShardCutter,
    is_whole,
    row_of,
    shard_name,
    write_info,
    write_quarantine,
    write_shard,
)
from audiotok.data.recording import Recording
from audiotok.tokens.kinds import AnyTokens, tokens_of

log = logging.getLogger("audiotok")


class State:
    """State of a build in a folder, a context manager.

    Args:
        location: folder or URL of the corpus.
        info: content of corpus.json without shards.
        limit: bytes of codes in a shard.
        force: whether to start anew, whatever is there.
        keep: whether to keep the files of a build beside a finished corpus, for `retry`.

    Attributes:
        folder: the folder or URL, for messages.
        next: number of the next item of the listing to commit.
        chain: hash of all items before that.
        recordings: number of encoded recordings so far.
        bad: number of failed recordings so far.
        seconds: seconds of audio so far.
        seals: commit records of the complete shards.
        finished: content of corpus.json if the corpus is complete already; nothing else is valid
            then.

    Raises:
        CorpusError: the place holds something else.
        LockedError: another process builds there.
        TokenFileError: the folder cannot be written.
        StorageError: the object storage cannot be read or written.
    """

    def __init__(
        self,
        location: str | Path | Storage,
        info: CorpusInfo,
        *,
        limit: int,
        force: bool = False,
        keep: bool = False,
    ) -> None:
        self.storage = storage_of(location)
        self.folder = self.storage.name
        self.info = info
        self.limit = limit
        self.force = force
        self.keep = keep
        self.header = info.header
        self._pool = ThreadPoolExecutor(1)
        self._reset()

    def _reset(self) -> None:
        self.finished: CorpusInfo | None = None
        self.next = 0
        self.chain = ""
        self.recordings = 0
        self.bad = 0
        self.seconds = 0.0
        self.seals: list[CommitRecord] = []
        self._failures: list[Bad] = []  # failures of the open log
        self._seen = HashSet()
        self._looks = array("q")  # size and time of each item's file so far
        self._sealing: Future[None] | None = None
        self._log: Log | None = None

    def __enter__(self) -> State:
        with ExitStack() as stack:
            check(self.storage)
            stack.enter_context(self.storage.alone())
            if self.force:
                clear(self.storage)
            self.finished = finished(self.storage, self.info)
            if not self.finished:
                self._load()
            elif not self.keep:  # an earlier run ended while it removed its files
                remove(self.storage)
            self._alone = stack.pop_all()
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if error:
            self.storage.hurry()
        with suppress(Exception):  # the first error is the one to report
            if self._log:
                self._log.close()
        with suppress(Exception):
            if self._sealing:
                self._sealing.result()
        self._pool.shutdown()
        with suppress(Exception):
            if not self.finished and self.storage.begun:  # unfinished: list the failures so far
                write_quarantine(self.storage, self.failures())
            if error and issubclass(error, Error) and not self.finished:
                remove_if_bare(self.storage)
        self._alone.close()

    # -- resuming ---------------------------------------------------------------------------------

    def _load(self) -> None:
        self.begin()
        settle(self.storage)
        self._read_seals()
        self._replay()

    def reload(self) -> None:
        """Read the state anew."""
        self._reset()
        self._load()

    def keep_log(self) -> None:
        """Give the open log, if there is one, a second name under which it stays."""
        if self._log:
            self._log.close()
            self.storage.path(OLD_LOG).unlink(missing_ok=True)
            link(self._log.path, self.storage.path(OLD_LOG))
            self.storage.push([OLD_LOG])

    def begin(self) -> None:
        """Write source and options of the build, or compare them with what is there.

        Raises:
            CorpusError: the build has begun with others.
        """
        begin(self.storage, {**self.info.to_json(), "limit": self.limit})

    def _read_seals(self) -> None:
        self.seals = read_commits(self.storage)
        for first in range(0, len(self.seals), TOGETHER):
            self._count_seals(range(first, min(first + TOGETHER, len(self.seals))))

    def _count_seals(self, numbers: range) -> None:
        """Count some shards that are complete, with the stamps and ids of their recordings."""
        inputs = self.storage.read_all(build_file(number, "inputs") for number in numbers)
        files = [self.seals[number].files for number in numbers]
        indexes = self.storage.read_all(f"{each.name}.npy" for each in files if each)
        for number in numbers:
            seal = self.seals[number]
            _, looks = parse_inputs(inputs.get(build_file(number, "inputs"), b"")) or ("", None)
            items = seal.next - self.next  # unknown stamps are not compared
            known = looks if looks and len(looks) == items else FileStamps.unseen(items)
            self._looks.frombytes(known.records.tobytes())
            self.next = seal.next
            self.chain = seal.chain
            self.bad += len(seal.bad)
            if seal.files:
                self.recordings += seal.files.recordings
                self.seconds += seal.files.samples / self.header.sample_rate
                index = indexes.get(f"{seal.files.name}.npy", b"")  # np.load refuses nothing
                self._seen.extend(np.load(BytesIO(index), allow_pickle=False)["id"])

    def _replay(self) -> None:
        """Read the open log; a full one becomes a shard first."""
        while True:
            self._cut = ShardCutter(self.header, self.limit)
            name, whole, full = build_file(len(self.seals), "log"), 0, False
            restore_log(self.storage, name)
            for record, end in records(self.storage.path(name)):
                if record.facts["n"] != self.next or full:
                    break
                whole, full = end, self._count(record)
            if not full:
                break
            self._log = open_log(self.storage, name, whole)
            self._roll(wait=True)
        for other in logs(self.storage):
            if other != name:
                drop_log(self.storage, other)
        cut_log(self.storage, name, whole)
        self._log = open_log(self.storage, name, whole)

    def _count(self, record: Record) -> bool:
        """Count a record of the log, and return whether the shard ends with it."""
        facts = record.facts
        self.next = facts["n"] + 1
        self.chain = facts["chain"]
        self._looks.extend(facts.get("input", UNSEEN))
        if record.codes is None:
            self.bad += 1
            self._failures.append(tuple(facts["bad"]))
            return False
        self.recordings += 1
        self.seconds += facts["samples"] / self.header.sample_rate
        self._seen.add(hashed(facts["row"]["id"]))
        return self._cut.fills(record.codes.shape[1])

    # -- committing -------------------------------------------------------------------------------

    def commit(self, item: Recording, coded: EncodedRecording, chain: str) -> str:
        """Commit the outcome of the next item of the listing.

        Args:
            item: the item.
            coded: its outcome.
            chain: hash of the listing up to the item.

        Returns:
            The reason why the recording is quarantined; "" if it is not.
        """
        error = coded.error
        if not error and self._seen.has(hashed(item.id)):
            error = same_id(item.id)
        facts: dict[str, Any] = {"n": self.next, "chain": chain}
        if coded.input != UNSEEN:
            facts["input"] = tuple(coded.input)
        if error:
            facts["bad"] = (item.id, item.locator.name, error)
            record = Record(facts, None)
        else:
            lengths = (coded.samples, coded.original_samples, coded.original_rate)
            tokens = tokens_of(self.header, coded.codes, *lengths)
            facts |= {
                "row": row_of(
                    item.id, tokens, coded.audio, {"source": item.locator.name, **item.fields}
                ),
                "samples": coded.samples,
                "rate": coded.original_rate,
                "original": coded.original_samples,
            }
            record = Record(facts, coded.codes)
        assert self._log is not None
        self._log.append(record)
        if self._count(record):
            self._roll()
        return error

    def _roll(self, *, wait: bool = False) -> None:
        """Turn the full log into a shard, in a thread, and start a new log.

        Args:
            wait: whether to wait for the shard, without a new log.
        """
        assert self._log is not None
        self._log.close()
        number = len(self.seals)
        seal = CommitRecord(None, self.next, self.chain, tuple(self._failures))
        self._failures = []
        self._cut = ShardCutter(self.header, self.limit)
        self._settle()
        self.seals.append(seal)
        self._sealing = self._pool.submit(self._seal, number)
        if wait:
            self._settle()
        else:
            self._log = open_log(self.storage, build_file(number + 1, "log"), 0)

    def _settle(self) -> None:
        if self._sealing:
            self._sealing.result()
        self._sealing = None

    def _seal(self, number: int) -> None:
        path = self.storage.path(build_file(number, "log"))
        stop = self.seals[number].next

        def entries() -> Iterator[tuple[dict[str, Any], AnyTokens]]:
            for (facts, codes), _ in records(path):
                if codes is not None and facts["n"] < stop:
                    lengths = (facts["samples"], facts["original"], facts["rate"])
                    yield facts["row"], tokens_of(self.header, codes, *lengths)

        folder = self.storage.path("")
        files = write_shard(folder, shard_name(number), self.header, entries())
        names = [f"{files.name}{suffix}" for suffix in files.bytes]
        if files.recordings:
            self.storage.push(names)
        else:
            for name in names:
                (folder / name).unlink()
        first = self.seals[number - 1].next if number else 0
        seal = replace(self.seals[number], files=files if files.recordings else None)
        write_commit(self.storage, number, seal, self.looks(first, stop))
        self.seals[number] = seal
        drop_log(self.storage, build_file(number, "log"))

    def looks(self, first: int, last: int) -> FileStamps:
        """Return the stamps of the files of items `first` to `last` (exclusive)."""
        return FileStamps(np.frombuffer(self._looks[2 * first : 2 * last].tobytes(), INPUT))

    def failures(self) -> list[Bad]:
        """Return all failures in the listing's order."""
        return [bad for seal in self.seals for bad in seal.bad] + self._failures

    def finish(self) -> CorpusInfo:
        """Write the last shard and corpus.json, and return its content."""
        assert self._log is not None
        last = self.seals[-1].next if self.seals else 0
        if self.next > last:
            self._roll()
        self._settle()
        shards = tuple(seal.files for seal in self.seals if seal.files)
        self._check_shards(shards)
        write_quarantine(self.storage, self.failures())
        info = replace(self.info, shards=shards, quarantined=self.bad)
        self.storage.publish(INPUTS, inputs_bytes(self.chain, self.looks(0, self.next)))
        info = write_info(self.storage, info)
        remove(self.storage)
        return info

    def _check_shards(self, shards: tuple[ShardFiles, ...]) -> None:
        """Raise CorpusError unless the shards are there: no lock keeps others out of a bucket."""
        lengths = self.storage.lengths()
        for files in shards:
            if not is_whole(self.storage, lengths, files, full=False):
                raise CorpusError(
                    f"{self.folder}/{files.name}: not as it was stored, so something else writes "
                    "there; end that, and run the same again"
                )


def same_id(name: str) -> str:
    """Return the reason why a recording is left out whose id another one has."""
    return f"another recording before it has this id, {name}; ids must differ"
