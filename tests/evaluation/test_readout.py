"""Readouts: their parts against closed forms, and what they find in codes that carry a label."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from audiotok.evaluation.probes.readout import (
    BiLstm,
    Budget,
    Classifier,
    Embedding,
    Transcriber,
    characters,
    ctc_loss,
    fit,
    fits,
    log_likelihood,
    padded,
    read,
)

SMALL = Budget(width=8, hidden=8, steps=3, batch=2, rate=1e-2)


def codes(*frames: int, seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.integers(0, [[4], [6], [5]], (3, n)) for n in frames]


def test_weights_of_codebooks_sum_to_one_and_ids_are_apart():
    embedding = Embedding([4, 6, 5], 8)
    vectors, weights = embedding(padded(codes(7, 9))[0])
    assert vectors.shape == (2, 9, 8)
    assert torch.allclose(weights.sum(1), torch.ones(2, 9))
    assert embedding.offset.flatten().tolist() == [0, 4, 10]
    assert embedding.table.num_embeddings == 15
    each = embedding.table(padded(codes(7, 9))[0] + embedding.offset)  # [b k f d]
    assert torch.allclose(embedding.score(each).softmax(1)[..., 0], weights)
    assert torch.allclose((weights[..., None] * each).sum(1), vectors, atol=1e-6)


@pytest.mark.parametrize("kind", ["linear", "x-vector", "text"])
def test_a_recording_reads_the_same_alone_and_in_a_batch(kind: str):
    if kind == "text":
        model = Transcriber([4, 6, 5], 7, SMALL)
    else:
        model = Classifier([4, 6, 5], 7, SMALL, linear=kind == "linear")
    model.eval()
    several = codes(7, 12, 1)
    with torch.no_grad():
        together, _ = model(*padded(several))
        for i, one in enumerate(several):
            alone, told = model(*padded([one]))
            mine = together[i, : one.shape[1]] if kind == "text" else together[i]
            assert torch.allclose(alone[0], mine, atol=1e-5)
            assert told.sum().item() == pytest.approx(1, abs=1e-5)


def test_both_directions_are_those_of_packed_sequences():
    model, lengths = BiLstm(3, 4), torch.tensor([7, 12, 1])
    theirs = nn.LSTM(3, 4, bidirectional=True, batch_first=True)
    state = dict(model.onward.state_dict())
    state |= {f"{k}_reverse": v for k, v in model.back.state_dict().items()}
    theirs.load_state_dict(state)
    x = torch.randn(3, 12, 3)
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    expected, _ = pad_packed_sequence(theirs(packed)[0], batch_first=True)
    for got, wanted, n in zip(model(x, lengths), expected, lengths, strict=True):
        assert torch.allclose(got[:n], wanted[:n], atol=1e-6)


def test_log_likelihood_is_the_sum_over_all_alignments():
    log_probs = torch.randn(1, 5, 3).log_softmax(2)
    every = dict.fromkeys(product(range(3), repeat=5), 0.0)
    for path in every:
        every[path] = sum(log_probs[0, f, c].item() for f, c in enumerate(path))
    for text in ([1], [1, 2], [2, 2], [1, 2, 1]):
        paths = [p for p in every if _collapsed(p) == text]
        expected = math.log(sum(math.exp(every[p]) for p in paths))
        got = log_likelihood(log_probs, torch.tensor([5]), [text])
        assert got.item() == pytest.approx(expected, abs=1e-5)
        assert fits(text, 5)
    assert log_likelihood(log_probs, torch.tensor([5]), [[1, 1, 1, 1]]).item() == -math.inf
    assert not fits([1, 1, 1, 1], 6)
    assert fits([1, 1, 1, 1], 7)
    assert not fits([], 7)
    best = max(every, key=lambda path: every[path])
    assert read(log_probs[0]) == _collapsed(best)


def _collapsed(path: tuple[int, ...]) -> list[int]:
    kept = [c for c, before in zip(path, (-1, *path), strict=False) if c != before]
    return [c for c in kept if c]


def test_loss_is_nats_a_character():
    model = Transcriber([4, 6, 5], 3, SMALL).eval()
    several, texts = codes(9, 12), [[1, 2], [3, 3, 1]]
    each = []
    for one, text in zip(several, texts, strict=True):
        log_probs, lengths = model(*padded([one]))[0], torch.tensor([one.shape[1]])
        each.append(-log_likelihood(log_probs, lengths, [text]).item() / len(text))
    got = ctc_loss(several, texts, model, [0, 1]).item()
    assert got == pytest.approx(np.mean(each), abs=1e-5)


def test_characters_of_a_text():
    assert (
        characters("  Don\N{RIGHT SINGLE QUOTATION MARK}t  stop -- 3 Ärzte!\n")
        == "don't stop 3 ärzte"
    )
    assert characters("हिन्दी") == "हिन्दी"  # vowel signs are marks, not letters
    assert characters("?!") == ""


def test_fit_is_the_same_for_the_same_seed_and_leaves_others_chance_alone():
    several, wanted = codes(9, 12, 5, 8), torch.tensor([0, 1, 0, 1])

    def loss(model: torch.nn.Module, chosen: list[int]) -> torch.Tensor:
        scores, _ = model(*padded([several[i] for i in chosen]))
        return torch.nn.functional.cross_entropy(scores, wanted[chosen])

    def made(seed: int) -> torch.Tensor:
        model = fit(lambda: Classifier([4, 6, 5], 2, SMALL, linear=True), loss, 4, SMALL, seed=seed)
        return torch.cat([p.flatten() for p in model.parameters()])

    before = torch.get_rng_state()
    first = made(0)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(made(0), first)
    assert not torch.equal(made(1), first)
