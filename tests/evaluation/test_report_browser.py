"""The page of a report in a real browser: sorted, heard, tested blind, narrow, and large."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from benched import benched

from audiotok.evaluation.report import write_report

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium on the PATH")
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
    "--autoplay-policy=no-user-gesture-required",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as runner:
        opened = runner.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    write_report(benched(folder), folder, clips=4, title="A bench")
    return folder / "report.html"


@pytest.fixture
def page(browser: Any, report: Path) -> Iterator[Any]:
    yield from _opened(browser, report)


def _opened(browser: Any, file: Path, width: int = 1280) -> Iterator[Any]:
    """The page; afterwards nothing may have gone wrong in it, nor been asked for outside."""
    context = browser.new_context(viewport={"width": width, "height": 850}, accept_downloads=True)
    tab = context.new_page()
    troubles: list[str] = []
    asked: list[str] = []
    tab.on("console", lambda m: m.type in ("error", "warning") and troubles.append(m.text))
    tab.on("pageerror", lambda error: troubles.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(file.as_uri())
    yield tab
    assert not troubles
    assert all(url.startswith(("data:", "blob:", file.as_uri())) for url in asked)
    context.close()


def _names(page: Any) -> list[str]:
    return page.locator("#main tbody th").evaluate_all("cells => cells.map(c => c.dataset.v)")


def test_a_click_sorts_best_first_and_another_turns_it_round(page: Any):
    head = page.locator("#main thead th", has_text="wer")
    button = head.locator("button")
    button.click()
    assert head.get_attribute("aria-sort") == "ascending"  # lower is better
    assert _names(page)[:2] == ["noise", "opus:6"]  # planted: 50 - 5 * row
    button.focus()
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    assert _names(page)[0] == "original"
    page.locator("#main thead th button", has_text="stoi").click()
    assert head.get_attribute("aria-sort") == "none"
    assert _names(page)[-1] == "noise"  # it failed: below every number, whichever way
    page.locator("#main thead th button", has_text="stoi").click()
    assert _names(page)[-1] == "noise"


def _heard(page: Any, meter: str) -> None:
    """Waits for sound; from here, since the page lets nobody evaluate text in it."""
    end = time.monotonic() + 10
    while page.locator(meter).evaluate("m => m.value") < 0.1:
        assert time.monotonic() < end
        page.wait_for_timeout(20)


def _time(page: Any) -> float:
    text = page.locator("#player-0 .time").inner_text()
    return float(text.split("/")[0].split(":")[1])


def test_a_clip_sounds_and_switching_keeps_the_place(page: Any):
    player = page.locator("#player-0")
    player.get_by_label("loop").check()
    player.get_by_role("button", name="Play").click()
    _heard(page, "#player-0 meter")
    before = _time(page)
    page.wait_for_timeout(200)
    assert _time(page) > before
    player.get_by_role("button", name="speech@4").click()
    assert player.locator("[data-subject='speech@4']").get_attribute("aria-pressed") == "true"
    at = _time(page)
    assert at > before  # it did not start again
    _heard(page, "#player-0 meter")
    page.keyboard.press("1")
    assert player.locator("[data-subject=original]").get_attribute("aria-pressed") == "true"
    page.wait_for_timeout(1200)  # longer than the clip: it goes round
    player.get_by_role("button", name="Pause").click()
    assert player.locator("meter").evaluate("m => m.value") == 0
    still = _time(page)
    page.wait_for_timeout(150)
    assert _time(page) == still


def test_a_version_that_is_missing_says_so(page: Any):
    disabled = page.locator(".player button[disabled]")
    assert disabled.count() == 1
    assert disabled.get_attribute("data-subject") == "speech@2"
    assert "clip-1" in disabled.get_attribute("title")


def test_the_worst_recordings_lead_to_their_players(page: Any):
    rows = page.locator("#worst-table tbody tr")
    page.select_option("#worst-subject", label="speech@1")
    assert "failed (PESQ: <no> utterance)" in rows.nth(0).inner_text()
    assert "clip-0" in rows.nth(1).inner_text()
    assert "</script><script>" in rows.nth(1).inner_text()  # a transcript is text
    assert page.title() == "A bench"
    page.select_option("#worst-metric", "wer")
    assert "clip-11" in rows.nth(0).inner_text()  # more errors, the worse
    page.fill("#worst-count", "2")
    assert rows.count() == 2


def test_abx_hides_names_scores_answers_and_saves_them(page: Any):
    page.fill("#blind-listener", "Ada <b>")
    page.fill("#abx-trials", "5")
    page.fill("#blind-seed", "42")
    page.select_option("#abx-a", label="original")
    page.select_option("#abx-b", label="speech@4")
    page.click("#blind-form button[type=submit]")
    for trial in range(1, 6):
        page.wait_for_selector(f"#blind-title:text('Trial {trial} of 5')")
        said = page.locator("#blind-dialog").inner_text()
        assert "original" not in said
        assert "speech" not in said
        page.keyboard.press("3")
        page.locator("#blind-dialog button.play").click()
        _heard(page, "dialog meter")
        page.locator(f"[data-answer={'AB'[trial % 2]}]").click()
    with page.expect_download() as download:
        page.click("#blind-save")
    saved = json.loads(Path(download.value.path()).read_text("utf-8"))
    assert download.value.suggested_filename.startswith("abx-Ada_b_-")
    assert (saved["listener"], saved["seed"], saved["of"]) == ("Ada <b>", 42, 5)
    assert saved["compared"] == ["original", "speech@4"]
    answers = ["AB"[trial % 2] for trial in range(1, 6)]
    assert [row["answer"] for row in saved["trials"]] == answers
    assert saved["right"] == sum(row["x"] == row["answer"] for row in saved["trials"])
    tail = {0: 32, 1: 31, 2: 26, 3: 16, 4: 6, 5: 1}  # of the 32 ways to guess five times
    assert saved["p"] == pytest.approx(tail[saved["right"]] / 32)
    assert json.loads(page.locator("#blind-results pre").inner_text()) == saved


def test_a_rating_has_a_hidden_reference_and_a_low_anchor(page: Any):
    page.fill("#blind-listener", "Bo")
    assert page.locator("#rating-subjects").is_hidden()
    page.select_option("#blind-kind", "rating")
    assert page.locator("#abx-trials").is_hidden()
    page.click("#blind-form button[type=submit]")
    for rated in range(1, 4):  # of the fourth recording one version is missing
        page.wait_for_selector(f"#blind-title:text('Recording {rated} of 3')")
        assert "speech" not in page.locator("#blind-dialog").inner_text()
        assert page.locator("[data-answer=next]").is_disabled()
        sliders = page.locator("#blind-dialog .rate input")
        assert sliders.count() == 7  # five codecs, the original, the low anchor
        for i in range(7):
            sliders.nth(i).fill(str(10 * i))
        page.locator("[data-answer=next]").click()
    page.wait_for_selector("#blind-save")
    saved = json.loads(page.locator("#blind-results pre").inner_text())
    names = {row["name"] for row in saved["means"]}
    assert {"hidden reference", "low anchor (3.5 kHz low-pass)", "opus:6"} <= names
    orders = [[row["name"] for row in trial["ratings"]] for trial in saved["trials"]]
    assert len(orders) == 3
    assert orders[0] != orders[1] or orders[1] != orders[2]  # shuffled each time
    for row in saved["means"]:
        given = [
            r["rating"] for t in saved["trials"] for r in t["ratings"] if r["name"] == row["name"]
        ]
        assert row["mean"] == pytest.approx(sum(given) / 3)


def test_charts_are_drawn_and_follow_the_choice(page: Any):
    assert page.locator("#curve polyline").count() == 1  # speech; opus has one rate
    label = page.locator("#curve svg").get_attribute("aria-label")
    page.select_option("#curve-metric", "wer")
    assert page.locator("#curve svg").get_attribute("aria-label") != label
    assert page.locator("#radar polygon[fill-opacity]").count() == 5
    page.locator("#radar-pick input").nth(1).uncheck()
    assert page.locator("#radar polygon[fill-opacity]").count() == 4
    assert page.locator(".strip").first.evaluate("i => i.naturalWidth") == 8


def test_pairs_can_be_filtered(page: Any):
    rows = page.locator("#pairs-table tbody tr:visible")
    assert rows.count() == 3
    page.check("#pairs-tied")
    assert rows.count() == 1
    assert "cannot be told apart" in rows.inner_text()


def test_a_phone_scrolls_tables_and_not_the_page(browser: Any, report: Path):
    for tab in _opened(browser, report, width=390):
        assert tab.evaluate("document.documentElement.scrollWidth") == 390
        wide = tab.locator("#scores .scroll").evaluate("b => b.scrollWidth > b.clientWidth")
        assert wide
        tab.fill("#blind-listener", "Cy")
        tab.select_option("#blind-kind", "rating")
        tab.click("#blind-form button[type=submit]")
        tab.wait_for_selector("#blind-dialog .rate")
        assert tab.locator("#blind-dialog").evaluate("d => d.scrollWidth <= d.clientWidth")


def test_five_codecs_and_a_hundred_files(browser: Any, tmp_path: Path):
    write_report(benched(tmp_path, clips=100, kept=10), tmp_path, clips=8)
    file = tmp_path / "report.html"
    assert file.stat().st_size < 15e6
    for tab in _opened(browser, file):
        assert tab.locator(".player").count() == 8
        took = tab.evaluate(
            "() => { const start = performance.now();"
            "document.querySelectorAll('#main thead button')[3].click();"
            "document.body.offsetHeight; return performance.now() - start; }"
        )
        assert took < 250
        tab.fill("#worst-count", "100")
        assert tab.locator("#worst-table tbody tr").count() == 100
        assert re.search(r"100 recordings", tab.locator(".data").inner_text())


# -- what the page opens with -----------------------------------------------------------------


def _ink(page: Any, player: int = 0) -> int:
    """Pixels of a waveform that are not empty; from a picture, as no script may run in the page."""
    image = pytest.importorskip("PIL.Image")
    canvas = page.locator(f"#player-{player} canvas")
    with image.open(io.BytesIO(canvas.screenshot())) as opened:
        colours = opened.convert("RGB").getcolors(1 << 24)
    return sum(count for count, _ in colours) - max(count for count, _ in colours)


def test_it_opens_on_the_best_row_with_waveforms_before_anything_is_played(page: Any):
    """Planted: opus:6 has the best means of those that nothing beats."""
    assert page.locator(".headline").inner_text().startswith("2 codecs in 5 rows at ")
    best = page.locator("#player-0 [data-subject='opus:6']")
    assert best.get_attribute("aria-pressed") == "true"
    assert page.locator("#worst-subject option:checked").inner_text() == "opus:6"
    assert page.locator(".player").count() == 4
    assert all(_ink(page, i) > 2000 for i in range(4))
    assert page.locator("#player-0 canvas").get_attribute("aria-label") == "Waveform of opus:6"
    before = page.locator("#player-0 canvas").screenshot()
    page.locator("#player-0 [data-subject='speech@1']").click()
    assert page.locator("#player-0 canvas").get_attribute("aria-label") == "Waveform of speech@1"
    assert page.locator("#player-0 canvas").screenshot() != before


def test_where_the_numbers_come_from_is_folded(page: Any):
    place = page.locator(".provenance dl")
    assert not place.is_visible()
    page.locator(".provenance summary").focus()
    page.keyboard.press("Enter")
    assert place.is_visible()
    assert "audiotok bench <x>" in place.inner_text()


def test_the_matrix_shows_one_fact_at_a_time_by_keyboard_too(page: Any):
    def shown() -> list[str]:
        bodies = page.locator("#matrix tbody").evaluate_all(
            "all => all.filter(body => !body.hidden).map(body => body.dataset.fact)"
        )
        return list(bodies)

    assert shown() == ["entries seen"]
    assert page.locator("#matrix tbody:not([hidden]) tr:not([hidden])").count() == 1, "one codec"
    assert page.locator("#matrix .strip").count() == 2
    page.locator("#matrix-fact").focus()
    page.keyboard.press("ArrowDown")
    assert shown() == ["perplexity"]


def test_without_a_script_all_facts_are_there(browser: Any, report: Path):
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(report.as_uri())
    assert [tab.locator(f"#matrix tbody[data-fact='{fact}']").is_visible() for fact in FACTS] == [
        True
    ] * len(FACTS)
    context.close()


FACTS = ("entries seen", "perplexity", "dead entries")
