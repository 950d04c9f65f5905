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

import json
import logging
from array import array
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from audiotok._platform.atomic import remove_stale_parts
from audiotok._platform.lock import locked_folder
from audiotok.corpus.base import CorpusError, CorpusInfo, hashed
from audiotok.corpus.build.commits import Bad, CommitRecord, HashSet, is_whole, read_commit
from audiotok.corpus.build.folder import check, clear, finished, normal_job, remove
from audiotok.corpus.build.log import Log, Record, records
from audiotok.corpus.build.work import EncodedRecording
from audiotok.corpus.inputs import INPUTS, UNSEEN, FileStamp, inputs_bytes, read_inputs
from audiotok.corpus.write import (
    ShardCutter,
    publish,
    row_of,
    shard_name,
    sync,
    tokens_of,
    write_info,
    write_quarantine,
    write_shard,
)
from audiotok.data.recording import Recording
from audiotok.tokens.tokens import Tokens

log = logging.getLogger("audiotok")

CHECKED = 2  # number of last shards whose checksums are verified when a build resumes


class State:
    """State of a build in a folder, a context manager.

    Args:
        folder: folder of the corpus.
        info: content of corpus.json without shards.
        limit: bytes of codes in a shard.
        force: whether to start anew, whatever is in the folder.

    Attributes:
        next: number of the next item of the listing to commit.
        chain: hash of all items before that.
        recordings: number of encoded recordings so far.
        bad: number of failed recordings so far.
        seconds: seconds of audio so far.
        finished: content of corpus.json if the corpus is complete already; nothing else is valid
            then.

    Raises:
        CorpusError: the folder holds something else.
        LockedError: another process builds there.
        TokenFileError: the folder cannot be written.
    """

    def __init__(self, folder: Path, info: CorpusInfo, *, limit: int, force: bool = False) -> None:
        self.folder = folder
        self.info = info
        self.limit = limit
        self.force = force
        self.finished: CorpusInfo | None = None
        self.inner = folder / ".build"
        self.header = info.header
        self.next = 0
        self.chain = ""
        self.recordings = 0
        self.bad = 0
        self.seconds = 0.0
        self._seals: list[CommitRecord] = []
        self._failures: list[Bad] = []  # failures of the open log
        self._seen = HashSet()
        self._looks = array("q")  # size and time of each item's file so far
        self._sealing: Future[None] | None = None
        self._pool = ThreadPoolExecutor(1)
        self._log: Log | None = None

    def __enter__(self) -> State:
        with ExitStack() as stack:
            check(self.folder)
            stack.enter_context(locked_folder(self.folder, ".build/lock"))
            if self.force:
                clear(self.folder)
            self.finished = finished(self.folder, self.info)
            if self.finished:  # an earlier run ended while it removed its files
                remove_stale_parts([self.folder])
                remove(self.inner)
            else:
                self._begin()
                remove_stale_parts([self.folder, self.inner])
                self._read_seals()
                self._replay()
            self._alone = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(Exception):  # the first error is the one to report
            if self._log:
                self._log.close()
        with suppress(Exception):
            if self._sealing:
                self._sealing.result()
        self._pool.shutdown()
        with suppress(Exception):
            if self.inner.is_dir():  # unfinished: list the failures so far
                write_quarantine(self.folder, self.failures())
        self._alone.close()

    # -- resuming ---------------------------------------------------------------------------------

    def _begin(self) -> None:
        job = {**self.info.to_json(), "limit": self.limit}
        path = self.inner / "job.json"
        try:
            earlier = json.loads(path.read_bytes())
        except (OSError, ValueError):  # missing, or torn before the build started
            publish(path, json.dumps(job).encode())
            return
        earlier["job"] = normal_job(earlier["job"])
        if earlier != json.loads(json.dumps(job)):
            differing = [k for k in earlier if earlier[k] != json.loads(json.dumps(job)).get(k)]
            raise CorpusError(
                f"{self.folder}: begun with another {', '.join(differing)}; give the same options, "
                "another folder, or force=True to begin anew"
            )

    def _path(self, number: int, kind: str) -> Path:
        return self.inner / f"{number:06d}.{kind}"

    def _read_seals(self) -> None:
        while (seal := read_commit(self._path(len(self._seals), "seal"))) is not None:
            self._seals.append(seal)
        for number, seal in enumerate(self._seals):
            recent = number >= len(self._seals) - CHECKED
            if seal.files and not is_whole(self.folder, seal.files, full=recent):
                if not recent:
                    name = self.folder / seal.files.name
                    raise CorpusError(f"{name}: damaged; restore it, or force=True begins anew")
                log.warning("%s: not whole; made again", self.folder / seal.files.name)
                self._seals = self._seals[:number]
                break
        for number in range(len(self._seals), len(self._seals) + CHECKED + 1):
            self._path(number, "seal").unlink(missing_ok=True)
        for number, seal in enumerate(self._seals):
            _, looks = read_inputs(self._path(number, "inputs")) or ("", [])
            count = seal.next - self.next  # unknown stamps are not compared
            for each in looks if len(looks) == count else [UNSEEN] * count:
                self._looks.extend(each)
            self.next = seal.next
            self.chain = seal.chain
            self.bad += len(seal.bad)
            if seal.files:
                self.recordings += seal.files.recordings
                self.seconds += seal.files.samples / self.header.sample_rate
                index = np.load(self.folder / f"{seal.files.name}.npy", allow_pickle=False)
                self._seen.extend(index["id"])

    def _replay(self) -> None:
        """Read the open log; a full one becomes a shard first."""
        for number in range(len(self._seals)):
            self._path(number, "log").unlink(missing_ok=True)
        while True:
            self._cut = ShardCutter(self.header, self.limit)
            path, whole, full = self._path(len(self._seals), "log"), 0, False
            for record, end in records(path):
                if record.facts["n"] != self.next or full:
                    break
                whole, full = end, self._count(record)
            if not full:
                break
            self._log = Log(path, whole)
            self._roll(wait=True)
        for other in self.inner.glob("*.log"):
            if other != path:
                other.unlink()
        self._log = Log(path, whole)

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
            error = f"another recording before it has this id, {item.id}; ids must differ"
        facts: dict[str, Any] = {"n": self.next, "chain": chain}
        if coded.input != UNSEEN:
            facts["input"] = tuple(coded.input)
        if error:
            facts["bad"] = (item.id, item.locator.name, error)
            record = Record(facts, None)
        else:
            lengths = (coded.samples, coded.original_rate, coded.original_samples)
            tokens = tokens_of(self.info, coded.codes, *lengths)
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
        number = len(self._seals)
        seal = CommitRecord(None, self.next, self.chain, tuple(self._failures))
        self._failures = []
        self._cut = ShardCutter(self.header, self.limit)
        self._settle()
        self._seals.append(seal)
        self._sealing = self._pool.submit(self._seal, number)
        if wait:
            self._settle()
        else:
            self._log = Log(self._path(number + 1, "log"), 0)

    def _settle(self) -> None:
        if self._sealing:
            self._sealing.result()
        self._sealing = None

    def _seal(self, number: int) -> None:
        path = self._path(number, "log")
        stop = self._seals[number].next

        def entries() -> Iterator[tuple[dict[str, Any], Tokens]]:
            for (facts, codes), _ in records(path):
                if codes is not None and facts["n"] < stop:
                    lengths = (facts["samples"], facts["rate"], facts["original"])
                    yield facts["row"], tokens_of(self.info, codes, *lengths)

        files = write_shard(self.folder, shard_name(number), self.header, entries())
        if not files.recordings:
            for suffix in files.bytes:
                (self.folder / f"{files.name}{suffix}").unlink()
        first = self._seals[number - 1].next if number else 0
        publish(self._path(number, "inputs"), inputs_bytes("", self.looks(first, stop)))
        seal = replace(self._seals[number], files=files if files.recordings else None)
        publish(self._path(number, "seal"), json.dumps(asdict(seal)).encode())
        sync(self.inner)
        self._seals[number] = seal
        path.unlink()

    def looks(self, first: int, last: int) -> list[FileStamp]:
        """Return the stamps of the files of items `first` to `last` (exclusive)."""
        numbers = self._looks[2 * first : 2 * last]
        return [FileStamp(*pair) for pair in zip(numbers[::2], numbers[1::2], strict=True)]

    def failures(self) -> list[Bad]:
        """Return all failures in the listing's order."""
        return [bad for seal in self._seals for bad in seal.bad] + self._failures

    def finish(self) -> CorpusInfo:
        """Write the last shard and corpus.json, and return its content."""
        assert self._log is not None
        last = self._seals[-1].next if self._seals else 0
        if self.next > last:
            self._roll()
        self._settle()
        shards = tuple(seal.files for seal in self._seals if seal.files)
        write_quarantine(self.folder, self.failures())
        info = replace(self.info, shards=shards, quarantined=self.bad)
        publish(self.folder / INPUTS, inputs_bytes(self.chain, self.looks(0, self.next)))
        info = write_info(self.folder, info)
        remove(self.inner)
        return info
