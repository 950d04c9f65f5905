"""A corpus in object storage: the bytes of a local build, exactly once, whatever ends it."""

from __future__ import annotations

import io
import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from commandline import audiotok, background, small
from object_storage import ObjectStorage, object_storage
from rich.console import Console
from test_building import Fake, child, command, content, fake, faked
from test_building import talks as many_talks

from audiotok._platform.errors import InputError
from audiotok._platform.lock import LockedError
from audiotok.corpus import Corpus, CorpusError
from audiotok.corpus import bucket as storing
from audiotok.corpus.bucket import Bucket
from audiotok.corpus.build import build, log
from audiotok.corpus.build import run as running
from audiotok.corpus.build.work import Outcome, Task, Work
from audiotok.corpus.change import dedup, merge, split
from audiotok.corpus.check import is_sound, verify
from audiotok.corpus.location import folder_of, storage_of
from audiotok.corpus.storage import StorageError
from audiotok.corpus.usage import usage

__all__ = ["faked"]  # a fixture

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:botocore")


@pytest.fixture(scope="module")
def storage() -> Iterator[ObjectStorage]:
    with object_storage() as s3:
        s3.put("bucket/other", b"")
        yield s3


@pytest.fixture
def s3(storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStorage]:
    """The server with an empty `bucket/out`; little is repeated, and little waited."""
    monkeypatch.setattr(storing, "WAIT", 0.1)
    monkeypatch.setattr(storing, "PATIENCE", 1.0)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # of botocore, which s3fs repeats in turn
    yield storage
    storage.faults.clear()
    storage.watch = None
    storage.requests.clear()
    for key in storage.keys("bucket/out"):
        storage.delete(key)


@pytest.fixture
def memory() -> Iterator[str]:
    """A URL of object storage in this process."""
    fsspec: Any = pytest.importorskip("fsspec")
    yield "memory://out"
    fsspec.filesystem("memory").store.clear()


def stored(url: str) -> dict[str, bytes]:
    """All objects of a corpus."""
    place = storage_of(url)
    return place.read_all(place.lengths())


def into(source: Path, url: str, **options: Any) -> Any:
    """Build as `fake` does."""
    console = Console(file=io.StringIO())
    options = {"limit": 100, "most_bad": 1.0, "engine": "fake"} | options
    return build(str(source), url, Work(codec=str(small())), workers=1, console=console, **options)


class KilledError(Exception):
    """The end of a process at a certain write, which nothing outlives."""


def kill_at(patch: pytest.MonkeyPatch, event: int, *, done: bool) -> list[int]:
    """Let nothing be written from the n-th write on; a list that counts them.

    Args:
        patch: for the rest of its context.
        event: number of the write.
        done: whether this last one still reaches the storage.
    """
    write, count = Bucket._write, [0]

    def counted(self: Bucket, name: str, work: Any) -> None:
        count[0] += 1
        if count[0] > event:
            raise KilledError
        if count[0] < event or done:
            write(self, name, work)
        if count[0] == event:
            raise KilledError

    patch.setattr(Bucket, "_write", counted)
    patch.setattr(log, "SEGMENT", 400)
    return count


# ---- exactly once


def test_the_bytes_are_those_of_a_folder(faked: Path, tmp_path: Path, s3: ObjectStorage):
    local = fake(faked, tmp_path / "whole")
    summary = into(faked, "s3://bucket/out")
    assert stored("s3://bucket/out") == content(tmp_path / "whole")
    assert (summary.recordings, summary.bytes) == (local.recordings, local.bytes)
    puts = [request for request in s3.requests if request.startswith("PUT")]
    assert puts[-1].split("?")[0] == "PUT /bucket/out/corpus.json"  # the commit point
    assert sum(put.startswith("PUT /bucket/out/shard-") for put in puts) == 3 * local.shards
    assert not Path("s3:").exists()
    s3.requests.clear()
    assert into(faked, "s3://bucket/out").run_recordings == 0
    assert not [request for request in s3.requests if not request.startswith(("GET", "HEAD"))]


@pytest.mark.parametrize("step", [13, pytest.param(1, marks=pytest.mark.slow)])
def test_ended_at_any_write_another_machine_goes_on(
    faked: Path, tmp_path: Path, memory: str, step: int
):
    fake(faked, tmp_path / "whole")
    event, ended = 1, True
    while ended:
        url = f"{memory}-{event}"
        with pytest.MonkeyPatch.context() as patch:
            kill_at(patch, event, done=event % 2 == 0)
            with suppress(KilledError):
                into(faked, url)
                ended = False
        into(faked, url)
        assert stored(url) == content(tmp_path / "whole"), f"ended at write {event}"
        event += step
    assert event > 25


def test_ended_again_and_again_it_still_gets_there(faked: Path, tmp_path: Path, memory: str):
    fake(faked, tmp_path / "whole")
    run = 0
    for run in range(60):
        with pytest.MonkeyPatch.context() as patch:
            kill_at(patch, 10 + run, done=run % 2 == 0)
            with suppress(KilledError):
                into(faked, memory)
                break
    assert run > 1
    assert stored(memory) == content(tmp_path / "whole")


@pytest.mark.filterwarnings("ignore:.*fork")  # the server has threads, which the child lacks
@pytest.mark.parametrize("kills", [3, pytest.param(60, marks=pytest.mark.slow)])
def test_kill_9_at_random_requests(faked: Path, tmp_path: Path, s3: ObjectStorage, kills: int):
    """A process killed by the server in the middle of a request, again and again."""
    fake(faked, tmp_path / "whole")
    draw, killed, left = random.Random(kills), 0, 0

    def kill(_: str) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(int((tmp_path / "process").read_text()), signal.SIGKILL)

    s3.watch = kill
    while killed < kills:
        left = draw.randrange(5, 80)
        if child(lambda: into(faked, "s3://bucket/out"), partial(here, tmp_path)) == -9:
            killed += 1
        else:
            assert stored("s3://bucket/out") == content(tmp_path / "whole")
            for key in s3.keys("bucket/out"):
                s3.delete(key)
    s3.watch = None
    into(faked, "s3://bucket/out")
    assert stored("s3://bucket/out") == content(tmp_path / "whole")


def here(folder: Path) -> None:
    """Write the id of this process to a file."""
    (folder / "process").write_text(str(os.getpid()))


@pytest.mark.slow
def test_kill_9_of_the_command_and_its_workers(tmp_path: Path, s3: ObjectStorage):
    source, draw, killed, kills = many_talks(tmp_path / "in"), random.Random(1), 0, 30
    options = command(source, tmp_path / "whole", "-j", "1", "--accept-missing")
    assert audiotok(*options).code == 0
    options[options.index(str(tmp_path / "whole"))] = "s3://bucket/out"
    while killed < kills:
        left = draw.randrange(1, 60)
        process = background(*options)

        def kill(_: str, process: Any = process) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                os.killpg(process.pid, signal.SIGKILL)

        s3.watch = kill
        process.communicate(timeout=100)
        s3.watch = None
        if process.returncode == 0:
            assert stored("s3://bucket/out") == content(tmp_path / "whole")
            for key in s3.keys("bucket/out"):
                s3.delete(key)
        else:
            assert process.returncode == -signal.SIGKILL
            killed += 1
    assert audiotok(*options).code == 0
    assert stored("s3://bucket/out") == content(tmp_path / "whole")


def test_segments_hold_what_is_in_no_shard_yet(faked: Path, tmp_path: Path, memory: str):
    """A run that ends after the third segment goes on with the recordings in it."""
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, 8, done=True)
        with suppress(KilledError):
            into(faked, memory, limit=10_000)
    names = [name for name in stored(memory) if ".log." in name]
    assert names[0] == ".build/000000.log.000000000000"
    assert len(names) > 1
    summary = into(faked, memory, limit=10_000)
    assert 0 < summary.run_recordings < summary.recordings + summary.quarantined
    fake(faked, tmp_path / "whole", limit=10_000)
    assert stored(memory) == content(tmp_path / "whole")


def test_a_segment_that_is_lost_ends_the_log(faked: Path, tmp_path: Path, memory: str):
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, 9, done=True)
        with suppress(KilledError):
            into(faked, memory, limit=10_000)
    names = sorted(name for name in stored(memory) if ".log." in name)
    Bucket(memory).delete([names[1]])
    into(faked, memory, limit=10_000)
    fake(faked, tmp_path / "whole", limit=10_000)
    assert stored(memory) == content(tmp_path / "whole")


# ---- faults


SLOW = [pytest.param(kind, marks=pytest.mark.slow) for kind in ("503", "500", "reset", "429")]


@pytest.mark.parametrize("kind", ["lost", *SLOW])
def test_faults_that_pass_are_outlived(
    faked: Path, tmp_path: Path, s3: ObjectStorage, kind: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(storing, "PATIENCE", 30.0)
    fake(faked, tmp_path / "whole")
    s3.faults.add(kind, match="^(PUT|GET|DELETE|HEAD|POST)", probability=0.15)
    into(faked, "s3://bucket/out")
    assert s3.faults.rules[0].hits > 2
    s3.faults.clear()
    assert stored("s3://bucket/out") == content(tmp_path / "whole")


@pytest.mark.parametrize(
    "match",
    [
        "PUT .*shard-000001",
        *(
            pytest.param(f"PUT .*{name}", marks=pytest.mark.slow)
            for name in ("seal", "corpus.json")
        ),
    ],
)
def test_a_fault_that_stays_ends_the_run_in_one_line_and_the_next_goes_on(
    faked: Path, tmp_path: Path, s3: ObjectStorage, match: str
):
    fake(faked, tmp_path / "whole")
    s3.faults.add("503", match=match)
    with pytest.raises(StorageError, match=r"s3://bucket/out/.*run the same again") as caught:
        into(faked, "s3://bucket/out")
    assert "\n" not in str(caught.value)
    assert "bucket/out/corpus.json" not in s3.keys("bucket/out")
    s3.faults.clear()
    into(faked, "s3://bucket/out")
    assert stored("s3://bucket/out") == content(tmp_path / "whole")


def test_what_arrives_damaged_is_sent_again(faked: Path, tmp_path: Path, memory: str):
    """The storage keeps other bytes than it was sent, once for each file."""
    fake(faked, tmp_path / "whole")
    fsspec: Any = pytest.importorskip("fsspec")
    kind = type(fsspec.filesystem("memory"))
    put, times = kind.put_file, dict[str, int]()

    def damaged(self: Any, source: str, key: str, **options: Any) -> None:
        put(self, source, key, **options)
        times[key] = times.get(key, 0) + 1
        if times[key] == 1:
            self.pipe_file(key, self.cat_file(key)[:-1] + b"?")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kind, "put_file", damaged)
        patch.setattr(storing, "WAIT", 0.0)
        into(faked, memory)
    assert set(times.values()) == {2}
    assert stored(memory) == content(tmp_path / "whole")


def test_no_access_and_no_bucket_are_one_line_at_once(faked: Path, s3: ObjectStorage):
    s3.faults.add("denied")
    begun = time.monotonic()
    with pytest.raises(StorageError, match=r"s3://bucket/out/.*: cannot be read .*check keys"):
        into(faked, "s3://bucket/out")
    assert time.monotonic() < begun + 5
    s3.faults.clear()
    with pytest.raises(StorageError, match=r"s3://nowhere/out: .*bucket does not exist"):
        into(faked, "s3://nowhere/out")


# ---- who else is there


class Interrupted(Fake):
    """An engine during which another build begins and ends in the same place."""

    other: Any

    def outcome(self, task: Task) -> Outcome:
        if task[0] == 7:
            self.other()
        return super().outcome(task)


@pytest.mark.parametrize("ends", [True, False])
def test_an_older_build_ends_when_another_begins(
    faked: Path, tmp_path: Path, memory: str, monkeypatch: pytest.MonkeyPatch, ends: bool
):
    def other() -> None:
        if ends:
            into(faked, memory)
        else:
            Bucket(memory).alone().__enter__()

    monkeypatch.setattr(Interrupted, "other", staticmethod(other), raising=False)
    find = running.find
    monkeypatch.setattr(running, "find", lambda f, n: Interrupted if n == "two" else find(f, n))
    with pytest.raises(LockedError, match="another build has taken over here"):
        into(faked, memory, engine="two")
    fake(faked, tmp_path / "whole")
    if not ends:
        into(faked, memory)
    assert stored(memory) == content(tmp_path / "whole")


def test_what_is_no_corpus_is_never_built_into(faked: Path, s3: ObjectStorage):
    s3.put("bucket/out/thesis.txt", b"years")
    for force in (False, True):
        with pytest.raises(CorpusError, match="not empty"):
            into(faked, "s3://bucket/out", force=force)
    assert s3.keys("bucket/out") == ["bucket/out/thesis.txt"]


def test_other_options_are_refused_and_force_begins_anew(faked: Path, tmp_path: Path, memory: str):
    into(faked, memory)
    with pytest.raises(CorpusError, match="force=True"):
        into(faked, memory, part=(0, 2))
    into(faked, memory, part=(0, 2), force=True)
    fake(faked, tmp_path / "half", part=(0, 2))
    assert stored(memory) == content(tmp_path / "half")


def test_shards_that_something_else_has_changed_are_noticed(
    faked: Path, memory: str, monkeypatch: pytest.MonkeyPatch
):
    write = Bucket.publish

    def late(self: Bucket, name: str, data: bytes) -> None:
        write(self, name, data)
        if name.endswith("000001.seal"):
            self.fs.pipe_file(f"{self.root}/shard-000000.tok", b"other")

    monkeypatch.setattr(Bucket, "publish", late)
    with pytest.raises(CorpusError, match=r"shard-000000: not as it was stored"):
        into(faked, memory)
    assert "corpus.json" not in stored(memory)


# ---- second tries


def test_recordings_in_quarantine_are_tried_again(
    faked: Path, tmp_path: Path, memory: str, monkeypatch: pytest.MonkeyPatch
):
    fake(faked, tmp_path / "whole")
    outcome = Fake.outcome
    with monkeypatch.context() as patch:

        def failing(self: Fake, task: Task) -> Outcome:
            changed = Outcome(task[0], running_error)
            return changed if task[0] in (3, 9) else outcome(self, task)

        from audiotok.corpus.build.work import EncodedRecording

        running_error = EncodedRecording("no such file")
        patch.setattr(Fake, "outcome", failing)
        into(faked, memory)
    before, event = stored(memory), 1
    while True:
        for name, data in before.items():
            Bucket(memory).publish(name, data)
        with pytest.MonkeyPatch.context() as patch:
            kill_at(patch, event, done=event % 2 == 0)
            with suppress(KilledError):
                into(faked, memory, retry_quarantined=True)
                break
        assert is_sound(memory) or ".build/reuse.json" in stored(memory)
        into(faked, memory, retry_quarantined=True)
        assert stored(memory) == content(tmp_path / "whole"), f"ended at write {event}"
        event += 9
    assert stored(memory) == content(tmp_path / "whole")


# ---- reading


def test_a_corpus_is_read_by_its_url(faked: Path, tmp_path: Path, s3: ObjectStorage):
    fake(faked, tmp_path / "out")
    into(faked, "s3://bucket/out")
    local, remote = Corpus(tmp_path / "out"), Corpus("s3://bucket/out")
    assert [entry.id for entry in remote] == [entry.id for entry in local]
    assert remote[3].tokens == local[3].tokens
    assert remote["talk 1.wav"].row == local["talk 1.wav"].row
    assert usage(remote) == usage(local)
    scratch = storage_of(remote.storage)
    assert isinstance(scratch, Bucket)
    remote.close()
    assert not [path for path in scratch.scratch.rglob("*") if path.is_file()]
    with pytest.raises(InputError, match="takes a folder of this machine"):
        print(remote.path)
    for name in ("info", "stats", "verify"):
        done = audiotok("corpus", name, "s3://bucket/out", "--json")
        assert (done.code, done.lines) == (0, [])
        ours = audiotok("corpus", name, tmp_path / "out", "--json")
        assert done.out.replace("s3://bucket/out", str(tmp_path / "out")) == ours.out


def test_corpora_are_made_of_one_behind_a_url(faked: Path, tmp_path: Path, memory: str):
    fake(faked, tmp_path / "out")
    into(faked, memory)
    local, remote = Corpus(tmp_path / "out"), Corpus(memory)
    for name, corpus in {"here": local, "there": remote}.items():
        merge([corpus.location], tmp_path / f"merged-{name}")
        split(corpus, tmp_path / f"split-{name}", {"dev": 0.3})
        dedup(corpus, tmp_path / f"dedup-{name}")
    for how in ("merged", "dedup", "split"):
        ours, theirs = (
            {
                str(path.relative_to(folder)): path.read_bytes()
                for path in sorted(folder.rglob("*"))
                if path.is_file()
            }
            for folder in (tmp_path / f"{how}-here", tmp_path / f"{how}-there")
        )
        assert ours == theirs


def test_damage_is_found_behind_a_url(faked: Path, s3: ObjectStorage):
    into(faked, "s3://bucket/out")
    data = bytearray(s3.get("bucket/out/shard-000001.tok"))
    data[-9] ^= 1
    s3.put("bucket/out/shard-000001.tok", bytes(data))
    s3.delete("bucket/out/shard-000002.jsonl")
    faults = {name: damage for name, damage in verify("s3://bucket/out") if damage}
    assert faults == {
        "shard-000001": ["shard-000001.tok: its checksum is another"],
        "shard-000002": ["shard-000002.jsonl: missing; build it again, or restore it"],
    }
    with pytest.raises(CorpusError, match="no corpus"):
        Corpus("s3://bucket/nothing")


# ---- what takes no URL


@pytest.mark.parametrize(
    "arguments",
    [
        ["corpus", "merge", "a", "-o", "s3://bucket/x"],
        ["corpus", "split", "a", "-o", "s3://bucket/x"],
        ["corpus", "dedup", "a", "-o", "s3://bucket/x"],
        ["corpus", "compress", "a", "-o", "gs://bucket/x"],
        ["corpus", "expand", "a", "-o", "s3://bucket/x"],
        ["corpus", "sample", "a", "-o", "s3://bucket/x"],
        ["export-corpus", "a", "--to", "webdataset", "-o", "s3://bucket/x"],
        ["export-corpus", "s3://bucket/x", "--to", "webdataset", "-o", "x"],
        ["encode", "a.wav", "-o", "s3://bucket/x"],
        ["decode", "a.tok", "-o", "s3://bucket/x"],
        ["roundtrip", "a.wav", "-o", "s3://bucket/x"],
        ["train", "recipe.toml", "-o", "s3://bucket/x"],
        ["bench", "a", "-o", "s3://bucket/x"],
        ["manifest", "a", "-o", "s3://bucket/x.tsv"],
        ["plot", "a.wav", "-o", "s3://bucket/x.png"],
        ["lm", "train", "recipe.toml", "-o", "s3://bucket/x"],
    ],
)
def test_a_url_becomes_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
):
    monkeypatch.chdir(tmp_path)
    done = audiotok(*arguments)
    assert done.code == 2
    assert len(done.lines) == 1
    assert "://bucket/x" in done.lines[0]
    assert "takes a path of this machine" in done.lines[0]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("ftp://host/out", "in a folder or in object storage"),
        ("s3://bucket/out*", "no part of a corpus's URL"),
        (Path("s3://bucket/out"), "write it as s3://bucket/out"),
        ("s3:/bucket/out", "write it as s3://bucket/out"),
    ],
)
def test_what_is_no_place_of_a_corpus(faked: Path, place: str | Path, words: str):
    with pytest.raises(InputError, match=words):
        into(faked, place)  # pyright: ignore[reportArgumentType]


def test_a_url_of_a_folder_is_one(tmp_path: Path):
    assert folder_of(f"file://{tmp_path}") == tmp_path
    with pytest.raises(InputError, match="takes a folder of this machine"):
        folder_of("s3://bucket/out")
