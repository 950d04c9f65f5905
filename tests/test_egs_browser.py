"""egs/browser in a real Chromium: its codes are torch's, and it gives back every sample.

Needs `npm install` in egs/browser (onnxruntime-web is not in the repository), and exports the codec
that ships: slow.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from commandline import process

from audiotok import Audio, load
from audiotok.runtime.exported import is_exported

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytest.importorskip("onnxscript", reason="onnxscript is not installed")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
EGS = Path(__file__).parents[1] / "egs"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium on the PATH"),
    pytest.mark.skipif(
        not (EGS / "browser" / "node_modules" / "onnxruntime-web").is_dir(),
        reason="no onnxruntime-web: npm install in egs/browser",
    ),
]
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
    *("--autoplay-policy=no-user-gesture-required", "--use-fake-ui-for-media-stream"),
    "--use-fake-device-for-media-stream",
)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page, beside the codec that ships, exported (or the one in $AUDIOTOK_EXPORTED)."""
    folder = tmp_path_factory.mktemp("site")
    for file in (EGS / "browser").iterdir():
        if file.name != "codec":
            (folder / file.name).symlink_to(file)
    made = os.environ.get("AUDIOTOK_EXPORTED", "")
    if is_exported(made):
        (folder / "codec").symlink_to(made)
    else:
        done = process("export", "speech", folder / "codec")
        assert done.code == 0, done.err
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=folder))
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def page(address: str) -> Iterator[Any]:
    with playwright.sync_playwright() as runner:
        browser = runner.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        tab = browser.new_page()
        troubles: list[str] = []
        tab.on("pageerror", lambda error: troubles.append(str(error)))
        tab.on("console", lambda m: m.type == "error" and troubles.append(m.text))
        tab.goto(address)
        tab.wait_for_function("document.body.textContent.includes('ready')", timeout=120_000)
        yield tab
        assert not troubles
        browser.close()


def encoded(page: Any) -> np.ndarray:
    said = "document.getElementById('said').textContent"
    page.wait_for_function(f"{said}.includes('encoded') || {said}.includes('error')")
    page.wait_for_function("document.body.dataset.samples")
    return np.array(page.evaluate("window.audiotok.tokens.codes"))


def test_its_codes_are_those_of_torch(page: Any, tmp_path: Path):
    codec = load("speech")
    audio = Audio.load(EGS / "data" / "reading.flac").mono().resample(16000)[: 5 * 16000 + 77]
    audio.save(tmp_path / "a.wav", subtype="FLOAT")  # browsers scale integers their own way
    right = codec.encode(Audio.load(tmp_path / "a.wav")).codes
    page.set_input_files("#file", tmp_path / "a.wav")
    codes = encoded(page)
    assert codes.shape == right.shape
    assert (codes != right).any(0).sum() <= right.shape[1] / 1000
    assert page.evaluate("document.body.dataset.samples") == str(len(audio))


def test_fewer_codebooks_sound_as_they_do_in_torch(page: Any, tmp_path: Path):
    codec = load("speech")
    audio = Audio.load(EGS / "data" / "reading.flac").mono().resample(16000)[:16000]
    tokens = codec.encode(audio)
    heard = page.evaluate(
        "([codes, samples]) => window.audiotok.codec.decode({ codes, samples }, 3)"
        ".then((wave) => Array.from(wave))",
        [tokens.codes.tolist(), tokens.samples],
    )
    right = codec.decode(tokens.first(3)).samples[0].numpy()
    assert np.abs(np.array(heard) - right).max() < 1e-4


def test_the_slider_and_the_microphone(page: Any):
    page.click("#record")
    page.wait_for_timeout(1500)
    page.click("#record")
    codes = encoded(page)
    assert codes.shape[0] == 8
    assert codes.shape[1] > 25
    page.wait_for_function("document.getElementById('player').duration > 0.5")
    first = page.get_attribute("#player", "src")
    page.fill("#codebooks", "1")
    page.wait_for_function(f"document.getElementById('player').src != '{first}'")
    assert page.text_content("#count") == "1"


def test_what_is_no_audio_is_said_so(page: Any, tmp_path: Path):
    (tmp_path / "a.txt").write_text("no audio")
    page.set_input_files("#file", tmp_path / "a.txt")
    page.wait_for_function("document.getElementById('said').textContent.startsWith('error')")
