"""Probabilistic residual quantization: its posterior, its loss, and which entries learn."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from audiotok.nn.quantizers.probabilistic_rvq import ProbabilisticRvq
from audiotok.nn.quantizers.rvq import Rvq

FEATURES = 5


def latents(frames: int, seed: int = 0) -> Tensor:
    return torch.randn(2, FEATURES, frames, generator=torch.Generator().manual_seed(seed))


def fitted(sigma: float | None = None) -> ProbabilisticRvq:
    """A quantizer initialised from frames, of a deviation if it is given."""
    quantizer = ProbabilisticRvq(FEATURES, codebooks=3, size=8)
    quantizer.train()(latents(100))
    if sigma is not None:
        quantizer.log_sigma.data.fill_(math.log(sigma))
    return quantizer.eval()


def surprise(quantizer: ProbabilisticRvq, x: Tensor) -> float:
    """E_q*[-log p] a codebook and feature, without the constant, from the definition."""
    sigma = float(quantizer.log_sigma.detach().exp())
    total = 0.0
    tables = [quantizer.table(i).detach().double() for i in range(quantizer.codebooks)]
    codes = quantizer.encode(x)
    for batch, frame in torch.cartesian_prod(torch.arange(len(x)), torch.arange(x.shape[2])):
        z, own = x[batch, :, frame].double(), codes[batch, :, frame]
        for d in range(quantizer.codebooks):
            logs = []
            for c in range(quantizer.sizes[d]):
                chosen = [c if i == d else int(own[i]) for i in range(quantizer.codebooks)]
                entries = [tables[i][c] for i, c in enumerate(chosen)]
                square = float((z - torch.stack(entries).sum(0)).square().sum())
                logs.append(-square / (2 * sigma**2) - FEATURES * math.log(sigma))
            weights = torch.softmax(torch.tensor(logs, dtype=torch.float64), 0)
            total -= float((weights * torch.tensor(logs, dtype=torch.float64)).sum())
    return total / (len(x) * x.shape[2] * quantizer.codebooks * FEATURES)


@settings(max_examples=20, deadline=None)
@given(sigma=st.floats(1e-3, 1e3), seed=st.integers(0, 99))
def test_posteriors_sum_to_one(sigma: float, seed: int):
    posterior = fitted(sigma).posterior(latents(20, seed)).detach()
    assert posterior.shape == (2, 3, 20, 8)
    torch.testing.assert_close(posterior.sum(3), torch.ones(2, 3, 20))


def test_without_deviation_the_posterior_chooses_the_nearest_entry_of_what_is_left():
    quantizer, x = fitted(1e-4), latents(50, 1)
    codes, posterior = quantizer.encode(x), quantizer.posterior(x).detach()
    # The last codebook has the residual itself, so its choice is the code.
    assert torch.equal(posterior[:, -1].argmax(2), codes[:, -1])
    assert posterior[:, -1].amax(2).min() > 0.99
    tables = [quantizer.table(i).detach() for i in range(3)]
    whole = quantizer.decode(codes).detach().transpose(1, 2)
    for d in range(3):
        left = x.transpose(1, 2) - whole + tables[d][codes[:, d]]
        nearest = torch.cdist(left, tables[d]).argmin(2)
        assert torch.equal(posterior[:, d].argmax(2), nearest)


def test_a_large_deviation_gives_every_entry_the_same_share():
    posterior = fitted(1e4).posterior(latents(10)).detach()
    torch.testing.assert_close(posterior, torch.full_like(posterior, 1 / 8), atol=1e-6, rtol=0)


@pytest.mark.parametrize("sigma", [0.3, 1.0, 4.0])
def test_the_loss_is_the_expected_surprise(sigma: float):
    quantizer, x = fitted(sigma), latents(6, 2)
    quantized = quantizer(x)
    error = (x - quantized.latent).square().mean()
    loss = float((quantized.losses["commitment"] - error).detach())
    assert loss == pytest.approx(surprise(quantizer, x), rel=1e-4)


def test_codes_are_those_of_residual_quantization_with_the_same_entries():
    quantizer, x = fitted(), latents(50, 3)
    greedy = Rvq(FEATURES, codebooks=3, size=8).eval()
    for stage, book in zip(greedy.stages, quantizer.books, strict=True):
        stage.load_state_dict({"entries": book.entries.detach(), "usage": torch.ones(8)})
    assert torch.equal(quantizer.encode(x), greedy.encode(x))


def test_every_entry_has_a_gradient_also_those_that_no_frame_is_coded_with():
    quantizer = fitted(1.0)
    with torch.no_grad():
        quantizer.books[1].entries[3] = 3.0
    x = latents(4, 4)
    assert 3 not in quantizer.encode(x)[:, 1]
    quantizer(x).losses["commitment"].backward()
    for book in quantizer.books:
        assert book.entries.grad is not None
        assert (book.entries.grad.abs().amax(1) > 0).all()


def test_the_error_of_the_latent_moves_no_entry():
    quantizer = fitted()
    x = latents(10).requires_grad_()
    quantizer(x).latent.square().mean().backward()
    assert x.grad is not None
    assert all(book.entries.grad is None for book in quantizer.books)


def test_codebooks_that_are_left_out_add_nothing():
    quantizer, x = fitted(), latents(10)
    kept = quantizer(x, torch.tensor([1, 3])).latent
    torch.testing.assert_close(kept[0], quantizer.decode(quantizer.encode(x, 1))[0])
    torch.testing.assert_close(kept[1], quantizer.decode(quantizer.encode(x))[1])


def test_it_begins_with_centres_of_the_first_batch_once():
    quantizer = ProbabilisticRvq(FEATURES, codebooks=2, size=8).train()
    first = quantizer(latents(100))
    error = (first.latent - latents(100)).square().mean()
    assert error < latents(100).var() / 2
    before = quantizer.table(0).clone()
    quantizer(latents(100, 1))
    assert torch.equal(quantizer.table(0), before)
    torch.testing.assert_close(quantizer.log_sigma.exp(), latents(100).std(correction=0))
