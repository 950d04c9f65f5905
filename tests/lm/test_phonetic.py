"""Words and phones of recordings: aligned once, told to a model frame by frame, interleaved."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from commandline import audiotok
from corpora import corpus_of
from hypothesis import given
from hypothesis import strategies as st

from audiotok.corpus import Corpus
from audiotok.data.alignment import Alignment, TimedSpan, pronounce
from audiotok.lm import spans
from audiotok.lm.data import Recordings, Segment, causal_batch, nar_batch
from audiotok.lm.file import load_model
from audiotok.lm.generate import Sampling, generate, predict_codebooks
from audiotok.lm.interleave import interleaved, split_joined
from audiotok.lm.layout import Layout
from audiotok.lm.loop import target_nats, train
from audiotok.lm.model import Config, Transformer
from audiotok.lm.phonetic import (
    PHONE_INPUT_SIZES,
    PHONES,
    Reader,
    TimedPhones,
    numbers,
    phone_ends,
    phone_inputs,
    timed,
)
from audiotok.lm.recipe import LayoutOptions, LmData, LmRecipe
from audiotok.lm.spans import read_spans, write_spans, written_words
from audiotok.training.recipe import Train

READING = Path(__file__).parents[2] / "egs" / "data" / "reading.flac"
TINY = Config(width=32, depth=2, heads=2, dropout=0.0, phones=True)
LAYOUT = Layout(sizes=(6, 5), pattern="delay", sample_rate=16000, frame_size=320)

lengths = st.lists(st.integers(1, 40), min_size=1, max_size=12)


def lasting(counts: list[int]) -> TimedPhones:
    phones = np.random.default_rng(len(counts)).integers(1, len(PHONES), len(counts))
    return TimedPhones(phones, np.array(counts))


# -- phones in their frames -----------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 30)), min_size=1, max_size=15))
def test_every_frame_has_a_phone(steps: list[tuple[int, int]]):
    """Gaps and phones in hundredths of a second, a phone of less than a frame among them."""
    found, now = [], 0
    for i, (gap, length) in enumerate(steps):
        found.append(TimedSpan(PHONES[2 + i], (now + gap) / 100, (now + gap + length) / 100))
        now += gap + length
    frames = now // 2 + 2 * len(steps) + 1
    phones, counts = timed(Alignment(found, []), frames, 50.0)
    assert counts.sum() == frames
    assert counts.min() >= 1
    spoken = [PHONES[p] for p in phones if PHONES[p] != "SIL"]
    assert spoken == [span.label for span in found]
    with pytest.raises(ValueError, match="do not fit"):
        timed(Alignment(found, []), len(found) - 1, 50.0)


@given(lengths)
def test_a_reader_is_told_what_a_recording_was_told(counts: list[int]):
    text = lasting(counts)
    reader, seen = Reader(text.phones), []
    for last in phone_ends(text.lengths):
        assert not reader.done
        seen.append(reader.inputs())
        reader.advance(bool(last))
    assert reader.done
    assert np.array_equal(np.hstack(seen), phone_inputs(*text))
    # What a prompt has is told at once, and the frame to come.
    stop = len(counts) // 2
    on = Reader(text.phones[stop:], before=text.first(sum(counts[:stop])))
    assert on.frames == sum(counts[:stop])
    assert np.array_equal(on.inputs(on.frames + 1), phone_inputs(*text)[:, : on.frames + 1])
    assert np.array_equal(reader.timed().lengths, text.lengths)
    assert (np.hstack(seen).max(1) < PHONE_INPUT_SIZES).all()


def test_a_phone_ends_even_if_the_model_never_says_so():
    reader = Reader(numbers(["SIL", "AA"]), longest=3)
    for _ in range(6):
        reader.advance(False)
    assert reader.done
    assert reader.timed().lengths.tolist() == [3, 3]
    with pytest.raises(ValueError, match="not phones"):
        numbers(["XX"])


# -- the model ------------------------------------------------------------------------------------


def model_of(**more: bool) -> Transformer:
    torch.manual_seed(0)
    return Transformer(LAYOUT.vocabulary, 0, replace(TINY, **more)).eval()


def test_a_cache_changes_nothing_and_no_later_frame_is_seen():
    text, model = lasting([3, 2, 4]), model_of()
    batch = causal_batch(LAYOUT, [Segment(np.random.default_rng(0).integers(0, 5, (2, 9)), text)])
    assert batch.phones is not None
    assert batch.phone_ends is not None
    assert batch.phone_ends[0].tolist() == [0, 0, 1, 0, 1, 0, 0, 0, 1, -100]
    whole, _ = model.hidden(batch.ids, phones=batch.phones)
    made, cache = [], None
    for a, b in ((0, 1), (1, 6), (6, 10)):
        some = {"phones": batch.phones[:, :, a:b], "cache": cache}
        hidden, cache = model.hidden(batch.ids[:, :, a:b], **some)
        made.append(hidden)
    assert torch.allclose(torch.cat(made, 1), whole, atol=1e-5)
    other = batch.phones.clone()
    other[:, 2, 5] = 7
    hidden, _ = model.hidden(batch.ids, phones=other)
    assert torch.equal(hidden[:, :5], whole[:, :5])
    assert not torch.allclose(hidden[:, 5], whole[:, 5])


def test_filling_on_the_right_changes_nothing():
    parts = [Segment(np.zeros((2, n), np.int64), lasting([n - 2, 2])) for n in (4, 9)]
    model = model_of()
    (one, n), (two, m) = (target_nats(model, causal_batch(LAYOUT, p)) for p in (parts[:1], parts))
    assert torch.allclose(one[0], two[0], rtol=1e-5)
    assert n[0] == m[0]
    rows = replace(LAYOUT, pattern="parallel")
    model, random = model_of(causal=False), np.random.default_rng(0)
    (one, _), (two, _) = (
        target_nats(model, nar_batch(rows, p, random, codebook=1)) for p in (parts[:1], parts)
    )
    assert torch.allclose(one[0], two[0], rtol=1e-5)


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A corpus in which a frame's codes are its phone's number, and when phones are said."""
    folder = tmp_path_factory.mktemp("phones")
    codes, lines = {}, []
    for i in range(80):
        random = np.random.default_rng(i)
        names = [PHONES[p] for p in random.integers(2, 12, 8)]
        counts = random.integers(3, 6, 8)
        edges = np.cumsum([0, *counts]) / 50
        row = np.repeat(numbers(names), counts)
        codes[f"r{i}"] = np.stack([row, row + 20, row + 40])
        phones = [[name, a, b] for name, a, b in zip(names, edges, edges[1:], strict=False)]
        lines.append({"id": f"r{i}", "phones": phones, "words": []})
    lines[5] = {"id": "r5", "error": "another text"}
    (folder / "spans.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    rows = {name: {"split": "dev" if name in ("r0", "r1") else "train"} for name in codes}
    return corpus_of(folder / "corpus", codes, rows=rows), folder / "spans.jsonl"


def taught_recipe(taught: tuple[Path, Path], **more: object) -> LmRecipe:
    made = LmRecipe(
        data=LmData(corpus=str(taught[0]), spans=str(taught[1]), frames=60, batch=8, hidden=0.3),
        layout=LayoutOptions(codebooks=2, pattern="delay"),
        model=TINY,
        train=Train(steps=120, rate=1e-2, warmup=5, cooldown=60, every=60, ema=0.9),
    )
    return replace(made, **more)  # pyright: ignore


def test_a_model_says_the_phones_that_it_reads(taught: tuple[Path, Path], tmp_path: Path):
    made = taught_recipe(taught)
    assert len(Recordings(Corpus(taught[0]), "train", made.data)) == 77  # r5 has no spans
    model, layout = load_model(train(made, tmp_path / "first"))
    reader = Reader(numbers(["AA", "B", "AY", "AA"]))
    cold = Sampling(temperature=0)
    columns = list(generate(model, layout, reader=reader, sampling=cold))
    codes = layout.decode(np.concatenate(columns, -1))
    phones, counts = reader.timed()
    assert codes.shape[1] == counts.sum()
    expected = np.repeat(phones, counts)
    assert (codes == expected + np.array([[0], [20]])).mean() > 0.9
    assert 2 <= counts.mean() <= 7  # learned from lengths of 3 to 5

    # After a prompt, the prompt's phones are told with it, and only the others are read.
    before = TimedPhones(numbers(["D", "B", "EH"]), np.array([4, 3, 5])).first(11)
    assert before.lengths.tolist() == [4, 3]
    prompt = np.repeat(before.phones, before.lengths) + np.array([[0], [20]])
    second = Reader(numbers(["AA", "D"]), before=before)
    assert second.frames == 7
    columns = list(generate(model, layout, reader=second, prompt=prompt, sampling=cold))
    on = layout.decode(np.concatenate(columns, -1))
    assert np.array_equal(on[:, :7], prompt)
    phones, counts = second.timed()
    assert counts[:2].tolist() == [4, 3]
    assert on.shape[1] == counts.sum()
    expected_on = np.repeat(phones, counts) + np.array([[0], [20]])
    assert (on == expected_on)[:, 7:].mean() > 0.8

    rest = replace(
        made, layout=LayoutOptions(pattern="parallel"), model=replace(TINY, causal=False)
    )
    second, rows = load_model(train(rest, tmp_path / "second"))
    full = predict_codebooks(second, rows, codes, text=reader.timed())
    assert np.array_equal(full[:2], codes)
    assert (full[2] == expected + 40).mean() > 0.9


def test_phones_are_asked_for_where_they_are_told(taught: tuple[Path, Path], tmp_path: Path):
    with pytest.raises(ValueError, match="needed there"):
        next(generate(model_of(), LAYOUT))
    codes = np.zeros((2, 9), np.int64)
    with pytest.raises(ValueError, match="prompt of 9 frames, and phones of 0"):
        next(generate(model_of(), LAYOUT, reader=Reader(numbers(["AA"])), prompt=codes))
    with pytest.raises(ValueError, match="spans are needed"):
        target_nats(model_of(), causal_batch(LAYOUT, [Segment(codes)]))
    with pytest.raises(ValueError, match="go together"):
        train(taught_recipe(taught, model=replace(TINY, phones=False)), tmp_path / "a")
    for i, options in enumerate((LayoutOptions(codebooks=2), LayoutOptions(pattern="ar_nar"))):
        with pytest.raises(ValueError, match="a step a frame"):
            train(taught_recipe(taught, layout=options), tmp_path / f"b{i}")


# -- spans ----------------------------------------------------------------------------------------


def test_words_as_they_are_written():
    found = [
        TimedSpan("mr", 0.1, 0.3),
        TimedSpan("jones", 0.3, 0.7),
        TimedSpan("well", 0.8, 1),
        TimedSpan("off", 1, 2),
    ]
    words = written_words(Alignment([], found), "\u201cMr. Jones \u2014 well-off!", LAYOUT)
    assert [(w.text, w.first, w.last) for w in words] == [
        ("\u201cMr.", 5, 15),
        ("Jones \u2014", 15, 35),
        ("well-off!", 40, 100),
    ]
    with pytest.raises(ValueError, match="another text"):
        written_words(Alignment([], found), "Mr. Jones", LAYOUT)


def test_a_file_of_spans_grows_and_mends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from audiotok.data.manifest import listing_of

    for name, text in (("a", "good"), ("b", "bad"), ("c", "good"), ("d", "")):
        shutil.copy(READING, tmp_path / f"{name}.flac")
        (tmp_path / f"{name}.txt").write_text(text)
    asked: list[str] = []

    def align(_: object, text: str) -> Alignment:
        asked.append(text)
        if text == "bad":
            raise ValueError("not in the\ndictionary")
        return Alignment([TimedSpan("G", 0.0, 0.5)], [TimedSpan("good", 0.0, 0.5)])

    monkeypatch.setattr(spans, "align", align)
    items = list(listing_of(str(tmp_path)).items(str(tmp_path)))
    out = tmp_path / "out" / "spans.jsonl"
    count, errors = write_spans(items, out)
    assert (count, len(asked)) == (2, 3)
    assert len(errors) == 1
    assert "not in the dictionary" in errors[0]
    assert len(read_spans(out)) == 2
    raw = out.read_bytes()
    out.write_bytes(raw[:-9])  # cut short, as by kill -9
    assert write_spans(items, out)[0] == 2
    assert len(asked) == 4
    assert out.read_bytes() == raw
    (tmp_path / "other.jsonl").write_text("[1]\n")
    for bad in (tmp_path / "other.jsonl", tmp_path / "none.jsonl"):
        with pytest.raises(ValueError, match=bad.name):
            read_spans(bad)


def test_a_recording_is_aligned_interleaved_and_comes_apart(tmp_path: Path):
    pytest.importorskip("pocketsphinx")
    text = "It was the best of times, it was the worst of times, it was the age of wisdom, it was "
    text += "the age of foolishness, it was the epoch of belief,"
    shutil.copy(READING, tmp_path / "reading.flac")
    (tmp_path / "reading.txt").write_text(text)
    out = tmp_path / "spans.jsonl"
    audiotok("lm", "align", str(tmp_path), "-o", str(out))
    ((_, alignment),) = read_spans(out).items()
    layout = replace(LAYOUT, pattern="flat", offset=300)
    words = written_words(alignment, text, layout)
    assert " ".join(word.text for word in words) == text
    codes = np.random.default_rng(0).integers(0, 5, (2, 483))
    made = interleaved(layout, lambda s: list(s.encode()), words, codes, eos=299, spoken=1.0)
    parts = split_joined(layout, made.ids)
    assert np.array_equal(parts[0], codes[:, : parts[0].shape[1]])
    frames = sum(int(counts) for counts in timed(alignment, 483, 50.0).lengths)
    assert frames == 483


def test_pronunciations():
    pytest.importorskip("pocketsphinx")
    assert pronounce("Good dog, come!") == (
        ["SIL", "G", "UH", "D", "D", "AO", "G", "SIL", "K", "AH", "M", "SIL"]
    )
    with pytest.raises(ValueError, match="dictionary: qwrtz"):
        pronounce("a qwrtz")
    with pytest.raises(ValueError, match="no words"):
        pronounce("?!")
