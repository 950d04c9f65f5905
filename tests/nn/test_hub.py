"""Weights come into the cache whole or not at all, go on where they broke off, and what cannot be
had says in one line which file to put where."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from commandline import COMMAND, audiotok, environment
from test_codecs_oracles import ENCODEC, encodec_pair

from audiotok._platform.registry import presets
from audiotok.codecs.checkpoint import CheckpointError, load, save, weights_of
from audiotok.codecs.models.encodec import Encodec
from audiotok.nn.pretrained import hub
from audiotok.nn.pretrained.hub import (
    HubError,
    PublishedWeights,
    cache_folder,
    cached,
    download,
    fetch,
)

DATA = bytes(range(256)) * 8192  # 2 MB
DIGEST = hashlib.sha256(DATA).hexdigest()


class Site(ThreadingHTTPServer):
    """A web site of one file, which breaks off each answer after `breaks[i]` bytes."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.data, self.etag = DATA, '"one"'
        self.breaks: list[int] = []
        self.asked: list[str | None] = []
        self.ranges = True
        self.redirect = ""
        self.slow = 0.0
        self.url = f"http://127.0.0.1:{self.server_address[1]}/weights.th"

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # clients that hang up are what is tested


class Answer(BaseHTTPRequestHandler):
    server: Site  # pyright: ignore[reportIncompatibleVariableOverride]

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        site, wanted = self.server, self.headers.get("Range")
        site.asked.append(wanted)
        if site.redirect:
            self.send_response(302)
            self.send_header("Location", site.redirect)
            self.end_headers()
            return
        if self.path != "/weights.th":
            self.send_error(404)
            return
        first = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        first = first if site.ranges else 0
        if first >= len(site.data):
            self.send_error(416)
            return
        self.send_response(206 if first else 200)
        self.send_header("Content-Length", str(len(site.data) - first))
        if site.etag:
            self.send_header("ETag", site.etag)
        self.end_headers()
        rest = site.data[first:]
        if site.breaks:
            rest = rest[: site.breaks.pop(0)]
        if site.slow:
            for start in range(0, len(rest), 1 << 16):
                self.wfile.write(rest[start : start + (1 << 16)])
                time.sleep(site.slow)
        else:
            self.wfile.write(rest)


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AUDIOTOK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# -- a download ------------------------------------------------------------------------------------


def test_a_file_comes_whole(site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    path = tmp_path / "new/folder/weights.th"
    assert download(site.url, path, sha256=DIGEST[:8]) == path
    assert path.read_bytes() == DATA
    assert files(path.parent) == ["weights.th", "weights.th.sha256"]
    beside = (path.parent / "weights.th.sha256").read_text()
    assert beside == f"{DIGEST}  weights.th\n"
    assert caplog.messages == [f"downloading {site.url} (2 MB)"]


def test_a_broken_connection_is_taken_up_where_it_broke(site: Site, tmp_path: Path):
    site.breaks = [100_000, 5, 1_000_000]
    assert download(site.url, tmp_path / "w.th").read_bytes() == DATA
    assert site.asked == [None, "bytes=100000-", "bytes=100005-", "bytes=1100005-"]


def test_what_brings_nothing_new_is_given_up(site: Site, tmp_path: Path):
    site.breaks = [100_000, *[0] * 50]
    wanted = rf"^{site.url} cannot be had \(broke off after 100000 of {len(DATA)} bytes\)$"
    with pytest.raises(HubError, match=wanted):
        download(site.url, tmp_path / "w.th")
    assert len(site.asked) == 1 + hub.TRIES
    # What came is kept, and the next try goes on with it.
    (kept,) = files(tmp_path)
    assert kept.startswith(".w.th.")
    site.breaks, site.asked = [], []
    assert download(site.url, tmp_path / "w.th").read_bytes() == DATA
    assert site.asked == ["bytes=100000-"]
    assert files(tmp_path) == ["w.th", "w.th.sha256"]


def test_an_interrupted_program_goes_on_the_next_time(site: Site, tmp_path: Path):
    site.slow = 0.05
    into = str(tmp_path / "w.th")
    code = f"from audiotok.nn.pretrained.hub import *; download({site.url!r}, Path({into!r}))"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment(),
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    end = time.monotonic() + 60
    while not any(path.stat().st_size > 200_000 for path in tmp_path.glob(".w.th.*.part")):
        assert time.monotonic() < end
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) != 0
    site.slow, site.asked = 0, []
    assert download(site.url, tmp_path / "w.th", sha256=DIGEST).read_bytes() == DATA
    (asked,) = site.asked
    assert asked is not None
    assert int(asked.removeprefix("bytes=").removesuffix("-")) >= 200_000


@pytest.mark.parametrize("etag", ['"two"', ""])
def test_another_file_is_not_gone_on_with(etag: str, site: Site, tmp_path: Path):
    """The beginning of one version and the end of another are no file."""
    site.breaks = [100_000, *[0] * 50]
    with pytest.raises(HubError):
        download(site.url, tmp_path / "w.th")
    site.breaks, site.etag, site.data = [], etag, DATA[::-1]
    assert download(site.url, tmp_path / "w.th").read_bytes() == DATA[::-1]
    # Nor with one that is shorter than what is here.
    site.etag, site.data = '"one"', DATA[::-1]
    (tmp_path / "w.th").unlink()
    site.breaks = [100_000, *[0] * 50]
    with pytest.raises(HubError):
        download(site.url, tmp_path / "w.th")
    site.breaks, site.data = [], b"short"
    assert download(site.url, tmp_path / "w.th").read_bytes() == b"short"


def test_a_server_that_cannot_go_on_begins_again(site: Site, tmp_path: Path):
    site.ranges = False
    site.breaks = [100_000]
    assert download(site.url, tmp_path / "w.th").read_bytes() == DATA


def test_without_a_version_nothing_is_kept(site: Site, tmp_path: Path):
    site.etag, site.breaks = "", [100_000, *[0] * 50]
    with pytest.raises(HubError):
        download(site.url, tmp_path / "w.th")
    assert files(tmp_path) == []


def test_the_wrong_file_is_not_kept(site: Site, tmp_path: Path):
    with pytest.raises(HubError) as caught:
        download(site.url, tmp_path / "w.th", sha256="d7cc33bc")
    wanted = f"{site.url} has sha256 {DIGEST[:16]}..., not d7cc33bc...; not kept"
    assert str(caught.value) == wanted
    assert files(tmp_path) == []


def test_no_such_file(site: Site, tmp_path: Path):
    url = site.url.replace("weights", "waits")
    with pytest.raises(HubError, match=rf"^{url} cannot be had \(HTTP 404 Not Found\)$"):
        download(url, tmp_path / "w.th")
    assert files(tmp_path) == []
    assert len(site.asked) == 1


def test_nobody_there(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    url = f"http://127.0.0.1:{port}/w.th"
    with pytest.raises(HubError, match=rf"^{url} cannot be had \(.*refused\)$"):
        download(url, tmp_path / "w.th")
    assert files(tmp_path) == []


def test_only_over_https(site: Site, tmp_path: Path):
    with pytest.raises(HubError, match=r"^http://192\.0\.2\.1/w is not https$"):
        download("http://192.0.2.1/w", tmp_path / "w.th")
    with pytest.raises(HubError, match=r"^file:///etc/hostname is not https$"):
        download("file:///etc/hostname", tmp_path / "w.th")
    site.redirect = "http://localhost:1/"  # would be let through; nobody is there
    with pytest.raises(HubError, match="refused"):
        download(site.url, tmp_path / "w.th")


def test_two_at_once(site: Site, tmp_path: Path):
    site.slow = 0.002
    made: list[Path] = []
    threads = [
        threading.Thread(target=lambda: made.append(download(site.url, tmp_path / "w.th")))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 4
    assert (tmp_path / "w.th").read_bytes() == DATA
    assert files(tmp_path) == ["w.th", "w.th.sha256"]


# -- the cache -------------------------------------------------------------------------------------


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.setenv("AUDIOTOK_CACHE", "~/mine")
    assert cache_folder() == Path.home() / "mine"
    monkeypatch.delenv("AUDIOTOK_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/some/where")
    monkeypatch.setattr(sys, "platform", "linux")
    assert cache_folder() == Path("/some/where/audiotok")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache/audiotok"


def test_a_file_put_there_by_hand_will_do(cache: Path):
    source = PublishedWeights(file="in/repo/right.th", url="https://example.org/right.th")
    folder = cache / "some"
    assert cached("some", source) is None
    folder.mkdir(parents=True)
    (folder / "notes.txt").touch()
    (folder / ".half.th").touch()
    assert cached("some", source) is None
    (folder / "other.safetensors").touch()
    assert cached("some", source) == cached("some", None) == folder / "other.safetensors"
    (folder / "another.ckpt").touch()
    assert cached("some", source) is None, "which of the two?"
    (folder / "right.th").touch()
    assert cached("some", source) == fetch("some", source) == folder / "right.th"


def test_what_cannot_be_had_says_what_to_put_where(cache: Path, site: Site):
    url = site.url.replace("weights", "waits")
    with pytest.raises(HubError) as caught:
        fetch("some", PublishedWeights(file="waits.th", url=url))
    assert str(caught.value) == (
        f"codec 'some' has no weights here: {url} cannot be had (HTTP 404 Not Found); "
        f"put waits.th into {cache / 'some'}/"
    )
    with pytest.raises(HubError) as caught:
        fetch("some", PublishedWeights(file="x.pt", page="https://example.org/x"))
    assert str(caught.value) == (
        "codec 'some' has no weights here: get them at https://example.org/x and "
        f"put x.pt into {cache / 'some'}/"
    )


def test_hugging_face_offline(cache: Path, monkeypatch: pytest.MonkeyPatch):
    """One line at once, whether its package, which would try for half a minute, is there or not."""
    source = PublishedWeights(repo="some/body", file="sub/w.pt")
    assert source.address == "https://huggingface.co/some/body/resolve/main/sub/w.pt"
    with pytest.raises(HubError) as caught:
        fetch("some", source)
    said = str(caught.value)
    assert said.startswith(f"codec 'some' has no weights here: {source.address} cannot be had (")
    assert said.endswith(f"; put w.pt into {cache / 'some'}/")
    assert "\n" not in said
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.example")
    assert source.address == "https://mirror.example/some/body/resolve/main/sub/w.pt"


def test_hugging_faces_own_cache_is_looked_in(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    constants = pytest.importorskip("huggingface_hub").constants
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    source = PublishedWeights(repo="some/body", file="sub/w.pt")
    assert cached("some", source) is None
    repository = tmp_path / "hub" / "models--some--body"
    file = repository / "snapshots" / "0a1b" / "sub" / "w.pt"
    file.parent.mkdir(parents=True)
    file.touch()
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0a1b")
    assert cached("some", source) == fetch("some", source) == file


def test_no_room(cache: Path, site: Site):
    cache.write_text("a file in the way of a folder")
    with pytest.raises(HubError, match=r"^codec 'some' has no weights here: .*w\.th: "):
        fetch("some", PublishedWeights(file="w.th", url=site.url))


# -- by name ---------------------------------------------------------------------------------------


@pytest.fixture
def published(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Encodec:
    """A small EnCodec that is "published" on the site; and the codec it is."""
    config = ENCODEC["24 kHz"]
    monkeypatch.setattr(Encodec, "presets", {"encodec_24khz": config})
    torch.save(encodec_pair(config)[0].state_dict(), tmp_path / "there.th")
    site.data = (tmp_path / "there.th").read_bytes()
    digest = hashlib.sha256(site.data).hexdigest()[:8]
    source = PublishedWeights(file=f"encodec_24khz-{digest}.th", url=site.url, sha256=digest)
    monkeypatch.setattr(Encodec, "sources", {"encodec_24khz": source})
    codec = load(tmp_path / "there.th")
    assert isinstance(codec, Encodec)
    return codec


def test_a_name_is_enough(published: Encodec, site: Site, cache: Path):
    assert weights_of("encodec_24khz") is None
    codec = load("encodec_24khz")
    assert codec.fingerprint == published.fingerprint
    assert (codec.name, type(codec).name) == ("encodec_24khz", "encodec")
    assert weights_of("encodec_24khz") is not None
    asked = len(site.asked)
    assert load("encodec_24khz").fingerprint == codec.fingerprint
    assert len(site.asked) == asked, "downloaded twice"


def test_a_converted_file_in_the_cache_will_do(published: Encodec, site: Site, cache: Path):
    (cache / "encodec_24khz").mkdir(parents=True)
    save(published, cache / "encodec_24khz/mine.safetensors", dtype=torch.float32)
    assert load("encodec_24khz").fingerprint == published.fingerprint
    assert site.asked == []


def test_a_file_of_another_codec_in_the_cache(published: Encodec, cache: Path):
    path = cache / "dac_16khz/weights_16khz.pth"
    path.parent.mkdir(parents=True)
    torch.save(published.state_dict(), path)
    with pytest.raises(CheckpointError, match="weights of no codec here"):
        load("dac_16khz")


def test_tokens_find_their_codec_by_name(published: Encodec, tmp_path: Path):
    """Encoded and decoded on the command line, by the name alone."""
    from commandline import recording

    talk, tokens = recording(tmp_path / "talk.wav", rate=24000), tmp_path / "talk.tok"
    done = audiotok("encode", talk, "-o", tokens, "--codec", "encodec_24khz")
    assert done.code == 0, done.err
    assert audiotok("info", tokens, "--json").json["codec"] == "encodec_24khz"
    done = audiotok("decode", tokens, "-o", tmp_path / "again.wav")
    assert done.code == 0, done.err
    rows = {row["name"]: row for row in audiotok("codecs", "--json").json}
    assert rows.keys() == presets("codecs").keys()
    assert rows["encodec_24khz"]["weights"].endswith(".th")
    assert audiotok("info", "encodec_24khz", "--json").json["fingerprint"] == published.fingerprint


def test_offline_is_one_line(tmp_path: Path):
    """The network is shut, as in every test here; in a process of its own it is not tried."""
    talk = tmp_path / "talk.wav"
    talk.touch()
    done = audiotok("encode", talk, "--codec", "dm_codec")
    assert done.code == 1
    assert len(done.lines) == 1
    assert "codec 'dm_codec' has no weights here: get them at https://" in done.err
    done = subprocess.run(
        [*COMMAND, "info", "dac_16khz", "--json"],
        env={**environment(), "AUDIOTOK_CACHE": os.fspath(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert '"weights": null' in done.stdout, "what a codec is needs no weights"
    with pytest.raises(HubError) as caught:
        load("encodec_24khz")
    said = str(caught.value)
    assert said.endswith(f"put encodec_24khz-d7cc33bc.th into {cache_folder()}/encodec_24khz/")
    assert "\n" not in said
