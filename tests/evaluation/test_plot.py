"""Pictures of recordings, tokens and codecs: what is in them, and the files they become."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commandline import audiotok, files, recording, small

from audiotok.audio.audio import Audio
from audiotok.codecs.checkpoint import load
from audiotok.codecs.embeddings import entries_of
from audiotok.evaluation import plot
from audiotok.tokens.colours import code_colours, coloured, similarity_colours

pytest.importorskip("matplotlib")


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that are written, in order."""
    figures: list[Any] = []
    save = plot.save

    def kept(figure: Any, path: str | Path) -> None:
        figures.append(figure)
        save(figure, path)

    monkeypatch.setattr(plot, "save", kept)
    return figures


def panels(figure: Any) -> dict[str, Any]:
    """Axes by the text at their side, without colour bars."""
    return {axes.get_ylabel(): axes for axes in figure.axes if axes.get_ylabel() != "dB"}


def pixels(axes: Any) -> np.ndarray:
    return np.asarray(axes.get_images()[0].get_array())


# ---- the roundtrip picture


def test_a_roundtrip_shows_what_was_lost_and_added(tmp_path: Path, drawn: list[Any]):
    codec = load(small())
    before = Audio(0.1 * torch.randn(1, 2 * 16000), 16000)
    quieter = Audio(before.samples * 10 ** (-6 / 20), 16000)
    tokens = codec.encode(before)
    embeddings = entries_of(codec)
    path = tmp_path / "a.png"
    plot.draw_roundtrip(before, quieter, tokens, path, title="a $\\x$ title", embeddings=embeddings)
    shown = panels(drawn[0])
    assert list(shown) == [
        "original",
        "decoded",
        "original, Hz",
        "decoded, Hz",
        "difference, Hz",
        "codebook",
    ]
    assert np.allclose(pixels(shown["difference, Hz"]), -6, atol=0.01)
    assert shown["difference, Hz"].get_images()[0].get_clim() == (-20, 20)
    assert shown["original, Hz"].get_images()[0].get_clim() == (
        shown["decoded, Hz"].get_images()[0].get_clim()
    )
    assert embeddings is not None
    wanted = coloured(tokens.codes, similarity_colours(embeddings))
    assert np.array_equal(pixels(shown["codebook"]), wanted)
    assert all(axes.get_xlim() == (0, 2) for axes in shown.values())
    assert [label.get_text() for label in shown["original, Hz"].get_yticklabels()][-1] == "8k"
    text = drawn[0].get_supxlabel()
    assert "red is too loud, blue too quiet" in text
    assert "principal components" in text
    assert "a $\\x$ title" in drawn[0].get_suptitle()


def test_a_difference_below_what_is_drawn_does_not_count(tmp_path: Path, drawn: list[Any]):
    codec = load(small())
    before = Audio(
        torch.cat([0.5 * torch.randn(1, 16000).clamp(-1, 1), torch.zeros(1, 16000)], 1), 16000
    )
    hum = Audio(before.samples + 1e-7, 16000)
    plot.draw_roundtrip(before, hum, codec.encode(before), tmp_path / "a.png", title="")
    assert np.abs(pixels(panels(drawn[0])["difference, Hz"])).max() < 0.1
    assert "means nothing" in panels(drawn[0])["codebook"].get_title("left")


@pytest.mark.parametrize(("seconds", "rate"), [(0.01, 16000), (61, 8000), (1, 48000)])
def test_a_roundtrip_of_any_length_and_rate(
    tmp_path: Path, drawn: list[Any], seconds: float, rate: int
):
    codec = load(small())
    before = Audio(0.1 * torch.randn(2, round(seconds * rate)), rate)
    mono = before.mono().resample(16000)
    plot.draw_roundtrip(before, mono, codec.encode(before), tmp_path / "a.png", title="x")
    shown = panels(drawn[0])
    assert shown["decoded"].get_xlim() == pytest.approx((0, min(60, seconds)))
    assert pixels(shown["decoded, Hz"]).shape[1] <= 1500
    assert (tmp_path / "a.png").stat().st_size < 4_000_000


def test_the_command_names_codec_rate_and_window(
    tmp_path: Path, drawn: list[Any], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("audiotok.evaluation.roundtrip.METRICS", ())
    long = recording(tmp_path / "long.wav", seconds=61)
    done = audiotok("roundtrip", long, "-o", tmp_path / "out", "--codec", small(), "-k", "3")
    assert done.code == 0, done
    title = drawn[0].get_suptitle()
    assert title == (
        f"long.wav, first 60 s: {load(small()).name} ({load(small()).fingerprint}), "
        "3 codebooks, 0.90 kbps"
    )


# ---- audiotok plot


def test_a_recording_and_the_tokens_of_the_whole(tmp_path: Path, drawn: list[Any]):
    talk = recording(tmp_path / "talk.wav", seconds=3, rate=44100)
    out = tmp_path / "some" / "a.svg"
    options = ("--codec", small(), "-k", "2", "--start", "1.013", "--end", "2")
    done = audiotok("plot", talk, *options, "-o", out)
    assert (done.code, done.out.strip(), done.err) == (0, str(out), "")
    shown = panels(drawn[0])
    assert list(shown) == ["amplitude", "codebook", "Hz"]
    codec = load(small())
    whole = codec.encode(Audio.load(talk), codebooks=2)
    embeddings = entries_of(codec)
    assert embeddings is not None
    wanted = coloured(whole.codes[:, 50:100], similarity_colours(embeddings[:2]))
    assert np.array_equal(pixels(shown["codebook"]), wanted)  # whole frames
    assert shown["codebook"].get_images()[0].get_extent()[:2] == pytest.approx([1.0, 2.0])
    assert all(axes.get_xlim() == pytest.approx((1.013, 2), abs=1e-4) for axes in shown.values())
    assert "1.01 to 2.00 s of 3.00 s" in drawn[0].get_suptitle()
    assert codec.fingerprint in drawn[0].get_suptitle()
    assert out.read_text().startswith("<?xml")
    assert files(tmp_path) == ["some/a.svg", "talk.wav"]


def test_a_recording_alone_beside_it(tmp_path: Path, drawn: list[Any]):
    talk = recording(tmp_path / "talk.wav", seconds=61, rate=8000, channels=2)
    assert audiotok("plot", talk).code == 0
    assert list(panels(drawn[0])) == ["amplitude", "Hz"]
    assert "0.00 to 60.00 s of 61.00 s, 8000 Hz" in drawn[0].get_suptitle()
    assert (tmp_path / "talk.png").read_bytes()[:4] == b"\x89PNG"
    again = audiotok("plot", talk)
    assert again.code == 1
    assert again.lines == [f"error {tmp_path / 'talk.png'}: exists already; --force overwrites it"]
    assert audiotok("plot", talk, "--force").code == 0


def test_tokens_with_their_codec_without_it_and_with_their_sound(tmp_path: Path, drawn: list[Any]):
    codec, tok = load(small()), tmp_path / "talk.tok"
    tokens = codec.encode(Audio.load(recording(tmp_path / "talk.wav", seconds=1.5)))
    tokens.save(tok)
    # `speech` on this machine has other weights than the small codec of that name.
    assert audiotok("plot", tok, "-o", tmp_path / "a.pdf").code == 0
    assert audiotok("plot", tok, "-o", tmp_path / "b.png", "--codec", small()).code == 0
    options = ("--codec", small(), "--sound", "-k", "3", "--start", "0.5")
    assert audiotok("plot", tok, "-o", tmp_path / "c.png", *options).code == 0
    alone, by_similarity, heard = drawn
    assert np.array_equal(
        pixels(panels(alone)["codebook"]), coloured(tokens.codes, [code_colours()])
    )
    embeddings = entries_of(codec)
    assert embeddings is not None
    tables = similarity_colours(embeddings)
    assert np.array_equal(pixels(panels(by_similarity)["codebook"]), coloured(tokens.codes, tables))
    assert list(panels(heard)) == ["amplitude", "codebook", "Hz"]
    assert np.array_equal(
        pixels(panels(heard)["codebook"]), coloured(tokens.codes[:3, 25:], tables)
    )
    wave = codec.decode(tokens.first(3)).samples[0, 8000:].numpy()
    top = panels(heard)["amplitude"].collections[0].get_paths()[0].vertices[:, 1].max()
    assert top == pytest.approx(wave.max(), abs=1e-4)


def test_the_codec_that_ships_colours_its_tokens_without_being_named(
    tmp_path: Path, drawn: list[Any]
):
    reading = Path(__file__).parents[2] / "egs/data/reading.flac"
    codec = load("speech")
    codec.encode(Audio.load(reading, end=0.5)).save(tmp_path / "a.tok")
    assert audiotok("plot", tmp_path / "a.tok").code == 0
    assert "similar entries" in panels(drawn[0])["codebook"].get_title("left")


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("{}/missing.wav",), 1, "no such file"),
        (("{}",), 2, "not a file"),
        (("-", "-o", "{}/a.png"), 2, "not a file"),
        (("{}/talk.wav", "--sound"), 2, "--sound decodes a .tok file"),
        (("{}/talk.wav", "-k", "2"), 2, "--codec"),
        (("{}/talk.wav", "--start", "3", "--end", "2"), 2, "not after --start 3"),
        (("{}/talk.wav", "--start", "30"), 1, "ends at 0.50 s"),
        (("{}/talk.wav", "-o", "{}/a.gif"), 2, ".png .svg .pdf"),
        (("{}/talk.wav", "--codec", "{small}", "-k", "5"), 2, "has 1 to 4"),
        (("{}/talk.tok", "--start", "30"), 1, "no tokens from 30 s on: it ends at 0.5 s"),
        (("{}/talk.tok", "-k", "0"), 2, "there is at least 1"),
        (("{}/talk.tok", "-k", "7"), 1, "7 codebooks asked for; there are 1 to 4"),
        (("{}/talk.tok", "--sound"), 1, "tokens of other weights"),
        (("{}/talk.tok", "--codec", "speech"), 1, "tokens of other weights"),
        (("{}/other.tok",), 1, "other.tok"),
    ],
)
def test_what_cannot_be_drawn_is_said_in_a_line(
    tmp_path: Path, arguments: tuple[str, ...], code: int, says: str
):
    talk = recording(tmp_path / "talk.wav")
    load(small()).encode(Audio.load(talk)).save(tmp_path / "talk.tok")
    (tmp_path / "other.tok").write_bytes(b"no tokens")
    given = [x.replace("{small}", str(small())).replace("{}", str(tmp_path)) for x in arguments]
    done = audiotok("plot", *given)
    assert (done.code, done.out) == (code, "")
    assert len(done.lines) == 1
    assert says in done.err
    assert files(tmp_path) == ["other.tok", "talk.tok", "talk.wav"]


def test_without_matplotlib_nothing_is_left_and_the_way_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    talk = recording(tmp_path / "talk.wav")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    done = audiotok("plot", talk)
    assert done.code == 1
    assert "audiotok[plot]" in done.err
    assert files(tmp_path) == ["talk.wav"]


def test_a_picture_is_the_same_file_every_time(tmp_path: Path):
    tokens = load(small()).encode(Audio.load(recording(tmp_path / "talk.wav")))
    for name in ("a.png", "b.png", "a.pdf", "b.pdf"):
        plot.draw_recording(tmp_path / name, title="same", tokens=tokens)
    for suffix in ("png", "pdf"):
        a, b = ((tmp_path / f"{name}.{suffix}").read_bytes() for name in "ab")
        assert a == b


def test_the_picture_in_the_documentation_is_of_the_codec_that_ships():
    """`make pictures` draws it again."""
    picture = Path(__file__).parents[2] / "docs/images/reading.png"
    data = picture.read_bytes()
    assert len(data) < 300_000
    assert f"speech ({load('speech').fingerprint}), 8 codebooks".encode() in data  # its title
