"""Pieces of units: lossless for whatever was never seen, the same each time, scored by the second.

Section by section what Dekel & Fernandez 2024 (arXiv:2406.02652) and its implementations get wrong
when they do not take care: unseen units, chance in learning, and perplexities of an id.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from commandline import audiotok
from contracts import noise
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from audiotok import Layout, Tokens, load
from audiotok._platform.errors import InputError
from audiotok.lm import LayoutError, Ngram, UnitTokenizer, learn_pieces
from audiotok.lm.layout.units import MAX_UNITS, Pieces, text_to_units, units_to_text

pytest.importorskip("tokenizers")
SEEN = 20  # units that occur in training, of
UNITS = 30
ANY = st.integers(0, UNITS - 1)
KINDS: tuple[Literal["bpe", "unigram"], ...] = ("bpe", "unigram")


def language(recordings: int = 60, seed: int = 0) -> list[np.ndarray]:
    """Units in words of three to five, each unit for one to four frames."""
    random = np.random.default_rng(seed)
    words = [np.random.default_rng(i).integers(0, SEEN, 3 + i % 3) for i in range(12)]
    chosen = random.integers(0, len(words), (recordings, 15))
    said = [np.concatenate([words[w] for w in row]) for row in chosen]
    return [np.repeat(each, random.integers(1, 5, len(each)))[None] for each in said]


LAYOUTS = {
    (kind, runs): learn_pieces(
        Layout(sizes=(UNITS,), runs=runs, longest=8), language(), size=160, kind=kind
    )
    for kind in KINDS
    for runs in ("keep", "drop", "durations")
}


@pytest.mark.parametrize("key", LAYOUTS)
@settings(deadline=None, max_examples=40)
@given(
    codes=arrays.arrays(
        np.int64, st.tuples(st.just(1), st.integers(0, 80)), elements=st.integers(0, UNITS - 1)
    )
)
def test_any_units_come_back_whether_seen_or_not(key: Any, codes: np.ndarray):
    layout = LAYOUTS[key]
    ids = layout.encode(codes)
    wanted = layout.ordered(codes) if key[1] == "drop" else codes
    assert np.array_equal(layout.decode(ids), wanted)
    assert ids.max() < layout.vocabulary[0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_unit_that_was_never_seen_is_an_id_of_its_own(kind: Literal["bpe", "unigram"]):
    layout = LAYOUTS[kind, "keep"]
    ids = layout.encode(np.array([[25, 3, 29]]), marks=False)
    assert len(ids) == 3
    assert len(set(ids.tolist())) == 3
    longer = layout.encode(language()[0], marks=False)
    assert len(longer) < language()[0].shape[1] / 1.5


@pytest.mark.parametrize("kind", KINDS)
def test_learning_is_the_same_each_time(kind: Literal["bpe", "unigram"]):
    plain = Layout(sizes=(UNITS,), runs="drop")
    one = learn_pieces(plain, language(), size=120, kind=kind)
    assert learn_pieces(plain, language(), size=120, kind=kind) == one
    if kind == "bpe":  # which counts, whatever the order is
        assert learn_pieces(plain, language()[::-1], size=120) == one
        merges = one.pieces["model"]["merges"] if one.pieces else []
        assert len(merges) == 120 - UNITS - 5
    lazy: Iterator[np.ndarray] = iter(language())
    assert learn_pieces(plain, lazy, size=120, kind=kind) == one


def test_more_pieces_give_fewer_ids():
    plain = Layout(sizes=(UNITS,), runs="drop")
    counts = []
    for size in (UNITS + 5, 60, 100, 160):
        layout = learn_pieces(plain, language(), size=size)
        counts.append(sum(len(layout.encode(each)) for each in language(20, seed=1)))
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] < 0.5 * counts[0]


def test_vocabularies_are_compared_by_the_second_and_not_by_the_id():
    """An id of a larger vocabulary is less likely, and there are fewer: only the sum compares."""
    train, dev = language(200), language(40, seed=1)
    seconds = sum(each.shape[1] for each in dev) / 50
    plain = Layout(sizes=(UNITS,), runs="drop")
    scores = {}
    for name, layout in (("units", plain), ("pieces", learn_pieces(plain, train, size=100))):
        model = Ngram(layout.vocabulary[0], order=2).fit(layout.encode(each) for each in train)
        ids = [layout.encode(each) for each in dev]
        bits, count = sum(map(model.bits, ids)), sum(len(each) - 1 for each in ids)
        scores[name] = bits / count, bits / seconds
    assert scores["pieces"][0] > scores["units"][0]  # bits an id: pieces look worse
    assert scores["pieces"][1] < 0.8 * scores["units"][1]  # bits a second: they are better


def test_units_of_large_vocabularies_do_not_meet_marks_or_each_other():
    """chr(id + 97), as elsewhere, gives the characters of a subword model's own marks."""
    units = np.unique(np.r_[0, 1, 0x2581, 0xFFFE, 0xFFFF, 0x1FFFE, MAX_UNITS - 1, 4095, 8191])
    text = units_to_text(units)
    assert len(set(text)) == len(units)
    assert not set(text) & set("\u2581<|>audio_pad \n")
    assert np.array_equal(text_to_units(text), units)
    size = 70_000
    codes = [np.r_[np.arange(0, size, 7), np.arange(0, size, 7)][None]]
    layout = learn_pieces(Layout(sizes=(size,)), codes, size=size + 50)
    some = np.random.default_rng(0).integers(0, size, (1, 500))
    assert np.array_equal(layout.decode(layout.encode(some)), some)


def test_layers_have_ids_apart_and_frames_of_runs_are_dropped():
    """The id layout of several layers' units: id + layer x K, deduplicated (arXiv:2406.10735)."""
    layers, size = 3, 10
    codes = np.array([[4, 4, 4, 9], [2, 2, 2, 2], [0, 0, 7, 7]])
    layout = Layout(sizes=(size,) * layers, runs="drop")
    ids = layout.encode(codes, marks=False) - layout.special("separator") - 1
    wanted = [
        [c + layer * size for layer, c in enumerate(f)] for f in ((4, 2, 0), (4, 2, 7), (9, 2, 7))
    ]
    assert ids.reshape(3, layers).tolist() == wanted
    assert np.array_equal(layout.decode(layout.encode(codes)), codes[:, 1:])


# -- recording to ids in one step -----------------------------------------------------------------


@pytest.fixture(scope="module")
def spoken() -> list[Tokens]:
    codec = load("speech")
    return [codec.encode(noise(codec, 9000 + 700 * i, seed=i)) for i in range(4)]


@pytest.mark.parametrize("runs", ["drop", "durations"])
def test_a_recording_becomes_ids_in_one_step_and_comes_back(
    spoken: list[Tokens], runs: Literal["drop", "durations"]
):
    codec = load("speech")
    tokenizer = UnitTokenizer.learn(codec, spoken, size=codec.sizes[0] + 100, runs=runs)
    audio = noise(codec, 20_000, seed=9)
    ids = tokenizer.encode(audio)
    units = codec.encode(audio).codes[:1]
    if runs == "drop":
        units = units[:, np.r_[True, units[0, 1:] != units[0, :-1]]]
    assert np.array_equal(tokenizer.decode(ids), units)
    assert np.array_equal(tokenizer.units(audio), units)
    assert np.array_equal(tokenizer.encode(codec.encode(audio)), ids)
    assert np.array_equal(tokenizer.encode(audio.samples[0].numpy(), audio.rate), ids)


def test_a_layout_of_another_codec_is_refused(spoken: list[Tokens]):
    codec = load("speech")
    with pytest.raises(InputError, match="a layout for any codec"):
        UnitTokenizer(codec, Layout(sizes=(4,)))
    with pytest.raises(InputError, match="a layout for speech 0000000000000000, and the codec is"):
        UnitTokenizer(codec, Layout(sizes=(4,), codec="speech", fingerprint="0" * 16))
    with pytest.raises(LayoutError, match="the ids of delay are in rows"):
        UnitTokenizer(codec, Layout.of(spoken[0], pattern="delay"))
    tokenizer = UnitTokenizer.learn(codec, spoken, size=codec.sizes[0] + 20)
    with pytest.raises(LayoutError, match="cut short"):
        tokenizer.decode(tokenizer.encode(spoken[0])[:-1])


def test_commands_learn_pieces_and_turn_recordings_into_ids(tmp_path: Path):
    codec = load("speech")
    (tmp_path / "talks").mkdir()
    for i in range(3):
        noise(codec, 30_000 + 999 * i, seed=i).save(tmp_path / f"talks/{i}.wav")
    done = audiotok("corpus", "build", tmp_path / "talks", "-o", tmp_path / "corpus", "-j", "1")
    assert done.code == 0, done.err
    layout, size = tmp_path / "layout.json", codec.sizes[0] + 40
    words = ["lm", "pieces", tmp_path / "corpus", "--size", size, "--runs", "durations"]
    done = audiotok(*words, "-o", layout, "--json")
    assert done.code == 0, done.err
    assert done.json["ids"] == size
    assert 10 < done.json["ids_per_second"] < 150
    again = audiotok(*words, "-o", layout)
    assert again.lines == [f"error {layout}: exists already; --force overwrites it"]
    ids, tok = tmp_path / "ids.npy", tmp_path / "back.tok"
    recording = tmp_path / "talks/1.wav"
    assert audiotok("lm", "ids", recording, "--layout", layout, "-o", ids).code == 0
    assert audiotok("lm", "ids", ids, "--layout", layout, "-o", tok).code == 0
    assert np.array_equal(Tokens.load(tok).codes, codec.encode(recording).codes[:1])
    from_tok = ("lm", "ids", tok, "--layout", layout, "-o", tmp_path / "again.npy")
    assert audiotok(*from_tok).code == 0
    assert np.array_equal(np.load(tmp_path / "again.npy"), np.load(ids))
    done = audiotok(*words, "--split", "dev", "-o", tmp_path / "no.json")
    assert done.lines == [f"error {tmp_path / 'corpus'}: no recordings of split 'dev'"]
    done = audiotok(*words[:-1], "drop", "-o", tmp_path / "drop.json")
    done = audiotok("lm", "ids", ids, "--layout", tmp_path / "drop.json", "-o", tmp_path / "x.tok")
    assert (done.code, "drops runs, so its ids have no length" in done.err) == (1, True)
    (tmp_path / "bad.npy").write_bytes(b"x")
    done = audiotok("lm", "ids", tmp_path / "bad.npy", "--layout", layout, "-o", tmp_path / "x.tok")
    assert (done.code, "no ids that can be read" in done.err) == (1, True)
    assert not (tmp_path / "x.tok").exists()


def test_the_file_of_a_vocabulary_is_one_json(spoken: list[Tokens], tmp_path: Path):
    codec = load("speech")
    tokenizer = UnitTokenizer.learn(codec, spoken, size=codec.sizes[0] + 30)
    tokenizer.layout.save(tmp_path / "layout.json")
    again = UnitTokenizer(codec, Layout.load(tmp_path / "layout.json"))
    assert np.array_equal(again.encode(spoken[1]), tokenizer.encode(spoken[1]))
    content = json.loads((tmp_path / "layout.json").read_text())
    assert content["pieces"]["model"]["type"] == "BPE"
    assert len(Pieces(content["pieces"], 5)) == codec.sizes[0] + 25
