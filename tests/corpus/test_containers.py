"""Builds of container files, which workers list and read themselves."""

from __future__ import annotations

import importlib
import io
import json
import os
import random
import signal
import tarfile
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from commandline import audiotok, background, ends, group, process, recording, small, until

from audiotok.corpus import Corpus
from audiotok.corpus.build import order as ordering
from audiotok.corpus.build import run as running
from audiotok.corpus.build.service import Service
from audiotok.corpus.build.work import Container, End, Event, Outcome, Work
from audiotok.corpus.inputs import INPUTS
from audiotok.data.manifest import listing_of
from audiotok.data.recording import digest_of


def tars(folder: Path, counts: tuple[int, ...] = (7, 1, 9, 5), kind: str = ".tar.gz") -> Path:
    """Archives of recordings, of unlike lengths, with a bad one in the second last."""
    folder.mkdir(parents=True)
    for number, count in enumerate(counts):
        mode = "w:gz" if kind == ".tar.gz" else "w"
        with tarfile.open(folder / f"part-{number}{kind}", mode) as tar:  # pyright: ignore
            for i in range(count):
                name = f"{number}-{i}"
                path = recording(folder / "one.wav", 0.1 + 0.05 * (i % 4), seed=10 * number + i)
                data = path.read_bytes()
                if (number, i) == (len(counts) - 2, 3):
                    data = b"no audio"
                add(tar, f"{name}.wav", data)
                add(tar, f"{name}.json", json.dumps({"text": f"said {name}"}).encode())
    (folder / "one.wav").unlink()
    return folder


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def content(folder: Path) -> dict[str, bytes]:
    assert not (folder / ".build").exists()
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def command(source: Path, out: Path, *options: str) -> list[str]:
    shards = ["--shard-mb", str(200 / 2**20), "--kind", "webdataset", "--most-bad", "0.5"]
    return ["corpus", "build", str(source), "-o", str(out), "--codec", str(small()), *shards,
            *options]  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """Archives, and the corpus of a build whose driver has read them."""
    folder = tmp_path_factory.mktemp("containers")
    source = tars(folder / "in")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "Containers", None)  # else this would fail
        done = audiotok(*command(source, folder / "out", "-j", "5"))  # more than archives
    assert done.code == 0, done.err
    return source, content(folder / "out")


def served(container: Container, **options: Any) -> list[Event]:
    """What a service says of a container."""
    said: list[tuple[str, Any]] = []
    service = Service(Work(codec=str(small()), waits=(0.0,), **options), said.extend)
    service.put([(3, container)] + [(3, None)] * container.careful)
    thread = threading.Thread(target=service.run)
    thread.start()
    while service._busy or not any(kind == "end" for kind, _ in said):
        time.sleep(0.01)
    service.end()
    thread.join()
    service.worker.close()
    return [End(*what) if kind == "end" else what for kind, what in said]


def test_workers_read_containers_to_the_same_bytes(
    made: tuple[Path, dict[str, bytes]], tmp_path: Path
):
    source, expected = made
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "Recordings", None)  # the driver reads none
        done = audiotok(*command(source, tmp_path / "out", "-j", "2", "--json"))
    assert done.code == 0, done.err
    assert (done.json["recordings"], done.json["quarantined"]) == (21, 1)
    assert content(tmp_path / "out") == expected
    row = Corpus(tmp_path / "out")[8].row
    assert (row["id"], row["text"]) == ("2-0", "said 2-0")


@pytest.mark.parametrize("careful", [0, 3])
def test_a_service_returns_what_is_asked_for(
    made: tuple[Path, dict[str, bytes]], careful: int, tmp_path: Path, monkeypatch: Any
):
    """Of a relative listing, in another working directory, with the digests of the driver's."""
    source = made[0]
    monkeypatch.chdir(source.parent)
    listing = listing_of("in", "webdataset")
    (file, *_) = listing.files("in")
    digests = [digest_of(item) for item in listing.items_of("in", file)]
    monkeypatch.chdir(tmp_path)
    done = frozenset([4])
    asked = Container(listing, "in", file, str(source.parent), 2, done, careful)
    events = [each for each in served(asked) if isinstance(each, Outcome) and each.coded.samples]
    assert [event.index for event in events] == [2, 3, 5, 6]
    assert [event.listed.digest for event in events if event.listed] == [
        digests[i] for i in (2, 3, 5, 6)
    ]
    assert all(event.listed and event.listed.item.locator.data is None for event in events)


def test_a_service_lists_without_encoding(made: tuple[Path, dict[str, bytes]]):
    listing = listing_of(str(made[0]), "webdataset")
    file = listing.files(str(made[0]))[2]
    *events, end = served(Container(listing, str(made[0]), file, "/", coded=False))
    assert end == End(3, 9)
    assert len(events) == 9
    assert not any(event.coded.samples for event in events if isinstance(event, Outcome))


def test_a_damaged_container_is_said_after_what_is_before_it(tmp_path: Path):
    source = tars(tmp_path / "in", kind=".tar")
    data = (source / "part-2.tar").read_bytes()
    (source / "part-2.tar").write_bytes(data[: len(data) // 2])
    done = audiotok(*command(source, tmp_path / "out", "-j", "2"))
    assert done.code == 1
    assert "part-2.tar: damaged" in done.lines[-1]
    (source / "part-2.tar").write_bytes(data)
    again = audiotok(*command(source, tmp_path / "out", "-j", "2", "--json", "--keep-changed"))
    assert again.code == 0, again.err
    assert again.json["run_recordings"] <= 22 - 8
    assert audiotok(*command(source, tmp_path / "whole", "-j", "2")).code == 0
    files = [content(tmp_path / name) for name in ("out", "whole")]
    for each in files:
        del each[INPUTS]  # the times of the archives differ
    assert files[0] == files[1]


def test_another_listing_is_refused(made: tuple[Path, dict[str, bytes]], tmp_path: Path):
    """It has other recordings, or fewer than were committed."""
    source = tars(tmp_path / "in", kind=".tar")
    data = (source / "part-3.tar").read_bytes()
    (source / "part-3.tar").write_bytes(data[:-3000])
    assert audiotok(*command(source, tmp_path / "out", "-j", "2")).code == 1
    (source / "part-3.tar").write_bytes(data)
    names = sorted(source.glob("*.tar"))
    names[0].rename(source / "z.tar")
    done = audiotok(*command(source, tmp_path / "out", "-j", "2", "--keep-changed"))
    assert "not the" in done.lines[-1]
    (source / "z.tar").unlink()
    for path in names[2:]:
        path.unlink()
    done = audiotok(*command(source, tmp_path / "out", "-j", "1", "--keep-changed"))
    assert "recordings any more" in done.lines[-1]


def test_outcomes_of_later_containers_wait_on_disk(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ordering, "SPOOLED", 10)
    waiting = ordering._Waiting()
    events = [End(2, i) for i in range(50)]
    for event in events:
        waiting.add(event)
    assert list(waiting) == events


def test_one_in_a_container_that_ends_its_process_is_quarantined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Another source of containers, each with a command that kills."""
    (tmp_path / "killing.py").write_text(KILLING)
    monkeypatch.syspath_prepend(str(tmp_path))
    killing = importlib.import_module("killing").Killing()
    monkeypatch.setattr(running, "listing_of", lambda *_: killing)
    for i in range(2):
        recording(tmp_path / f"{i}.wav", seed=i)
    done = audiotok(*command(tmp_path, tmp_path / "out", "-j", "2", "--commands"))
    assert done.code == 0, done.err
    ids = [entry.id for entry in Corpus(tmp_path / "out")]
    assert ids == [f"{c}-{i}" for c in "ab" for i in range(6) if (c, i) not in (("a", 3), ("b", 0))]
    rows = (tmp_path / "out" / "quarantine.tsv").read_text().splitlines()[1:]
    assert [row.split("\t")[0] for row in rows] == ["a-3", "b-0"]
    assert all("ended by signal 9" in row for row in rows)


KILLING = '''
from audiotok.data.locator import AudioLocator
from audiotok.data.recording import Recording
from audiotok.data.sources.base import Containers

class Killing(Containers):
    """Two containers with a recording each that ends its process."""

    description = "containers that kill"

    @classmethod
    def takes(cls, path):
        return False

    def containers(self, path):
        return ["a", "b"]

    def items_of(self, path, file):
        for i in range(6):
            name = f"{file[-1]}-{i}"
            if name in ("a-3", "b-0"):
                yield Recording(name, AudioLocator(name, command="kill -9 $PPID"))
            else:
                yield Recording(name, AudioLocator(name, f"{path}/{i % 2}.wav"))
'''


@pytest.mark.slow
def test_killed_in_a_loop_with_workers_dying_too(
    made: tuple[Path, dict[str, bytes]], tmp_path: Path
):
    source = tars(tmp_path / "in", (30, 2, 50, 0, 40))
    whole = process(*command(source, tmp_path / "whole", "-j", "1"))
    assert whole.code == 0, whole.err
    draw, out = random.Random(3), tmp_path / "out"
    for _ in range(30):
        running = background(*command(source, out, "-j", "2"))
        until(lambda: (out / ".build").exists() or (out / "corpus.json").exists(), running)
        time.sleep(draw.uniform(0, 3))
        others = [pid for pid in group(running.pid) if pid != running.pid]
        if others and draw.random() < 0.5:  # first a worker, then all
            os.kill(draw.choice(others), signal.SIGKILL)
            time.sleep(draw.uniform(0, 1))
        running.kill()
        assert ends(running.pid)
        running.communicate()
        if running.returncode == 0:
            break
    else:
        assert process(*command(source, out, "-j", "2")).code == 0
    assert content(out) == content(tmp_path / "whole")
