"""Second try of the recordings that a build could not encode.

    failed recordings encoded -> `retried` -> old shards get other names -> reuse.json -> recommit

Until reuse.json is there the corpus, or the build, is as it was. From then on it is a build that
has not ended, which goes on whether or not it is asked to try again.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np

from audiotok._platform.console import cell
from audiotok.corpus.base import CorpusError, CorpusInfo, ShardFiles
from audiotok.corpus.build.changes import ChangeCheck, chained, other_listing
from audiotok.corpus.build.commits import Bad, CommitRecord, write_commit
from audiotok.corpus.build.folder import remove
from audiotok.corpus.build.log import cut_log, open_log
from audiotok.corpus.build.reuse import (
    OLD,
    OLD_INPUTS,
    RETRIED,
    REUSE,
    Retried,
    Reuse,
    forget,
    read_reuse,
    retried_record,
)
from audiotok.corpus.build.state import State, same_id
from audiotok.corpus.build.work import EncodedRecording
from audiotok.corpus.inputs import UNSEEN, FileStamps, inputs_bytes, read_inputs
from audiotok.corpus.shard import Shard
from audiotok.corpus.write import quarantine_bytes, read_quarantine
from audiotok.data.recording import Recording

Encode = Callable[
    [Iterator[tuple[int, Recording]]], Generator[tuple[int, EncodedRecording], None, None]
]


@dataclass(frozen=True)
class RetrySummary:
    """Numbers of recordings that were tried again, and that were encoded then."""

    tried: int = 0
    encoded: int = 0


@dataclass(frozen=True)
class Earlier:
    """Result of earlier runs: shards, failures, and the files that they saw.

    Attributes:
        failures: failures in the listing's order.
        count: number of items of the listing that were done.
        chain: hash of these items; "" if it is not known.
        looks: stamp of each item's file.
        shards: the complete shards.
        ends: number of the item after each shard, as long as none has failed before.
    """

    failures: list[Bad]
    count: int
    chain: str
    looks: FileStamps
    shards: list[ShardFiles]
    ends: list[int]


def retry(
    state: State,
    items: Iterator[Recording],
    encode: Encode,
    compared: ChangeCheck,
) -> RetrySummary:
    """Encode the recordings that have failed so far, and prepare to commit them.

    Nothing is changed where they fail for the same reasons again. Else the state is that of a build
    without what came from the first failure on, for `recommit`.

    Args:
        state: state of the build, or of a finished corpus.
        items: the listing.
        encode: function that yields the outcome of each numbered recording, in any order.
        compared: comparison of the files that were encoded.

    Raises:
        CorpusError: the listing or a file has changed, or a recording cannot be read for now.
    """
    reuse = read_reuse(state.storage)
    if reuse and state.finished is None:
        if state.next < reuse.count:
            return RetrySummary()  # a second try goes on that was interrupted
        forget(state.storage)
    earlier = _earlier(state)
    tries = _Tries(state, earlier, items, compared)
    tries.run(encode)
    failures = tries.failures()
    if tries.changed(failures):
        _begin_again(state, earlier, tries)
    else:
        forget(state.storage)
        if state.finished is not None:
            remove(state.storage)
    return RetrySummary(len(earlier.failures), max(0, len(earlier.failures) - len(failures)))


def _earlier(state: State) -> Earlier:
    if state.finished is None:
        shards = [seal.files for seal in state.seals if seal.files]
        ends = [seal.next for seal in state.seals]
        looks = state.looks(0, state.next)
        return Earlier(state.failures(), state.next, state.chain, looks, shards, ends)
    info = state.finished
    _check_shards(state, info)
    count = sum(files.recordings for files in info.shards) + info.quarantined
    chain, looks = read_inputs(state.storage) or ("", FileStamps.unseen(count))
    looks = looks if len(looks) == count else FileStamps.unseen(count)
    ends = list(accumulate(files.recordings for files in info.shards))
    failures = read_quarantine(state.storage)
    if len(failures) != info.quarantined:
        raise CorpusError(
            f"{state.folder}/quarantine.tsv: does not list the {info.quarantined} recordings that "
            "are missing; restore it, or force=True begins anew"
        )
    return Earlier(failures, count, chain, looks, list(info.shards), ends)


def _check_shards(state: State, info: CorpusInfo) -> None:
    """Raise CorpusError unless the shards of a corpus are those of a build with this limit."""
    bits, limit = state.header.frame_bits, 8 * state.limit
    for number, files in enumerate(info.shards):
        if ".tok" not in files.bytes:
            raise CorpusError(f"{state.folder}: entropy-coded; expand it, and try again there")
        shard = Shard(state.storage, files, state.header)
        before = files.frames - int(shard.index["frames"][-1])
        shard.close()
        last = number == len(info.shards) - 1
        if before * bits >= limit or (files.frames * bits < limit and not last):
            raise CorpusError(
                f"{state.folder}: its shards are not of {state.limit:,} bytes of codes; "
                "give the size that it was built with"
            )


class _Tries:
    """Second tries of the recordings of the ids that have failed."""

    def __init__(
        self, state: State, earlier: Earlier, items: Iterator[Recording], compared: ChangeCheck
    ) -> None:
        self.storage = state.storage
        self.earlier = earlier
        self.items = items
        self.compared = compared
        # Of recordings with one id only the first is encoded, so all of that id are tried again.
        self.failed = {cell(name) for name, _, _ in earlier.failures}
        self.chains = dict.fromkeys(earlier.ends, "")  # number of an item -> hash of those before
        self.tried: dict[int, tuple[str, str, str]] = {}  # number -> id, name, hash up to the item
        self.known = Retried(self.storage)

    def run(self, encode: Encode) -> None:
        """Encode what is not in the log yet."""
        cut_log(self.storage, RETRIED, self.known.whole)
        log = open_log(self.storage, RETRIED, self.known.whole)
        try:
            with closing(encode(self._tasks())) as outcomes:
                for number, coded in outcomes:
                    _, name, chain = self.tried[number]
                    if coded.passing:
                        raise CorpusError(
                            f"{name}: {coded.error}; this may pass, so it stays to be tried: "
                            "run the same again when it can be read"
                        )
                    log.append(retried_record(number, chain, coded))
        finally:
            log.close()
        self.known = Retried(self.storage)

    def _tasks(self) -> Iterator[tuple[int, Recording]]:
        """Yield the recordings to encode; compare all others with what was encoded."""
        chain, number = "", -1
        for number, item in enumerate(self.items):
            if number == self.earlier.count:
                break
            chain = chained(chain, item)
            if number + 1 in self.chains:
                self.chains[number + 1] = chain
            if cell(item.id) not in self.failed:
                self.compared.item(item, self.earlier.looks[number])
                continue
            self.tried[number] = (item.id, item.locator.name, chain)
            if self.known.outcome(number, chain) is None:
                yield number, item
        whole = number + 1 >= self.earlier.count
        if not whole or self.earlier.chain not in ("", chain):
            raise other_listing(self.compared.listing, self.earlier.count)
        self.compared.say()

    def failures(self) -> list[Bad]:
        """Return the failures of a build with the new outcomes."""
        failures, seen = [], set[str]()
        for number, (item, name, _) in sorted(self.tried.items()):
            reason = self.outcome(number).error or (same_id(item) if item in seen else "")
            if reason:
                failures.append((item, name, reason))
            else:
                seen.add(item)
        return failures

    def outcome(self, number: int) -> EncodedRecording:
        """Return the new outcome of an item."""
        outcome = self.known.outcome(number, self.tried[number][2])
        assert outcome is not None
        return outcome

    def changed(self, failures: list[Bad]) -> bool:
        """Return whether a build with the new outcomes differs from what is there."""
        looks = self.earlier.looks
        return quarantine_bytes(failures) != quarantine_bytes(self.earlier.failures) or any(
            UNSEEN not in (looks[number], new := self.outcome(number).input)
            and looks[number] != new
            for number in self.tried
        )


def _begin_again(state: State, earlier: Earlier, tries: _Tries) -> None:
    """Make the state that of a build up to the first failure; what came after is kept for it."""
    first = min(tries.tried)
    shard = int(np.searchsorted(earlier.ends, first, "right"))
    if state.finished is not None:  # the last shard may not be full
        shard = min(shard, len(earlier.shards) - 1)
        chains = [tries.chains[end] for end in earlier.ends[:shard]]
        state.begin()
        first = 0
        for number, (files, end, chain) in enumerate(
            zip(earlier.shards, earlier.ends, chains, strict=False)
        ):
            seal = CommitRecord(files, end, chain, ())
            write_commit(state.storage, number, seal, earlier.looks[first:end])
            first = end
    old = []
    for files in earlier.shards[shard:]:
        old.append(replace(files, name=f"{OLD}{files.name}"))
        for suffix in files.bytes:
            state.storage.copy(f"{files.name}{suffix}", f"{OLD}{files.name}{suffix}")
    state.keep_log()
    state.storage.publish(OLD_INPUTS, inputs_bytes(earlier.chain, earlier.looks))
    reuse = Reuse(shard, earlier.count, earlier.chain, tuple(sorted(tries.failed)), tuple(old))
    state.storage.publish(REUSE, reuse.to_bytes())
    state.storage.delete(["corpus.json"])
    state.reload()
