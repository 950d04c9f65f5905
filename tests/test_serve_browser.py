"""The page of `audiotok serve` in a real browser, with a fake microphone and a dropped file."""

from __future__ import annotations

import base64
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from serving import Running, serving, until

from audiotok.audio import Audio
from audiotok.serve.protocol import Limits

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium on the PATH")
READING = Path(__file__).parents[1] / "egs/data/reading.flac"
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    said = tmp_path_factory.mktemp("microphone") / "said.wav"
    Audio.load(READING, end=3).resample(48000).save(said)
    flags = [*FLAGS, f"--use-file-for-fake-audio-capture={said}"]
    with playwright.sync_playwright() as runner:
        opened = runner.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with serving() as running:
        yield running


@contextmanager
def opened(browser: Any, running: Running, width: int = 1280, path: str = "/") -> Iterator[Any]:
    """The page; afterwards nothing may have gone wrong in it, nor been asked for elsewhere."""
    context = browser.new_context(viewport={"width": width, "height": 900}, accept_downloads=True)
    tab, troubles, asked = context.new_page(), [], []
    tab.on("console", lambda m: m.type in ("error", "warning") and troubles.append(m.text))
    tab.on("pageerror", lambda error: troubles.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(f"http://127.0.0.1:{running.port}{path}")
    try:
        yield tab, troubles
    finally:
        context.close()
    assert not troubles
    mine = f"http://127.0.0.1:{running.port}/"
    assert all(url.startswith((mine, "blob:", "data:")) for url in asked), asked


def ready(tab: Any) -> None:
    tab.wait_for_selector("#play:not([disabled])", timeout=60_000)


def saved(tab: Any, folder: Path) -> tuple[np.ndarray, str]:
    """What is heard, as the page saves it."""
    with tab.expect_download() as download:
        tab.click("#save")
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    samples, rate = soundfile.read(path, dtype="float32")
    assert rate == 16000
    return samples[None], path.name


def painted(tab: Any, canvas: str) -> int:
    """How many colours a canvas has."""
    return tab.locator(canvas).evaluate(
        "c => new Set(new Uint32Array(c.getContext('2d')"
        ".getImageData(0, 0, c.width, c.height).data.buffer)).size"
    )


def drop(tab: Any, path: Path) -> None:
    data = base64.b64encode(path.read_bytes()).decode()
    transfer = tab.evaluate_handle(
        """([data, name]) => {
            const bytes = Uint8Array.from(atob(data), c => c.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], name));
            return transfer;
        }""",
        [data, path.name],
    )
    tab.dispatch_event("#drop", "drop", {"dataTransfer": transfer})


def test_the_microphone_is_seen_and_heard(browser: Any, server: Running, tmp_path: Path):
    with opened(browser, server) as (tab, _):
        tab.wait_for_selector("#state[data-state=ok]")
        tab.click("#record")
        tab.wait_for_selector("#record.on")
        tab.wait_for_timeout(1500)
        assert tab.locator("#level").evaluate("m => m.value") > 0.001
        live = int(tab.inner_text("#tokens-text").split()[0])
        assert live > 10, "tokens do not come while one speaks"
        assert painted(tab, "#tokens") > 20
        assert painted(tab, "#spectrum") > 20
        tab.click("#record")
        ready(tab)
        tab.click("#a")
        original, name = saved(tab, tmp_path)
        assert name == "original.wav"
        tab.click("#b")
        decoded, name = saved(tab, tmp_path)
        assert name == "decoded-4.wav"
        assert decoded.shape == original.shape  # to the sample
        assert np.abs(original).max() > 0.05  # it is speech, not silence
        frames = int(tab.inner_text("#tokens-text").split()[0])
        assert frames == -(-original.shape[1] // 320)
        assert "ms" in tab.inner_text("#f-answer")
    until(lambda: server.room.engine.conversations == 0)


@pytest.mark.slow
def test_a_dropped_file_with_any_number_of_codebooks(browser: Any, server: Running, tmp_path: Path):
    file = tmp_path / "said.wav"
    samples = Audio.load(READING, end=2).mono().resample(16000)
    samples.save(file)
    with opened(browser, server) as (tab, _):
        tab.wait_for_selector("#state[data-state=ok]")
        drop(tab, file)
        ready(tab)
        here = server.codec.encode(Audio.load(file))
        for books in (4, 1, 3):
            tab.locator("#books").fill(str(books))
            tab.wait_for_selector(f"#save[download='decoded-{books}.wav']", state="attached")
            heard, _ = saved(tab, tmp_path)
            wanted = server.codec.decode(here.first(books)).samples.numpy()
            assert heard.shape == wanted.shape == samples.samples.shape
            assert np.allclose(heard, wanted.clip(-1, 1), atol=2e-3), books
            rate = float(tab.inner_text("#f-rate").split()[0])
            assert rate == pytest.approx(here.first(books).kbps, abs=0.01)


@pytest.mark.slow
def test_it_plays_seeks_and_keeps_its_place_between_a_and_b(browser: Any, server: Running):
    with opened(browser, server) as (tab, _):
        tab.wait_for_selector("#state[data-state=ok]")
        tab.set_input_files("#file", READING)
        ready(tab)

        def at() -> float:
            return float(tab.inner_text("#time").split("/")[0])

        tab.locator("#plots").click(position={"x": 400, "y": 60})
        place = at()
        assert place > 2
        tab.click("#play")
        assert tab.get_attribute("#play", "aria-label") == "Pause"
        tab.wait_for_timeout(400)
        tab.click("#a")
        assert at() > place
        tab.keyboard.press("Tab")
        tab.wait_for_timeout(300)
        assert at() > place + 0.3
        tab.click("#play")
        still = at()
        tab.wait_for_timeout(300)
        assert at() == still


@pytest.mark.slow
def test_what_goes_wrong_is_said(browser: Any, tmp_path: Path):
    (tmp_path / "no.wav").write_bytes(b"RIFF, or so it says")
    with (
        serving(limits=Limits(idle_seconds=0.5)) as running,
        opened(browser, running) as (tab, _),
    ):
        tab.wait_for_selector("#state[data-state=ok]")
        tab.set_input_files("#file", tmp_path / "no.wav")
        tab.wait_for_selector("#problem:visible")
        assert "no.wav: not audio that this browser reads" in tab.inner_text("#problem")
        tab.wait_for_selector("#state[data-state=bad]", timeout=20_000)  # it was idle
        tab.set_input_files("#file", READING)  # and comes back
        ready(tab)


@pytest.mark.slow
def test_a_token_is_asked_for(browser: Any):
    with serving(token="schlüssel") as running, opened(browser, running) as (tab, troubles):
        tab.wait_for_selector("#token-form:visible")
        tab.fill("#token", "falsch")
        tab.click("#token-form button")
        tab.wait_for_selector("#state[data-state=bad]")
        tab.fill("#token", "schlüssel")
        tab.click("#token-form button")
        tab.wait_for_selector("#state[data-state=ok]")
        assert tab.locator("#token-form").is_hidden()
        assert all("WebSocket connection to" in trouble for trouble in troubles)  # refused
        troubles.clear()


@pytest.mark.slow
def test_a_phone_scrolls_down_only(browser: Any, server: Running):
    with opened(browser, server, width=360) as (tab, _):
        tab.wait_for_selector("#state[data-state=ok]")
        tab.set_input_files("#file", READING)
        ready(tab)
        assert tab.evaluate("document.documentElement.scrollWidth") == 360
