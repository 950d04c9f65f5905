"""Training of inverse k-means on cached features, and its error on recordings that it never met.

recordings -> features, kept in a `FeatureCache` -> units of them -> stretches of a recording:
units of one stretch, and as a prompt the features of another -> features of the first
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from rich.console import Console
from torch import Tensor
from torch.nn import functional as F

from audiotok._platform.errors import InputError
from audiotok.codecs.inverse_kmeans import InverseConfig, InverseKmeans
from audiotok.codecs.models.kmeans import Kmeans
from audiotok.codecs.one_cycle import descend
from audiotok.data.feature_cache import FeatureCache
from audiotok.data.recording import Recording


@dataclass(frozen=True)
class InverseTraining:
    """Settings of a training.

    Attributes:
        width: width of the network.
        depth: number of its blocks.
        steps: steps of training.
        batch: stretches of a step.
        frames: frames of a stretch.
        prompt: frames of a prompt, another stretch of the same recording.
        unprompted: stretches of a step that are given no prompt, fewer than `batch`.
        rate: largest learning rate of AdamW, which rises for a twentieth of the steps and falls by
            a cosine.
        seed: random seed of weights and stretches.
    """

    width: int = 320
    depth: int = 6
    steps: int = 2000
    batch: int = 8
    frames: int = 150
    prompt: int = 100
    unprompted: int = 1
    rate: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.steps, self.frames, self.prompt) < 1 or not 0 <= self.unprompted < self.batch:
            raise InputError(
                f"{self.steps} steps of {self.batch} stretches of {self.frames} frames, prompts of "
                f"{self.prompt}, {self.unprompted} without: at least one of each"
            )


@dataclass(frozen=True)
class InverseErrors:
    """Mean squared errors of vectors, as shares of the variance of the features.

    Each feature is measured in its own deviation, so that a few large ones do not decide. Vectors
    are those of a recording after its prompt.

    Attributes:
        recordings: number of recordings.
        frames: number of vectors.
        recovered: error of the network, given the prompt.
        unprompted: error of the network without a prompt.
        unit_means: error of the mean vectors of units, with the mean of the prompt added.
        centroids: error of centroids; where units are centred, with the mean of the prompt added.
        recovered_centred: error of the network, given the prompt, where the mean over the recording
            is taken off both what it gives and what it should give: as centred units are fitted.
        centroids_centred: error of centroids in the same way.
    """

    recordings: int
    frames: int
    recovered: float
    unprompted: float
    unit_means: float
    centroids: float
    recovered_centred: float
    centroids_centred: float


class _Stretch(NamedTuple):
    """Stretch of a recording: codes `[k f]`, vectors `[d f]` and the prompt's vectors `[d p]`."""

    codes: Tensor
    vectors: Tensor
    prompt: Tensor


class UnitVectors:
    """Units and vectors of recordings, whose features are computed once and kept.

    Args:
        recordings: the recordings.
        units: units of the extractor.
        cache: folder of features (`FeatureCache`).
        console: where progress is shown.

    Raises:
        InputError: no recording has features.
    """

    def __init__(
        self,
        recordings: Sequence[Recording],
        units: Kmeans,
        *,
        cache: str | Path,
        console: Console,
    ) -> None:
        self.units = units
        self.layers = [
            FeatureCache.build(
                recordings, units.teacher, layer=layer, cache=cache, console=console
            ).at(units.frame_rate)
            for layer in units.config.layers
        ]
        first = self.layers[0]
        self.members = [i for i in range(len(first)) if all(layer.has(i) for layer in self.layers)]
        if not self.members:
            raise InputError("no recordings with features")

    def __len__(self) -> int:
        return len(self.members)

    @torch.no_grad()
    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        """Return the codes `[k f]` and the vectors `[k*d f]` of a recording."""
        vectors = torch.cat([layer[self.members[i]] for layer in self.layers], 1).T
        return self.units.quantizer.encode(self.latents(vectors)[None])[0], vectors

    def latents(self, vectors: Tensor) -> Tensor:
        """Return what the quantizer is given for vectors `[d f]` of a whole recording."""
        return vectors - vectors.mean(1, keepdim=True) if self.units.config.centred else vectors


def fit_inverse(
    recordings: Sequence[Recording],
    units: Kmeans,
    training: InverseTraining | None = None,
    *,
    cache: str | Path,
    console: Console | None = None,
) -> InverseKmeans:
    """Train a network that recovers the vectors of units.

    Args:
        recordings: recordings to learn from; those too short for a prompt and a stretch are left
            out.
        units: fitted units.
        training: settings.
        cache: folder of features, which those of `fit_units` are found in.
        console: where progress is shown; stderr if None.

    Returns:
        The network, in eval mode, with weights that half precision holds exactly.

    Raises:
        InputError: no recording is long enough.
    """
    training = training or InverseTraining()
    console = console or Console(stderr=True)
    data = UnitVectors(recordings, units, cache=cache, console=console)
    config = InverseConfig(
        units=units.fingerprint,
        vectors=units.uncentred().fingerprint,
        codebooks=units.codebooks,
        size=units.config.size,
        features=units.teacher.width,
        width=training.width,
        depth=training.depth,
    )
    with torch.random.fork_rng(), torch.enable_grad():
        torch.manual_seed(training.seed)
        model = InverseKmeans(config).train()
        _set_statistics(model, data)
        batches = _batches(data, training)

        def step() -> float:
            loss = _loss(model, next(batches), training)
            loss.backward()
            return loss.item()

        descend(
            model.parameters(),
            step,
            steps=training.steps,
            rate=training.rate,
            what="inverse k-means",
            console=console,
        )
    with torch.no_grad():
        for value in [*model.parameters(), *model.buffers()]:
            value.copy_(value.half())
    return model.eval().requires_grad_(False)


def _set_statistics(model: InverseKmeans, data: UnitVectors) -> None:
    """Set the means of units, the average voice and the scale of features."""
    size = model.config.size
    sums = torch.zeros_like(model.means, dtype=torch.float64)
    counts = torch.zeros(*model.means.shape[:2], dtype=torch.float64)
    total, squares, frames = 0.0, 0.0, 0
    voices = torch.zeros_like(model.voice, dtype=torch.float64)
    for i in range(len(data)):
        codes, vectors = data[i]
        vectors = vectors.double()
        mean = vectors.mean(1)
        voices += torch.stack([mean, vectors.std(1, correction=0)])
        relative = (vectors - mean[:, None]).unflatten(0, (len(sums), -1))  # [k d f]
        for own, table, count, x in zip(codes, sums, counts, relative, strict=True):
            table.index_add_(0, own, x.T)
            count += torch.bincount(own, minlength=size)
        total, squares = total + vectors.sum(1), squares + vectors.square().sum(1)
        frames += vectors.shape[1]
    model.means.copy_(sums / counts.clamp(min=1)[..., None])
    model.voice.copy_(voices / len(data))
    variance = torch.as_tensor(squares / frames - (total / frames) ** 2)
    model.scale.copy_(variance.clamp(min=1e-8).sqrt())


def _batches(data: UnitVectors, training: InverseTraining) -> Iterator[list[_Stretch]]:
    """Yield batches of random stretches of recordings in random order, without end."""
    random = np.random.default_rng(training.seed)
    need = training.frames + training.prompt
    stretches: list[_Stretch] = []
    while True:
        drawn = 0
        for i in random.permutation(len(data)):
            codes, vectors = data[int(i)]
            spare = vectors.shape[1] - need
            if spare < 0:
                continue
            drawn += 1
            a, b = np.sort(random.integers(0, spare + 1, 2))  # the first and the second part
            prompt_first = random.random() < 0.5
            first = training.prompt if prompt_first else training.frames
            at, prompt = (b + first, a) if prompt_first else (a, b + first)
            stretches.append(
                _Stretch(
                    codes[:, at : at + training.frames],
                    vectors[:, at : at + training.frames],
                    vectors[:, prompt : prompt + training.prompt],
                )
            )
            if len(stretches) == training.batch:
                yield stretches
                stretches = []
        if not drawn:
            raise InputError(f"no recording has the {need} frames of a stretch and its prompt")


def _loss(model: InverseKmeans, stretches: list[_Stretch], training: InverseTraining) -> Tensor:
    """Return the mean squared error of vectors in deviations of their features."""
    codes, vectors, prompt = (torch.stack(part) for part in zip(*stretches, strict=True))
    without = training.unprompted
    given = [model(codes[without:], prompt[without:])]
    if without:
        given = [model(codes[:without]), *given]
    scale = model.scale[:, None]
    return F.mse_loss(torch.cat(given) / scale, vectors / scale)


@torch.no_grad()
def measure_inverse(
    model: InverseKmeans,
    recordings: Sequence[Recording],
    units: Kmeans,
    *,
    cache: str | Path,
    prompt: int = 100,
    console: Console | None = None,
) -> InverseErrors:
    """Return the errors of recovered vectors, and of centroids beside them.

    Args:
        model: the network.
        recordings: recordings that it did not learn from; those not longer than the prompt are left
            out.
        units: the units that it was trained for.
        cache: folder of features (`FeatureCache`).
        prompt: frames at the start of a recording that are its prompt; the rest is recovered.
        console: where progress is shown; stderr if None.

    Raises:
        InputError: no recording is longer than the prompt.
    """
    data = UnitVectors(recordings, units, cache=cache, console=console or Console(stderr=True))
    scale, centred = model.scale[:, None], units.config.centred
    errors, count, frames = torch.zeros(6, dtype=torch.float64), 0, 0
    total, squares = torch.zeros_like(model.scale).double(), 0.0
    for i in range(len(data)):
        codes, vectors = data[i]
        if vectors.shape[1] <= prompt:
            continue
        start, rest = vectors[None, :, :prompt], vectors[None, :, prompt:]
        codes = codes[None, :, prompt:]
        mean = start.mean(2, keepdim=True)
        recovered, centroids = model(codes, start), units.quantizer.decode(codes)
        differences = [
            recovered - rest,
            model(codes) - rest,
            model.unit_means(codes) + mean - rest,
            centroids + (mean if centred else 0) - rest,
            _centred(recovered) - _centred(rest),
            _centred(centroids) - _centred(rest),
        ]
        errors += torch.stack([(each / scale).double().square().sum() for each in differences])
        scaled = (rest[0] / scale).double()
        total, squares = total + scaled.sum(1), squares + float(scaled.square().sum())
        count, frames = count + 1, frames + rest.shape[2]
    if not frames:
        raise InputError(f"no recording is longer than a prompt of {prompt} frames")
    variance = squares - float(total.square().sum()) / frames
    return InverseErrors(count, frames, *(errors / variance).tolist())


def _centred(vectors: Tensor) -> Tensor:
    """Return vectors `[b d f]` without their mean over time."""
    return vectors - vectors.mean(2, keepdim=True)
