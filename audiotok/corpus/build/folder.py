"""Place of a build: check for an existing corpus, and removal of files."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from audiotok.corpus.base import CorpusError, CorpusInfo, read_info
from audiotok.corpus.inputs import INPUTS
from audiotok.corpus.storage import INNER, LOCK, OWNER, Storage
from audiotok.corpus.write import LISTS
from audiotok.data.locator import normal_path

JOB = f"{INNER}/job.json"


def check(storage: Storage) -> None:
    """Make the folder of a build if it does not exist.

    Raises:
        CorpusError: the place holds other files.
    """
    if storage.holds_other():
        raise CorpusError(f"{storage.name}: not empty, and no corpus is begun there")


def finished(storage: Storage, expected: CorpusInfo) -> CorpusInfo | None:
    """Return the finished corpus in a place, or None if there is none.

    Args:
        storage: the place.
        expected: content of corpus.json that the build would write, without shards.

    Raises:
        CorpusError: the place holds another corpus.
    """
    try:
        info = read_info(storage)
    except CorpusError:
        if storage.exists("corpus.json") and not storage.exists(JOB):
            raise
        return None
    there = replace(info, shards=(), quarantined=0, lists={}, job=normal_job(info.job))
    if there != expected:
        differ = differences(there.to_json(), expected.to_json())
        raise CorpusError(
            f"{storage.name}: another corpus is there (it differs in {differ}); "
            "force=True begins anew"
        )
    return info


def begin(storage: Storage, job: dict[str, Any]) -> None:
    """Write source and options of a build, or compare them with what is there.

    Args:
        storage: the place.
        job: as `CorpusInfo.to_json` has them, and the size of a shard.

    Raises:
        CorpusError: the build has begun with others.
    """
    data = json.dumps(job).encode()
    try:
        earlier = json.loads(storage.read(JOB))
    except (FileNotFoundError, ValueError):  # missing, or torn before the build started
        storage.publish(JOB, data)
        return
    earlier["job"] = normal_job(earlier["job"])
    if other := differences(earlier, json.loads(data)):
        raise CorpusError(
            f"{storage.name}: begun with another {other}; give the same options, another folder, "
            "or force=True to begin anew"
        )


def differences(one: dict[str, Any], other: dict[str, Any]) -> str:
    """Return the names of what differs between two builds, as `CorpusInfo.to_json` has them."""
    first, second = ({**facts, **facts["job"], "job": None} for facts in (one, other))
    names = dict.fromkeys([*first, *second])
    return ", ".join(name for name in names if first.get(name) != second.get(name))


def normal_job(job: dict[str, Any]) -> dict[str, Any]:
    """Return a stored job with its listing spelled as new ones are: once it was as it was typed."""
    return {**job, "listing": normal_path(job["listing"])} if "listing" in job else job


def clear(storage: Storage) -> None:
    """Remove the files of a corpus or of an unfinished build, except what keeps others out."""
    storage.delete(["corpus.json"])
    ours = (*LISTS, INPUTS)
    shards = (n for n in storage.lengths() if n.startswith("shard-") and "/" not in n)
    storage.delete((*shards, *ours))
    empty(storage)


def empty(storage: Storage) -> None:
    """Remove the files that only a build needs, except what keeps others out."""
    storage.delete(name for name in sorted(storage.lengths(INNER)) if name not in (LOCK, OWNER))


def remove_if_bare(storage: Storage) -> None:
    """Remove an unfinished build of which nothing is stored but its job and an empty log."""
    lengths = storage.lengths(INNER)
    if not any(lengths[name] for name in lengths if name not in (JOB, LOCK, OWNER)):
        remove(storage)


def remove(storage: Storage) -> None:
    """Remove all that only a build needs, what keeps others out last."""
    empty(storage)
    storage.release()
