"""Codes of an earlier run that are committed again, with the new ones of a second try among them.

    OUT/.build/retried          log of second tries, in any order
    OUT/.build/old-shard-...    shards from the first failure on, as they were
    OUT/.build/old-log          the open log, as it was
    OUT/.build/old-inputs       stamps of all files
    OUT/.build/reuse.json       commit record of these: from here on they are what is built of

A shard is a function of the listing, so one more recording in it moves those after it: all from the
first failure on are committed again, from the old codes and the new ones, in the listing's order.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from audiotok._platform.console import cell
from audiotok.corpus.base import ShardFiles
from audiotok.corpus.build.changes import chained, other_listing
from audiotok.corpus.build.log import Record, record_at, records, restore_log
from audiotok.corpus.build.work import EncodedRecording, smallest
from audiotok.corpus.inputs import UNSEEN, FileStamp, FileStamps, read_inputs
from audiotok.corpus.shard import Entry, Shard
from audiotok.corpus.storage import INNER, Storage
from audiotok.corpus.write import shard_name
from audiotok.data.recording import Recording

if TYPE_CHECKING:
    from audiotok.corpus.build.state import State

REUSE, RETRIED = f"{INNER}/reuse.json", f"{INNER}/retried"
OLD, OLD_LOG, OLD_INPUTS = f"{INNER}/old-", f"{INNER}/old-log", f"{INNER}/old-inputs"


@dataclass(frozen=True)
class Reuse:
    """Content of reuse.json.

    Attributes:
        shard: number of the first shard that is made again.
        count: number of items of the listing that were done.
        chain: hash of these items; "" if it is not known.
        failed: ids of which a recording had failed, as quarantine.tsv spells them.
        shards: old shards, under their new names.
        settled: whether the shards that are made again have been removed.
    """

    shard: int
    count: int
    chain: str
    failed: tuple[str, ...]
    shards: tuple[ShardFiles, ...]
    settled: bool = False

    def to_bytes(self) -> bytes:
        """Return the content of reuse.json."""
        return json.dumps(asdict(self)).encode()


def read_reuse(storage: Storage) -> Reuse | None:
    """Read reuse.json; None if there is none."""
    data = storage.read_all([REUSE]).get(REUSE)
    if data is None:
        return None
    facts = json.loads(data)
    shards = tuple(ShardFiles(**files) for files in facts["shards"])
    return Reuse(**{**facts, "failed": tuple(facts["failed"]), "shards": shards})


def settle(storage: Storage) -> None:
    """Remove the shards, seals and logs that are made again, once."""
    reuse = read_reuse(storage)
    if reuse is None or reuse.settled:
        return
    first = shard_name(reuse.shard)
    storage.delete(
        [
            name
            for name in sorted(storage.lengths(), reverse=True)
            if (name.startswith("shard-") and name >= first) or _number(name) >= reuse.shard
        ]
    )
    storage.publish(REUSE, replace(reuse, settled=True).to_bytes())


def forget(storage: Storage) -> None:
    """Remove all that is of an earlier second try, reuse.json first."""
    names = storage.lengths(INNER)
    ours = [name for name in names if name.startswith((OLD, RETRIED))]
    storage.delete([REUSE, *ours])


def _number(name: str) -> int:
    """Return the number of the shard that a file of the build belongs to; -1 for other files."""
    stem = name.removeprefix(f"{INNER}/").partition(".")[0]
    return int(stem) if name.startswith(f"{INNER}/") and stem.isdecimal() else -1


def recommit(state: State, items: Iterator[Recording], listing: str) -> None:
    """Commit what is to be used again, as far as that is not done; nothing if there is none.

    Args:
        state: state of the build.
        items: the listing.
        listing: path of the listing, for messages.

    Raises:
        CorpusError: the listing is another one.
    """
    reuse = read_reuse(state.storage)
    if reuse is None or state.next >= reuse.count:
        return
    other = other_listing(listing, reuse.count)
    old, new = _old_codes(state, reuse), Retried(state.storage)
    _, stamps = read_inputs(state.storage, OLD_INPUTS) or ("", FileStamps.unseen(reuse.count))
    chain = ""
    for number, item in enumerate(items):
        chain = chained(chain, item)
        if number < state.next:
            if number == state.next - 1 and chain != state.chain:
                raise other
            continue
        if cell(item.id) in reuse.failed:
            coded = new.outcome(number, chain)
        else:
            coded = next((coded for name, coded in old if name == item.id), None)
            coded = coded and replace(coded, input=stamps[number])
        if coded is None:
            raise other
        state.commit(item, coded, chain)
        if state.next == reuse.count:
            break
    if state.next != reuse.count or reuse.chain not in ("", chain):
        raise other


def _old_codes(state: State, reuse: Reuse) -> Iterator[tuple[str, EncodedRecording]]:
    """Yield id and outcome of what had been encoded, in the listing's order."""
    for files in reuse.shards:
        shard = Shard(state.storage, files, state.header)
        for i, entry in enumerate(shard):
            if cell(entry.id) not in reuse.failed:
                yield entry.id, _outcome(shard, i, entry)
        shard.close()
    path = state.storage.path(OLD_LOG)
    if state.storage.exists(OLD_LOG):
        path = state.storage.fetch(OLD_LOG)
    for record, _ in records(path):
        name = record.facts.get("row", {}).get("id")
        if record.codes is not None and cell(name) not in reuse.failed:
            row = record.facts["row"]
            yield name, _decoded({**record.facts, "audio": int(row["audio"], 16)}, record.codes)


def _outcome(shard: Shard, i: int, entry: Entry) -> EncodedRecording:
    return EncodedRecording(
        codes=smallest(entry.tokens.numbers, shard.header),
        samples=entry.tokens.samples,
        original_rate=entry.tokens.original_rate,
        original_samples=entry.tokens.original_samples,
        audio=int(shard.index["audio"][i]),
    )


# -- second tries -------------------------------------------------------------------------------


class Retried:
    """Outcomes of second tries that are in their log, read one by one.

    Attributes:
        whole: number of bytes of sound records.
    """

    def __init__(self, storage: Storage) -> None:
        restore_log(storage, RETRIED)
        self.path = storage.path(RETRIED)
        self.whole = 0
        self._at: dict[tuple[int, str], int] = {}
        for record, end in records(self.path):
            self._at[record.facts["n"], record.facts["chain"]] = self.whole
            self.whole = end

    def outcome(self, number: int, chain: str) -> EncodedRecording | None:
        """Return the outcome of an item, known by its number and the hash of the listing up to it.

        Returns:
            None if it has not been tried again.
        """
        at = self._at.get((number, chain))
        if at is None:
            return None
        record = record_at(Path(self.path), at)
        assert record is not None
        return _decoded(record.facts, record.codes)


def retried_record(number: int, chain: str, coded: EncodedRecording) -> Record:
    """Return the outcome of a second try as a record of the log."""
    facts: dict[str, Any] = {"n": number, "chain": chain, "input": tuple(coded.input)}
    if coded.error:
        return Record({**facts, "error": coded.error}, None)
    facts |= {
        "samples": coded.samples,
        "rate": coded.original_rate,
        "original": coded.original_samples,
        "audio": coded.audio,
    }
    return Record(facts, coded.codes)


def _decoded(facts: dict[str, Any], codes: np.ndarray | None) -> EncodedRecording:
    stamp = FileStamp(*facts.get("input", UNSEEN))
    if codes is None:
        return EncodedRecording(facts["error"], input=stamp)
    return EncodedRecording(
        codes=codes,
        samples=facts["samples"],
        original_rate=facts["rate"],
        original_samples=facts["original"],
        audio=facts["audio"],
        input=stamp,
    )
