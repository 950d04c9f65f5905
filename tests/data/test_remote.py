"""Files behind URLs, of a server with faults: what passes, what lasts, and what is listed."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from commandline import noise, small
from object_storage import ObjectStorage, object_storage
from rich.console import Console
from test_sources import flac, heard, listed, tar

from audiotok._platform.errors import InputError
from audiotok.audio.audio import AudioFileError
from audiotok.corpus import CorpusError
from audiotok.corpus.build import BuildSummary, build
from audiotok.corpus.build.work import Work
from audiotok.data import remote, transient
from audiotok.data.failures import may_be_transient, missing_here
from audiotok.data.locator import AudioLocator, ListingError, reading
from audiotok.data.manifest import listing_of, read_manifest
from audiotok.data.recording import Recording
from audiotok.data.transient import TransientError

pytestmark = pytest.mark.filterwarnings("ignore")  # of what s3fs and aiohttp leave open

QUICK = ["expired", "truncated"]
SLOW = ["500", "503", "429", "denied", "reset", "stalled"]
PASSING = [*QUICK, *(pytest.param(kind, marks=pytest.mark.slow) for kind in SLOW)]


@pytest.fixture(scope="module")
def server() -> Iterator[ObjectStorage]:
    with object_storage() as storage:
        yield storage


@pytest.fixture
def s3(server: ObjectStorage, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStorage]:
    """The server without faults; clients that try once and give up soon, and no pauses."""
    conf: Any = pytest.importorskip("fsspec.config")
    core: Any = pytest.importorskip("s3fs")
    once = {"config_kwargs": {"retries": {"max_attempts": 0}}}
    monkeypatch.setitem(conf.conf, "s3", once)
    monkeypatch.setattr(core.S3FileSystem, "retries", 1)
    monkeypatch.setattr(transient.time, "sleep", lambda seconds: None)
    monkeypatch.setenv(remote.PATIENCE, "0.5")
    core.S3FileSystem.clear_instance_cache()
    server.requests.clear()
    yield server
    server.faults.clear()


def wav(seed: int = 0, seconds: float = 0.5) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, noise(seconds, 16000, 1, seed), 16000, format="WAV")
    return file.getvalue()


def locator(storage: ObjectStorage, way: str, key: str) -> AudioLocator:
    url = storage.url(key) if way == "s3" else storage.http(key)
    return AudioLocator(key, url)


# ---- recordings


@pytest.mark.parametrize("way", ["s3", "http"])
@pytest.mark.parametrize("kind", PASSING)
def test_what_passes_is_no_fault_of_the_recording(s3: ObjectStorage, kind: str, way: str):
    s3.put("faults/a.wav", wav())
    there = locator(s3, way, "faults/a.wav")
    only = "GET /faults/a.wav" if kind in ("truncated", "stalled") else "/faults/a.wav"
    fault = s3.faults.add(kind, only)
    with pytest.raises(TransientError, match=r"a\.wav: cannot be read for now \(.+\)$") as raised:
        heard(Recording("a", there))
    assert fault.hits
    assert may_be_transient(raised.value, there)
    assert not missing_here(there)
    s3.faults.clear()
    assert heard(Recording("a", there)).shape == (1, 8000)


@pytest.mark.parametrize("way", ["s3", "http"])
def test_what_is_missing_for_a_moment_is_looked_for_again(s3: ObjectStorage, way: str):
    s3.put("faults/a.wav", wav())
    s3.faults.add("missing", "HEAD /faults/a.wav", times=1)
    s3.faults.add("missing", "(GET /faults/a.wav|prefix=a.wav)", times=1)
    assert heard(Recording("a", locator(s3, way, "faults/a.wav"))).shape == (1, 8000)


@pytest.mark.parametrize("way", ["s3", "http"])
def test_what_is_missing_in_a_bucket_that_answers_lasts(s3: ObjectStorage, way: str):
    s3.put("faults/a.wav", wav())
    there = locator(s3, way, "faults/none.wav")
    with pytest.raises(AudioFileError, match="no such file") as raised:
        heard(Recording("a", there))
    assert not may_be_transient(raised.value, there)
    assert not missing_here(there)


def test_a_bucket_that_is_missing_may_be_one_of_another_machine(s3: ObjectStorage):
    there = AudioLocator("a", "s3://no-such-bucket/a.wav")
    with pytest.raises(TransientError, match=r"a\.wav: cannot be seen from here") as raised:
        heard(Recording("a", there))
    assert may_be_transient(raised.value, there)
    assert missing_here(there)


def test_damaged_audio_behind_a_url_lasts(s3: ObjectStorage):
    s3.put("faults/bad.wav", b"no audio")
    there = AudioLocator("bad", s3.url("faults/bad.wav"))
    with pytest.raises(AudioFileError) as raised:
        heard(Recording("bad", there))
    assert not may_be_transient(raised.value, there)


def test_a_local_file_may_come_back_with_its_folder(tmp_path: Path):
    def state(path: Path) -> tuple[bool, bool]:
        there = AudioLocator("a", str(path))
        with pytest.raises(AudioFileError) as raised:
            heard(Recording("a", there))
        return may_be_transient(raised.value, there), missing_here(there)

    assert state(tmp_path / "mount" / "a.wav") == (True, True)
    (tmp_path / "mount").mkdir()  # an empty mount point
    assert state(tmp_path / "mount" / "a.wav") == (True, True)
    (tmp_path / "mount" / "b.wav").write_bytes(b"no audio")
    assert state(tmp_path / "mount" / "a.wav") == (False, False)
    assert state(tmp_path / "mount" / "b.wav") == (False, False)
    assert state(tmp_path / "mount" / "b.wav" / "c.wav") == (False, False)


@pytest.mark.slow
def test_keys_that_were_renewed_are_read_anew(
    s3: ObjectStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A token dies in the middle of a listing, and another program writes a new one."""
    s3.put("faults/a.wav", wav())
    keys = tmp_path / "credentials"
    text = "[default]\naws_access_key_id={}\naws_secret_access_key=x\n"
    keys.write_text(text.format("OLD"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(keys))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    item = Recording("a", AudioLocator("a", s3.url("faults/a.wav")))
    heard(item)
    s3.faults.add("expired", " OLD$")
    for _ in range(2):
        with pytest.raises(TransientError):
            heard(item)
    keys.write_text(text.format("NEW"))
    with pytest.raises(TransientError):
        heard(item)
    heard(item)


# ---- reading on


@pytest.mark.parametrize("way", ["s3", "http"])
@pytest.mark.parametrize("kind", PASSING)
def test_a_listing_is_read_on_where_a_connection_broke(s3: ObjectStorage, kind: str, way: str):
    rows = "".join(json.dumps({"path": f"{i}.wav", "text": "x" * 80}) + "\n" for i in range(3000))
    s3.put("lists/m.jsonl", rows.encode())
    url = locator(s3, way, "lists/m.jsonl").path
    fault = s3.faults.add(kind, "GET /lists/m.jsonl", times=2)
    assert [item.id for item in listed(url, "table")] == [f"{i}.wav" for i in range(3000)]
    assert fault.hits == 2
    s3.faults.clear()
    s3.faults.add(kind, "GET /lists/m.jsonl")
    with pytest.raises(TransientError, match="cannot be read for now"):
        listed(url, "table")


@pytest.mark.slow
def test_a_file_that_changes_while_it_is_read_is_refused(s3: ObjectStorage):
    s3.put("lists/m.bin", b"1" * 300_000)
    with reading(s3.url("lists/m.bin")) as file:
        file.read(10)
        s3.put("lists/m.bin", b"2" * 400_000)
        file.raw._file.cache.cache = b""  # pyright: ignore - as if it had not been read ahead
        file.raw._file.cache.start = file.raw._file.cache.end = 0  # pyright: ignore
        s3.faults.add("reset", "GET /lists/m.bin", times=1)
        with pytest.raises(InputError, match=r"m\.bin: changed from 300000 to 400000 bytes"):
            file.read()


@pytest.mark.slow
def test_an_archive_behind_a_url_is_no_damaged_one(s3: ObjectStorage, tmp_path: Path):
    path = tar(tmp_path / "t.tar", {f"{i}.flac": flac(i) for i in range(4)})
    s3.put("lists/t.tar", path.read_bytes())
    url = s3.url("lists/t.tar")
    s3.faults.add("truncated", "GET /lists/t.tar", times=1)
    here = [heard(item) for item in listed(path)]
    assert all(map(torch.equal, map(heard, listed(url)), here))
    s3.faults.add("truncated", "GET /lists/t.tar")
    with pytest.raises(TransientError, match=r"t\.tar: cannot be read for now"):
        listed(url)
    s3.faults.clear()
    s3.put("lists/t.tar", path.read_bytes()[:3000])
    with pytest.raises(ListingError, match=r"t\.tar: damaged"):
        listed(url)


def test_the_time_without_a_byte_is_a_number(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("s3fs")
    for text in ("soon", "0", "-1", "nan"):
        monkeypatch.setenv(remote.PATIENCE, text)
        with pytest.raises(InputError, match=f"AUDIOTOK_PATIENCE={text}: not a number of seconds"):
            remote.file_system("s3://bucket/a")


def test_the_settings_of_the_user_win(s3: ObjectStorage, monkeypatch: pytest.MonkeyPatch):
    conf: Any = pytest.importorskip("fsspec.config")
    monkeypatch.setenv(remote.PATIENCE, "30")
    system, _ = remote.file_system("s3://bucket/a")
    assert system.config_kwargs["read_timeout"] == 6  # of five tries
    monkeypatch.setitem(conf.conf, "s3", {"config_kwargs": {"read_timeout": 99}})
    system, _ = remote.file_system("s3://bucket/a")
    assert system.config_kwargs == {"read_timeout": 99, "connect_timeout": 6}


def test_training_and_benches_try_again_by_themselves(s3: ObjectStorage):
    s3.put("faults/a.wav", wav())
    s3.faults.add("503", "/faults/a.wav", times=3)
    assert Recording.of_file(s3.url("faults/a.wav")).load().samples.shape == (1, 8000)


# ---- folders


def test_a_prefix_is_a_folder(s3: ObjectStorage):
    for name in ("b/2.wav", "b/1.wav", "b-1.wav", "a.wav", ".x/a.wav", "notes.txt", "é.wav"):
        s3.put(f"folder/in/{name}", wav())
    s3.put("folder/in2/c.wav", wav())
    items = listed(s3.url("folder/in"))
    assert [item.id for item in listed(s3.url("folder/in/"))] == [item.id for item in items]
    assert [item.id for item in items] == ["a.wav", "b-1.wav", "b/1.wav", "b/2.wav", "é.wav"]
    assert items[2].locator.path == "s3://folder/in/b/1.wav"
    assert heard(items[4]).shape == (1, 8000)
    assert {i.id for i in read_manifest(s3.url("folder/in/"))} == {i.id for i in items}
    with pytest.raises(InputError, match="no such folder"):
        listing_of(s3.url("folder/i"))


def test_a_bucket_of_several_pages_is_in_order(s3: ObjectStorage, monkeypatch: pytest.MonkeyPatch):
    names = sorted(f"{i:x}.wav" for i in range(25))
    for name in names:
        s3.put(f"pages/{name}")
    monkeypatch.setattr(remote, "PAGE", 10)
    s3.faults.add("503", "list-type=2.*continuation", times=2)
    assert [item.id for item in listed(s3.url("pages"), "folder")] == names
    assert len(s3.requests) == 5
    s3.faults.add("500", "list-type=2.*continuation")
    items = listing_of(s3.url("pages"), "folder").items(s3.url("pages"))
    assert [next(items).id for _ in range(10)] == names[:10]
    with pytest.raises(TransientError, match="s3://pages: cannot be read for now"):
        next(items)


def test_a_server_without_an_order_is_refused(s3: ObjectStorage, monkeypatch: pytest.MonkeyPatch):
    s3.put("order/a.wav")
    page = {"Contents": [{"Key": "b.wav"}, {"Key": "a.wav"}]}
    system, _ = remote.file_system(s3.url("order"))
    monkeypatch.setattr(type(system), "call_s3", lambda *arguments, **options: page)
    with pytest.raises(ListingError, match=r"lists `a\.wav` after `b\.wav`.*write a manifest"):
        listed(s3.url("order"), "folder")


@pytest.mark.parametrize(
    "kind", ["webdataset", *(pytest.param(k, marks=pytest.mark.slow) for k in ("parquet", "shar"))]
)
def test_containers_in_a_bucket_are_found(s3: ObjectStorage, tmp_path: Path, kind: str):
    folder = tmp_path / "in"
    folder.mkdir()
    if kind == "webdataset":
        for i in range(3):
            tar(folder / f"{i}.tar", {f"{i}.flac": flac(i)})
    elif kind == "parquet":
        arrow: Any = pytest.importorskip("pyarrow")
        parquet: Any = pytest.importorskip("pyarrow.parquet")
        for i in range(3):
            table = arrow.table({"id": [str(i)], "audio": [flac(i)]})
            parquet.write_table(table, folder / f"{i}.parquet")
    else:
        shar: Any = pytest.importorskip("test_sources_shar")
        folder = shar.written(tmp_path, "flac")
    for path in folder.iterdir():
        s3.put(f"containers/{kind}/{path.name}", path.read_bytes())
    here = listed(folder)
    for end in ("", "/"):
        url = s3.url(f"containers/{kind}{end}")
        source = listing_of(url)
        assert type(source).__name__.lower() == kind
        there = list(source.items(url))
        assert [item.id for item in there] == [item.id for item in here]
        assert [item.columns() for item in there] == [item.columns() for item in here]
        assert all(map(torch.equal, map(heard, there), map(heard, here)))
        files = source.files(url)
        assert [os.path.basename(file) for file in files] == sorted(  # noqa: PTH119
            path.name for path in folder.iterdir() if not path.name.startswith("recording")
        )
        assert [r for file in files for r in source.items_of(url, file)] == there


def test_a_kaldi_directory_in_a_bucket_is_refused(s3: ObjectStorage):
    s3.put("kaldi/dir/wav.scp", b"a a.wav\n")
    s3.put("kaldi/dir/a.wav", wav())
    with pytest.raises(ListingError, match=r"s3://kaldi/dir: .*Kaldi"):
        listed(s3.url("kaldi/dir"))
    assert [item.id for item in listed(s3.url("kaldi/dir"), "folder")] == ["a.wav"]


# ---- a build


@pytest.mark.slow
def test_a_token_that_dies_in_mid_build_costs_no_recording(s3: ObjectStorage, tmp_path: Path):
    (tmp_path / "in").mkdir()
    for i in range(30):
        (tmp_path / "in" / f"{i:02}.wav").write_bytes(wav(i, 0.2))
        s3.put(f"build/in/{i:02}.wav", wav(i, 0.2))
    (tmp_path / "in" / "bad.wav").write_bytes(b"no audio")
    s3.put("build/in/bad.wav", b"no audio")

    def built(source: str, out: str) -> BuildSummary:
        work = Work(codec=str(small()), waits=(0.1, 0.2))
        console = Console(file=io.StringIO())
        return build(source, tmp_path / out, work, workers=2, console=console)

    here = built(str(tmp_path / "in"), "here")
    assert here.quarantined == 1
    s3.faults.add("503", probability=0.1)
    for after in (20, 35):
        token = s3.faults.add("expired", "/build/in/.*wav", after=after)
        with pytest.raises(CorpusError, match=r"wav: .*run the same again"):
            built(s3.url("build/in"), "there")
        assert token.hits
        assert not (tmp_path / "there" / "quarantine.tsv").exists()
        token.times = token.hits
    there = built(s3.url("build/in"), "there")
    assert (there.recordings, there.quarantined) == (here.recordings, 1)
    names = [path.name for path in (tmp_path / "here").iterdir() if path.name != "corpus.json"]
    same = {name: (tmp_path / "here" / name).read_bytes() for name in names if name != ".inputs"}
    assert {name: (tmp_path / "there" / name).read_bytes() for name in same} == same
