"""Targets of distillation: teachers' features of the training data, and the loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor

from audiotok._platform.atomic import atomic_file
from audiotok._platform.errors import InputError
from audiotok._platform.registry import find
from audiotok.codecs.models.base import Codec
from audiotok.data.batches import Batch
from audiotok.data.feature_cache import FeatureCache
from audiotok.data.features.base import Teacher
from audiotok.data.recording import Recording
from audiotok.nn.clusters import kmeans, nearest
from audiotok.nn.quantizers.base import Quantized
from audiotok.training import distillation as losses
from audiotok.training.codec_teacher import CodecTeacher
from audiotok.training.recipe import Distillation
from audiotok.training.resume import load_state

CODEC = "codec"  # name of a teacher that is the first codebook of a codec
SAMPLE = 200  # recordings whose features the units of axis "labels" are clustered from


class JointFeatures:
    """Features of several teachers side by side, so that one crop reads them all.

    Args:
        parts: features of each teacher.
        entries: all values `[n d]` that the features have, if they are those of a codebook.

    Raises:
        ValueError: the teachers have different frame rates.
    """

    def __init__(self, parts: list[FeatureCache], entries: Tensor | None = None) -> None:
        rates = {part.frame_rate for part in parts}
        if len(rates) != 1:
            raise InputError(f"[distillation]: teachers of unlike frame rates ({rates})")
        self.parts = parts
        self.entries = entries
        self.width = sum(part.width for part in parts)
        self.frame_rate: Fraction = rates.pop()

    def has(self, recording: int, /) -> bool:
        """Return whether every teacher has features of this recording."""
        return all(part.has(recording) for part in self.parts)

    def crop(self, recording: int, start: int, frames: int, /) -> Tensor:
        """Return features `[f d]` of a stretch of a recording, teachers one after the other in d.

        Args:
            recording: number of the recording.
            start: first frame.
            frames: number of frames.
        """
        return torch.cat([part.crop(recording, start, frames) for part in self.parts], 1)


def read_features(
    recordings: list[Recording],
    options: Distillation,
    own: Mapping[str, Teacher],
    frame_rate: Fraction,
) -> JointFeatures:
    """Return the features of all teachers of a recipe, computed where the cache has none yet.

    Args:
        recordings: the training data.
        options: table `distillation` of the recipe.
        own: teachers from outside the package, by the name they have in the recipe.
        frame_rate: frames per second of the codec; features at a multiple of it are averaged.

    Raises:
        InputError: labels are learnt from a codec of another frame rate.
    """
    parts, entries = [], None
    for name, one in options.used.items():
        teacher = own[name] if name in own else _load(name, one.weights)
        if isinstance(teacher, CodecTeacher):
            entries = teacher.entries
            if options.axis == "labels" and teacher.frame_rate != frame_rate:
                raise InputError(
                    f"[distillation] teacher {name!r}: {teacher.codec.name} has "
                    f"{float(teacher.frame_rate):g} codes a second, and there are "
                    f"{float(frame_rate):g} frames to learn them in"
                )
        part = FeatureCache.build(recordings, teacher, layer=one.layer, cache=options.cache)
        parts.append(part.at(frame_rate))
    return JointFeatures(parts, entries)


def _load(name: str, weights: str) -> Teacher:
    """Return a teacher by its name in a recipe."""
    if name == CODEC:
        return CodecTeacher.load(weights)
    return find("teachers", name).load(weights)


class Targets:
    """Loss `distillation` of a batch, computed from the teachers' features.

    Args:
        options: table `distillation` of the recipe.
        codec: the codec to distil into; its semantic head maps a codebook's output to the teacher.
        features: features of the training data.
        out: folder that keeps the units of axis "labels", so that a resumed run has the same.

    Raises:
        ValueError: the codec does not fit the teachers.
    """

    def __init__(
        self, options: Distillation, codec: Codec, features: JointFeatures, out: Path
    ) -> None:
        self.options = options
        self.widths = [part.width for part in features.parts]
        self.head = self._checked(codec)
        self.units = self._clusters(features, out) if options.axis == "labels" else None

    def _checked(self, codec: Codec) -> Callable[[Tensor], Tensor]:
        """Return the codec's semantic head, or raise if it does not fit the teachers."""
        options = self.options
        if not codec.teacher_field:
            raise InputError(f"codec {codec.name!r} has no semantic head to distil into")
        for name, one in options.used.items():
            valid = range(1, codec.codebooks + 1)
            if not one.codebooks or set(one.codebooks) - set(valid):
                raise InputError(
                    f"[distillation] teacher {name!r}: codebooks = {list(one.codebooks)}; "
                    f"{codec.name} has 1 to {codec.codebooks}"
                )
        if options.axis != "d" and len(options.used) != 1:
            raise InputError(f"[distillation] axis = {options.axis!r} takes exactly one teacher")
        size = codec.teacher_width
        for name, width in zip(options.used, self.widths, strict=True):
            expected = options.units if options.axis == "labels" else width
            if size != expected:
                raise InputError(
                    f"[distillation] teacher {name!r} needs a semantic head of {expected}, not "
                    f"{size}: set config.{codec.teacher_field} = {expected}"
                )
        return codec.distilled

    def _clusters(self, features: JointFeatures, out: Path) -> Tensor:
        """Return the centres of the units `[units d]`, kept in the run's folder."""
        path, entries = out / "units.pt", features.entries
        if entries is not None:
            if len(entries) != self.options.units:
                raise InputError(
                    f"[distillation] units = {self.options.units}: the teacher's first codebook "
                    f"has {len(entries)} codes"
                )
            return entries
        if path.is_file():
            return load_state(path)
        part = features.parts[0]
        known = [i for i in range(len(part)) if part.has(i)]
        chosen = known[:: max(1, len(known) // SAMPLE)][:SAMPLE]
        centres = kmeans(torch.cat([part[i] for i in chosen]), self.options.units, rounds=20)
        with atomic_file(path) as part_path:
            torch.save(centres, part_path)
        return centres

    def loss(self, quantized: Quantized, batch: Batch) -> Tensor:
        """Return the loss of one batch; frames past a recording's end do not count.

        Args:
            quantized: output of the quantizer.
            batch: the batch, with features.

        Raises:
            ValueError: the quantizer does not return the output of single codebooks, or as
                `loss_of`.
        """
        outputs = dict[int, Tensor]()
        for number in sorted({k for one in self.options.used.values() for k in one.codebooks}):
            alone = quantized.first if number == 1 else quantized.stages[number - 1]
            if alone is None:
                raise InputError("the quantizer does not say what a codebook alone decodes to")
            outputs[number] = alone
        return self.loss_of(outputs, batch)

    def loss_of(self, outputs: Mapping[int, Tensor], batch: Batch) -> Tensor:
        """Return the loss of what codebooks decode to, or of latents in their place.

        Args:
            outputs: number of a codebook -> its latents `[b d f]`; those of each that learns.
            batch: as for `loss`.

        Raises:
            ValueError: the batch has no features.
        """
        if batch.features is None or batch.taught is None:
            raise InputError("the batch has no features to distil from")
        mask = batch.real & batch.taught[:, None]
        targets = [part.transpose(1, 2) for part in batch.features.split(self.widths, 2)]
        options = self.options
        teachers = list(options.used.values())
        students = {k: self.head(output).transpose(1, 2) for k, output in outputs.items()}
        if options.axis == "d":
            return losses.distil_combined(
                students,
                [
                    losses.Target(features, one.weight, one.codebooks, mask)
                    for features, one in zip(targets, teachers, strict=True)
                ],
            )
        if self.units is not None:
            flat = targets[0].transpose(1, 2)
            units = nearest(flat.flatten(0, 1), self.units.to(flat.device))
            units = units.view(flat.shape[:2])
            terms = [losses.distil_pseudo_label(s, units, mask=mask) for s in students.values()]
        else:
            terms = [losses.distil_t_axis(s, targets[0], mask=mask) for s in students.values()]
        return torch.stack(terms).mean()
