"""Masked prediction of sums of codebooks: the mixture, masks, scores, training and filling in."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from commandline import audiotok
from corpora import corpus_of
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from audiotok._platform.errors import InputError
from audiotok.audio.audio import Audio
from audiotok.lm.data import TEXT, Segment, infill_batch
from audiotok.lm.file import load_model
from audiotok.lm.generate import Sampling, generate, predict_codebooks
from audiotok.lm.infilling import continued, infill, remaining
from audiotok.lm.layout import Layout
from audiotok.lm.loop import LmTrainer, target_nats, train
from audiotok.lm.masked import (
    drawn_masks,
    held_out_sums,
    hidden_codes,
    masked_codes,
    masked_frames,
    sums_batch,
)
from audiotok.lm.mixture import Mixture, SumHead
from audiotok.lm.model import Config, Transformer
from audiotok.lm.recipe import LayoutOptions, LmData, LmRecipe
from audiotok.lm.score import bits_of
from audiotok.nn.quantizers.rvq import Euclidean, Rvq
from audiotok.training.recipe import Train

FEATURES, SIZE, BOOKS = 6, 4, 3
LAYOUT = Layout(sizes=(SIZE,) * BOOKS, pattern="parallel", frame_size=320, sample_rate=16000)
SUMS = Config(width=32, depth=2, heads=2, dropout=0.0, causal=False, gaussians=3)


def quantizer() -> Rvq:
    """A quantizer whose sums give all their codes back; the last features are of no entry."""
    made = Rvq(FEATURES, codebooks=BOOKS, size=SIZE).eval()
    for i, stage in enumerate(made.stages):
        assert isinstance(stage, Euclidean)
        stage.usage.fill_(1.0)
        stage.entries.copy_(torch.eye(FEATURES)[:SIZE] * 0.1**i)
    return made


def head() -> SumHead:
    torch.manual_seed(0)
    made = SumHead(8, (SIZE,) * BOOKS, FEATURES, 5)
    made.set_entries(quantizer())
    return made


def model_of(*, text: int = 0) -> Transformer:
    torch.manual_seed(0)
    model = Transformer(LAYOUT.vocabulary, text, SUMS, latent=FEATURES).eval()
    assert model.sums is not None
    model.sums.set_entries(quantizer())
    return model


def codes_of(frames: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, SIZE, (BOOKS, frames))


def torchs(mixture: Mixture, i: int) -> MixtureSameFamily:
    """Return one frame's mixture, over its features, as torch has it."""
    features = mixture.features[i]
    scale = mixture.deviations[i].exp()[:, None].expand(-1, int(features.sum()))
    normal = Normal(mixture.means[i][:, features], scale)
    return MixtureSameFamily(Categorical(logits=mixture.weights[i]), Independent(normal, 1))


def test_densities_are_those_of_torch():
    made = head()
    mixture = made(torch.randn(7, 8), torch.arange(7) % BOOKS)
    sums = torch.randn(7, FEATURES)
    features = mixture.features
    assert features.sum(1).tolist() == [SIZE] * 7
    for density, i in zip(mixture.log_density(sums), range(7), strict=True):
        wanted = torchs(mixture, i).log_prob(sums[i, features[i]])
        torch.testing.assert_close(density, wanted)
    wanted = torch.stack([mixture.log_density(sum_.expand(7, -1)) for sum_ in sums], 1)
    torch.testing.assert_close(mixture.log_densities(sums), wanted)


def test_sums_are_of_mean_zero_and_deviation_one_and_give_their_codes_back():
    made = head()
    every = torch.cartesian_prod(*[torch.arange(SIZE)] * BOOKS)
    for known in range(BOOKS):
        before = torch.full((len(every),), known)
        sums = made.sums(every, before)
        torch.testing.assert_close(sums.mean(0), torch.zeros(FEATURES), atol=1e-5, rtol=0)
        deviations = sums[:, :SIZE].std(0, correction=0)
        torch.testing.assert_close(deviations, torch.ones(SIZE))
        assert torch.equal(made.codes(sums, every, before), every)


def test_chances_are_of_the_next_codebook_and_sum_to_one():
    made = head()
    with torch.no_grad():
        made.bias.normal_(std=0.05)
        made.temperature.fill_(-0.1)
    mixture = made(torch.randn(2, 8), torch.tensor([1, 1]))
    chances = made.log_chances(mixture, 1)
    torch.testing.assert_close(chances.exp().sum(1), torch.ones(2))
    # At the entries of the second codebook, the third's at its mean.
    tables = made.tables
    points = (tables[1] + tables[2].mean(0) - made.centre[1]) / made.spread[1].clamp(min=1e-9)
    densities = torch.stack([mixture.log_density(x.expand(2, -1)) for x in points], 1)
    logits = densities * math.exp(-1.0) + 10 * made.bias[SIZE : 2 * SIZE]
    torch.testing.assert_close(chances, logits.log_softmax(1))


def test_reading_of_chances_gives_the_mixture_no_gradient():
    made = head()
    mixture = made(torch.randn(4, 8), torch.zeros(4, dtype=torch.int64))
    made.log_chances(mixture, 0)[:, 0].sum().backward()
    assert made.out.weight.grad is None
    assert made.bias.grad is not None
    assert made.temperature.grad is not None


def test_masks_are_as_many_as_the_schedule_says_and_of_the_deepest_codebooks():
    assert [masked_codes(i / 4, 100) for i in range(5)] == [100, 93, 71, 39, 0]
    assert masked_codes(1 / 3 * 2, 6) == 3  # cos 60 degrees, and no more by rounding
    random = np.random.default_rng(0)
    counts = np.array([3, 0, 3, 2])
    drawn = np.stack([drawn_masks(counts, 4, random) for _ in range(4000)])
    assert (drawn.sum(1) == 4).all()
    assert (drawn <= counts).all()
    assert np.allclose(drawn.mean(0), counts * 4 / 8, atol=0.05)  # each code equally likely
    hidden = hidden_codes(np.array([0, 1, 3]), 3)
    assert hidden.astype(int).tolist() == [[0, 0, 1], [0, 0, 1], [0, 1, 1]]


def test_the_more_confident_of_equally_masked_frames_keep_fewer_masked():
    random = np.random.default_rng(0)
    masked, confidence = np.array([3, 3, 3, 3, 1, 1, 0]), np.array([0, 3, 1, 2, 5, 4, 9.0])
    for total in range(15):
        left = remaining(masked, total, confidence, random)
        assert left.sum() == total
        assert (left <= masked).all()
        assert left[1] <= left[3] <= left[2] <= left[0]
        assert left[4] <= left[5]
    # Without confidence they are as masks of training are drawn.
    many = np.stack([remaining(masked, 7, np.zeros(7), random) for _ in range(2000)])
    assert np.allclose(np.sort(many[:, :4]).mean(), 1.5, atol=0.05)


def test_batches_mask_all_or_a_span_and_hold_what_is_masked():
    parts = [Segment(codes_of(30, i)) for i in range(40)]
    batch = sums_batch(LAYOUT, parts, np.random.default_rng(0))
    masked = batch.targets[:, :, 1:] != -100
    assert (batch.ids[:, :, 1:][masked] == 3).all()
    codes = torch.stack([torch.from_numpy(part.codes) for part in parts]) + 5
    assert torch.equal(batch.targets[:, :, 1:][masked], codes[masked])
    assert torch.equal(batch.ids[:, :, 1:][~masked], codes[~masked])
    assert (masked[:, 1:] | ~masked[:, :-1]).all()  # a deeper one is masked if one is
    assert masked.flatten(1).any(1).all()
    whole = (batch.targets[:, :, :1] == -100).all()
    assert whole  # not the mark of the beginning


def test_the_bound_is_that_of_equal_chances_where_nothing_is_known():
    model = model_of()
    assert model.sums is not None
    with torch.no_grad():
        model.sums.temperature.fill_(-10.0)  # densities to the power of nearly 0
    parts = [Segment(codes_of(n, n)) for n in (5, 12)]
    scores = held_out_sums(model, LAYOUT, parts)
    assert scores["held_bits"] == pytest.approx(2.0, rel=1e-5)  # of 4 codes
    assert scores["held_bits_a_second"] == pytest.approx(2 * BOOKS * 50, rel=1e-5)
    assert scores["held_not_given_back"] == 0
    each = [scores[f"held_bits_{q}"] for q in (1, 2, 3)]
    assert sum(each) == pytest.approx(6.0, rel=1e-5)
    # The second codebook is asked for as often as the first, but not in the same draws.
    assert each == pytest.approx([2.0] * 3, rel=0.5)


def test_the_bound_estimates_the_mean_over_all_orders():
    """Two frames of three codebooks: every order in which codes can be revealed, and its cost."""
    model, codes = model_of(), codes_of(2)
    assert model.sums is not None
    with torch.no_grad():
        model.sums.temperature.fill_(-0.3)

    @torch.no_grad()
    def cost(masked: tuple[int, int], frame: int) -> float:
        hidden = hidden_codes(np.array(masked), BOOKS)
        batch = infill_batch(LAYOUT, [Segment(codes)], [hidden])
        top, mixture, rows, known, _ = masked_frames(model, batch)
        i = int(np.flatnonzero(np.array(masked) > 0).tolist().index(frame))
        q = int(known[i])
        one = Mixture(*(part[i : i + 1] for part in mixture))
        return -float(top.log_chances(one, q)[0, rows[i, q]]) / math.log(2)

    def expected(masked: tuple[int, int]) -> float:
        total = 0.0
        for frame in (0, 1):
            if masked[frame]:
                after = (masked[0] - (frame == 0), masked[1] - (frame == 1))
                share = masked[frame] / sum(masked)
                total += share * (cost(masked, frame) + expected(after))
        return total

    scores = held_out_sums(model, LAYOUT, [Segment(codes)] * 500, batch=500, draws=6)
    assert scores["held_bits"] * 6 == pytest.approx(expected((3, 3)), rel=0.02)


def test_filling_on_the_right_changes_nothing():
    model = model_of(text=TEXT)
    parts = [Segment(codes_of(n), "ab" * n) for n in (3, 9)]
    hidden = [np.ones((BOOKS, n), bool) for n in (3, 9)]
    one, n = target_nats(model, infill_batch(LAYOUT, parts[:1], hidden[:1]))
    two, m = target_nats(model, infill_batch(LAYOUT, parts, hidden))
    torch.testing.assert_close(one[0], two[0])
    assert n.tolist() == [3]
    assert m.tolist() == [3, 9]


def known_of(frames: int, *known: int) -> np.ndarray:
    return np.isin(np.arange(frames), known)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_many_are_filled_in_as_each_alone_and_seeds_repeat(temperature: float):
    model = model_of()
    parts = [Segment(codes_of(n, n)) for n in (9, 4, 17)]
    known = [known_of(9, 0, 1, 8), known_of(4), known_of(17, *range(10))]
    seeds = [3, 4, 5]

    def fill(i: slice, steps: int = 5) -> list[np.ndarray]:
        return infill(
            model,
            LAYOUT,
            parts[i],
            known[i],
            steps=steps,
            temperature=temperature,
            seeds=seeds[i],
        )

    together = fill(slice(None))
    for i, (codes, part, kept) in enumerate(zip(together, parts, known, strict=True)):
        assert np.array_equal(codes, fill(slice(i, i + 1))[0])
        assert np.array_equal(codes[:, kept], part.codes[:, kept])
        assert codes.shape == part.codes.shape
        assert (codes >= 0).all()
        assert (codes < SIZE).all()
    for i, (part, kept) in enumerate(zip(parts, known, strict=True)):
        parts[i] = part._replace(codes=np.where(kept, part.codes, 0))
    # Codes of frames that are not known say nothing.
    assert all(map(np.array_equal, together, fill(slice(None))))
    if temperature:
        seeds[:] = [6, 7, 8]
        assert not all(map(np.array_equal, together, fill(slice(None))))


def test_as_many_passes_as_steps_whatever_the_codebooks(monkeypatch: pytest.MonkeyPatch):
    model, passes = model_of(), []
    hidden = Transformer.hidden

    def counted(*given: Tensor, **more: Tensor) -> object:
        passes.append(1)
        return hidden(*given, **more)  # pyright: ignore

    monkeypatch.setattr(Transformer, "hidden", counted)
    continued(model, LAYOUT, 30, steps=4)
    assert len(passes) == 4


def recipe(corpus: Path) -> LmRecipe:
    return LmRecipe(
        data=LmData(corpus=str(corpus), frames=40, batch=4),
        layout=LayoutOptions(codebooks=2, pattern="parallel"),
        model=SUMS,
        train=Train(steps=6, rate=3e-3, warmup=1, cooldown=1, every=3, ema=0.5),
    )


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Codes of the shipped codec in which every frame follows from the one before."""
    codes, rows = {}, {}
    for i in range(12):
        first = np.random.default_rng(i).integers(0, 50, (8, 1))
        codes[f"r{i}"] = (first + 7 * np.arange(20 + i)) % 50
        rows[f"r{i}"] = {"split": "dev" if i % 6 == 0 else "train"}
    return corpus_of(tmp_path_factory.mktemp("lm") / "corpus", codes, rows=rows)


def test_training_learns_and_resumes_to_the_bit_and_commands_read_it(corpus: Path, tmp_path: Path):
    made = recipe(corpus)
    longer = replace(made, train=replace(made.train, steps=40, rate=1e-2, every=20, ema=0.9))
    weights = train(longer, tmp_path / "whole")
    run = LmTrainer(longer, tmp_path / "parts", "cpu")
    run.options = replace(longer.train, every=10)
    run.go(0.0001)
    assert 0 < run.step < 40
    train(longer, tmp_path / "parts")
    one = torch.load(tmp_path / "whole/last.pt", weights_only=True)["model"]
    other = torch.load(tmp_path / "parts/last.pt", weights_only=True)["model"]
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert not [key for key in one if key.startswith("heads")]

    scored = json.loads(audiotok("lm", "score", weights, corpus, "--split", "dev", "--json").out)
    assert 0 < scored["held_bits_2"] < 9.5  # of 10
    assert 0 <= scored["held_not_given_back_1"] <= 1
    out = tmp_path / "on.wav"
    audiotok("lm", "generate", weights, "--seconds", "0.5", "--steps", "3", "-o", out)
    assert Audio.load(out).samples.shape == (1, 8000)
    for option in ("--top-k", "--shortest"):
        done = audiotok("lm", "generate", weights, option, "1", "-o", tmp_path / "no.wav")
        assert done.code == 2
        assert f"{option}: {weights} is a model of sums; leave it out" in done.err

    model, layout = load_model(weights)
    prompt = np.random.default_rng(0).integers(0, 50, (2, 8))
    codes = continued(model, layout, 20, prompt=prompt)
    assert codes.shape == (2, 20)
    assert np.array_equal(codes[:, :8], prompt)


def test_what_does_not_fit_is_refused(corpus: Path, tmp_path: Path):
    made, model = recipe(corpus), model_of()
    causal = replace(made, model=replace(SUMS, causal=True))
    with pytest.raises(InputError, match=r"model\.gaussians needs model\.causal = false"):
        LmTrainer(causal, tmp_path / "a", "cpu")
    delay = replace(made, layout=LayoutOptions(codebooks=2, pattern="delay"))
    with pytest.raises(InputError, match=r"needs layout\.pattern = 'parallel'"):
        LmTrainer(delay, tmp_path / "b", "cpu")
    runs = replace(made, layout=replace(made.layout, runs="drop"))
    with pytest.raises(InputError, match=r"needs layout\.pattern = 'parallel'"):
        LmTrainer(runs, tmp_path / "c", "cpu")
    part = Segment(codes_of(4))
    with pytest.raises(InputError, match="this model reads no text"):
        continued(model, LAYOUT, 4, text="hello")
    with pytest.raises(InputError, match="give some"):
        continued(model_of(text=TEXT), LAYOUT, 4)
    with pytest.raises(InputError, match="steps=0, temperature=1: from 1, and from 0"):
        continued(model, LAYOUT, 4, steps=0)
    for temperature in (math.nan, math.inf):
        with pytest.raises(InputError, match=f"temperature={temperature}: from 1, and from 0"):
            continued(model, LAYOUT, 4, temperature=temperature)
        with pytest.raises(InputError, match="temperature and top_k are 0 or more"):
            Sampling(temperature=temperature)
    with pytest.raises(InputError, match="a prompt of 4 frames leaves none of 4 to fill in"):
        continued(model, LAYOUT, 4, prompt=codes_of(4))
    with pytest.raises(InputError, match="has no bits of a whole recording"):
        bits_of(model, LAYOUT, [part])
    with pytest.raises(ValueError, match="does not go on"):
        next(generate(model, LAYOUT))
    plain = Transformer(LAYOUT.vocabulary, 0, replace(SUMS, gaussians=0))
    with pytest.raises(InputError, match="predicts no sums"):
        infill(plain, LAYOUT, [part], [known_of(4)], seeds=[0])
    with pytest.raises(InputError, match="predicts sums of codebooks"):
        predict_codebooks(model, LAYOUT, part.codes[:1])
    with pytest.raises(InputError, match="and a layout of"):
        SumHead(8, (5, 4), FEATURES, 2).set_entries(quantizer())
