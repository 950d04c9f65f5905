"""The page of `audiotok serve` in a real browser, with a fake microphone and a dropped file."""

from __future__ import annotations

import base64
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from serving import Running, serving, until

from audiotok.audio.audio import Audio
from audiotok.codecs.embeddings import entries_of
from audiotok.serving.server.protocol import Limits
from audiotok.tokens.colours import coloured, similarity_colours
from audiotok.tokens.tokens import Tokens

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium on the PATH")
READING = Path(__file__).parents[2] / "egs/data/reading.flac"
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


def download(tab: Any, link: str, folder: Path) -> Path:
    """What a link of the page saves."""
    with tab.expect_download() as coming:
        tab.click(link)
    path = folder / coming.value.suggested_filename
    coming.value.save_as(path)
    return path


def saved(tab: Any, folder: Path) -> tuple[np.ndarray, str]:
    """What is heard, as the page saves it."""
    path = download(tab, "#save", folder)
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
    until(lambda: server.manager.engine.conversations == 0)


def test_tokens_are_saved_as_encode_writes_them_and_opened(
    browser: Any, server: Running, tmp_path: Path
):
    file, tok, few = (tmp_path / name for name in ("said.wav", "said.tok", "few.tok"))
    Audio.load(READING, end=1.5).mono().resample(16000).save(file)
    tokens = server.codec.encode(Audio.load(file))
    tokens.save(tok)
    # From another rate, and appended to: a header and two ends of its own.
    few_tokens = replace(tokens.first(3), original_rate=48000, original_samples=71999)
    few_tokens.cut(0, 0.8).save(few)
    few_tokens.cut(0.8).append(few)
    with opened(browser, server) as (tab, _):
        tab.wait_for_selector("#state[data-state=ok]")
        drop(tab, file)
        ready(tab)
        mine = download(tab, "#save-tokens", tmp_path)
        assert mine.name == "tokens-4.tok"
        assert mine.read_bytes() == tok.read_bytes()
        tab.locator("#books").fill("2")
        tab.wait_for_selector("#save-tokens[download='tokens-2.tok']", state="attached")
        assert Tokens.load(download(tab, "#save-tokens", tmp_path)) == tokens.first(2)
    with opened(browser, server) as (tab, _):
        tab.wait_for_selector("#state[data-state=ok]")
        for path, wanted in ((tok, tokens), (few, few_tokens)):
            drop(tab, path)
            name = f"tokens-{wanted.codebooks}.tok"
            tab.wait_for_selector(f"#save-tokens[download='{name}']", state="attached")
            assert tab.locator("#a").is_disabled()
            assert tab.inner_text("#tokens-text") == f"75 frames x {wanted.codebooks} codebooks"
            heard, _ = saved(tab, tmp_path)
            assert np.allclose(heard, server.codec.decode(wanted).samples.clamp(-1, 1), atol=5e-5)
            assert Tokens.load(download(tab, "#save-tokens", tmp_path)) == wanted
        drop(tab, file)  # a recording again: all codebooks, and an original
        tab.wait_for_selector("#a:not([disabled])")
        assert tab.get_attribute("#books", "max") == "4"
        assert tab.inner_text("#tokens-text") == "75 frames x 4 codebooks"


def labels(tab: Any, scale: str) -> list[str]:
    return tab.locator(f"{scale} span").all_inner_texts()


def over(tab: Any, canvas: str, x: float, y: float) -> str:
    """What is said of a place in a canvas, in shares of its width and height."""
    box = tab.locator(canvas).bounding_box()
    tab.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
    return tab.inner_text("#tip")


def test_scales_colours_and_the_value_under_the_pointer(
    browser: Any, server: Running, tmp_path: Path
):
    file = tmp_path / "said.wav"
    audio = Audio.load(READING, end=5).mono().resample(16000)
    audio.save(file)
    codes = server.codec.encode(Audio.load(file)).codes
    embeddings = entries_of(server.codec)
    assert embeddings is not None
    wanted = coloured(codes, similarity_colours(embeddings))
    for width, times in ((1280, "0.0 s 0.5 s 1.0 s 1.5 s 2.0 s"), (390, "0 s 1 s 2 s 3 s 4 s")):
        with opened(browser, server, width) as (tab, _):
            tab.wait_for_selector("#state[data-state=ok]")
            drop(tab, file)
            ready(tab)
            tab.wait_for_selector("#tokens-axis span")
            for axis in ("#wave-axis", "#tokens-axis", "#spectrum-axis"):
                assert " ".join(labels(tab, axis)[:5]) == times
            assert labels(tab, "#tokens-scale") == ["1", "2", "3", "4"]
            assert labels(tab, "#spectrum-scale") == ["0", "2k", "4k", "6k", "8k"]
            assert "similar entries have similar colours" in tab.inner_text("#tokens-by")
            # 5 s are 250 frames: frame 100 ends and codebook 2 has its middle here.
            said = f"codebook 2 · frame 100 · 2.00 s · code {codes[1, 100]}"
            assert over(tab, "#tokens", 100.5 / 250, 0.375) == said
            assert re.fullmatch(r"1\.2\d s · [67]\d\d\d Hz", over(tab, "#spectrum", 0.25, 0.15))
            assert over(tab, "#wave", 0.5, 0.5).startswith("2.5")
            tab.mouse.move(5, 5)
            assert tab.locator("#tip").is_hidden()
            pixel = tab.locator("#tokens").evaluate(
                "(c, [x, y]) => [...c.getContext('2d')"
                ".getImageData(x * c.width, y * c.height, 1, 1).data].slice(0, 3)",
                [100.5 / 250, 0.375],
            )
            assert pixel == wanted[1, 100].tolist()
            assert tab.evaluate("document.documentElement.scrollWidth") == width


def test_the_page_says_how_far_the_server_is_behind(browser: Any):
    with serving() as running:
        batch: Any = running.manager.engine.batch
        encode = batch.encode

        def slow(pieces: Any, /) -> Any:
            time.sleep(0.1)  # for 20 or 40 ms of speech
            return encode(pieces)

        with opened(browser, running) as (tab, _):
            tab.wait_for_selector("#state[data-state=ok]")
            tab.click("#record")
            tab.wait_for_selector("#record.on")
            tab.wait_for_selector("#behind", state="hidden")
            batch.encode = slow
            behind = tab.locator("#behind", has_text="falls further back")
            behind.wait_for(timeout=20_000)
            assert int(re.findall(r"(\d+) ms behind", behind.inner_text())[0]) >= 150
            batch.encode = encode
            tab.wait_for_selector("#behind", state="hidden", timeout=90_000)  # it has caught up
            tab.click("#record")
            ready(tab)
            tab.locator("#f-answer", has_text="ms behind").wait_for()


@pytest.mark.slow
def test_tokens_that_cannot_be_heard_are_told(browser: Any, server: Running, tmp_path: Path):
    tokens = server.codec.encode(Audio.load(READING, end=0.5).mono().resample(16000))
    replace(tokens, fingerprint="0" * 16).save(tmp_path / "other.tok")
    tokens.cut(0, 0).save(tmp_path / "none.tok")
    tokens.save(tmp_path / "whole.tok")
    data = (tmp_path / "whole.tok").read_bytes()
    changed = bytearray(data)
    changed[len(data) // 2] ^= 4
    (tmp_path / "changed.tok").write_bytes(changed)
    (tmp_path / "short.tok").write_bytes(data[:-7])
    (tmp_path / "head.tok").write_bytes(data[:30])
    (tmp_path / "more.tok").write_bytes(data + b"more")
    (tmp_path / "next.tok").write_bytes(data[:6] + b"\x03" + data[7:])
    with opened(browser, server) as (tab, _):
        tab.wait_for_selector("#state[data-state=ok]")
        for name, said in (
            ("other", r"other.tok: tokens of speech \(0{16}\); this server has speech"),
            ("none", "none.tok: no tokens in it"),
            ("next", "written in format 3, this page reads 2"),
            *(
                (name, f"{name}.tok: damaged or cut")
                for name in ("changed", "short", "head", "more")
            ),
        ):
            drop(tab, tmp_path / f"{name}.tok")
            tab.wait_for_function(
                "said => new RegExp(said).test(document.getElementById('problem').textContent)",
                arg=said,
                timeout=5000,
            )
        drop(tab, tmp_path / "whole.tok")
        ready(tab)
        assert tab.locator("#problem").is_hidden()


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
        tab.locator("#time", has_text=re.compile(r"^\d*[2-9]\.")).wait_for()  # with the next frame
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
