"""Sums of entries in place of codes, and back."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from audiotok._platform.errors import InputError
from audiotok.nn.cumulative import cumulative, mismatch, requantize
from audiotok.nn.quantizers.fsq import Fsq
from audiotok.nn.quantizers.rvq import Euclidean, Rvq

FEATURES = 6


def latents(frames: int, seed: int = 0) -> Tensor:
    return torch.randn(2, FEATURES, frames, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def rvq() -> Rvq:
    quantizer = Rvq(FEATURES, codebooks=4, size=16)
    quantizer.train()(latents(200))
    return quantizer.eval()


def test_sums_of_parts_are_the_sum_of_the_whole(rvq: Rvq):
    codes = rvq.encode(latents(30))
    first = rvq.decode(codes[:, :2])
    torch.testing.assert_close(first + cumulative(rvq, codes, 2), cumulative(rvq, codes))


def test_sums_of_orthogonal_entries_give_their_codes_back():
    # Entries of one codebook are far shorter than half the distance of those before it.
    quantizer = Rvq(FEATURES, codebooks=3, size=4).eval()
    for i, stage in enumerate(quantizer.stages):
        assert isinstance(stage, Euclidean)
        stage.usage.fill_(1.0)
        stage.entries.copy_(torch.eye(FEATURES)[:4] * 0.1**i)
    codes = torch.randint(4, (2, 3, 50))
    assert torch.equal(requantize(quantizer, cumulative(quantizer, codes)), codes)
    for after in range(3):
        assert torch.equal(mismatch(quantizer, codes, after), torch.zeros(3 - after))


def test_known_codes_are_kept_and_later_ones_are_the_nearest(rvq: Rvq):
    x = latents(40, 1)
    codes = rvq.encode(x)
    left = x - rvq.decode(codes[:, :2])
    assert torch.equal(requantize(rvq, left, codes[:, :2]), codes)
    assert torch.equal(requantize(rvq, left, codes[:, :2], 3), codes[:, :3])


def test_the_last_codebook_alone_is_given_back(rvq: Rvq):
    assert float(mismatch(rvq, rvq.encode(latents(40, 2)), 3)) == 0


def test_the_mismatch_is_the_share_of_codes_that_differ(rvq: Rvq):
    codes = rvq.encode(latents(300, 3))
    shares = mismatch(rvq, codes)
    again = rvq.encode(rvq.decode(codes))
    assert shares.shape == (4,)
    torch.testing.assert_close(shares, (again != codes).float().mean((0, 2)))


def test_what_has_no_sums_is_refused(rvq: Rvq):
    codes = rvq.encode(latents(3))
    with pytest.raises(InputError, match="after=4 of 4 codebooks: at least one is summed up"):
        cumulative(rvq, codes, 4)
    with pytest.raises(InputError, match="4 codebooks are known, and 4 are asked for"):
        requantize(rvq, latents(3), codes)
    with pytest.raises(ValueError, match=r"^5 codebooks asked for"):
        requantize(rvq, latents(3), None, 5)
    with pytest.raises(InputError, match="1 codebooks are known, and 1 are asked for"):
        requantize(Fsq(FEATURES, levels=(3, 3)), latents(3), codes[:, :1])
