"""Grids, signs and directions: against vector-quantize-pytorch where it has them, else formulas."""

from __future__ import annotations

import itertools
import math
import warnings
from typing import Any

import pytest
import torch
from contracts import assert_close
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from audiotok.nn.quantizers.agrvq import Agrvq
from audiotok.nn.quantizers.bsq import Bsq
from audiotok.nn.quantizers.fsq import Fsq
from audiotok.nn.quantizers.lfq import Lfq, code_entropy, usage_entropy
from audiotok.nn.quantizers.product_vq import ProductVq, Spherical
from audiotok.nn.quantizers.residual_fsq import ResidualFsq
from audiotok.nn.quantizers.simvq import Simvq


@pytest.fixture(scope="module")
def theirs() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("vector_quantize_pytorch")


def points(batch: int, features: int, frames: int, seed: int = 0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(batch, features, frames, generator=random)


def slope(made: Tensor, x: Tensor, seed: int = 1) -> Tensor:
    """The gradient of a random sum of `made`, which must not depend on who made it."""
    weights = torch.randn(made.shape, generator=torch.Generator().manual_seed(seed))
    return torch.autograd.grad((made * weights).sum(), x)[0]


# -- finite scalars ---------------------------------------------------------------------------


GRIDS = [(8, 6, 5), (5, 5, 5, 5), (3, 4), (9, 8, 16)]


@pytest.mark.parametrize(
    ("rule", "levels"),
    [*itertools.product(["symmetric", "original"], GRIDS), ("symmetric", (17, 2, 9))],
)
def test_grid_is_theirs(theirs: Any, levels: tuple[int, ...], rule: Any):
    ours = Fsq(len(levels), levels=levels, rule=rule)
    fsq = theirs.FSQ(list(levels), preserve_symmetry=rule == "symmetric")
    x = (2 * points(3, len(levels), 400)).requires_grad_()
    made, index = fsq(x.transpose(1, 2))
    codes = ours.encode(x.detach())
    assert torch.equal(codes[:, 0], index.long())
    assert_close(ours.decode(codes), made.detach().transpose(1, 2), 1e-6)
    assert_close(slope(ours(x).latent, x), slope(made.transpose(1, 2), x), 1e-5)


def test_maps_to_the_grid_and_back_are_theirs(theirs: Any):
    ours, fsq = Fsq(12, levels=(8, 5, 5)), theirs.FSQ([8, 5, 5], dim=12, preserve_symmetry=True)
    ours.down.load_state_dict(fsq.project_in.state_dict())
    ours.up.load_state_dict(fsq.project_out.state_dict())
    x = points(2, 12, 300)
    made, index = fsq(x.transpose(1, 2))
    assert torch.equal(ours.encode(x)[:, 0], index.long())
    assert_close(ours(x).latent, made.transpose(1, 2), 1e-6)


@pytest.mark.parametrize("rule", ["symmetric", "original", "tangent"])
@pytest.mark.parametrize("levels", [(8, 6, 5), (6,) * 6, (5,) * 6, (3,) * 6])
def test_every_code_comes_back(levels: tuple[int, ...], rule: Any):
    fsq = Fsq(len(levels), levels=levels, rule=rule)
    (size,) = fsq.sizes
    codes = torch.arange(size)[None, None]
    values = fsq.decode(codes)
    assert len(torch.unique(values[0].T, dim=0)) == size, "two codes say the same"
    # What a code stands for lies well inside its cell, but for the edge, where tanh ends.
    inside = torch.atanh((values * 0.999).double())
    if rule == "symmetric":
        assert torch.equal(fsq.encode(inside.float()), codes)
    edge = 20 * torch.tensor(list(itertools.product([-1.0, 1.0], repeat=len(levels)))).T[None]
    corners = fsq.split(fsq.encode(edge)[:, 0])[0]
    assert corners.unique(dim=0).shape[0] == 2 ** len(levels)
    assert set(corners.flatten().tolist()) == {0} | {n - 1 for n in levels}


def test_codes_past_what_float32_counts_come_back():
    fsq = Fsq(6, levels=(17,) * 6)
    assert fsq.sizes == (24_137_569,)
    last = torch.arange(24_137_569 - 5000, 24_137_569)[None, None]
    drawn = torch.randint(2**24, fsq.sizes[0], (1, 1, 5000))
    for codes in (last, drawn):
        level = fsq.split(codes)
        assert torch.equal(fsq.join(level), codes)
        assert torch.equal(fsq.encode(torch.atanh(0.999 * fsq.decode(codes))), codes)
    assert torch.equal(fsq.decode(last[:, :, -1:]), torch.ones(1, 6, 1))


def test_levels_that_make_no_grid_are_refused():
    for wrong in ((), (5, 1), (2**32, 2**32)):
        with pytest.raises(ValueError, match=r"^levels \(.*: give 2 or more each"):
            Fsq(4, levels=wrong)
    with pytest.raises(ValueError, match=r"^levels \(5, 2\): give 3 or more each"):
        Fsq(4, levels=(5, 2), rule="original")
    for bits in (0, 63):
        with pytest.raises(ValueError, match=f"^codes of {bits} bits: give 1 to 62$"):
            Lfq(4, bits=bits)


def test_dither_is_for_training_and_has_no_bias():
    fsq = Fsq(2, levels=(5, 4), dither=1.0)
    x = points(1, 2, 1).expand(20_000, -1, -1)
    bounded = x.tanh()
    torch.manual_seed(0)
    noise = fsq.train()(x).latent - bounded
    steps = torch.tensor([2 / 4, 2 / 3])
    assert (noise.abs().amax((0, 2)) <= steps / 2 + 1e-6).all()
    assert (noise.abs().amax((0, 2)) > 0.49 * steps).all(), "less than a step wide"
    sure = 5 * steps / math.sqrt(12) / math.sqrt(20_000)  # five standard errors
    assert (noise.mean((0, 2)).abs() < sure).all()
    assert_close(noise.std((0, 2)), steps / math.sqrt(12), 0.02)
    assert torch.equal(fsq(x).codes, fsq.eval()(x).codes), "codes are of the rounded"
    rounded = fsq(x).latent
    assert_close(rounded, fsq.decode(fsq.encode(x)), 1e-6)
    half = Fsq(2, levels=(5, 4), dither=0.5).train()(x).latent
    share = (half - rounded).abs().amax((1, 2)).gt(1e-6).float().mean()
    assert 0.47 < share < 0.53


# -- grids inside each other ------------------------------------------------------------------

LAYOUTS = [((5,) * 6, 2), ((3,) * 6, 4)]


@pytest.mark.parametrize(("levels", "codebooks"), LAYOUTS)
def test_coarse_grids_say_exactly_what_the_fine_one_says(levels: Any, codebooks: int):
    """TAAE's identity, on random latents and on all that lies at the cells' edges."""
    torch.manual_seed(0)
    for features in (6, 32):
        fine = Fsq(features, levels=(17,) * 6)
        coarse = ResidualFsq(features, levels=levels, codebooks=codebooks)
        coarse.load_state_dict(fine.state_dict())
        x = 2 * points(4, features, 5000)
        assert torch.equal(coarse.decode(coarse.encode(x)), fine.decode(fine.encode(x)))
        assert torch.equal(coarse(x).latent, fine(x).latent)
    edges = (torch.arange(-16, 17) / 16).float()
    near = [edges]
    for _ in range(3):
        near = [near[0].nextafter(torch.tensor(-9.0)), *near, near[-1].nextafter(torch.tensor(9.0))]
    bounded = torch.cat([*near, torch.tensor([1e-9, -1e-9, 1e-30, -1e-30])]).clamp(-1, 1)
    bounded = bounded[:, None].expand(-1, 6)
    fine = Fsq(6, levels=(17,) * 6)
    exact = (16 * (bounded.double() + 1) / 2 + 0.5).floor().long()
    assert torch.equal(fine.nearest(bounded), exact)
    coarse = ResidualFsq(6, levels=levels, codebooks=codebooks)
    total = torch.stack([value for _, value in coarse.stages(bounded, codebooks)]).sum(0)
    assert torch.equal(total, fine.value(fine.nearest(bounded)))


@pytest.mark.parametrize(
    ("levels", "codebooks", "size", "kbps"),
    [((6,) * 6, 1, 46656, 0.3877), ((5,) * 6, 2, 15625, 0.6966), ((3,) * 6, 4, 729, 0.9510)],
)
def test_bit_rates_are_those_of_the_true_sizes(levels: Any, codebooks: int, size: int, kbps: float):
    fsq = ResidualFsq(64, levels=levels, codebooks=codebooks)
    assert fsq.sizes == (size,) * codebooks
    assert 25 * sum(math.log2(n) for n in fsq.sizes) / 1000 == pytest.approx(kbps, abs=5e-5)


@pytest.mark.parametrize(("levels", "codebooks"), [*LAYOUTS, ((6, 4, 5), 3)])
def test_each_grid_is_theirs_over_what_is_left(theirs: Any, levels: Any, codebooks: int):
    """Composed of their FSQ: their own ResidualFSQ shrinks by L a grid, where L - 1 fits."""
    ours = ResidualFsq(len(levels), levels=levels, codebooks=codebooks)
    fsq = theirs.FSQ(list(levels), preserve_symmetry=True, bound_hard_clamp=True)
    x = points(2, len(levels), 500)
    codes, rest = ours.encode(x), x.transpose(1, 2).tanh()
    for stage in range(codebooks):
        scale = (torch.tensor(levels) - 1.0) ** -stage
        made, index = fsq(rest / scale)
        rest = rest - made * scale
        assert torch.equal(codes[:, stage], index.long())
    assert_close(ours.decode(codes), x.tanh() - rest.transpose(1, 2), 1e-5)


# -- signs ------------------------------------------------------------------------------------


def brute(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Both entropies over all codes, by the definition, in float64."""
    corners = itertools.product([0.0, 1.0], repeat=logits.shape[1])
    signs = torch.tensor(list(corners), dtype=torch.float64)
    p = (logits.double() @ signs.T).softmax(1)
    return torch.special.entr(p).sum(1).mean(), torch.special.entr(p.mean(0)).sum()


@settings(max_examples=20, deadline=None)
@given(bits=st.integers(1, 9), size=st.floats(0.01, 30), seed=st.integers(0, 99))
def test_entropies_are_those_over_all_codes(bits: int, size: float, seed: int):
    logits = size * points(1, 40, bits, seed)[0]
    mine, all_codes = code_entropy(logits), usage_entropy(logits, bits)
    wanted = brute(logits)
    assert_close(mine.double(), wanted[0], 1e-4)
    assert_close(all_codes.double(), wanted[1], 1e-4)
    assert usage_entropy(logits, 1) >= all_codes - 1e-4, "bit by bit it is a bound from above"
    whole = bits - bits % 2
    two = usage_entropy(logits[:, :whole], 2) if whole else torch.zeros(())
    pairs = [usage_entropy(logits[:, i : i + 2], 2) for i in range(0, whole, 2)]
    assert_close(two, sum(pairs, torch.zeros(())), 1e-4)


@pytest.mark.parametrize("kind", [Lfq, Bsq])
def test_signs_and_losses_are_theirs(theirs: Any, kind: type[Lfq]):
    """Their first bit is the highest, ours the lowest."""
    bits = 7
    lfq = theirs.LFQ(
        dim=bits,
        codebook_size=2**bits,
        entropy_loss_weight=0.3,
        commitment_loss_weight=0.2,
        spherical=kind is Bsq,
    ).train()
    ours = kind(bits, bits=bits, entropy=0.3, commitment=0.2, sharpness=1.5, group=bits).train()
    x = points(2, bits, 200).requires_grad_()
    made, index, loss = lfq(x.transpose(1, 2), inv_temperature=1.5)
    mine = ours(x)
    places = torch.arange(bits)
    flipped = ((index[..., None].long() >> (bits - 1 - places) & 1) << places).sum(-1)
    assert torch.equal(mine.codes[:, 0], flipped)
    assert_close(mine.latent, made.transpose(1, 2), 1e-6)
    assert_close(ours.decode(mine.codes), made.detach().transpose(1, 2), 1e-6)
    assert_close(slope(mine.latent, x), slope(made.transpose(1, 2), x), 1e-5)
    # They clamp probabilities at 1e-5 inside the logarithm.
    assert_close(mine.losses["commitment"], loss, 2e-3)
    ours_slope = torch.autograd.grad(ours(x).losses["commitment"], x)[0]
    again = lfq(x.transpose(1, 2), inv_temperature=1.5)[2]
    assert_close(ours_slope, torch.autograd.grad(again, x)[0], 1e-3)


def test_a_spherical_code_is_near_its_direction():
    """|u - q|^2 = 2 - 2 |u|_1 / sqrt(bits), at most 2 - 2 / sqrt(bits) (arXiv:2406.07548)."""
    for bits in (1, 2, 5, 18, 36):
        bsq = Bsq(bits, bits=bits)
        x = points(2, bits, 300)
        u, q = F.normalize(x, dim=1), bsq.decode(bsq.encode(x))
        assert_close(q.norm(dim=1), torch.ones(2, 300), 1e-5)
        wanted = 2 - 2 * u.abs().sum(1) / math.sqrt(bits)
        assert_close((u - q).square().sum(1), wanted, 1e-4)
        assert (wanted <= 2 - 2 / math.sqrt(bits) + 1e-5).all()
        codes = torch.randint(2**bits, (1, 1, 200))
        assert torch.equal(bsq.encode(bsq.decode(codes)), codes)
        assert bsq.sizes == (2**bits,)


def test_the_entropy_loss_spreads_codes():
    """Latents of one quadrant: signs of a new map are few, until their entropy is asked for."""
    x, used = points(4, 6, 500).abs() + 1, {}
    for entropy in (0.0, 0.1):
        torch.manual_seed(0)
        lfq = Lfq(6, bits=8, entropy=entropy, sharpness=1.0)
        optimizer = torch.optim.Adam(lfq.parameters(), 1e-2)
        for _ in range(200):
            optimizer.zero_grad()
            lfq(x).losses["commitment"].backward()
            optimizer.step()
        used[entropy] = len(lfq.encode(x).unique())
    assert used[0.1] > 3 * used[0.0], used


# -- a frozen codebook through a learnt map ---------------------------------------------------


def test_simvq_learns_as_many_parameters_whatever_its_size():
    for size in (4096, 65536):
        with torch.device("meta"):
            simvq = Simvq(512, size=size)
        assert sum(p.numel() for p in simvq.parameters()) == 262_656
        assert simvq.sizes == (size,)


def test_simvq_is_theirs(theirs: Any):
    """Without their rotation trick; and with four times their loss, commitment has weight one."""
    simvq = theirs.SimVQ(
        16,
        128,
        codebook_transform=nn.Linear(16, 16),
        channel_first=True,
        rotation_trick=False,
    )
    ours = Simvq(16, size=128)
    ours.frozen.copy_(simvq.frozen_codebook)
    ours.map.load_state_dict(simvq.code_transform.state_dict())
    x = points(2, 16, 200).requires_grad_()
    made, index, loss = simvq(x)
    mine = ours(x)
    assert torch.equal(mine.codes[:, 0], index)
    assert_close(ours.decode(mine.codes), simvq.indices_to_codes(index), 1e-6)
    assert_close(mine.latent, made, 1e-6)
    assert_close(mine.losses["commitment"], 4 * loss, 1e-5)
    assert_close(slope(mine.latent, x), slope(made, x), 1e-6)
    ours_slopes = torch.autograd.grad(mine.losses["commitment"], [x, *ours.map.parameters()])
    their_slopes = torch.autograd.grad(4 * loss, [x, *simvq.code_transform.parameters()])
    for one, other in zip(ours_slopes, their_slopes, strict=True):
        assert_close(one, other, 1e-5)


def test_a_step_moves_every_entry_and_not_the_frozen_ones():
    simvq, x = Simvq(8, size=300), points(1, 8, 5)
    before, frozen = simvq.codebook()[0].clone(), simvq.frozen.clone()
    optimizer = torch.optim.SGD(simvq.parameters(), 0.1)
    simvq(x).losses["commitment"].backward()
    optimizer.step()
    after = simvq.codebook()[0]
    assert ((after - before).norm(dim=1) > 0).all()
    assert torch.equal(simvq.frozen, frozen)
    assert_close(after, simvq.map(frozen).detach(), 1e-6)
    assert torch.equal(Simvq(8, size=300).frozen, frozen), "not the same for the same seed"
    assert not torch.equal(Simvq(8, size=300, seed=1).frozen, frozen)


# -- groups -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["euclidean", "spherical"])
def test_each_group_is_looked_up_as_theirs(theirs: Any, kind: Any):
    ours = ProductVq(12, codebooks=3, size=32, kind=kind).eval()
    x = points(2, 12, 200)
    codes = ours.encode(x)
    for k, group in enumerate(ours.groups):
        assert isinstance(group.entries, Tensor)
        vq = theirs.VectorQuantize(
            dim=4, codebook_size=32, use_cosine_sim=kind == "spherical", kmeans_init=False
        ).eval()
        vq._codebook.embed.copy_(group.entries.detach()[None])
        made, index, _ = vq(x[:, 4 * k : 4 * k + 4].transpose(1, 2))
        assert torch.equal(codes[:, k], index)
        assert_close(ours.decode(codes)[:, 4 * k : 4 * k + 4], made.detach().transpose(1, 2), 1e-5)


def test_missing_groups_are_zero_and_teach_nothing():
    ours = ProductVq(12, codebooks=3, size=32, kind="spherical")
    x = points(2, 12, 50).requires_grad_()
    codes = ours.encode(x.detach())
    assert (ours.decode(codes[:, :2])[:, 8:] == 0).all()
    made = ours(x, torch.tensor([1, 2]))
    for i, n in enumerate((1, 2)):
        assert_close(made.latent[i : i + 1], ours.decode(codes[i : i + 1, :n]), 1e-6)
    loss = made.losses["commitment"] + made.latent.square().sum()
    slopes = torch.autograd.grad(loss, [x, *ours.parameters()])
    assert (slopes[0][0, 4:] == 0).all()
    assert [bool(s.any()) for s in slopes[1:]] == [True, True, False]


def test_directions_have_unit_length_and_dacs_weights():
    spherical, x = Spherical(5, 16), points(1, 40, 5)[0]
    made, index, loss = spherical(x)
    assert_close(made.norm(dim=1), torch.ones(40), 1e-5)
    cosine = (F.normalize(x) * spherical.look_up(index)).sum(1)
    # Between unit vectors the square of the distance is 2 - 2 cos; here its mean over features.
    assert_close(loss, 5 * (2 - 2 * cosine) / 5, 1e-5)


def test_features_that_groups_do_not_divide_are_refused():
    with pytest.raises(ValueError, match=r"^8 features in 3 groups: they do not divide$"):
        ProductVq(8, codebooks=3)
    with pytest.raises(ValueError, match=r"^7 features cannot be halved"):
        Agrvq(7)


# -- adaptive groups --------------------------------------------------------------------------


def test_agrvq_has_the_published_number_of_parameters():
    agrvq = Agrvq(1024)
    assert agrvq.sizes == (8100,) * 3
    assert round(16000 / 960 * sum(math.log2(n) for n in agrvq.sizes)) == 649
    for module in [m for m in agrvq.modules() if isinstance(m, nn.Linear)]:
        weight_norm(module, dim=0)
    assert sum(p.numel() for p in agrvq.parameters()) == 84_288


def test_every_pair_of_codes_comes_back():
    """Codes are 90 a + b, and what they decode to is half a's and half b's."""
    pair: Any = Agrvq(16, codebooks=1).eval().stages[0]
    codes = torch.arange(8100)
    with torch.no_grad():
        made = pair.look_up(codes)
        for half, part in zip(pair.halves, (codes // 90, codes % 90), strict=True):
            assert torch.equal(made[:, :8], half.look_up(part))
            made = made.roll(8, 1)
        x = points(1, 400, 16)[0]
        narrow = [F.normalize(half.down(x)) for half in pair.halves]
        best = [
            (one @ F.normalize(half.entries).T).argmax(1)
            for one, half in zip(narrow, pair.halves, strict=True)
        ]
        assert torch.equal(pair.search(x), 90 * best[0] + best[1])
