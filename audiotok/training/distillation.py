"""Distillation losses: they draw the output of single codebooks towards a teacher's features.

Students and teachers are `[b d f]`: a projection of what one codebook adds to the latent, and
features of the same recordings at the codec's frame rate. Every frame counts, or every frame
that `mask [b f]` marks as real (a crop may hold padding past a recording's end). The shape of a
teacher's features is checked, because the published trainer of SpeechTokenizer accepts `[1 f d]`
and then compares one frame across the batch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional as F

from audiotok._platform.errors import InputError
from audiotok._platform.shapes import Latent, Scalar

# Shapes are annotated loosely where a wrong one should raise our message, not the type checker's.


def distil_d_axis(student: Latent, teacher: Tensor, *, mask: Tensor | None = None) -> Scalar:
    """Return -log sigmoid(cos), with the cosine over time, averaged over features and recordings.

    Equal inputs give 0.3133, unrelated ones 0.693, opposite ones 1.3133. Each feature has to rise
    and fall with the teacher's; its scale is free.

    Source: SpeechTokenizer (Zhang et al. 2024, arXiv:2308.16692), section 3.3, "continuous
    representation distillation"; its weight there is 120.

    Args:
        student: projection `[b d f]` of a codebook's output.
        teacher: features `[b d f]`, up to one frame more or fewer (`fit_frames`); they get no
            gradient.
        mask: `[b f]`, true where a frame is real. A recording without real frames does not count.

    Raises:
        ValueError: rank, batch or width differ, or the numbers of frames by more than one.
    """
    student, teacher, real = _fitted(student, teacher, mask)
    loss = -F.logsigmoid(_cosine(student * real, teacher * real, 2)).mean(1)
    return _mean(loss, real.amax((1, 2)))


def distil_t_axis(
    student: Latent, teacher: Tensor, *, similarity: float = 1.0, mask: Tensor | None = None
) -> Scalar:
    """Return the mean absolute difference plus `similarity` times -log sigmoid(cos), with the
    cosine over the features of each frame, averaged over frames.

    Source: SpeechTokenizer's other axis (its code, trainer/loss.py).

    Args:
        student: as for `distil_d_axis`.
        teacher: as for `distil_d_axis`.
        similarity: weight of the cosine term.
        mask: as for `distil_d_axis`.

    Raises:
        ValueError: as `distil_d_axis`.
    """
    student, teacher, real = _fitted(student, teacher, mask)
    difference = (student - teacher).abs().mean(1)
    return _mean(difference - similarity * F.logsigmoid(_cosine(student, teacher, 1)), real[:, 0])


def distil_pseudo_label(logits: Latent, units: Tensor, *, mask: Tensor | None = None) -> Scalar:
    """Return the cross-entropy of a teacher's units, averaged over frames (ln n by chance).

    Source: SpeechTokenizer, section 3.3, "pseudo-label prediction" (units are k-means classes of
    a layer of HuBERT).

    Args:
        logits: scores of the n units, `[b n f]`.
        units: the teacher's units `[b f]`, integers below n, up to one frame more or fewer.
        mask: `[b f]`, true where a frame is real.

    Raises:
        ValueError: rank or batch differ, the numbers of frames by more than one, or units are
            not integers below n.
    """
    if units.ndim != 2 or len(units) != len(logits):
        raise InputError(f"units are {_shape(units)}; [b f] with b = {len(logits)} is expected")
    if units.is_floating_point() or units.is_complex():
        raise InputError(f"units are {units.dtype}; integers are expected")
    logits, units, real = _trimmed(logits, units, mask)
    if units.numel() and not 0 <= int(units.min()) <= int(units.max()) < logits.shape[1]:
        raise InputError(
            f"units run from {int(units.min())} to {int(units.max())};"
            f" there are logits for 0 to {logits.shape[1] - 1}"
        )
    loss = F.cross_entropy(logits.float(), units.long(), reduction="none")
    return _mean(loss, real[:, 0])


@dataclass(frozen=True)
class Target:
    """Features of one teacher for a batch, and the codebooks that learn them."""

    features: Tensor  # [b d f]
    weight: float = 1.0
    codebooks: tuple[int, ...] = (1,)  # numbered from 1, as in "RVQ-1"
    mask: Tensor | None = None  # [b f], true where a frame is real


def distil_combined(students: Mapping[int, Latent], targets: Sequence[Target]) -> Scalar:
    """Return the sum over teachers of `weight` times the mean of `distil_d_axis` over codebooks.

    Source: DM-Codec (Ahasan et al. 2024, arXiv:2410.15017, section 3.3): a language model alone, or
    with a speech model, each with codebooks of its own ("LM 1, SM 1:8"). Every codebook listed is
    distilled; the published code takes the first of a list only.

    Args:
        students: codebook number -> projection `[b d f]` of what it adds to the latent.
        targets: one for each teacher.

    Raises:
        ValueError: a listed codebook has no student, a target lists none, there is no target, or
            as `distil_d_axis`.
    """
    if not targets:
        raise InputError("no teacher to distil from: give at least one target")
    terms = []
    for target in targets:
        missing = sorted(set(target.codebooks) - set(students))
        if missing or not target.codebooks:
            raise InputError(
                f"codebooks {list(target.codebooks)} are to be distilled;"
                f" there are projections of {sorted(students)}"
            )
        losses = [
            distil_d_axis(students[k], target.features, mask=target.mask) for k in target.codebooks
        ]
        terms.append(target.weight * torch.stack(losses).mean())
    return torch.stack(terms).sum()


@runtime_checkable
class HasFirstLatents(Protocol):
    """A codec whose first codebook has an encoder of its own."""

    def first_latents(self, wave: Tensor, /) -> Tensor:
        """Return the latents `[b d f]` of the first codebook of waves `[b c t]`."""
        ...


def consistency(latent: Latent, entries: Tensor, *, mask: Tensor | None = None) -> Scalar:
    """Return the mean squared distance of latents to the entries chosen for another view.

    It draws what is heard of a crop with another gain, band or noise into the cells of the codes of
    the crop, so that codes do not change with them. It is the commitment loss across views; Gat et
    al. 2023 (arXiv:2209.15483, section 3) ask the same of units by pseudo-labels.

    Args:
        latent: latents `[b d f]` of the second view, before quantization.
        entries: decoded codes `[b d f]` of the first view; they get no gradient.
        mask: `[b f]`, true where a frame is real.

    Raises:
        ValueError: shapes differ.
    """
    latent, entries, real = _fitted(latent, entries, mask)
    return _mean((latent - entries).square().mean(1), real[:, 0])


def implied_cosine(loss: float) -> float:
    """Return the cosine at which -log sigmoid(cos) is `loss` (1 at 0.3133, 0 at 0.693).

    For a mean loss this is close to the mean cosine: the curve is nearly straight from -1 to 1.

    Raises:
        ValueError: `loss` is not above zero.
    """
    if not loss > 0:
        raise InputError(f"-log sigmoid(cos) is above zero, not {loss}")
    return -math.log(math.expm1(loss))


def fit_frames(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Return both tensors, time last, cut at the end to the number of frames that both have.

    A difference of one frame comes from windows: HuBERT makes 149 of 48,000 samples, a codec 150.
    A difference of two or more means features of another crop or rate.

    Raises:
        ValueError: the numbers of frames differ by more than one.
    """
    student_frames, teacher_frames = student.shape[-1], teacher.shape[-1]
    if abs(student_frames - teacher_frames) > 1:
        raise InputError(
            f"the teacher has {teacher_frames} frames and the codec {student_frames};"
            " one more or fewer is trimmed, more means another crop or frame rate"
        )
    frames = min(student_frames, teacher_frames)
    return student[..., :frames], teacher[..., :frames]


def _fitted(student: Tensor, teacher: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return both with equal length and in float32, and the mask of real frames `[b 1 f]`."""
    if teacher.ndim != 3 or teacher.shape[:2] != student.shape[:2]:
        b, d = student.shape[:2]
        raise InputError(
            f"the teacher's features are {_shape(teacher)}; [b d f] with b = {b}, d = {d} is"
            " expected, as the student has"
        )
    student, teacher, real = _trimmed(student, teacher.detach(), mask)
    return student.float(), teacher.float(), real


def _trimmed(
    student: Tensor, teacher: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    (b, _, frames), before = student.shape, student
    student, teacher = fit_frames(student, teacher)
    if mask is None:
        mask = torch.ones(b, frames, device=student.device)
    elif mask.shape != (b, frames):
        raise InputError(f"the mask is {_shape(mask)}; [b f] of the student is [{b} {frames}]")
    return student, teacher, mask[:, None, : student.shape[2]].to(before.device, torch.float32)


def _cosine(a: Tensor, b: Tensor, axis: int) -> Tensor:
    # A feature that is zero throughout has no direction: its cosine is 0 and its slope is bounded.
    return F.cosine_similarity(a, b, dim=axis, eps=1e-5)


def _mean(loss: Tensor, real: Tensor) -> Tensor:
    """Return the mean over real elements; zero where there are none."""
    return (loss * real).sum() / real.sum().clamp(min=1)


def _shape(x: Tensor) -> str:
    return f"[{' '.join(map(str, x.shape))}]"
