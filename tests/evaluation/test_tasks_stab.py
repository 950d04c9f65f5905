"""STAB's tasks: on a codec that is always the same, on chance, and on codes that are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from corpora import RATE, Constant, Steps, coded, found, heard, tiny, value, waves

from audiotok.audio.audio import Audio
from audiotok.evaluation.tasks.stab_compressibility import StabCompressibility, apply_bpe
from audiotok.evaluation.tasks.stab_invariance import StabInvariance
from audiotok.evaluation.tasks.stab_language import StabLanguage, rank_slope
from audiotok.evaluation.tasks.stab_robustness import StabRobustness, change_speed, shift_pitch

EVERY = "alike: {} text, other speaker"
TWO = [{"text": f"Text, {i // 2}.", "speaker": "ab"[i % 2]} for i in range(8)]


def chance(n: int, frames: int, size: int, seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.integers(0, size, (1, frames)) for _ in range(n)]


# -- invariance -----------------------------------------------------------------------------------


def test_constant_codes_are_invariant_and_that_earns_them_nothing(tmp_path: Path):
    got = found(StabInvariance(), heard(tmp_path, tiny(kind=Constant), waves(8), TWO))
    assert value(got, EVERY.format("same")) == 100
    assert value(got, EVERY.format("other")) == 100
    assert value(got, "alike for the text's sake") == 0
    assert value(got, "equal alone and in context, 0 frames after the cut's start") == 100
    assert value(got, "equal by chance") == 100


def test_codes_that_are_the_texts_are_alike_for_the_texts_sake(tmp_path: Path):
    audios = [audio for audio in waves(4) for _ in range(2)]
    got = found(StabInvariance(), heard(tmp_path, tiny(kind=Steps), audios, TWO))
    assert value(got, EVERY.format("same")) == 100
    assert value(got, EVERY.format("other")) < 70
    same, other = (value(got, EVERY.format(x)) for x in ("same", "other"))
    assert value(got, "alike for the text's sake") == pytest.approx(same - other)
    # A frame by itself knows no context.
    context = [f for name, f in got.items() if name.startswith("equal alone") and f.value]
    assert len(context) >= 8
    assert all(f.value == 100 for f in context)


def test_what_a_cut_takes_from_a_real_codec_is_its_past(tmp_path: Path):
    codec = tiny()
    got = found(StabInvariance(), heard(tmp_path, codec, waves(8, 2.0), TWO))
    look_ahead = -(-codec.look_ahead // codec.frame_size)  # frames whose future the cut takes
    assert look_ahead == 1
    name = "equal alone and in context, {} before the cut's end"
    assert value(got, name.format("1 frame")) == 100
    assert value(got, name.format("2 to 3 frames")) == 100


def test_recordings_without_texts_have_no_pairs(tmp_path: Path):
    got = found(StabInvariance(), heard(tmp_path, tiny(kind=Steps), waves(2)))
    assert "no text is said by two speakers" in got[EVERY.format("same")].note


# -- robustness -----------------------------------------------------------------------------------


def test_constant_codes_stand_everything_and_are_not_told_apart(tmp_path: Path):
    got = found(StabRobustness(), heard(tmp_path, tiny(kind=Constant), waves(2, 0.6)))
    distances = {f.value for name, f in got.items() if name.startswith("unit edit distance")}
    assert distances == {0.0}
    assert value(got, "codes unchanged: gain -6 dB") == 100
    assert "unit edit distance: another recording" in got


def test_distances_grow_with_what_is_done(tmp_path: Path):
    got = found(StabRobustness(), heard(tmp_path, tiny(kind=Steps), waves(3)))
    assert value(got, "unit edit distance: cut by 10 frames") == 0
    assert value(got, "unit edit distance: cut by 10.5 frames") > 5
    noise = [value(got, f"unit edit distance: noise at {snr} dB SNR") for snr in (20, 10, 0)]
    assert noise == sorted(noise)
    assert value(got, "unit edit distance: another recording") > noise[0]
    unchanged = [value(got, f"codes unchanged: noise at {snr} dB SNR") for snr in (20, 10, 0)]
    assert unchanged == sorted(unchanged, reverse=True)
    assert value(got, "codes unchanged: gain +6 dB") < 100
    slow = [value(got, f"unit edit distance: speed {speed}") for speed in ("0.8", "0.9")]
    assert slow[0] > slow[1] > 0


def test_faster_is_shorter_and_higher():
    seconds = torch.arange(RATE) / RATE
    sine = Audio(torch.sin(2 * torch.pi * 400 * seconds)[None], RATE)
    for speed in (0.8, 1.25):
        made = change_speed(sine, speed)
        assert made.rate == RATE
        assert made.seconds == pytest.approx(1 / speed, abs=1e-3)
        peak = np.abs(np.fft.rfft(made.samples[0].numpy())).argmax() / made.seconds
        assert peak == pytest.approx(400 * speed, abs=2)


def test_pitched_is_higher_and_as_long():
    seconds = torch.arange(RATE) / RATE
    sine = Audio(torch.sin(2 * torch.pi * 400 * seconds)[None], RATE)
    for steps in (-4, 1, 4):
        made = shift_pitch(sine, steps)
        assert len(made) == len(sine)
        peak = np.abs(np.fft.rfft(made.samples[0].numpy())).argmax()  # Hz, as it is a second
        assert peak == pytest.approx(400 * 2 ** (steps / 12), abs=2)


# -- compressibility ------------------------------------------------------------------------------


def test_huffman_of_known_shares():
    codes = np.array([0, 0, 0, 0, 1, 1, 2, 3])  # 1/2, 1/4, 1/8, 1/8: 1.75 bits of 2
    got = found(StabCompressibility(), coded([np.tile(codes, 4)[None]] * 2, size=4))
    assert value(got, "Huffman efficiency of codebook 1") == pytest.approx(1.75 / 2)
    assert value(got, "Huffman rate") == pytest.approx(50 * 1.75 / 1000)


def test_uniform_codes_cannot_be_packed():
    pytest.importorskip("tokenizers")
    got = found(StabCompressibility(), coded(chance(8, 4000, 16), size=16))
    assert value(got, "Huffman efficiency of codebook 1") == pytest.approx(1, abs=0.005)
    assert value(got, "entropy of codebook 1") == pytest.approx(200, abs=1)  # 50 x 4 bits
    # Every pair is as frequent as any: merges shorten, and save nothing.
    assert value(got, "BPE length after 100 merges") < 90
    assert value(got, "BPE entropy after 100 merges") > 199


def test_merges_of_neighbours_halve_a_string_of_pairs():
    pytest.importorskip("tokenizers")
    pairs = [np.array([1, 2] * 20), np.array([1, 2] * 10)]
    assert [len(row) for row in apply_bpe(pairs, pairs, 1)] == [20, 10]
    assert [len(row) for row in apply_bpe(pairs, pairs, 2)] == [10, 5]
    assert [len(row) for row in apply_bpe(pairs, [np.array([2, 1, 7])], 1)] == [3]
    got = found(StabCompressibility(), coded([np.array([1, 2] * 512)[None]] * 4))
    assert value(got, "BPE length after 100 merges") < 1


def test_constant_codes_take_no_bits():
    got = found(StabCompressibility(), coded([np.full((1, 64), 3)] * 2))
    assert value(got, "Huffman efficiency of codebook 1") == 0


# -- language-likeness ----------------------------------------------------------------------------


def test_the_slope_of_zipfs_law_is_minus_one():
    ranks = np.arange(1, 101)
    assert rank_slope((10000 / ranks).astype(int)) == pytest.approx(-1, abs=0.01)
    assert rank_slope(np.full(50, 9)) == pytest.approx(0, abs=1e-9)
    assert rank_slope(np.array([5, 1, 1])) is None


def test_chance_is_no_language():
    got = found(StabLanguage(), coded(chance(8, 3000, 8)))
    assert value(got, "rank-frequency slope") == pytest.approx(0, abs=0.05)
    for name in ("unigram", "bigram"):
        assert value(got, f"{name} entropy rate") == pytest.approx(3, abs=0.02)


def test_what_comes_next_can_be_told_until_the_order_is_lost():
    random = np.random.default_rng(0)
    rows = [np.cumsum(random.integers(0, 2, (1, 3000)), 1) % 8 for _ in range(8)]
    got = found(StabLanguage(), coded(rows, [{"speaker": str(i)} for i in range(8)]))
    assert value(got, "unigram entropy rate") == pytest.approx(3, abs=0.02)
    assert value(got, "bigram entropy rate") == pytest.approx(1, abs=0.02)
    assert value(got, "bigram entropy rate in random order") > 3


def test_languages_that_share_no_code_are_told_by_one():
    fields = [{"language": "ab"[i % 2], "speaker": str(i)} for i in range(40)]
    rows = [row + 4 * (i % 2) for i, row in enumerate(chance(40, 200, 4))]
    got = found(StabLanguage(), coded(rows, fields))
    assert value(got, "information of the language on codebook 1") == pytest.approx(1, abs=0.06)
    same = found(StabLanguage(), coded(chance(40, 200, 8), fields))
    assert value(same, "information of the language on codebook 1") == pytest.approx(0, abs=0.005)
    single = found(StabLanguage(), coded(chance(2, 20, 4)))
    assert "two languages" in single["information of the language on codebook 1"].note
