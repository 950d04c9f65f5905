"""Contracts of quantizers: encoding, decoding and training agree, and each codebook refines."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from audiotok.nn.quantizers.base import Quantizer
from audiotok.testing.checks import assert_close, assert_refuses


def assert_quantizes(quantizer: Quantizer, latent: Tensor) -> None:
    """Assert that encoding, decoding, training and autocast agree, for any number of codebooks.

    Args:
        quantizer: a quantizer in eval mode.
        latent: latents `[b d f]`, float32, b at least 2.
    """
    b, d, f = latent.shape
    before = {key: value.clone() for key, value in quantizer.state_dict().items()}
    codes = quantizer.encode(latent)
    shape = (b, quantizer.codebooks, f)
    assert codes.shape == shape, f"codes of {[*codes.shape]}, not {[*shape]}"
    assert codes.dtype == torch.int64, f"codes of {codes.dtype}"
    for rows, size in zip(codes.unbind(1), quantizer.sizes, strict=True):
        low, high = int(rows.min()), int(rows.max())
        assert 0 <= low <= high < size, f"codes {low} to {high} of a codebook of {size}"
        assert len(rows.unique()) > 1, "a codebook that says one thing says nothing"
    assert torch.equal(codes, quantizer.encode(latent)), "not deterministic"
    apart = [quantizer.encode(latent[i : i + 1]) for i in range(b)]
    assert torch.equal(codes, torch.cat(apart)), "codes depend on the neighbours in the batch"

    for n in range(1, quantizer.codebooks + 1):
        few = quantizer.encode(latent, n)
        assert torch.equal(few, codes[:, :n]), f"{n} codebooks are not the first {n} of all"
        decoded = quantizer.decode(few)
        assert decoded.shape == (b, d, f), f"{n} codebooks decode to {[*decoded.shape]}"
    for wrong in (0, quantizer.codebooks + 1):
        refusal = f"^{wrong} codebooks asked for; there are 1 to"
        assert_refuses(partial(quantizer.encode, latent, wrong), refusal)

    asked = latent.clone().requires_grad_()
    quantized = quantizer(asked)
    assert torch.equal(quantized.codes, codes)
    decoded = quantizer.decode(codes)
    assert_close(quantized.latent, decoded, 1e-5)
    assert quantized.first is not None
    assert_close(quantized.first, quantizer.decode(codes[:, :1]), 1e-5)
    assert torch.equal(quantized.stages[0], quantized.first)
    assert len(quantized.stages) == quantizer.codebooks
    for n in range(1, quantizer.codebooks + 1):
        whole = torch.stack(list(quantized.stages[:n])).sum(0)
        assert_close(whole, quantizer.decode(codes[:, :n]), 1e-5)
    (slope,) = torch.autograd.grad(quantized.stages[-1].square().mean(), asked, retain_graph=True)
    assert (slope.abs().amax(1) > 0).all(), "the last codebook gives a frame no gradient"
    assert quantized.losses
    for loss in (
        quantized.latent.square().mean(),
        quantized.first.square().mean(),
        *quantized.losses.values(),
    ):
        (slope,) = torch.autograd.grad(loss, asked, retain_graph=True)
        assert slope.isfinite().all()
        assert (slope.abs().amax(1) > 0).all(), "a frame of the latent has no gradient"

    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(quantizer.encode(latent), codes)
        assert torch.equal(quantizer(latent).codes, codes)
        assert torch.equal(quantizer.decode(codes), decoded)
        half = quantizer(latent.bfloat16())
    assert half.latent.isfinite().all()
    assert all(loss.isfinite() for loss in half.losses.values())
    assert torch.equal(half.codes, quantizer.encode(latent.bfloat16().float()))
    assert_close(half.latent.float(), quantizer.decode(half.codes), 2e-2)

    none = quantizer.encode(latent[:, :, :0])
    assert none.shape == (b, quantizer.codebooks, 0)
    assert quantizer.decode(none).shape == (b, d, 0)
    assert _unchanged(quantizer, before), "looking changed the quantizer"


def assert_refines(quantizer: Quantizer, latent: Tensor, *, after: int = 0) -> None:
    """Assert that each codebook after the first `after` reduces the error of the decoded latent."""
    codes = quantizer.encode(latent)
    errors = [
        (latent - quantizer.decode(codes[:, :n])).square().mean().item()
        for n in range(after + 1, quantizer.codebooks + 1)
    ]
    assert errors[0] < latent.var(), "the first codebook says less than the mean"
    assert all(after < before for before, after in pairwise(errors)), errors


def assert_tables(quantizer: Quantizer, codes: Tensor) -> None:
    """Assert that the sum of the tables' rows is what codes `[b k f]` decode to, for any k."""
    tables = [quantizer.table(i) for i in range(quantizer.codebooks)]
    assert tuple(map(len, tables)) == quantizer.sizes
    looked_up = [table[rows] for table, rows in zip(tables, codes.unbind(1), strict=True)]
    for n in range(1, quantizer.codebooks + 1):
        summed = torch.stack(looked_up[:n]).sum(0).transpose(1, 2)
        assert_close(summed, quantizer.decode(codes[:, :n]))


def _unchanged(module: torch.nn.Module, before: dict[str, Tensor]) -> bool:
    """Return whether the state dict of a module equals an earlier one."""
    return all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
