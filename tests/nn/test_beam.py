"""Beam search among residual codebooks: held against trying every combination of entries."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor

from audiotok.nn.quantizers.agrvq import Agrvq
from audiotok.nn.quantizers.base import Quantizer
from audiotok.nn.quantizers.fsq import Fsq
from audiotok.nn.quantizers.grouped_rvq import GroupedRvq
from audiotok.nn.quantizers.grvq import Grvq
from audiotok.nn.quantizers.projected_rvq import ProjectedRvq
from audiotok.nn.quantizers.rvq import Rvq
from audiotok.nn.quantizers.split_rvq import SplitRvq

KINDS = {
    "euclidean": lambda: Rvq(6, codebooks=3, size=5),
    "early": lambda: Rvq(6, codebooks=3, size=5, early=2, early_features=3),
    "factorised": lambda: Rvq(6, codebooks=3, size=5, kind="factorised", width=6),
    "projected": lambda: ProjectedRvq(6, codebooks=3, size=5, width=4),
    "grouped": lambda: GroupedRvq(6, groups=[[3, 2], [3, 2]], size=5),
    "groups in turn": lambda: Grvq(6, groups=2, codebooks=4, size=5),
    "split": lambda: SplitRvq(6, codebooks=4, size=5),
}


def built(kind: str) -> Quantizer:
    torch.manual_seed(3)
    return KINDS[kind]().eval()


def error(quantizer: Quantizer, latent: Tensor, codes: Tensor) -> Tensor:
    """Squared error `[b f]` of what codes decode to."""
    return (latent - quantizer.decode(codes)).square().sum(1)


@pytest.mark.parametrize("kind", ["euclidean", "factorised", "projected", "groups in turn"])
def test_with_all_paths_the_codes_are_the_best_there_are(kind: str):
    quantizer = built(kind)
    latent = torch.randn(1, 6, 7, generator=torch.Generator().manual_seed(1))
    assert quantizer.set_search(5**4)
    codes = quantizer.encode(latent)
    every = torch.tensor(list(product(range(5), repeat=quantizer.codebooks))).T[None]
    tried = quantizer.decode(every)[0].T
    least = torch.cdist(latent[0].T, tried).min(1).values.square()
    torch.testing.assert_close(error(quantizer, latent, codes)[0], least, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_more_paths_leave_less_and_one_path_is_as_before(kind: str):
    quantizer = built(kind)
    latent = torch.randn(2, 6, 200, generator=torch.Generator().manual_seed(2))
    nearest = quantizer.encode(latent)
    errors = []
    for paths in (1, 4, 16):
        assert quantizer.set_search(paths)
        codes = quantizer.encode(latent)
        assert codes.shape == nearest.shape
        assert codes.dtype == torch.int64
        assert torch.equal(codes[:1], quantizer.encode(latent[:1])), "of a recording alone"
        parts = [quantizer.encode(part) for part in latent.split(50, 2)]
        assert torch.equal(codes, torch.cat(parts, 2)), "frame by frame"
        assert quantizer.encode(latent[..., :0]).shape == (2, quantizer.codebooks, 0)
        errors.append(error(quantizer, latent, codes).mean())
        if paths == 1:
            assert torch.equal(codes, nearest)
    if kind != "split":  # whose parts do not add up to the latent
        assert errors[0] > errors[1] >= errors[2]
    quantizer.set_search(1)
    assert torch.equal(quantizer.encode(latent), nearest)


@pytest.mark.parametrize("fixed", [1, 2])
def test_codebooks_that_are_fixed_keep_their_codes(fixed: int):
    quantizer = built("euclidean")
    latent = torch.randn(1, 6, 300, generator=torch.Generator().manual_seed(4))
    nearest = quantizer.encode(latent)
    assert quantizer.set_search(8, fixed)
    codes = quantizer.encode(latent)
    assert torch.equal(codes[:, :fixed], nearest[:, :fixed])
    assert (codes != nearest).any() == (fixed < 2), "the last is the nearest of what is left"


def test_a_prefix_is_searched_for_by_itself():
    quantizer = built("euclidean")
    latent = torch.randn(1, 6, 300, generator=torch.Generator().manual_seed(5))
    two = quantizer.encode(latent, 2)
    assert quantizer.set_search(8)
    searched = quantizer.encode(latent, 2)
    cut = quantizer.encode(latent)[:, :2]
    assert error(quantizer, latent, searched).mean() < error(quantizer, latent, two).mean()
    assert error(quantizer, latent, searched).mean() < error(quantizer, latent, cut).mean()


@pytest.mark.parametrize(
    "quantizer",
    [Fsq(6, levels=(3, 3)), Agrvq(6, codebooks=2, size=3, width=2), Rvq(6, codebooks=1, size=5)],
)
def test_there_is_nothing_to_search(quantizer: Quantizer):
    latent = torch.randn(1, 6, 9)
    codes = quantizer.eval().encode(latent)
    assert not quantizer.set_search(8)
    assert torch.equal(quantizer.encode(latent), codes)
