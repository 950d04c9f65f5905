"""A build that is run again: what could not be read, what has changed, who else is there."""

from __future__ import annotations

import errno
import io
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from commandline import audiotok, recording, small
from rich.console import Console
from sizes import SMALL, made

from audiotok import load
from audiotok._platform.console import UsageError
from audiotok._platform.lock import LockedError, locked_folder
from audiotok.codecs.checkpoint import save
from audiotok.codecs.load import load_once
from audiotok.corpus import Corpus, CorpusError
from audiotok.corpus.base import read_info
from audiotok.corpus.build import BuildSummary, build
from audiotok.corpus.build import run as running
from audiotok.corpus.build import worker as staging
from audiotok.corpus.build.executors.local import Local
from audiotok.corpus.build.work import Outcome, Work
from audiotok.corpus.build.worker import Worker
from audiotok.corpus.change import merge
from audiotok.corpus.check import is_sound
from audiotok.corpus.inputs import INPUTS
from audiotok.corpus.write import write_info
from audiotok.data.failures import may_be_transient
from audiotok.data.locator import AudioLocator, normal_path
from audiotok.data.recording import Recording
from audiotok.data.transient import TransientError, is_transient

WAITS = (0.0, 0.0, 0.0)


class Here(Local):
    """An engine of one stage in this process, where tests can change what it does."""

    def run(self, work: Work, tasks: Any, workers: int) -> Iterator[Any]:
        stage = Worker(work)
        for task in tasks:
            if task is not None:
                number, item = task
                assert isinstance(item, Recording)
                for _, coded in stage.all([(number, item)]):
                    yield Outcome(number, coded)
        stage.close()


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    find = running.find
    monkeypatch.setattr(running, "find", lambda f, n: Here if n == "here" else find(f, n))


def built(source: Path | str, out: Path, *, engine: str = "here", **options: Any) -> BuildSummary:
    work = Work(codec=str(small()), waits=WAITS)
    options = {"most_bad": 1.0, "console": Console(file=io.StringIO())} | options
    return build(str(source), out, work, engine=engine, workers=1, **options)


def talks(folder: Path, count: int = 4) -> Path:
    for i in range(count):
        recording(folder / f"{i}.wav", 0.2 + 0.1 * i, seed=i)
    return folder


def content(folder: Path) -> dict[str, bytes]:
    assert not (folder / ".build").exists()
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def failing(
    monkeypatch: pytest.MonkeyPatch, name: str, error: Callable[[], Exception], times: int
) -> list[int]:
    """Reading a recording fails so many times; a list that counts."""
    opened, count = staging.opened, [0]

    def broken(place: AudioLocator, **options: Any) -> Any:
        if place.name == name and count[0] < times:
            count[0] += 1
            raise error()
        return opened(place, **options)

    monkeypatch.setattr(staging, "opened", broken)
    return count


def test_latents_of_a_codec_whose_name_has_semantic_codebooks(here: None, tmp_path: Path):
    codec = made("speech", replace(SMALL, quantizer="none"))
    path = tmp_path / "codec.safetensors"
    save(codec, path)
    source = talks(tmp_path / "in", 2)
    work = Work(codec=str(path), waits=WAITS)
    build(str(source), tmp_path / "out", work, engine="here", workers=1)
    entries = {entry.id: entry.tokens for entry in Corpus(tmp_path / "out")}
    assert entries == {f"{i}.wav": load(path).encode(source / f"{i}.wav") for i in range(2)}


def test_searched_codes_are_those_of_the_codec(here: None, tmp_path: Path):
    codec, source, out = load(str(small())), talks(tmp_path / "in"), tmp_path / "out"
    work = Work(codec=str(small()), waits=WAITS)
    plain = built(source, tmp_path / "plain")
    for group in (1, 3):
        searching = replace(work, search=4, group=group)
        build(str(source), out / str(group), searching, engine="here", workers=1)
    codec.set_search(4)
    expected = {f"{i}.wav": codec.encode(source / f"{i}.wav") for i in range(4)}
    for folder in out.iterdir():
        assert {entry.id: entry.tokens for entry in Corpus(folder)} == expected
    assert expected != {entry.id: entry.tokens for entry in Corpus(tmp_path / "plain")}
    assert plain.recordings == 4
    for other in (work, replace(work, search=8)):
        with pytest.raises(CorpusError, match=r"another corpus is there \(it differs in search\)"):
            build(str(source), out / "1", other, engine="here", workers=1)
    with pytest.raises(UsageError, match="search 4: graphs take the nearest entries"):
        build(str(source), tmp_path / "c", replace(work, search=4, backend="onnx"), engine="here")
    assert not (tmp_path / "c").exists()


def test_a_job_with_another_search_is_refused(here: None, tmp_path: Path):
    source, out = talks(tmp_path / "in"), tmp_path / "out"
    info = running.info_of(load(str(small())), str(source), (0, 1), None)
    with running.State(out, info, limit=100):
        pass
    with (
        pytest.raises(CorpusError, match="begun with another search; give"),
        running.State(out, replace(info, job={**info.job, "search": 4}), limit=100),
    ):
        pass


# ---- what could not be read for now


def test_a_failure_that_passes_is_tried_again(
    here: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    source = talks(tmp_path / "in")
    built(source, tmp_path / "whole")
    count = failing(monkeypatch, "1.wav", lambda: OSError(errno.EIO, "Input/output error"), 3)
    assert built(source, tmp_path / "out").quarantined == 0
    assert count == [3]
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_one_that_stays_stops_the_build_and_the_next_run_goes_on(
    here: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    source = talks(tmp_path / "in")
    built(source, tmp_path / "whole")
    with monkeypatch.context() as patch:
        failing(patch, "2.wav", lambda: ConnectionResetError(104, "reset by peer"), 99)
        for _ in range(2):
            with pytest.raises(CorpusError, match=r"2\.wav: .*reset by peer.*run the same again"):
                built(source, tmp_path / "out")
            assert not (tmp_path / "out" / "corpus.json").exists()
            assert not (tmp_path / "out" / "quarantine.tsv").exists()
    assert built(source, tmp_path / "out").recordings == 4
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_a_disk_that_fails_beneath_a_decoder_passes():
    """Linux refuses to read a process's first page with EIO, as a failing disk would."""
    if not Path("/proc/self/mem").exists():
        pytest.skip("no /proc/self/mem")
    damaged = ValueError("damaged header")
    assert may_be_transient(damaged, AudioLocator("a.wav", "/proc/self/mem"))
    assert not may_be_transient(damaged, AudioLocator("a.wav", __file__))
    assert not may_be_transient(damaged, AudioLocator("a.wav", "/nowhere.wav"))


class StatusError(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


class ClientError(Exception):  # as botocore makes it
    def __init__(self, code: str, status: int) -> None:
        super().__init__(code)
        self.response = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}


@pytest.mark.parametrize(
    ("error", "here", "there"),
    [
        (OSError(errno.EIO, "x"), True, True),
        (OSError(errno.ESTALE, "x"), True, True),
        (ConnectionResetError(), True, True),
        (TimeoutError(), True, True),
        (TransientError("3 of 5 bytes"), True, True),
        (PermissionError(errno.EACCES, "x"), True, True),
        (FileNotFoundError(errno.ENOENT, "x"), False, False),
        (ValueError("damaged header"), False, False),
        (StatusError(503), False, True),
        (StatusError(500), False, True),
        (StatusError(429), False, True),
        (StatusError(404), False, False),
        (ClientError("ExpiredToken", 400), False, True),
        (ClientError("SlowDown", 200), False, True),
        (ClientError("NoSuchKey", 404), False, False),
        (type("ClientPayloadError", (Exception,), {})(), False, True),
    ],
)
def test_what_passes(error: Exception, here: bool, there: bool):
    assert is_transient(error) == here
    assert is_transient(error, remote=True) == there
    wrapped = ValueError("cannot be read")
    wrapped.__context__ = error
    assert is_transient(wrapped, remote=True) == there


class Server(ThreadingHTTPServer):
    """Serves files; the first answers for each path may be something else."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.plan, self.asked = folder, dict[str, list[Any]](), list[str]()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Handler(BaseHTTPRequestHandler):
    server: Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_HEAD(self) -> None:
        data = (self.server.folder / self.path[1:]).read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()

    def do_GET(self) -> None:
        self.server.asked.append(self.path[1:])
        plan = self.server.plan.get(self.path[1:], [])
        answer = plan.pop(0) if plan else 200
        data = (self.server.folder / self.path[1:]).read_bytes()
        if answer == "cut":
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[:1000])
            return
        self.send_response(answer)
        data = data if answer == 200 else b"not now"
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.mark.filterwarnings("ignore")  # of fsspec's and aiohttp's own making
def test_what_a_server_will_not_give_for_now(here: None, tmp_path: Path):
    pytest.importorskip("aiohttp")
    server = Server(talks(tmp_path / "in"))
    listing = tmp_path / "list.tsv"
    listing.write_text("id\tpath\n" + "".join(f"{i}\t{server.url(f'{i}.wav')}\n" for i in range(4)))
    built(listing, tmp_path / "whole")
    server.plan = {"0.wav": [503], "1.wav": ["cut", "cut"], "2.wav": [403, 500], "3.wav": [429]}
    built(listing, tmp_path / "out")
    assert content(tmp_path / "out") == content(tmp_path / "whole")
    for name, plan in (("1.wav", ["cut"] * 99), ("2.wav", [403] * 99), ("3.wav", [502] * 99)):
        server.plan = {name: plan}
        out = tmp_path / name
        with pytest.raises(CorpusError, match=f"{name}: .*run the same again"):
            built(listing, out)
        server.plan = {}
        assert built(listing, out).quarantined == 0
        assert content(out) == content(tmp_path / "whole")
    server.plan = {"3.wav": [404] * 99}  # that does not pass
    assert built(listing, tmp_path / "without").quarantined == 1
    server.shutdown()


def test_a_finished_corpus_says_what_it_is_without(
    here: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    source = talks(tmp_path / "in")
    (source / "bad.wav").write_text("hello")
    built(source, tmp_path / "out")
    caplog.clear()
    assert built(source, tmp_path / "out").run_recordings == 0
    assert "without 1 recordings; see quarantine.tsv" in caplog.text


# ---- what has changed


@pytest.mark.parametrize("how", ["longer", "other", "gone", "mended"])
def test_a_changed_file_is_noticed_and_named(
    here: None, tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
):
    source = talks(tmp_path / "in")
    (source / "3.wav").write_text("not yet")
    built(source, tmp_path / "out")
    before = content(tmp_path / "out")
    path = source / ("3.wav" if how == "mended" else "1.wav")
    old = path.stat()
    if how == "gone":
        (tmp_path / "list.tsv").write_text("path\nin/0.wav\nin/1.wav\n")
        built(tmp_path / "list.tsv", tmp_path / "listed")
        path.unlink()
        with pytest.raises(CorpusError, match=r"in/1\.wav: is gone"):
            built(tmp_path / "list.tsv", tmp_path / "listed")
        return
    seconds = (old.st_size - 44) / 32000 if how == "other" else 0.9
    recording(path, seconds, seed=77)
    os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns + 1_000_000))
    lengths = f"{old.st_size:,} bytes, now {path.stat().st_size:,}"
    said = "written again" if how == "other" else lengths
    with pytest.raises(CorpusError, match=rf"{path.name}: {said}; .*begin anew"):
        built(source, tmp_path / "out")
    assert content(tmp_path / "out") == before
    built(source, tmp_path / "out", keep_changed=True)
    assert f"{path.name}: {said}; the codes are kept" in caplog.text
    assert content(tmp_path / "out") == before
    built(source, tmp_path / "out", force=True)
    built(source, tmp_path / "out")
    assert content(tmp_path / "out") != before


def test_a_file_that_changed_while_a_build_was_interrupted_is_noticed(
    here: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """Both of what is in a shard already, and of what is still in the log."""
    source, out = talks(tmp_path / "in", 6), tmp_path / "out"
    with monkeypatch.context() as patch:
        failing(patch, "5.wav", lambda: TimeoutError("timed out"), 99)
        with pytest.raises(CorpusError, match="timed out"):
            built(source, out, limit=60)
    assert list((out / ".build").glob("*.seal"))
    for name in ("0.wav", "4.wav"):
        recording(source / name, 0.7, seed=9)
    with pytest.raises(CorpusError, match=r"0\.wav: .* bytes, now .*; 4\.wav: .* bytes, now "):
        built(source, out, limit=60)
    built(source, out, limit=60, keep_changed=True)
    assert "codes are kept" in caplog.text
    assert is_sound(out)
    with pytest.raises(CorpusError, match=r"0\.wav"):  # it stays known
        built(source, out, limit=60)


def test_a_listing_that_changed_after_the_end_is_noticed(here: None, tmp_path: Path):
    source = talks(tmp_path / "in")
    built(source, tmp_path / "out")
    recording(source / "4.wav", 0.2)
    with pytest.raises(CorpusError, match="not the 4 recordings any more"):
        built(source, tmp_path / "out")
    (source / "4.wav").unlink()
    (tmp_path / "out" / INPUTS).unlink()  # as of a corpus built before: nothing to compare with
    built(source, tmp_path / "out")


# ---- who else is there


def test_force_locks_before_it_clears(here: None, tmp_path: Path):
    source, out = talks(tmp_path / "in"), tmp_path / "out"
    built(source, out)
    about = running.info_of(load_once(str(small()), "cpu"), str(source), (0, 1), None)
    state = running.State(out, about, limit=1 << 28, force=True)
    with state:
        before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
        for force in (True, False):
            with pytest.raises(LockedError, match="another process"):
                built(source, out, force=force)
        assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    built(source, out, force=True)
    assert len(Corpus(out)) == 4


def test_a_lock_whose_file_was_removed_is_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Who had it removed it just when another had opened the file to wait for it."""
    fcntl = pytest.importorskip("fcntl")
    flock, removed = fcntl.flock, [False]

    def late(*given: Any) -> None:
        flock(*given)
        if not removed[0]:
            removed[0] = True
            (tmp_path / ".lock").unlink()

    monkeypatch.setattr(fcntl, "flock", late)
    with locked_folder(tmp_path):
        monkeypatch.setattr(fcntl, "flock", flock)
        with pytest.raises(LockedError), locked_folder(tmp_path):
            pass


# ---- workers with other weights


def test_every_worker_has_the_weights_of_the_build(tmp_path: Path):
    """The checkpoint at the path is another by the time that workers load it."""
    path = tmp_path / "codec.safetensors"
    shutil.copyfile(small(), path)
    load_once(str(path), "cpu")  # loaded once a process, and kept
    torch.manual_seed(5)
    model = load(small())
    for weight in model.parameters():
        weight.data.add_(torch.randn_like(weight) * 0.1)
    path.unlink()
    save(model, path)
    work = Work(codec=str(path))
    with pytest.raises(ValueError, match=r"weights on .* are .*give every machine the same file"):
        build(str(talks(tmp_path / "in")), tmp_path / "out", work, workers=2)
    assert not (tmp_path / "out" / "corpus.json").exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of ray's own making
def test_every_worker_of_ray_has_the_weights_of_the_build(tmp_path: Path):
    pytest.importorskip("ray")
    work = Work(codec=str(small()), fingerprint="0" * 16)
    from audiotok.corpus.build.executors.ray import Ray

    tasks = iter([(0, Recording("a", AudioLocator("a.wav", str(recording(tmp_path / "a.wav")))))])
    with pytest.raises(ValueError, match="give every machine the same file"):
        list(Ray().run(work, tasks, 1))


# ---- parts


def test_merge_misses_a_part(here: None, tmp_path: Path):
    source = talks(tmp_path / "in", 6)
    parts = [tmp_path / f"part-{i}" for i in range(3)]
    for i, part in enumerate(parts):
        built(source, part, part=(i, 3))
    with pytest.raises(CorpusError, match=f"missing: part 2/3 of {source}"):
        merge(parts[:2], tmp_path / "two")
    with pytest.raises(CorpusError, match=f"missing: part 0/3, 1/3 of {source}"):
        merge(parts[2:], tmp_path / "one")
    done = audiotok("corpus", "merge", *parts[:2], "-o", tmp_path / "two")
    assert (done.code, len(done.lines)) == (1, 1)
    done = audiotok("corpus", "merge", *parts[:2], "-o", tmp_path / "two", "--partial")
    assert done.code == 0
    with pytest.raises(CorpusError, match="missing: part 2/3"):  # a part of a part misses it too
        merge([tmp_path / "two"], tmp_path / "again")
    merge([tmp_path / "two", parts[2]], tmp_path / "all")
    merge([*parts], tmp_path / "three")
    assert len(Corpus(tmp_path / "all")) == len(Corpus(tmp_path / "three")) == 6


def test_a_folder_is_the_same_however_it_is_spelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, here: None
):
    talks(tmp_path / "talks")
    monkeypatch.chdir(tmp_path)
    built("talks/", tmp_path / "corpus")
    before = content(tmp_path / "corpus")
    for spelling in ("talks", "./talks", "talks//", "other/../talks"):
        assert built(spelling, tmp_path / "corpus").run_recordings == 0
    assert content(tmp_path / "corpus") == before
    # corpora of earlier versions hold the path as it was typed
    info = read_info(tmp_path / "corpus")
    write_info(tmp_path / "corpus", replace(info, job={**info.job, "listing": "talks/"}))
    assert built("talks", tmp_path / "corpus").run_recordings == 0
    with pytest.raises(CorpusError, match=r"another corpus is there \(it differs in sizes\)"):
        build("talks", tmp_path / "corpus", Work(codec=str(small()), codebooks=1), engine="here")


@pytest.mark.parametrize(
    ("path", "normal"),
    [
        ("s3://bucket/talks/", "s3://bucket/talks"),
        ("hf:owner/name@train", "hf:owner/name@train"),
        ("/data//talks/", "/data/talks"),
        ("talks.jsonl", "talks.jsonl"),
    ],
)
def test_normal_paths(path: str, normal: str):
    assert normal_path(path) == normal
