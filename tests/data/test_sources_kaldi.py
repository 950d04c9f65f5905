"""Kaldi data directories, read as Kaldi reads them; extract-segments.cc is what decides."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from commandline import audiotok, recording, small
from test_sources import heard, kaldi, listed

from audiotok import Audio
from audiotok.audio.audio import AudioFileError
from audiotok.corpus import Corpus
from audiotok.data.locator import ListingError


def test_channel_0_of_a_segment_is_the_left_one(tmp_path: Path):
    path = recording(tmp_path / "call.wav", 1.0, channels=2)
    lines = "left call 0 1 0\nplus call 0 1 +1\nright call 0 1 1\n"
    items = listed(kaldi(tmp_path / "k", wav_scp=f"call {path}\n", segments=lines))
    left, right = Audio.load(path).samples
    for item, channel in zip(items, (left, right, right), strict=True):
        assert torch.equal(heard(item)[0], channel)


@pytest.mark.parametrize("channel", ["A", "left", "-1", "1.0", "0x1", "1_0", "\u0661", "9" * 30])
def test_a_channel_that_is_no_number_is_refused_not_mixed_down(tmp_path: Path, channel: str):
    folder = kaldi(tmp_path, wav_scp="a a.wav\n", segments=f"u a 0 1\nv a 0 1 {channel}\n")
    with pytest.raises(ListingError, match=r"segments, line 2: .*channel .* is no number; 0 is l"):
        listed(folder)


def test_a_channel_that_the_recording_has_not_is_refused(tmp_path: Path):
    path = recording(tmp_path / "a.wav", 1.0, channels=2)
    (item,) = listed(kaldi(tmp_path / "k", wav_scp=f"a {path}\n", segments="u a 0 1 2\n"))
    with pytest.raises(AudioFileError, match="u: has 2 channels, and number 3 is wanted"):
        heard(item)


@pytest.mark.parametrize("space", ["\t", "  ", " \t ", "\t\t", "\v", "\f"])
def test_any_white_space_parts_the_words_of_every_table(tmp_path: Path, space: str):
    path = recording(tmp_path / "a.wav", 1.0)
    tables = {
        "wav_scp": f"rec {path}",
        "segments": "u1 rec 0.25 0.75",
        "text": "u1 hello world",
        "utt2spk": "u1 spk",
        "utt2dur": "u1 0.5",
        "utt2lang": "u1 en",
    }
    (item,) = listed(
        kaldi(tmp_path / "k", **{k: v.replace(" ", space) + "\n" for k, v in tables.items()})
    )
    assert item.id == "u1"
    assert item.fields == {
        "text": f"hello{space}world",
        "speaker": "spk",
        "language": "en",
    }
    assert (item.locator.path, item.locator.start, item.seconds) == (str(path), 0.25, 0.5)


def test_a_space_that_kaldi_does_not_know_is_part_of_the_word(tmp_path: Path):
    path = recording(tmp_path / "a.wav", 0.1)
    folder = kaldi(tmp_path / "k", wav_scp=f"u\u00a01 {path}\n", text="u\u00a01 \u3000hi\n")
    (item,) = listed(folder)
    assert (item.id, item.fields) == ("u\u00a01", {"text": "\u3000hi"})


@pytest.mark.parametrize("suffix", ["wav", "ogg"])  # a header that tells the length, and one none
def test_a_segment_may_end_half_a_second_past_the_end_and_no_more(tmp_path: Path, suffix: str):
    path = recording(tmp_path / f"a.{suffix}", 2.0)
    lines = "u1 a 1.5 2.5\nu2 a 1.5 2.501\nu3 a 1.5 9.0\nu4 a 2.2 2.3\n"
    whole, *past = listed(kaldi(tmp_path / "k", wav_scp=f"a {path}\n", segments=lines))
    assert heard(whole).shape == (1, 8000)
    for item, end in zip(past[:2], ("2.50", "9.00"), strict=True):
        with pytest.raises(AudioFileError, match=rf"u\d: asked for to {end} s, but it ends at 2"):
            heard(item)
    with pytest.raises(AudioFileError, match=r"asked for from 2.20 s on, but it ends at 2.00 s"):
        heard(past[2])


def test_where_no_header_tells_the_length_the_end_is_found_by_reading(tmp_path: Path):
    from contextlib import ExitStack

    from audiotok.audio.decoders import open_decoder
    from audiotok.audio.reader import Source

    path = recording(tmp_path / "a.wav", 1.0)
    with ExitStack() as stack:
        decoder = open_decoder(path, stack)
        object.__setattr__(decoder, "samples", None)
        source = Source(decoder, ExitStack(), 0, 48000, 40000)
        with pytest.raises(AudioFileError, match=r"asked for to 3.00 s, but it ends at 1.00 s"):
            list(source.arrays())


def test_half_a_sample_is_rounded_up(tmp_path: Path):
    """As `static_cast<int32>(start * samp_freq + 0.5f)`."""
    path = recording(tmp_path / "a.wav", 0.1, 44100)
    lines = "u1 a 0.005 0.015\n"  # 220.5 and 661.5
    (item,) = listed(kaldi(tmp_path / "k", wav_scp=f"a {path}\n", segments=lines))
    assert torch.equal(heard(item), Audio.load(path).samples[:, 221:662])


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ({"wav_scp": "a a.wav\n", "segments": "u a nan 1\n"}, "`nan` is no number of seconds"),
        ({"wav_scp": "a a.wav\n", "segments": "u a 0 inf\n"}, "`inf` is no number of seconds"),
        ({"wav_scp": "a a.wav\n", "segments": "u a 0 1e400\n"}, "`1e400` is no number of seconds"),
        ({"wav_scp": "a a.wav\n", "segments": "u a 0 1_0\n"}, "`1_0` is no number of seconds"),
        ({"wav_scp": "a a.wav\n", "segments": "u a -5 -1\n"}, "cannot cut from -5.0 s to None s"),
        ({"wav_scp": "a a.wav\n", "segments": "u a 1 1\n"}, "cannot cut from 1.0 s to 1.0 s"),
        ({"wav_scp": "a a.wav\n", "segments": "u a 0 1 0 0\n"}, "not `utterance recording start"),
        ({"wav_scp": "a a.wav\na b.wav\n", "segments": "u a 0 1\n"}, "line 2: `a` stands there tw"),
        (
            {"wav_scp": "a a.wav\n", "text": "a one\na two\n"},
            "text, line 2: `a` stands there twice",
        ),
        ({"wav_scp": "a a.wav\n", "utt2dur": "a soon\n"}, "utt2dur, a: `soon` is no number of sec"),
        ({"wav_scp": "a a.wav\n", "utt2dur": "a -1\n"}, "utt2dur, a: lasts -1.0 s"),
        ({"wav_scp": "b b.wav\na a.wav\n", "text": "a A\n"}, "wav.scp, line 2: .*are not sorted"),
        ({"wav_scp": "a |\n"}, "wav.scp, line 1: a pipe without a command"),
    ],
)
def test_what_kaldi_would_skip_is_refused_in_a_line(
    tmp_path: Path, tables: dict[str, str], words: str
):
    with pytest.raises(ListingError, match=words) as caught:
        listed(kaldi(tmp_path, **tables))
    assert str(tmp_path) in str(caught.value)


def test_a_segment_far_past_the_end_is_in_the_quarantine_and_the_rest_is_built(tmp_path: Path):
    path = recording(tmp_path / "a.wav", 1.0)
    good = "".join(f"u{i} a 0.{i} 1.0\n" for i in range(5))
    folder = kaldi(tmp_path / "k", wav_scp=f"a {path}\n", segments=f"{good}v a 0.5 9.0\n")
    out = tmp_path / "out"
    done = audiotok("corpus", "build", folder, "-o", out, "--codec", small(), "--most-bad", "1")
    assert done.code == 0, done.err
    assert [entry.id for entry in Corpus(out)] == [f"u{i}" for i in range(5)]
    assert "v" in (out / "quarantine.tsv").read_text()
