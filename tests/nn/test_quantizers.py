"""Quantizers: what each promises, and against the programs that users come from."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from contracts import assert_close, assert_quantizes, assert_refines, assert_tables
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.multiprocessing.spawn import spawn
from torch.nn import functional as F

from audiotok._platform.registry import find, names
from audiotok.audio import _torchaudio
from audiotok.nn.clusters import kmeans, nearest
from audiotok.nn.quantizers import segment_rvq
from audiotok.nn.quantizers.base import LARGEST_TABLE, Codebook, NoTableError, Quantizer
from audiotok.nn.quantizers.grouped_rvq import GroupedRvq
from audiotok.nn.quantizers.rvq import Euclidean, Factorised, Rvq
from audiotok.nn.quantizers.segment_rvq import SegmentRvq
from audiotok.nn.quantizers.uniform import Uniform

FEATURES = 8
# A part with other options than these gets a line here; each set of them is tested.
RVQ = {"features": FEATURES, "codebooks": 4, "size": 32}
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "rvq": [
        RVQ | {"kind": "euclidean"},
        RVQ | {"kind": "factorised", "width": 4},
        RVQ | {"early": 2, "early_features": 3},
    ],
    "projected_rvq": [RVQ | {"width": 4}],
    "grouped_rvq": [
        {"features": FEATURES, "groups": ((3, 1), (5, 3)), "size": 16, "shielded": 1},
        {"features": FEATURES, "groups": ((4, 2), (4, 2)), "size": 16},
    ],
    "grvq": [{"features": FEATURES, "groups": 2, "codebooks": 4, "size": 16}],
    "probabilistic_rvq": [RVQ],
    "split_rvq": [RVQ, RVQ | {"width": 4, "semantic": 2}],
    "segment_rvq": [{"features": 2, "latents": 3, "codebooks": 2, "size": 32}],
    "multi_scale_rvq": [{"features": FEATURES, "spans": (4, 2, 1), "size": 32, "width": 2}],
    "fsq": [
        {"features": FEATURES, "levels": (5, 4, 3), "dither": 0.5},
        {"features": FEATURES, "levels": (8, 5, 5), "rule": "original"},
        {"features": FEATURES, "levels": (3,) * 4, "rule": "original", "limit": 0.999},
        {"features": FEATURES, "levels": (4,) * FEATURES},
    ],
    # Even, and more levels than features: what comes to zero has no slope of its square.
    "residual_fsq": [
        {"features": FEATURES, "levels": (4,) * 12},
        {"features": FEATURES, "levels": (4,) * 12, "codebooks": 3},
    ],
    "product_fsq": [
        {"features": FEATURES, "levels": (19, 18, 18, 17)},  # few zeros, whose square has no slope
        {"features": FEATURES, "levels": (4, 2), "rule": "symmetric"},
    ],
    "lfq": [{"features": FEATURES, "bits": 6}, {"features": FEATURES, "bits": 8, "group": 4}],
    "bsq": [{"features": FEATURES, "bits": 6}, {"features": FEATURES, "bits": 8}],
    "simvq": [{"features": FEATURES, "size": 64}],
    "cosine_vq": [
        {"features": FEATURES, "size": 64, "width": 8},
        {"features": FEATURES, "size": 64, "width": 4, "mask": 5},
    ],
    "shared_vq": [RVQ, RVQ | {"codebooks": 2}],
    "product_vq": [RVQ | {"kind": "euclidean"}, RVQ | {"kind": "spherical"}],
    "uniform": [{"features": FEATURES, "levels": 256, "low": -40.0, "high": 40.0}],
    # Even: what comes to zero has no slope of its square.
    "gaussian_bins": [{"features": FEATURES, "levels": 64}, {"features": FEATURES, "levels": 2}],
    "agrvq": [{"features": FEATURES, "codebooks": 3, "size": 5, "width": 4}],
}
FAMILY = [(name, kind) for name in names("quantizers") for kind in OPTIONS.get(name, [RVQ])]


def latents(batch: int, frames: int, seed: int = 0) -> Tensor:
    """`[b d f]` with structure to learn: features that depend on each other, and heavy tails."""
    random = torch.Generator().manual_seed(seed)
    mix = torch.randn(FEATURES, FEATURES, generator=torch.Generator().manual_seed(99))
    x = torch.randn(batch, frames, FEATURES, generator=random)
    return (x * x.abs() @ mix).transpose(1, 2) / 4


def points(count: int, features: int = FEATURES, seed: int = 0) -> Tensor:
    return torch.randn(count, features, generator=torch.Generator().manual_seed(seed))


def train(quantizer: Quantizer, steps: int) -> None:
    quantizer.train()
    parameters = list(quantizer.parameters())
    optimizer = torch.optim.Adam(parameters, 1e-2) if parameters else None
    for step in range(steps):
        x = latents(4, 64, seed=1000 + step)
        made = quantizer(x)
        if optimizer:
            loss = (made.latent - x).square().mean() + sum(made.losses.values())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    quantizer.eval()


@pytest.fixture(scope="module", params=FAMILY, ids=lambda p: f"{p[0]}-{p[1].get('kind', '')}")
def trained(request: pytest.FixtureRequest) -> Quantizer:
    torch.manual_seed(0)
    name, options = request.param
    quantizer = find("quantizers", name)(**options)
    train(quantizer, 100)
    return quantizer


def euclidean(codebooks: int = 4, size: int = 32, **options: Any) -> Rvq:
    """An RVQ with random entries, as if initialised, in eval mode."""
    rvq = Rvq(FEATURES, codebooks=codebooks, size=size, **options).eval()
    for stage in rvq.stages:
        assert isinstance(stage, Euclidean)
        stage.usage.fill_(1.0)
    return rvq


# -- the contract -----------------------------------------------------------------------------


def test_codes_decoding_training_and_autocast_agree(trained: Quantizer):
    assert_quantizes(trained, latents(3, 50))


def test_rows_of_tables_add_up_to_latents(trained: Quantizer):
    if isinstance(trained, SegmentRvq):
        with pytest.raises(NoTableError, match=r"quantizer\.rvq\.table\(i\)"):
            trained.table(0)
        assert_tables(trained.rvq, trained.rvq.encode(latents(3, 50)[:, : trained.features]))
        return
    if trained.sizes[0] > LARGEST_TABLE:
        trained = find("quantizers", "residual_fsq")(FEATURES, levels=(5, 3, 4), codebooks=3)
    assert_tables(trained, trained.encode(latents(3, 50)))


def test_a_table_is_the_entries_themselves():
    rvq = euclidean(codebooks=2)
    for i, stage in enumerate(rvq.stages):
        assert torch.equal(rvq.table(i), torch.as_tensor(stage.entries))


class _Interleaved(Quantizer):
    """A quantizer of another author, whose second code counts where the first is not 0 only."""

    def decode(self, codes: Tensor) -> Tensor:
        first = codes[:, :1].float().expand(-1, 3, -1)
        return first if codes.shape[1] == 1 else first * (1 + codes[:, 1:2])


class _Widening(Quantizer):
    """A quantizer whose every code is a feature of its own."""

    def decode(self, codes: Tensor) -> Tensor:
        return codes.float()


@pytest.mark.parametrize(
    ("kind", "why"), [(_Interleaved, "depends on the codes before"), (_Widening, "widens the lat")]
)
def test_codes_that_do_not_add_up_have_no_table(kind: type[Quantizer], why: str):
    quantizer = kind()
    quantizer.sizes = (5, 5)
    quantizer.table(0)
    with pytest.raises(NoTableError, match=why):
        quantizer.table(1)


def test_a_table_that_is_too_large_is_refused():
    wide = find("quantizers", "lfq")(FEATURES, bits=40)
    with pytest.raises(NoTableError, match=r"^codebook 0 has 1099511627776 entries"):
        wide.table(0)


def test_every_codebook_brings_the_latent_nearer(trained: Quantizer):
    # Codes for count and loudness do not add up; those of the latents do.
    after = segment_rvq.HEAD if isinstance(trained, segment_rvq.SegmentRvq) else 0
    # What is left out of a uniform grid is the lowest value, as in silence, and not the mean.
    after = trained.codebooks - 1 if isinstance(trained, Uniform) else after
    assert_refines(trained, latents(8, 100), after=after)


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(["euclidean", "factorised"]),
    features=st.integers(1, 9),
    codebooks=st.integers(1, 4),
    size=st.integers(2, 17),
    batch=st.integers(1, 3),
    frames=st.integers(1, 11),
)
def test_any_sizes(
    kind: Any, features: int, codebooks: int, size: int, batch: int, frames: int
) -> None:
    rvq = Rvq(features, codebooks=codebooks, size=size, kind=kind, width=3)
    x = points(batch * frames, features).view(batch, features, frames)
    made = rvq.train()(x)
    codes = rvq.eval().encode(x)
    assert made.codes.shape == codes.shape == (batch, codebooks, frames)
    assert codes.min() >= 0
    assert codes.max() < size
    assert rvq.decode(codes).shape == made.latent.shape == x.shape
    assert all(value.isfinite().all() for value in rvq.state_dict().values())


# -- residual stages --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["euclidean", "factorised"])
def test_a_prefix_decodes_to_the_sum_of_its_stages(kind: Any):
    rvq = Rvq(**RVQ, kind=kind).eval()
    codes = rvq.encode(latents(2, 20))
    total = torch.zeros(2, FEATURES, 20)
    for n, stage in enumerate(rvq.stages):
        assert isinstance(stage, Codebook)
        total = total + stage.look_up(codes[:, n]).transpose(1, 2)
        assert_close(rvq.decode(codes[:, : n + 1]), total, 1e-6)


def test_the_gradient_goes_straight_through():
    x = latents(2, 20).requires_grad_()
    out = points(2 * 20).view(2, FEATURES, 20)
    for made in (euclidean()(x).latent, euclidean()(x).first):
        assert made is not None
        assert torch.equal(torch.autograd.grad((made * out).sum(), x)[0], out)


def test_every_stage_pulls_on_the_encoder():
    """The gradient of stage n's mean square is its residual; peers leave out all but the first."""
    rvq, x = euclidean(), latents(2, 20).requires_grad_()
    codes, so_far, total = rvq.encode(x), None, torch.zeros_like(x)
    for n in range(1, rvq.codebooks + 1):
        commitment = rvq(x, keep=torch.tensor([n, n])).losses["commitment"]
        residual = (x - rvq.decode(codes[:, :n])).detach()
        total = total + 2 * residual / x.numel()
        (slope,) = torch.autograd.grad(commitment * n, x)
        assert_close(slope, total, 1e-5)
        if so_far is not None:
            assert (slope - so_far).norm() > 1e-3, f"stage {n} does not reach the latent"
        so_far = slope


@pytest.mark.parametrize("kind", ["euclidean", "factorised"])
def test_keep_is_how_many_codebooks_each_recording_is_made_of(kind: Any):
    rvq = Rvq(**RVQ, kind=kind).eval()
    x, keep = latents(3, 20).requires_grad_(), torch.tensor([1, 3, 2])
    whole, made = rvq(x), rvq(x, keep)
    assert torch.equal(made.codes, whole.codes)
    assert torch.equal(made.first, whole.first)
    for i, n in enumerate(keep.tolist()):
        assert_close(made.latent[i : i + 1], rvq.decode(made.codes[i : i + 1, :n]))
        assert not torch.allclose(made.latent[i], whole.latent[i], atol=1e-3)
    # The mean is over the stages in use, one for each recording that uses it.
    alone = [
        rvq(x[i : i + 1], torch.tensor([n])).losses["commitment"] * n
        for i, n in enumerate(keep.tolist())
    ]
    assert_close(made.losses["commitment"], torch.stack(alone).sum() / 6)
    # A stage that nobody uses learns nothing, and one that some use learns from them alone.
    losses = made.losses["commitment"] + made.latent.square().mean()
    slopes = torch.autograd.grad(losses, [x, *rvq.parameters()], retain_graph=True)
    assert (slopes[0].abs().amax(1) > 0).all()
    if kind == "factorised":
        per_stage = len(list(rvq.stages[0].parameters()))
        used = [
            any(slope.any() for slope in slopes[1:][n * per_stage : (n + 1) * per_stage])
            for n in range(rvq.codebooks)
        ]
        assert used == [True, True, True, False]


def test_early_stages_keep_to_their_features_and_late_audio_teaches_those_nothing():
    rvq = Rvq(FEATURES, codebooks=4, size=32, early=2, early_features=3)
    train(rvq, 20)
    stages = [stage for stage in rvq.stages if isinstance(stage, Euclidean)]
    for n, stage in enumerate(stages):
        assert stage.entries[:, :3].any()
        assert stage.entries[:, 3:].any() == (n >= 2)
    x = latents(3, 20).requires_grad_()
    made = rvq(x, torch.tensor([2, 3, 4]))
    (slope,) = torch.autograd.grad(made.latent.sum(), x, retain_graph=True)
    assert (slope[0] == 1).all()
    assert not slope[1:, :3].any()
    assert (slope[1:, 3:] == 1).all()
    assert made.first is not None
    for part, last in ((made.first, 3), (made.stages[1], 3), (made.stages[2], FEATURES)):
        (slope,) = torch.autograd.grad(part.sum(), x, retain_graph=True)
        assert (slope[:, :last] == 1).all()
        assert not slope[:, last:].any()
    # What others are left to code costs an early stage nothing.
    (slope,) = torch.autograd.grad(rvq(x, torch.tensor([1, 1, 1])).losses["commitment"], x)
    assert slope[:, :3].any()
    assert not slope[:, 3:].any()
    with pytest.raises(ValueError, match="early_features=9: at most 4 codebooks and 8 features"):
        Rvq(8, codebooks=4, early=1, early_features=9)


# -- k-means ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_nearest_is_that_of_full_precision_under_autocast_and_of_half_precision(dtype: Any):
    x, entries = points(300, 5), points(200, 5)
    wanted = nearest(x, entries)
    with torch.autocast("cpu", dtype):
        assert torch.equal(nearest(x, entries), wanted)
    rounded = x.to(dtype)
    assert torch.equal(nearest(rounded, entries), nearest(rounded.float(), entries))


def lloyd(x: np.ndarray, centres: np.ndarray, rounds: int) -> np.ndarray:
    """Lloyd's algorithm as in the books, in float64."""
    for _ in range(rounds):
        index = ((x[:, None] - centres[None]) ** 2).sum(2).argmin(1)
        for i in set(index.tolist()):
            centres[i] = x[index == i].mean(0)
    return centres


def test_kmeans_is_lloyds_algorithm_from_drawn_points():
    x = points(300, 5)
    for size in (20, 150):
        drawn = x[torch.randperm(300, generator=torch.Generator().manual_seed(7))[:size]]
        wanted = torch.from_numpy(lloyd(x.double().numpy(), drawn.double().numpy(), 10)).float()
        assert_close(kmeans(x, size, rounds=10, seed=7), wanted, 1e-5)


def test_kmeans_is_the_same_for_the_same_seed_only():
    x = points(300, 5)
    assert torch.equal(kmeans(x, 20, seed=3), kmeans(x, 20, seed=3))
    assert not torch.equal(kmeans(x, 20, seed=3), kmeans(x, 20, seed=4))


def test_kmeans_of_fewer_points_than_centres():
    x = points(5, 3)
    centres = kmeans(x, 16)
    assert centres.isfinite().all()
    assert (x - centres[nearest(x, centres)]).abs().max() < 0.02
    assert len(centres.unique(dim=0)) == 16, "copies that never part are wasted"
    assert kmeans(torch.ones(4, 3), 8).eq(1).all()


def test_the_first_training_batch_initialises_and_eval_does_not():
    x, rvq = latents(4, 64), Rvq(FEATURES, codebooks=2, size=16, seed=5)
    before = rvq.state_dict()["stages.0.entries"].clone()
    rvq.eval()(x)
    assert torch.equal(rvq.state_dict()["stages.0.entries"], before)
    rvq.train()(x)
    flat = x.transpose(1, 2).reshape(-1, FEATURES)
    # One step of averages moves k-means' centres no further: they are the means already.
    assert_close(rvq.state_dict()["stages.0.entries"], kmeans(flat, 16, seed=5), 0.02)
    again = Rvq(FEATURES, codebooks=2, size=16, seed=5).train()
    again(x)
    assert torch.equal(again.state_dict()["stages.1.entries"], rvq.state_dict()["stages.1.entries"])


# -- revival ----------------------------------------------------------------------------------

FAR = 100.0  # where no data lies


def half_far(size: int) -> Tensor:
    entries = points(size, FEATURES, seed=1)
    entries[size // 2 :] += FAR
    return entries


def in_use(search: Any, size: int) -> Tensor:
    """Which entries fresh data uses."""
    return torch.bincount(search(points(8192, seed=555)), minlength=size) > 0


def test_entries_that_died_come_back_and_stay():
    codebook = Euclidean(FEATURES, 64, decay=0.99).train()
    codebook.entries.copy_(half_far(64))
    codebook.usage.fill_(1.0)
    revived = torch.zeros(64, dtype=torch.long)
    for step in range(500):
        before = codebook.entries.clone()
        # Fewer points than entries: one that came back is not in every batch at once.
        x = points(32, seed=step)
        codebook(x)
        moved = (codebook.entries - before).norm(dim=1) > 1
        revived += moved
        for entry, usage in zip(codebook.entries[moved], codebook.usage[moved], strict=True):
            assert (x == entry).all(1).any(), "it is no frame of the batch"
            assert usage == 1, "it does not start with a fair share"
        if step == 250:  # 0.99^251 is above the limit: nobody is dead yet
            assert not in_use(codebook.search, 64)[32:].any()
    assert revived.tolist() == [0] * 32 + [1] * 32, "each comes back once, and never leaves again"
    assert in_use(codebook.search, 64).sum() >= 62, "but for copies of one frame, all are used"
    assert codebook.usage.min() > codebook.revive


def test_an_entry_in_use_is_never_replaced():
    codebook = Euclidean(2, 4, decay=0.9).train()
    spots = torch.tensor([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0], [5.0, 5.0]])
    codebook.entries.copy_(spots)
    codebook.usage.fill_(1.0)
    rare = torch.tensor([0] * 12 + [1] * 12 + [2] * 12 + [3])  # 0.1 of its fair share, not 0.05
    for _ in range(100):
        codebook(spots[rare])
    assert_close(codebook.entries, spots, 1e-5)
    assert_close(codebook.usage, 4 * torch.bincount(rare).float() / 37, 1e-3)


# -- several processes ------------------------------------------------------------------------


def rank_data(rank: int, step: int) -> Tensor:
    """Ranks see data of different places and different amount."""
    return points(96 + 32 * rank, 4, seed=10 * step + rank) + rank


def started(size: int) -> Euclidean:
    """A codebook as if initialised."""
    codebook = Euclidean(4, size, decay=0.9, revive=0.0).train()
    codebook.usage.fill_(1.0)
    return codebook


def in_a_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    dist.init_process_group(
        "gloo", init_method=store, rank=rank, world_size=2, timeout=timedelta(seconds=60)
    )
    torch.manual_seed(rank)
    state: dict[str, Tensor] = {}

    def keep(name: str, codebook: Euclidean) -> None:
        state[f"{name}.entries"] = codebook.entries.clone()
        state[f"{name}.usage"] = codebook.usage.clone()

    fresh = Euclidean(4, 16, decay=0.9).train()
    fresh(rank_data(rank, 0))
    keep("kmeans", fresh)
    fresh.entries[8:] += FAR
    for step in range(60):
        fresh(rank_data(rank, step))
    keep("revived", fresh)
    given = started(16)
    for step in range(5):
        given(rank_data(rank, step))
    keep("updated", given)
    save_file(state, f"{folder}/{rank}.safetensors")
    dist.destroy_process_group()


def test_processes_agree_on_every_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    spawn(in_a_rank, (str(tmp_path),), nprocs=2)
    one, other = (load_file(tmp_path / f"{rank}.safetensors") for rank in range(2))
    assert len(one) == 6
    for key, value in one.items():
        assert torch.equal(value, other[key]), f"{key} differs between the processes"
    assert one["revived.entries"].abs().max() < FAR / 2, "nothing was revived"
    alone = started(16)
    for step in range(5):
        alone(torch.cat([rank_data(rank, step) for rank in range(2)]))
    assert_close(one["updated.entries"], alone.entries, 1e-5)
    assert_close(one["updated.usage"], alone.usage, 1e-5)


# -- other people's programs ------------------------------------------------------------------


@contextlib.contextmanager
def lenient() -> Iterator[None]:
    """Other people's packages may warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture(scope="module")
def encodec() -> Any:
    """encodec's quantizers; importing the package imports torchaudio."""
    with lenient():
        _torchaudio.load()
        pytest.importorskip("encodec", reason="encodec is not installed (the `codecs` extra)")
        from encodec.quantization import core_vq
    return core_vq


@torch.no_grad()
def test_lookup_is_encodecs(encodec: Any):
    rvq = euclidean(codebooks=6, size=64)
    theirs = encodec.ResidualVectorQuantization(
        num_quantizers=6, dim=FEATURES, codebook_size=64, kmeans_init=False
    ).eval()
    for layer, stage in zip(theirs.layers, rvq.stages, strict=True):
        assert isinstance(stage, Euclidean)
        layer._codebook.embed.copy_(stage.entries)
        x = points(2000)
        assert torch.equal(stage.search(x), layer._codebook.quantize(x))
    x = latents(3, 200)
    codes = rvq.encode(x)
    assert torch.equal(codes, theirs.encode(x).transpose(0, 1))
    assert torch.equal(rvq.encode(x, 3), theirs.encode(x, 3).transpose(0, 1))
    assert (rvq.decode(codes) - theirs.decode(codes.transpose(0, 1))).abs().max() < 1e-6


def test_encodec_revives_nothing(encodec: Any):
    """Why ours is not encodec's rule: there, the averages of the same step undo the revival."""
    codebook = encodec.EuclideanCodebook(FEATURES, 64, decay=0.99).train()
    codebook.embed.copy_(half_far(64))
    codebook.embed_avg.copy_(codebook.embed)
    for step in range(500):
        codebook(points(32, seed=step))
    assert not in_use(codebook.quantize, 64)[32:].any()


def test_encodec_trains_the_encoder_on_the_first_stage_only(encodec: Any):
    """Why ours detaches: there, d(residual)/d(latent) is zero after the first stage."""
    theirs = encodec.ResidualVectorQuantization(
        num_quantizers=4, dim=FEATURES, codebook_size=32, kmeans_init=False
    ).train()
    x = latents(2, 20).requires_grad_()
    losses = theirs(x)[2]
    slopes = [
        torch.autograd.grad(loss.sum(), x, retain_graph=True, allow_unused=True)[0]
        for loss in losses
    ]
    sizes = [0.0 if slope is None else slope.norm().item() for slope in slopes]
    assert sizes[0] > 1e-3
    assert max(sizes[1:]) < 1e-6


@pytest.mark.parametrize("count", [32, 256])
def test_updates_are_those_of_vector_quantize_pytorch(count: int):
    """Same data, same entries, same entries afterwards.

    Theirs keeps N = average points of an entry and S = average sum of them, and an entry is S/N.
    Ours keeps the entry and `usage` = N times size over points in a batch, so that 1 is a fair
    share in a batch of any size; S is their product. With batches of one size the two differ by
    that constant, which S/N does not see. So that they start alike, their N starts at the fair
    share `count / size` that our `usage` of 1 stands for, and S at N times the entry (their own
    start, N = 1, is the case count = size). Their eps, Laplace's smoothing, is set to zero, and
    neither replaces dead entries.
    """
    with lenient():
        vq = pytest.importorskip("vector_quantize_pytorch")
        theirs = vq.VectorQuantize(
            dim=FEATURES,
            codebook_size=32,
            decay=0.9,
            eps=0.0,
            kmeans_init=False,
            threshold_ema_dead_code=0,
            rotation_trick=False,
        ).train()
    ours = Euclidean(FEATURES, 32, decay=0.9, revive=0.0).train()
    ours.usage.fill_(1.0)
    start = ours.entries.clone()
    book = theirs._codebook
    book.embed.copy_(start[None])
    book.cluster_size.fill_(count / 32)
    book.embed_avg.copy_(start[None] * count / 32)
    for step in range(12):
        x = points(count, seed=step)
        _, index, _ = ours(x)
        assert torch.equal(theirs(x[None])[1][0], index)
        assert_close(ours.entries, book.embed[0], 1e-5)
        assert_close(ours.usage * count / 32, book.cluster_size[0], 1e-5)
    assert (ours.entries - start).norm() > 1, "nothing was learnt"


def test_a_shielded_group_learns_from_what_is_distilled_into_it_only():
    """Nothing that the decoder makes of it reaches it, at any number of codebooks in use."""
    torch.manual_seed(0)
    quantizer = GroupedRvq(FEATURES, groups=((3, 1), (5, 3)), size=16, shielded=1)
    latent = torch.randn(2, FEATURES, 40, requires_grad=True)
    quantized = quantizer(latent, torch.tensor([1, 4]))
    assert quantized.first is not None
    (decoded,) = torch.autograd.grad(quantized.latent.sum(), latent, retain_graph=True)
    assert not decoded[:, :3].any()
    assert not decoded[0].any()  # one codebook in use
    assert decoded[1, 3:].all()
    (distilled,) = torch.autograd.grad(quantized.first.sum(), latent)
    assert distilled[:, :3].all()
    assert not distilled[:, 3:].any()


def test_groups_that_do_not_add_up_are_refused():
    for groups in ((), ((3, 1), (4, 3)), ((8, 0),), ((8,),), ((8, 1, 0),), ((8, 1, 2, 3),)):
        with pytest.raises(ValueError, match="the features add up to 8"):
            GroupedRvq(FEATURES, groups=groups)


def test_a_group_may_have_codebooks_of_its_own_size():
    torch.manual_seed(0)
    quantizer = GroupedRvq(FEATURES, groups=((3, 1, 4), (5, 2)), size=16).train()
    latent = torch.randn(2, FEATURES, 40)
    quantizer(latent)
    quantizer.eval()
    codes = quantizer.encode(latent)
    assert quantizer.sizes == (4, 16, 16)
    assert codes.amax((0, 2)).tolist() == [3, 15, 15]
    own = Rvq(3, codebooks=1, size=4)
    own.load_state_dict(quantizer.parts[0].state_dict())
    assert torch.equal(quantizer.decode(codes)[:, :3], own.eval().decode(codes[:, :1]))


def test_usage_does_not_depend_on_the_size_of_batches():
    """Where batches differ in size, each counts alike: a short one is no less of a step."""
    codebook = Euclidean(FEATURES, 8, decay=0.5, revive=0.0).train()
    codebook.usage.fill_(1.0)
    for count in (8, 800, 3):
        codebook(points(count))
        assert math.isclose(codebook.usage.sum().item(), 8, rel_tol=1e-5)


def test_factorised_lookup_is_dacs():
    """descript-audio-codec's VectorQuantize.decode_latents, in numpy and float64.

    It normalises projected latents and entries, and takes the entry at the least squared
    distance; it decodes the entry itself, not the normalised one.
    """
    stage = Factorised(FEATURES, 64, width=4)
    x = points(500)
    weights = {key: value.double().numpy() for key, value in stage.state_dict().items()}
    narrow = x.double().numpy() @ weights["down.weight"].T + weights["down.bias"]
    entries = weights["entries"]
    a = narrow / np.linalg.norm(narrow, axis=1, keepdims=True)
    b = entries / np.linalg.norm(entries, axis=1, keepdims=True)
    index = ((a[:, None] - b[None]) ** 2).sum(2).argmin(1)
    assert stage.search(x).tolist() == index.tolist()
    wanted = entries[index] @ weights["up.weight"].T + weights["up.bias"]
    with torch.no_grad():
        assert_close(stage.look_up(torch.from_numpy(index)), torch.from_numpy(wanted).float(), 1e-6)


def test_factorised_loss_is_dacs():
    """0.25 x commitment + 1 x codebook, times four: commitment itself has weight one."""
    stage = Factorised(FEATURES, 64, width=4)
    x = points(50)
    loss = stage(x)[2].mean()
    narrow = stage.down(x)
    entry = F.embedding(stage.search(x), stage.entries)
    wanted = 4 * (
        0.25 * F.mse_loss(narrow, entry.detach()) + 1.0 * F.mse_loss(entry, narrow.detach())
    )
    assert_close(loss, wanted, 1e-6)
    for made, meant in zip(
        torch.autograd.grad(loss, [stage.down.weight, stage.entries]),
        torch.autograd.grad(wanted, [stage.down.weight, stage.entries]),
        strict=True,
    ):
        assert_close(made, meant, 1e-5)


def test_a_factorised_stage_hands_its_gradient_through_its_projections():
    stage = Factorised(FEATURES, 16, width=4)
    x = points(10).requires_grad_()
    made, _, _ = stage(x)
    (slope,) = torch.autograd.grad(made.sum(), x)
    with torch.no_grad():
        assert_close(slope, (stage.down.weight.T @ stage.up.weight.sum(0)).expand(10, -1), 1e-5)
        assert_close(made, stage.look_up(stage.search(x)), 1e-5)
