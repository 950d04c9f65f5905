"""Distillation: closed forms, who gets a gradient, and teachers that do not fit."""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib import import_module
from typing import Any

import peers
import pytest
import torch
from torch import Tensor

from audiotok.training.distillation import (
    Target,
    consistency,
    distil_combined,
    distil_d_axis,
    distil_pseudo_label,
    distil_t_axis,
    fit_frames,
    implied_cosine,
)

EQUAL, UNRELATED, OPPOSITE = 0.313262, 0.693147, 1.313262  # -log sigmoid of 1, 0 and -1


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def slope(loss: Tensor, of: Tensor) -> Tensor:
    return torch.autograd.grad(loss, of, retain_graph=True)[0]


def test_d_axis_knows_equal_unrelated_and_opposite():
    x = drawn(4, 32, 500)
    assert distil_d_axis(x, x).item() == pytest.approx(EQUAL, abs=1e-5)
    assert distil_d_axis(x, drawn(4, 32, 500, seed=1)).item() == pytest.approx(UNRELATED, abs=0.01)
    assert distil_d_axis(x, -x).item() == pytest.approx(OPPOSITE, abs=1e-5)
    # Each feature has a scale of its own; time, and not features, is what cosines run over.
    assert distil_d_axis(x * torch.rand(4, 32, 1), x).item() == pytest.approx(EQUAL, abs=1e-5)
    assert distil_d_axis(x * torch.rand(4, 1, 500), x).item() > EQUAL + 0.01


def test_t_axis_knows_equal_unrelated_and_opposite():
    x, y = drawn(2, 500, 32), drawn(2, 500, 32, seed=1)
    assert distil_t_axis(x, x).item() == pytest.approx(EQUAL, abs=1e-5)
    apart = 2 / math.sqrt(math.pi)  # mean |x - y| of two normal deviates
    assert distil_t_axis(x, y).item() == pytest.approx(apart + UNRELATED, abs=0.02)
    assert distil_t_axis(x, y, similarity=0.0).item() == pytest.approx(apart, abs=0.02)
    assert distil_t_axis(x, -x, similarity=10.0).item() == pytest.approx(
        2 * x.abs().mean().item() + 10 * OPPOSITE, abs=1e-3
    )
    # Each frame has a scale of its own in the cosine.
    quiet = x * torch.linspace(0.1, 1, 32)
    loss = distil_t_axis(quiet, x, similarity=1.0) - distil_t_axis(quiet, x, similarity=0.0)
    assert loss.item() == pytest.approx(EQUAL, abs=1e-5)


def test_pseudo_labels_cost_their_cross_entropy():
    units = torch.randint(10, (2, 30))
    even = torch.zeros(2, 10, 30)
    assert distil_pseudo_label(even, units).item() == pytest.approx(math.log(10))
    sure = torch.zeros(2, 10, 30).scatter_(1, units[:, None], math.log(9.0))
    assert distil_pseudo_label(sure, units).item() == pytest.approx(math.log(2))


@torch.no_grad()
@pytest.mark.parametrize("frames", [20, 19])
def test_axes_are_speechtokenizers(frames: int):
    """Given `[b f d]`, as its paper means it; its t axis needs a name that torch does not have."""
    student, teacher = drawn(3, 8, 20), drawn(3, 8, frames, seed=1)
    with peers.modules("speechtokenizer", "speechtokenizer.trainer"):
        module = import_module("speechtokenizer.trainer.loss")
        given = (student.mT, teacher.mT)
        torch.testing.assert_close(
            distil_d_axis(student, teacher), module.d_axis_distill_loss(*given)
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.functional, "l1_loss", torch.nn.functional.l1_loss, raising=False)
            theirs = module.t_axis_distill_loss(*given, lambda_sim=0.7)
        torch.testing.assert_close(distil_t_axis(student, teacher, similarity=0.7), theirs)


@pytest.mark.parametrize("loss", [distil_d_axis, distil_t_axis])
def test_every_frame_of_the_student_gets_a_gradient_and_the_teacher_none(
    loss: Callable[..., Tensor],
):
    student, teacher = drawn(3, 8, 20).requires_grad_(), drawn(3, 8, 20, seed=1).requires_grad_()
    made, none = torch.autograd.grad(loss(student, teacher), [student, teacher], allow_unused=True)
    assert none is None
    assert (made != 0).all()


def test_every_frame_of_the_logits_gets_a_gradient():
    logits = drawn(3, 8, 20).requires_grad_()
    assert (slope(distil_pseudo_label(logits, torch.randint(8, (3, 20))), logits) != 0).all()


# -- what fits, and what counts -----------------------------------------------------------------


@pytest.mark.parametrize("frames", [149, 150, 151])
def test_one_frame_more_or_fewer_is_trimmed(frames: int):
    student, teacher = drawn(2, 8, 150), drawn(2, 8, frames, seed=1)
    both = min(150, frames)
    one, other = fit_frames(student, teacher)
    assert torch.equal(one, student[..., :both])
    assert torch.equal(other, teacher[..., :both])
    units = torch.randint(8, (2, frames))
    for loss, given in (
        (distil_d_axis, teacher),
        (distil_t_axis, teacher),
        (distil_pseudo_label, units),
    ):
        made = loss(student, given, mask=torch.ones(2, 150, dtype=torch.bool))
        assert torch.equal(made, loss(student[..., :both], given[..., :both]))


@pytest.mark.parametrize("loss", [distil_d_axis, distil_t_axis])
@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 8, 20), r"^the teacher's features are \[1 8 20\]; \[b d f\] with b = 3, d = 8 is exp"),
        ((1, 20, 8), r"^the teacher's features are \[1 20 8\]; "),  # the published trainer's
        ((3, 20, 8), r"^the teacher's features are \[3 20 8\]; "),
        ((3, 1, 20, 8), r"^the teacher's features are \[3 1 20 8\]; "),
        ((3, 7, 20), r"^the teacher's features are \[3 7 20\]; "),
        ((8, 20), r"^the teacher's features are \[8 20\]; "),
        ((3, 8, 18), r"^the teacher has 18 frames and the codec 20; one more or fewer is trimmed"),
        ((3, 8, 22), r"^the teacher has 22 frames and the codec 20; one more or fewer is trimmed"),
    ],
)
def test_teachers_that_do_not_fit_are_refused(loss: Any, shape: tuple[int, ...], message: str):
    with pytest.raises(ValueError, match=message):
        loss(drawn(3, 8, 20), drawn(*shape))


@pytest.mark.parametrize(
    ("units", "message"),
    [
        (torch.zeros(1, 20, dtype=torch.long), r"^units are \[1 20\]; \[b f\] with b = 3 is expec"),
        (torch.zeros(3, 20), r"^units are torch.float32; integers are expected$"),
        (torch.full((3, 20), 8), r"^units run from 8 to 8; there are logits for 0 to 7$"),
        (torch.full((3, 20), -100), r"^units run from -100 to -100; "),
        (torch.zeros(3, 25, dtype=torch.long), r"^the teacher has 25 frames and the codec 20; "),
    ],
)
def test_units_that_do_not_fit_are_refused(units: Tensor, message: str):
    with pytest.raises(ValueError, match=message):
        distil_pseudo_label(drawn(3, 8, 20), units)


def test_a_mask_that_does_not_fit_is_refused():
    x = drawn(3, 8, 20)
    with pytest.raises(
        ValueError, match=r"^the mask is \[3 19\]; \[b f\] of the student is \[3 20\]"
    ):
        distil_d_axis(x, x, mask=torch.ones(3, 19))


@pytest.mark.parametrize("kind", ["d", "t", "labels"])
def test_frames_that_are_not_real_do_not_count(kind: str):
    losses: dict[str, Callable[..., Tensor]] = {
        "d": distil_d_axis,
        "t": distil_t_axis,
        "labels": distil_pseudo_label,
    }
    loss, student = losses[kind], drawn(3, 8, 20).requires_grad_()
    teacher = torch.randint(8, (3, 20)) if kind == "labels" else drawn(3, 8, 20, seed=1)
    real = torch.arange(20) < torch.tensor([20, 12, 0])[:, None]
    made = loss(student, teacher, mask=real)
    parts = [loss(student[:1], teacher[:1]), loss(student[1:2, :, :12], teacher[1:2, ..., :12])]
    weights = [1 / 2, 1 / 2] if kind == "d" else [20 / 32, 12 / 32]
    want = sum(w * part for w, part in zip(weights, parts, strict=True))
    torch.testing.assert_close(made, want)
    moved = slope(made, student) != 0
    assert torch.equal(moved.any(1), real)
    # Whatever stands there.
    loud = torch.where(real[:, None], student, 1e6)
    torch.testing.assert_close(loss(loud, teacher, mask=real), made)
    nothing = loss(student, teacher, mask=torch.zeros(3, 20, dtype=torch.bool))
    assert nothing.item() == 0
    assert not slope(nothing, student).any()


@pytest.mark.parametrize("loss", [distil_d_axis, distil_t_axis])
def test_what_is_constant_zero_has_a_finite_slope(loss: Callable[..., Tensor]):
    student = torch.zeros(2, 8, 20, requires_grad=True)
    made = loss(student, drawn(2, 8, 20))
    assert made.isfinite()
    assert slope(made, student).isfinite().all()


# -- several teachers, several codebooks --------------------------------------------------------


def test_the_gradient_of_two_teachers_is_the_weighted_sum():
    student, heard, read = (
        drawn(2, 8, 20).requires_grad_(),
        drawn(2, 8, 20, seed=1),
        drawn(2, 8, 20, seed=2),
    )
    both = distil_combined({1: student}, [Target(heard, 0.2), Target(read, 0.8)])
    want = 0.2 * slope(distil_d_axis(student, heard), student)
    want = want + 0.8 * slope(distil_d_axis(student, read), student)
    torch.testing.assert_close(slope(both, student), want)


def test_every_codebook_listed_is_distilled_from_its_own_teacher():
    """DM-Codec's "LM 1, SM 1:8": a student of each codebook through a projection of its own."""
    latents = drawn(8, 2, 16, 20)
    heads = [torch.nn.Linear(16, 8) for _ in range(8)]
    students = {k + 1: heads[k](latents[k].mT).mT for k in range(8)}
    heard, read = drawn(2, 8, 20, seed=1), drawn(2, 8, 20, seed=2)
    weights = [head.weight for head in heads]

    def learnt(*targets: Target) -> list[bool]:
        loss = distil_combined(students, targets)
        slopes = torch.autograd.grad(loss, weights, allow_unused=True, retain_graph=True)
        return [s is not None and bool((s != 0).all()) for s in slopes]

    every = tuple(range(1, 9))
    assert learnt(Target(read)) == [True] + [False] * 7
    assert learnt(Target(read), Target(heard, codebooks=every)) == [True] * 8
    assert learnt(Target(heard, codebooks=(2, 8))) == [k in (2, 8) for k in every]

    made = distil_combined(students, [Target(read, 0.5), Target(heard, 2.0, every)])
    alone = [distil_d_axis(students[k], heard) for k in every]
    want = 0.5 * distil_d_axis(students[1], read) + 2.0 * torch.stack(alone).mean()
    torch.testing.assert_close(made, want)


def test_each_teacher_has_its_own_mask():
    student, heard, read = drawn(2, 8, 20), drawn(2, 8, 20, seed=1), drawn(2, 8, 20, seed=2)
    real = torch.arange(20).expand(2, -1) < 7
    made = distil_combined({1: student}, [Target(heard), Target(read, mask=real)])
    want = distil_d_axis(student, heard) + distil_d_axis(student[..., :7], read[..., :7])
    torch.testing.assert_close(made, want)


@pytest.mark.parametrize(
    ("codebooks", "message"),
    [
        ((1, 3), r"^codebooks \[1, 3\] are to be distilled; there are projections of \[1, 2\]$"),
        ((), r"^codebooks \[\] are to be distilled; "),
    ],
)
def test_codebooks_without_a_student_are_refused(codebooks: tuple[int, ...], message: str):
    x = drawn(2, 8, 20)
    with pytest.raises(ValueError, match=message):
        distil_combined({1: x, 2: x}, [Target(x, 1.0, codebooks)])
    with pytest.raises(ValueError, match=r"^no teacher to distil from: give at least one target$"):
        distil_combined({1: x}, [])


@pytest.mark.parametrize("cosine", [-1.0, -0.3, 0.0, 0.19, 0.9, 1.0])
def test_a_loss_implies_its_cosine(cosine: float):
    assert implied_cosine(math.log1p(math.exp(-cosine))) == pytest.approx(cosine, abs=1e-9)


def test_no_cosine_costs_nothing():
    with pytest.raises(ValueError, match=r"^-log sigmoid\(cos\) is above zero, not 0.0$"):
        implied_cosine(0.0)


def test_consistency_knows_equal_and_unrelated_and_what_is_padding():
    entries, other = torch.randn(2, 2, 6, 9).unbind()
    assert consistency(entries, entries) == 0
    expected = (entries - other).square().mean(1)
    assert consistency(other, entries).item() == pytest.approx(expected.mean().item())
    mask = torch.arange(9) < torch.tensor([[4], [9]])
    assert consistency(other, entries, mask=mask).item() == pytest.approx(
        expected[mask].mean().item()
    )
    latent = other.requires_grad_()
    entries.requires_grad_()
    consistency(latent, entries).backward()
    assert entries.grad is None
    assert latent.grad is not None
    with pytest.raises(ValueError, match="is expected"):
        consistency(other[:, :3], entries)
