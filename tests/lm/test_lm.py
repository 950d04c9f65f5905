"""Language models: what is cached is what is computed, training goes on, generation is legal."""

from __future__ import annotations

import math
import os
import stat
import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from commandline import audiotok
from corpora import corpus_of

from audiotok._platform.lock import LockedError, locked_folder
from audiotok._platform.registry import find
from audiotok.audio.audio import Audio
from audiotok.codecs.checkpoint import load
from audiotok.corpus import Corpus
from audiotok.corpus.base import read_info
from audiotok.corpus.write import write_info
from audiotok.lm.data import IGNORED, TEXT, Recordings, Segment, causal_batch, masked, nar_batch
from audiotok.lm.entries import initialize_from_entries
from audiotok.lm.exporters.base import export
from audiotok.lm.file import codec_of, load_model, save_model
from audiotok.lm.generate import Sampling, generate, predict_codebooks, spoken
from audiotok.lm.layout import Layout, LayoutError
from audiotok.lm.loop import LmTrainer, target_nats, train
from audiotok.lm.model import Config, Transformer
from audiotok.lm.ngram import Ngram
from audiotok.lm.recipe import LayoutOptions, LmData, LmRecipe
from audiotok.lm.score import bits_of, corrupted, prefers_original
from audiotok.runtime.stream import Stream
from audiotok.training.components import adamw
from audiotok.training.recipe import Train

TINY = Config(width=32, depth=2, heads=2, dropout=0.0)
PATTERNS = ["flat", "delay", "parallel", "coarse_first", "ar_nar", "semantic_first"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Codes of the shipped codec in which every frame follows from the one before."""
    codes, rows = {}, {}
    for i in range(24):
        first = np.random.default_rng(i).integers(0, 50, (8, 1))
        codes[f"r{i}"] = (first + 7 * np.arange(20 + i)) % 50
        rows[f"r{i}"] = {"text": f"word {i}", "split": "dev" if i % 6 == 0 else "train"}
    return corpus_of(tmp_path_factory.mktemp("lm") / "corpus", codes, rows=rows)


def recipe(corpus: Path, **more: object) -> LmRecipe:
    options = Train(steps=6, rate=3e-3, warmup=1, cooldown=1, every=3, ema=0.5)
    made = LmRecipe(
        data=LmData(corpus=str(corpus), frames=40, batch=4),
        layout=LayoutOptions(codebooks=2),
        model=TINY,
        train=options,
    )
    return replace(made, **more)  # pyright: ignore


def model_of(layout: Layout, *, text: int = 0, causal: bool = True) -> Transformer:
    torch.manual_seed(0)
    return Transformer(layout.vocabulary, text, replace(TINY, causal=causal)).eval()


@pytest.mark.parametrize("pattern", ["flat", "delay"])
def test_a_cache_changes_nothing(pattern: str):
    layout = Layout(sizes=(7, 5, 6), pattern=pattern)
    model = model_of(layout)
    codes = np.random.default_rng(0).integers(0, 5, (3, 9))
    ids = torch.from_numpy(np.atleast_2d(layout.encode(codes)))[None]
    whole, _ = model.hidden(ids)
    made, cache = [], None
    for a, b in ((0, 1), (1, 5), (5, 6), (6, ids.shape[2])):
        hidden, cache = model.hidden(ids[:, :, a:b], cache=cache)
        made.append(hidden)
    assert torch.allclose(torch.cat(made, 1), whole, atol=1e-5)


def test_filling_on_the_right_changes_nothing():
    for causal in (True, False):
        layout = Layout(sizes=(7, 5), pattern="parallel")
        model = model_of(layout, causal=causal, text=TEXT)
        random = np.random.default_rng(0)
        parts = [Segment(random.integers(0, 5, (2, n)), "ab" * n) for n in (3, 9)]
        if causal:
            locked_folder, beside = causal_batch(layout, parts[:1]), causal_batch(layout, parts)
        else:
            locked_folder = nar_batch(layout, parts[:1], random, codebook=1)
            beside = nar_batch(layout, parts, random, codebook=1)
        (one, n), (two, m) = target_nats(model, locked_folder), target_nats(model, beside)
        assert torch.allclose(one[0], two[0], rtol=1e-5)
        assert n[0] == m[0]


def test_nothing_later_is_seen():
    layout = Layout(sizes=(7, 5), pattern="delay")
    model = model_of(layout)
    ids = torch.randint(5, 10, (1, 2, 8))
    before = model(ids)[1]
    ids[:, :, 5] = 6
    after = model(ids)[1]
    assert torch.equal(before[:, :5], after[:, :5])
    assert not torch.equal(before[:, 5:], after[:, 5:])


def test_rows_are_weighted_by_attention(tmp_path: Path):
    layout = Layout(sizes=(6, 6, 6), pattern="parallel")
    torch.manual_seed(0)
    model = Transformer(layout.vocabulary, 0, replace(TINY, attention=True)).eval()
    ids = torch.from_numpy(layout.encode(np.random.default_rng(0).integers(0, 6, (3, 9))))[None]
    whole, _ = model.hidden(ids)
    cache, parts = None, []
    for i in range(ids.shape[2]):
        part, cache = model.hidden(ids[:, :, i : i + 1], cache=cache)
        parts.append(part)
    assert torch.allclose(torch.cat(parts, 1), whole, atol=1e-5)
    sum(each.sum() for each in model(ids)).backward()  # pyright: ignore
    assert model.attention is not None
    assert all(each.grad is not None for each in model.attention.parameters())
    save_model(model, layout, tmp_path / "m.safetensors")
    again, _ = load_model(tmp_path / "m.safetensors")
    assert torch.equal(again.hidden(ids)[0], whole)
    plain = Transformer(layout.vocabulary, 0, TINY)
    assert not [key for key in plain.state_dict() if "attention" in key]


def test_targets_are_the_codes_that_are_to_come():
    layout = Layout(sizes=(7, 5), pattern="delay")
    codes = np.array([[1, 2, 3], [0, 4, 2]])
    batch = causal_batch(layout, [Segment(codes, "hi")])
    # two of text, begin; then each row's codes, the second a step late, `end` in the first alone
    assert batch.targets[0, 0].tolist() == [-100, -100, 6, 7, 8, 2]
    assert batch.targets[0, 1].tolist() == [-100, -100, -100, 5, 9, 7]
    assert batch.ids[0, 0, :2].tolist() == [12 + ord("h"), 12 + ord("i")]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_stretch_does_not_say_where_it_was_cut(pattern: str):
    """Whole, every code is asked for and one `end`; cut, the codes (but the one that shows how many
    frames there were) and no `end`; and only a recording's beginning follows `begin`."""
    layout = Layout(sizes=(7, 5, 6), pattern=pattern)
    codes = np.random.default_rng(0).integers(0, 5, (3, 8))
    whole, cut = Segment(codes), Segment(codes, starts=False, ends=False)
    ids, targets, *_ = causal_batch(layout, [whole, cut])
    assert (ids[0, :, 0] == layout.special("begin")).all()
    assert (ids[1, :, 0] == layout.special("separator")).all()
    assert torch.equal(ids[0, :, 1:], ids[1, :, 1:])
    end = layout.special("end")
    assert (targets[0] == end).sum() == 1
    assert (targets[1] == end).sum() == 0
    grouped = pattern in ("ar_nar", "semantic_first")
    assert (targets[1] != IGNORED).sum() == codes.size - grouped
    other = (targets[0] != targets[1]).nonzero()
    assert len(other) == 1 + grouped
    if grouped:  # 8 frames of the first codebook have been said, the next id is of another
        assert other[0].tolist() == [0, 8]
        assert targets[0, 0, 8] >= 5 + 7


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_run_that_was_cut_has_no_duration(pattern: str):
    layout = Layout(sizes=(7, 5), pattern=pattern, runs="durations", longest=9)
    codes = np.repeat([[1, 2, 3], [0, 4, 1]], [4, 3, 5], axis=1)
    flags = product((True, False), repeat=2)
    whole, *cuts = (Segment(codes, starts=starts, ends=ends) for starts, ends in flags)
    said = causal_batch(layout, [whole]).targets[0]
    row, first = (0, 5 + 7 + 5) if layout.serial else (2, 5)
    for part in cuts:
        targets = causal_batch(layout, [part]).targets[0]
        grouped = not part.ends and pattern in ("ar_nar", "semantic_first")
        assert (targets != said).sum() == (not part.starts) + 2 * (not part.ends) + grouped
        lengths = targets[row][targets[row] >= first] - first + 1
        assert lengths.tolist() == [4] * part.starts + [3] + [5] * part.ends


def test_a_stretch_of_pieces_does_not_say_where_it_was_cut():
    pytest.importorskip("tokenizers")
    from audiotok.lm.bpe import learn_pieces

    random = np.random.default_rng(0)
    codes = [random.integers(0, 3, (2, 40)) for _ in range(30)]
    layout = learn_pieces(Layout(sizes=(4, 4), pattern="ar_nar"), codes, size=40)
    batch = causal_batch(layout, [Segment(codes[0], ends=False)])
    out = (batch.targets[0, 0] == IGNORED).nonzero()[:, 0].tolist()
    assert len(out) == 2
    assert batch.ids.shape[2] - 1 == out[1]
    assert layout.learned is not None
    pieces = batch.ids[0, 0, 1:].numpy() - 5
    assert layout.learned.lengths[pieces[: out[0]]].sum() <= 40
    assert layout.learned.lengths[pieces[: out[0] + 1]].sum() > 40


def test_stretches_of_recordings_know_what_was_cut(corpus: Path):
    recordings = Recordings(Corpus(corpus), "", LmData(corpus=str(corpus), frames=16))
    i, random = len(recordings) - 1, np.random.default_rng(0)
    codes = recordings.codes(i)  # of 43 frames
    parts = recordings.segments(i)
    assert np.array_equal(np.concatenate([part.codes for part in parts], 1), codes)
    assert [part.starts for part in parts] == [True, False, False]
    assert [part.ends for part in parts] == [False, False, True]
    drawn = [recordings.random_segment(i, random) for _ in range(400)]
    for part in drawn:
        n = part.codes.shape[1]
        assert n == 16 or part.ends
        assert part.starts == np.array_equal(part.codes, codes[:, :16])
        assert part.ends == np.array_equal(part.codes, codes[:, -n:])
    # An end after any number of frames: else a model learns to count to 16.
    assert {part.codes.shape[1] for part in drawn if part.ends} == set(range(1, 17))
    for share in (np.mean([part.starts for part in drawn]), np.mean([p.ends for p in drawn])):
        assert 0.2 < share < 0.4  # 16 of 43 + 16
    whole = Recordings(Corpus(corpus), "", LmData(corpus=str(corpus), frames=50))
    assert whole.random_segment(i, random)[2:] == (True, True)


def test_a_model_of_stretches_goes_on_past_their_length(tmp_path: Path):
    """Recordings of 200 frames, learnt 12 at a time: a model of cuts that end stops at 12."""
    codes = {f"r{i}": (i % 5 + np.arange(200))[None].repeat(8, 0) % 5 for i in range(4)}
    made = corpus_of(tmp_path / "corpus", codes, rows={name: {} for name in codes})
    data = LmData(corpus=str(made), train="", validate="", frames=12, batch=8)
    options = Train(steps=40, rate=1e-2, warmup=5, cooldown=20, every=40, ema=0.9)
    layout = LayoutOptions(codebooks=1)
    model, known = load_model(
        train(recipe(made, data=data, layout=layout, train=options), tmp_path / "run")
    )
    ids = np.concatenate(list(generate(model, known, longest=40, sampling=Sampling(temperature=0))))
    assert known.decode(ids).shape == (1, 40)


@pytest.mark.parametrize("offset", [0, 300])
def test_masking_hides_codes_alone_and_keeps_targets(offset: int):
    patterned = Layout(sizes=(7, 5), pattern="flat" if offset else "delay", offset=offset)
    codes = np.random.default_rng(0).integers(0, 5, (2, 50))
    batch = causal_batch(patterned, [Segment(codes, "hi"), Segment(codes[:, :9], "hello")])
    made = masked(patterned, batch, 0.5, np.random.default_rng(0))
    changed = made.ids != batch.ids
    assert torch.equal(made.targets, batch.targets)
    assert (made.ids[changed] == patterned.special("mask")).all()
    code = (batch.ids >= offset + 5) & (batch.ids < torch.tensor(patterned.vocabulary)[:, None])
    assert not changed[~code].any()  # marks, text, filling
    assert 0.35 < changed[code].float().mean() < 0.65


def test_vall_es_second_model_sees_codebooks_before_and_the_prompt():
    layout = Layout(sizes=(7, 5, 6), pattern="parallel")
    codes = np.random.default_rng(0).integers(0, 5, (3, 6))
    batch = nar_batch(layout, [Segment(codes)], np.random.default_rng(0), codebook=1, prompt=2)
    ids, targets = batch.ids[0, :, 1:], batch.targets[0, :, 1:]
    assert torch.equal(ids[0], torch.from_numpy(codes[0] + 5))
    assert torch.equal(ids[1:, :2], torch.from_numpy(codes[1:, :2] + 5))
    assert (ids[1:, 2:] == 3).all()  # mask
    assert torch.equal(targets[1, 2:], torch.from_numpy(codes[1, 2:] + 5))
    assert (targets[[0, 2]] == -100).all()
    assert (targets[1, :2] == -100).all()


def test_training_learns_resumes_and_says_what_it_learned(
    corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    options = Train(steps=60, rate=1e-2, warmup=5, cooldown=20, every=30, ema=0.9)
    made = recipe(corpus, train=options)
    weights = train(made, tmp_path / "whole")
    model, layout = load_model(weights)
    assert layout == Layout.load(tmp_path / "whole/layout.json")
    log = (tmp_path / "whole/log.csv").read_text().splitlines()
    column = log[0].split(",").index("held_bits_a_second")
    bits = [float(line.split(",")[column]) for line in log[1:]]
    assert len(bits) == 2
    # An id of 2053 costs 11 bits before anything is learned; there are 100 a second.
    assert bits[1] < bits[0] < 1100
    assert bits[1] < 500

    # Interrupted, it ends at the same weights to the bit.
    run = LmTrainer(made, tmp_path / "parts", "cpu")
    run.options = replace(options, every=10)
    run.go(0.0001)
    assert 0 < run.step < 60
    train(made, tmp_path / "parts")
    one = torch.load(tmp_path / "whole/last.pt", weights_only=True)["model"]
    other = torch.load(tmp_path / "parts/last.pt", weights_only=True)["model"]
    assert all(torch.equal(one[key], other[key]) for key in one)

    caplog.clear()
    longer = replace(options, steps=61, seed=3, rate=2e-2)
    train(replace(made, train=longer, data=replace(made.data, batch=5)), tmp_path / "parts")
    lines = [record.getMessage().partition("last.pt: ")[2] for record in caplog.records]
    assert lines == [
        f"data.batch was {made.data.batch}, now 5",
        "train.steps was 60, now 61",
        "train.rate was 0.01, now 0.02",
        "train.seed was 0, now 3",
    ]
    wide = replace(made, model=replace(made.model, width=2 * made.model.width))
    with pytest.raises(ValueError, match=r"last\.pt: not a run of this recipe \(model\.width was"):
        train(wide, tmp_path / "parts")
    with pytest.raises(ValueError, match="not the layout of this recipe"):
        train(replace(made, layout=LayoutOptions(codebooks=1)), tmp_path / "whole")

    codes = [np.full((2, 12), 3), (7 * np.arange(12) + np.array([[0], [9]])) % 50]
    (odd, n), (usual, m) = bits_of(model, layout, [Segment(c) for c in codes])
    assert n == m == 25
    assert usual < odd
    liked = prefers_original(model, layout, [codes[1], (codes[1] + 14) % 50] * 5, "shuffled")
    assert len(liked) == 10


@pytest.mark.parametrize("pattern", ["flat", "delay"])
def test_a_model_begins_with_what_the_codec_adds_up(pattern: str):
    codec = load("speech")
    layout = Layout(sizes=codec.sizes[:3], pattern=pattern)
    wide = Transformer(layout.vocabulary, TEXT, Config(width=256, depth=1, heads=2))
    initialize_from_entries(wide, layout, codec)
    books = [codec.quantizer.stages[q].entries for q in range(3)]  # pyright: ignore
    rows = [
        table(torch.arange(5, n))[:, : books[0].shape[1]]
        for table, n in zip(wide.tables, layout.vocabulary, strict=True)
    ]
    if pattern == "flat":
        rows = rows[0][: sum(layout.sizes)].split(list(layout.sizes))
    # As far from one another as the entries are, whichever way they are turned.
    (one, *_), (near, *_) = rows, books
    scale = torch.cdist(one[:9], one[:9]).sum() / torch.cdist(near[:9], near[:9]).sum()
    for row, book in zip(rows, books, strict=True):
        assert torch.allclose(
            torch.cdist(row[:50], row[50 : len(book)]),
            torch.cdist(book[:50], book[50:]) * scale,
            atol=1e-3,
        )
    letters = wide.tables[0](layout.vocabulary[0] + torch.arange(TEXT))
    assert letters.std() < 0.03  # they stay as they were
    with pytest.raises(ValueError, match="codebooks of"):
        initialize_from_entries(wide, Layout(sizes=(7, 5)), codec)


def test_a_corpus_of_other_weights_has_no_entries_to_begin_with(tmp_path: Path):
    about = {"codec": "speech", "fingerprint": "ab", "sample_rate": 16000, "frame_size": 320}
    with pytest.raises(ValueError, match=r"of speech \(ab\) than are here"):
        codec_of(Layout(sizes=(7,), **about))  # pyright: ignore[reportArgumentType]
    # The same codes under the name that they had before: a better decoder costs no model.
    about["fingerprint"] = load("speech").former_fingerprints[0]
    assert codec_of(Layout(sizes=(7,), **about)).name == "speech"  # pyright: ignore[reportArgumentType]
    small = corpus_of(tmp_path / "corpus", {"a": np.zeros((1, 9), np.int64)}, rows={"a": {}})
    write_info(small, replace(read_info(small), sizes=(5,)))
    data = LmData(corpus=str(small), train="", validate="", frames=5)
    made = recipe(small, data=data, layout=LayoutOptions(1), model=replace(TINY, entries=True))
    with pytest.raises(ValueError, match=r"model\.entries = false begins without"):
        train(made, tmp_path / "run")


def test_pieces_begin_as_the_mean_of_their_units():
    pytest.importorskip("tokenizers")
    from audiotok.lm.bpe import learn_pieces

    codec, random = load("speech"), np.random.default_rng(0)
    codes = [random.integers(0, 4, (1, 60)) for _ in range(20)]
    layout = learn_pieces(Layout(sizes=codec.sizes[:1]), codes, size=codec.sizes[0] + 40)
    model = Transformer(layout.vocabulary, 0, Config(width=32, depth=1, heads=2))
    initialize_from_entries(model, layout, codec)
    assert layout.learned is not None
    learned = layout.learned
    single = {int(learned.flat[learned.starts[j]]): j for j in range(codec.sizes[0])}
    i = int(np.flatnonzero(learned.lengths == 3)[0])
    units = [single[int(unit)] for unit in learned.units(np.array([i]))]
    rows = model.tables[0](5 + torch.tensor([i, *units]))
    assert torch.allclose(rows[0], rows[1:].mean(0), atol=1e-6)


def test_one_training_at_a_time(corpus: Path, tmp_path: Path):
    with locked_folder(tmp_path), pytest.raises(LockedError, match="another process works there"):
        train(recipe(corpus), tmp_path)
    assert not (tmp_path / "layout.json").exists()
    train(recipe(corpus), tmp_path)


def test_training_on_packed_contexts_goes_on_with_the_next(corpus: Path, tmp_path: Path):
    layout = Layout.of(Corpus(corpus), codebooks=2)
    export(find("exporters", "npy"), Corpus(corpus), tmp_path / "ids", layout=layout)
    data = LmData(corpus=str(corpus), packed=str(tmp_path / "ids"), frames=40, batch=3)
    options = Train(steps=40, rate=1e-2, warmup=3, cooldown=20, every=20, ema=0.9)
    made = recipe(corpus, data=data, train=options)
    train(made, tmp_path / "whole")
    run = LmTrainer(made, tmp_path / "parts", "cpu")
    batch = run.batch(0, 0)
    assert batch.ids.shape == (3, 1, 40)
    assert not (batch.targets == layout.special("begin")).any()
    said = batch.targets != -100
    assert torch.equal(
        batch.ids[:, :, 1:][said[:, :, :-1]], batch.targets[:, :, :-1][said[:, :, :-1]]
    )
    seen = [run.batch(step, 0).ids for step in range(1, 70)]  # more than an epoch
    run = LmTrainer(made, tmp_path / "parts", "cpu")
    run.go(0.0001)
    assert 0 < run.step < 40
    assert run.step == 1
    again = LmTrainer(made, tmp_path / "parts", "cpu")
    assert all(torch.equal(again.batch(0, 0).ids, ids) for ids in seen)
    train(made, tmp_path / "parts")
    one, other = (
        torch.load(tmp_path / name / "last.pt", weights_only=True)["model"]
        for name in ("whole", "parts")
    )
    assert all(torch.equal(one[key], other[key]) for key in one)
    for changed, line in (
        (replace(made, data=replace(data, batch=4)), "data.batch was 3, now 4"),
        (replace(made, train=replace(options, seed=1)), "train.seed was 0, now 1"),
    ):
        with pytest.raises(ValueError, match=rf"last\.pt: not a run of this recipe \({line}\)"):
            train(changed, tmp_path / "parts")  # the place in its contexts would be another
    with pytest.raises(ValueError, match="another layout"):
        train(replace(made, layout=LayoutOptions(codebooks=3)), tmp_path / "other")
    with pytest.raises(ValueError, match="codes alone"):
        train(replace(made, data=replace(data, text=True)), tmp_path / "other")


@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_pattern_trains_and_speaks(pattern: str, corpus: Path, tmp_path: Path):
    made = recipe(corpus, layout=LayoutOptions(codebooks=2, pattern=pattern))
    model, layout = load_model(train(made, tmp_path))
    columns = list(generate(model, layout, longest=5, sampling=Sampling(seed=1)))
    codes = layout.decode(np.concatenate(columns, -1))
    assert codes.shape[0] == 2
    assert 1 <= codes.shape[1] <= 5 if layout.order.streams else codes.shape[1] >= 1


def test_generation_is_repeatable_and_starts_before_it_ends():
    codec = load("speech")
    layout = Layout(
        sizes=tuple(codec.sizes[:3]),
        pattern="delay",
        codec=codec.name,
        fingerprint=codec.fingerprint,
        sample_rate=codec.sample_rate,
        frame_size=codec.frame_size,
    )
    model = model_of(layout)
    options = Sampling(temperature=0.8, top_k=20, top_p=0.9, seed=3)
    prompt = np.random.default_rng(0).integers(0, 1024, (3, 4))

    def drawn():
        return generate(model, layout, prompt=prompt, longest=12, shortest=12, sampling=options)

    columns = list(drawn())
    assert all(map(np.array_equal, columns, drawn()))
    codes = layout.decode(np.concatenate(columns, -1))
    assert np.array_equal(codes[:, :4], prompt)
    assert codes.shape == (3, 12)

    seen = 0

    def counted():
        nonlocal seen
        for column in drawn():
            seen += 1
            yield column

    heard = []
    for samples in spoken(counted(), layout, Stream(codec, codebooks=3)):
        if not heard:
            assert seen < len(columns)
        heard.append(samples)
    whole = codec.decode(layout.tokens(codes)).samples
    assert torch.allclose(torch.cat(heard, 1)[:, : whole.shape[1]], whole, atol=1e-4)


def test_further_codebooks_are_filled_up(corpus: Path, tmp_path: Path):
    made = recipe(
        corpus,
        layout=LayoutOptions(codebooks=3, pattern="parallel"),
        model=replace(TINY, causal=False),
        data=LmData(corpus=str(corpus), frames=60, batch=4, text=True),
        train=Train(steps=80, rate=1e-2, warmup=5, cooldown=30, every=40, ema=0.9),
    )
    model, layout = load_model(train(made, tmp_path))
    codes = (np.array([[3], [20], [11]]) + 7 * np.arange(15)) % 50
    full = predict_codebooks(model, layout, codes[:1], text="word", prompt=codes[:, :5])
    assert np.array_equal(full[0], codes[0])
    assert np.array_equal(full[:, :5], codes[:, :5])
    assert full.shape == (3, 15)
    with pytest.raises(ValueError, match="does not go on"):
        next(generate(model, layout, text="word"))


def test_vall_es_second_model_learns_by_heart_what_it_is_given():
    """Random codes: each later codebook is told by the ones before alone, and is of no other."""
    random = np.random.default_rng(0)
    layout = Layout(sizes=(32, 32, 32), pattern="parallel")
    parts = [Segment(random.integers(0, 32, (3, 20))) for _ in range(3)]
    torch.manual_seed(0)
    sizes = Config(width=64, depth=1, heads=2, dropout=0.0, causal=False)
    model = Transformer(layout.vocabulary, 0, sizes)
    optimizer = adamw(model, Train(rate=5e-3, weight_decay=0.0))
    for _ in range(150):
        nats, count = target_nats(model, nar_batch(layout, parts, random))
        (nats.sum() / count.sum()).backward()
        optimizer.step()
        optimizer.zero_grad()

    def bits(some: list[Segment], codebook: int) -> float:
        nats, count = target_nats(model.eval(), nar_batch(layout, some, random, codebook=codebook))
        return (nats.sum() / count.sum()).item() / math.log(2)

    for codebook in (1, 2):
        assert bits(parts, codebook) < 0.5  # of 5
        mixed = [
            Segment(np.concatenate([other.codes[:codebook], part.codes[codebook:]]))
            for part, other in zip(parts, parts[1:] + parts[:1], strict=True)
        ]
        assert bits(mixed, codebook) > 5


def test_text_is_asked_for_where_it_is_read():
    layout = Layout(sizes=(7,))
    with pytest.raises(ValueError, match="give some"):
        next(generate(model_of(layout, text=TEXT), layout))
    with pytest.raises(ValueError, match="no text"):
        next(generate(model_of(layout), layout, text="hello"))
    first = Layout(sizes=(7, 7), pattern="ar_nar")
    with pytest.raises(ValueError, match="all of a recording"):
        next(generate(model_of(first), first, prompt=np.zeros((2, 3), np.int64)))


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_pieces_shorten_and_join_a_text_tokenizer(kind: str, tmp_path: Path):
    tokenizers = pytest.importorskip("tokenizers")
    from audiotok.lm.bpe import extend_tokenizer, learn_pieces, save_tokenizer

    random = np.random.default_rng(0)
    words = [random.integers(0, 30, 4) for _ in range(6)]
    codes = [np.concatenate([words[i] for i in random.integers(0, 6, 40)])[None] for _ in range(30)]
    plain = Layout(sizes=(30,))
    layout = learn_pieces(plain, codes, size=60, kind=kind)  # pyright: ignore
    assert layout.vocabulary[0] <= 60
    ids = layout.encode(codes[0])
    assert len(ids) < len(plain.encode(codes[0])) / 2
    assert np.array_equal(layout.decode(ids), codes[0])

    save_tokenizer(layout, tmp_path / "tokenizer.json")
    there = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert there.get_vocab_size() == layout.vocabulary[0]
    assert there.id_to_token(layout.special("end")) == "<|audio_end|>"

    text = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[UNK]": 0, "hi": 1}, "[UNK]"))
    text.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    moved = extend_tokenizer(text, plain)
    assert moved.offset == 2
    said = "".join(moved.names()[i - 2] for i in moved.encode(codes[0][:, :5]))
    assert text.encode(f"hi {said}").ids == [1, *moved.encode(codes[0][:, :5]).tolist()]
    with pytest.raises(LayoutError, match="already"):
        extend_tokenizer(text, plain)
    with pytest.raises(LayoutError, match="need one each"):
        learn_pieces(plain, codes, size=20)


def test_an_ngram_is_a_distribution_and_learns():
    random = np.random.default_rng(0)
    ids = [np.r_[0, random.integers(1, 6, 30)] for _ in range(20)]
    model = Ngram(6, order=3).fit(ids)
    for context in ([0], [1, 2], [3, 3], [5, 0], [0, 1, 2, 3]):
        assert math.isclose(sum(model.probability(context, i) for i in range(6)), 1.0)
    told = Ngram(6).fit([np.array([0, 1, 2, 1, 2, 1, 2])] * 5)
    assert told.bits(np.array([0, 1, 2, 1, 2])) < 4 < told.bits(np.array([0, 2, 2, 1, 1]))


def test_an_id_that_follows_few_others_is_unlikely_after_new_ones():
    """Kneser and Ney's point: 4 comes often, but after 3 alone; 5 after many."""
    told = [np.array([0, 3, 4] * 6), np.array([0, 1, 5, 2, 5, 6, 5, 0, 5, 3])]
    model = Ngram(8, order=2).fit(told)
    assert model.probability([7], 5) > model.probability([7], 4)
    # Of ids as unseen contexts see them: 4 after one id, of 11 pairs that there are.
    pairs = {(a, b) for ids in told for a, b in zip(ids.tolist(), ids[1:].tolist(), strict=False)}
    kinds = len({b for _, b in pairs})
    floor = 0.75 * kinds / len(pairs) / 8
    assert math.isclose(model.probability([7], 4), 0.25 / len(pairs) + floor)


def test_spoilt_recordings_have_the_same_length():
    codes, other = np.arange(35)[None], np.arange(100, 135)[None]
    random = np.random.default_rng(0)
    shuffled = corrupted(codes, other, "shuffled", random)
    assert sorted(shuffled[0]) == list(range(35))
    assert not np.array_equal(shuffled, codes)
    spliced = corrupted(codes, other, "spliced", random)
    assert spliced.shape == codes.shape
    assert 0 < (spliced >= 100).sum() < 35


def test_command_line(corpus: Path, tmp_path: Path):
    (tmp_path / "lm.toml").write_text(
        f'[data]\ncorpus = "{corpus}"\nframes = 40\nbatch = 2\n[layout]\ncodebooks = 2\n'
        "pattern = 'delay'\n[model]\nwidth = 32\ndepth = 1\nheads = 2\n"
        "[train]\nsteps = 4\nevery = 2\n"
    )
    run = tmp_path / "run"
    assert audiotok("lm", "train", tmp_path / "lm.toml", "-o", run).code == 0
    weights = run / "best.safetensors"
    done = audiotok("lm", "score", weights, corpus, "--split", "dev", "--pairs", "--json")
    assert done.code == 0, done.err
    assert 0 <= done.json["prefers_to_shuffled"] <= 1
    wave = tmp_path / "out.wav"
    done = audiotok("lm", "generate", weights, "-o", wave, "--seconds", "0.2")
    assert done.code == 0, done.err
    assert wave.stat().st_size > 44
    codec = load("speech")
    spoken_before = codec.encode(Audio(torch.randn(1, 8000) / 10, 16000))
    spoken_before.save(prompt := tmp_path / "prompt.tok")
    going_on = ("--prompt", prompt, "--prompt-seconds", "0.2", "--seconds", "0.3", "--shortest")
    done = audiotok("lm", "generate", weights, "-o", wave, *going_on, "0.3", "--force")
    assert done.code == 0, done.err
    heard = Audio.load(wave).samples
    assert heard.shape[1] == 4800
    known = codec.decode(spoken_before.first(2)).samples
    assert torch.allclose(heard[:, :2880], known[:, :2880].clamp(-1, 1), atol=1e-4)
    for arguments, word in (
        (("generate", tmp_path / "none.safetensors", "-o", tmp_path / "x.wav"), "no such model"),
        (("generate", weights, "-o", tmp_path / "x.wav", "--text", "hi"), "no text"),
        (("score", weights, tmp_path), "no corpus"),
        (("train", tmp_path / "lm.toml", "--set", "layout.codebooks=9"), "are 8"),
        (("train", tmp_path / "lm.toml", "--set", "model.wide=9"), "width"),
    ):
        done = audiotok(
            "lm", *arguments, *(("-o", tmp_path / "y") if arguments[0] == "train" else ())
        )
        assert done.code != 0
        assert len(done.lines) == 1, done.lines
        assert word in done.lines[0]
    assert not (tmp_path / "x.wav").exists()


def test_a_model_file_is_whole_or_refused(tmp_path: Path):
    layout = Layout(sizes=(7, 5), pattern="delay")
    model = model_of(layout)
    save_model(model, layout, tmp_path / "m.safetensors")
    assert stat.S_IMODE((tmp_path / "m.safetensors").stat().st_mode) & 0o044 == 0o044, (
        "others cannot read it"
    )
    again, same = load_model(tmp_path / "m.safetensors")
    assert same == layout
    ids = torch.randint(0, 7, (1, 2, 5))
    assert torch.equal(again(ids)[0], model(ids)[0])
    data = (tmp_path / "m.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(data[:-9])
    with pytest.raises(ValueError, match=r"cut\.safetensors"):
        load_model(tmp_path / "cut.safetensors")
    key, weight = next(iter(model.named_parameters()))
    weight.data.view(-1)[0] = math.nan
    save_model(model, layout, tmp_path / "nan.safetensors")
    with pytest.raises(ValueError, match=rf"nan\.safetensors: tensor '{key}' holds NaN"):
        load_model(tmp_path / "nan.safetensors")


@pytest.mark.slow
def test_from_recordings_to_a_language_model_in_one_script(tmp_path: Path):
    root = Path(__file__).parents[2]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        [root / "egs/feed_a_lm.sh", root / "egs/data", tmp_path],
        env={**os.environ, "PATH": path, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "each decoded to its codes" in done.stdout
    assert (tmp_path / "spoken.wav").stat().st_size > 16000


def test_a_split_that_no_row_has_is_refused_with_those_there_are(corpus: Path):
    data = LmData(corpus=str(corpus))
    with pytest.raises(ValueError, match=r"split 'tset' fits the recipe; its splits: dev, train; "):
        Recordings(Corpus(corpus), "tset", data)
