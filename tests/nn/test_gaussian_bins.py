"""Bins of a Gaussian: values of TokenBridge's program and of integrals, and what they learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from contracts import assert_close

from audiotok.nn.quantizers.gaussian_bins import GaussianBins, bin_means

# `post_training_quantize` of YuqingWang1029/TokenBridge, reconstruction.py at 3ede281, in double
# precision, bins of 4 bits from -3 to 3; it gives 0 for both outermost bins of 10 bits.
THEIRS = [1.9387065, 1.3259134, 1.0128873, 0.7778814, 0.5799636, 0.4027351, 0.2374593, 0.0784933]


def test_values_are_theirs_and_the_means_of_bins():
    values = bin_means(16, 3.0)
    assert_close(values, torch.tensor([*(-v for v in THEIRS), *THEIRS[::-1]]), 1e-6)
    z = np.linspace(-3, 3, 600_001)
    density = np.exp(-z * z / 2)
    share = np.cumsum(density) / density.sum() * math.erf(3 / math.sqrt(2)) + 0.00134990
    for i in range(16):
        inside = (share > i / 16) & (share <= (i + 1) / 16)
        mean = (z * density)[inside].sum() / density[inside].sum()
        assert float(values[i]) == pytest.approx(mean, abs=2e-4)


def test_a_gaussian_uses_all_bins_and_loses_little():
    """Lloyd and Max's bins, the best there are, lose 0.1175 and 0.0095 of the variance."""
    random = torch.Generator().manual_seed(0)
    scale = torch.tensor([0.01, 1.0, 50.0])[:, None]
    x = scale * torch.randn(1, 3, 100_000, generator=random) + 3 * scale
    for levels, least, most in ((4, 0.1175, 0.134), (16, 0.0095, 0.022)):
        bins = GaussianBins(3, levels=levels).train()
        for part in x.split(30_000, 2):  # ragged, and the last shorter
            bins(part)
        bins.eval()
        assert_close(bins.mean[:, None] / scale, torch.full((3, 1), 3.0), 0.02)
        assert_close(bins.deviation[:, None], x[0].std(1, keepdim=True), 1e-3)
        codes = bins.encode(x)
        lost = (bins.decode(codes) - x).square().mean(2) / x.var(2)
        assert ((lost > 0.99 * least) & (lost < most)).all()
        for row in codes[0]:
            share = torch.bincount(row, minlength=levels) / len(row)
            assert (share > 0.5 / levels).all()


def test_what_is_learnt_is_of_all_latents_in_whatever_parts():
    x = torch.randn(4, 5, 300, generator=torch.Generator().manual_seed(1)) * 2 + 1
    whole, parts = GaussianBins(5).train(), GaussianBins(5).train()
    whole(x)
    for part in (x[:1], x[1:3, :, :7], x[1:3, :, 7:], x[3:]):
        parts(part)
    assert_close(whole.mean, parts.mean, 1e-6)
    assert_close(whole.deviation, parts.deviation, 1e-6)
    assert int(parts.count) == 1200
    parts.eval()(100 * x)
    assert_close(whole.mean, parts.mean, 1e-6)


def test_a_feature_that_never_changes_comes_back():
    x = torch.full((1, 2, 50), 3.5)
    bins = GaussianBins(2).train()
    bins(x)
    assert torch.equal(bins.eval().decode(bins.encode(x)), x)
    assert torch.equal(bins.decode(bins.encode(x, 1)), x), "absent features are their mean"


def test_bins_that_would_be_empty_are_refused():
    GaussianBins(2, levels=740)
    with pytest.raises(ValueError, match=r"^741 levels within 3 deviations: .* at most 740"):
        GaussianBins(2, levels=741)
    with pytest.raises(ValueError, match="two or more"):
        GaussianBins(2, levels=1)
