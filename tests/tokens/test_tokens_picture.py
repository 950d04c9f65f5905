"""What tokens look like: in matplotlib axes, and in a notebook without it."""

from __future__ import annotations

import base64
import io
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from audiotok.tokens.colours import code_colours, coloured, similarity_colours
from audiotok.tokens.tokens import Tokens


def some(frames: int = 50, rows: int = 4, *, streams: int = 1, codec: str = "speech") -> Tokens:
    codes = np.random.default_rng(0).integers(0, 64, (streams * rows, frames))
    return Tokens(
        codes=codes,
        size=64,
        codec=codec,
        fingerprint="f" * 16,
        sample_rate=16000,
        frame_size=320,
        samples=max(0, frames * 320 - 5),
        original_rate=16000,
        original_samples=max(0, frames * 320 - 5),
        channels=streams,
        streams=streams,
    )


def entries(codebooks: int = 4) -> list[np.ndarray]:
    return list(np.random.default_rng(1).standard_normal((codebooks, 64, 8)))


class Tags(HTMLParser):
    """Tags of a document, each closed by its own, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.opened: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        assert not self.opened

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag != "img":
            self.opened.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.opened.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_plot_has_a_row_a_codebook_and_seconds_below():
    pytest.importorskip("matplotlib")
    tokens = some()
    axes = tokens.plot(start=2)
    image = axes.get_images()[0]
    assert np.array_equal(image.get_array(), coloured(tokens.codes, [code_colours()]))
    assert image.get_extent() == [2, 3, 4.5, 0.5]
    assert axes.get_xlim() == (2, 3)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["1", "2", "3", "4"]
    assert "4 codebooks x 50 frames" in axes.get_title("left")
    assert "means nothing" in axes.get_title("left")


def test_a_plot_by_embeddings_goes_into_the_axes_given():
    figure = pytest.importorskip("matplotlib.figure").Figure()
    tokens = some(rows=2, streams=2)
    axes = figure.subplots()
    assert tokens.plot(axes, embeddings=entries()) is axes  # those of more codebooks will do
    wanted = coloured(tokens.codes, similarity_colours(entries(2)))
    assert np.array_equal(axes.get_images()[0].get_array(), wanted)
    assert "similar entries have similar colours" in axes.get_title("left")
    assert axes.get_ylabel() == "codebook, 2 streams"
    figure.savefig(io.BytesIO())
    for wrong in (entries(1), [codebook[:-1] for codebook in entries()]):
        with pytest.raises(ValueError, match="embeddings of codebooks of sizes"):
            tokens.plot(axes, embeddings=wrong)


@pytest.mark.parametrize(("frames", "rows"), [(0, 4), (1, 1), (3001, 4), (20, 70)])
def test_any_length_and_number_of_codebooks_is_drawn(frames: int, rows: int):
    figure = pytest.importorskip("matplotlib.figure").Figure()
    axes = some(frames, rows).plot(figure.subplots())
    figure.savefig(io.BytesIO())
    if frames == 3001:  # what is left out is said
        assert "one in 3 drawn" in axes.get_title("left")
        assert axes.get_images()[0].get_array().shape[1] == 1001
    assert len(axes.get_yticks()) <= 16


def test_without_matplotlib_a_plot_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"audiotok\[plot\]"):
        some().plot()


def test_a_notebook_shows_every_code_without_matplotlib(monkeypatch: pytest.MonkeyPatch):
    tokens = some()
    html = tokens._repr_html_()
    image = pytest.importorskip("matplotlib.image")
    picture = base64.b64decode(re.findall(r"base64,([^\"]+)", html)[0])
    pixels = (255 * image.imread(io.BytesIO(picture))[..., :3]).round()
    assert np.array_equal(pixels, coloured(tokens.codes, [code_colours()]))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert tokens._repr_html_() == html
    text = Tags(html).text
    for fact in ("speech", "f" * 16, "1.00 s", "4 codebooks x 50 frames", "1.20 kbps"):
        assert fact in text
    assert "first" not in text  # nothing is cut


def test_a_notebooks_picture_is_small_and_says_what_it_cuts():
    html = some(90_000, 100)._repr_html_()
    assert len(html) < 200_000
    assert "the first 600 of 90000 frames; the first 64 of 100 rows" in Tags(html).text
    assert "img" not in {tag for tag, _ in Tags(some(0)._repr_html_()).seen}


def test_a_notebook_runs_nothing_of_a_file():
    bad = "</div><script>alert(1)</script><img src=x onerror='a()'>"
    tokens = replace(some(codec=bad), fingerprint='"><b>')
    page = Tags(tokens._repr_html_())
    assert {tag for tag, _ in page.seen} == {"div", "b", "img"}
    assert [tag for tag, _ in page.seen].count("b") == 1
    assert bad in page.text
    assert all(name in ("style", "src", "alt") for _, given in page.seen for name in given)
    sources = [given["src"] for tag, given in page.seen if tag == "img"]
    assert len(sources) == 1
    assert str(sources[0]).startswith("data:image/png;base64,")
