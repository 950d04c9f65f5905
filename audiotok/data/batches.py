"""Training batches: random crops of recordings, determined by seed and step alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float32
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.data import Dataset

from audiotok.audio.decoders import AudioFileError
from audiotok.data.augment import Augment, augment_crop
from audiotok.data.cache import SampleCache
from audiotok.data.direct import FileSamples

TRIES = 10  # crops drawn in place of one whose file cannot be read, before it is an error


@runtime_checkable
class FeatureSource(Protocol):
    """Features of recordings by a pretrained model: a vector for each frame."""

    width: int  # d
    frame_rate: Fraction  # per second

    def has(self, recording: int, /) -> bool:
        """Return whether a recording, given by its index, has features."""
        ...

    def crop(self, recording: int, start: int, frames: int, /) -> Tensor:
        """Return the features `[f d]` of `frames` frames of a recording from frame `start` on."""
        ...


@dataclass(frozen=True)
class BatchConfig:
    """Sizes and seed of the crops in a batch."""

    batch: int  # crops for each rank
    frames: int  # frames in a crop
    frame_size: int  # samples in a frame
    seed: int = 0
    rank: int = 0  # index of this process among those that train together
    world: int = 1  # number of processes that train together
    taught: bool = True  # whether to draw only recordings that have features, if any have

    def __post_init__(self) -> None:
        for name in ("batch", "frames", "frame_size", "world"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.seed < 0 or not 0 <= self.rank < self.world:
            raise ValueError(
                f"seed must not be negative and rank below world, not "
                f"seed={self.seed} rank={self.rank} world={self.world}"
            )


@dataclass(frozen=True)
class Batch:
    """A batch of crops, with the recording, text and features of each."""

    wave: Float32[Tensor, "b 1 t"]  # input of the codec
    clean: Float32[Tensor, "b 1 t"]  # target of the codec: the same tensor unless denoising
    features: Float32[Tensor, "b f d"] | None  # features by a pretrained model
    taught: Bool[Tensor, " b"] | None  # whether a crop has features; they are zero where not
    real: Bool[Tensor, "b f"]  # True for frames of the recording, False for padding after it
    recordings: list[int]  # index of each crop's recording
    starts: list[int]  # start of each crop, samples
    text: list[str]  # transcript of the whole recording, or ""
    skipped: list[str]  # errors of unreadable files that other crops were drawn in place of
    view: Float32[Tensor, "b 1 t"] | None = None  # the input again, changed in another way

    def __len__(self) -> int:
        return len(self.recordings)

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch with its tensors on a device."""
        return self._each(lambda x: x.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """Return the batch in page-locked memory, as torch's DataLoader asks of a batch."""
        return self._each(lambda x: x.pin_memory())

    def _each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """Return the batch with all its tensors changed."""
        wave = change(self.wave)
        return replace(
            self,
            wave=wave,
            clean=wave if self.clean is self.wave else change(self.clean),
            view=None if self.view is None else change(self.view),
            features=None if self.features is None else change(self.features),
            taught=None if self.taught is None else change(self.taught),
            real=change(self.real),
        )


class _CropSampler:
    """A sampler of crops that draws each recording in proportion to its length."""

    def __init__(self, source: SampleCache | FileSamples, lengths: np.ndarray, grid: int) -> None:
        self.source = source
        self.grid = grid
        self.ends = np.cumsum(lengths)
        self.nonempty = bool(len(lengths) and self.ends[-1])

    def crop(
        self, random: np.random.Generator, length: int, skipped: list[str]
    ) -> tuple[Tensor, int, int]:
        """Draw a crop and return it `[t]`, padded with silence, with its recording and start.

        Where a file cannot be read, the reason is added to `skipped` and another crop is drawn.
        """
        for attempt in range(TRIES):
            i = int(np.searchsorted(self.ends, random.integers(self.ends[-1]), side="right"))
            starts = max(0, int(self.source.lengths[i]) - length) // self.grid + 1
            start = self.grid * int(random.integers(starts))
            try:
                wave = self.source.read(i, start, length)
            except AudioFileError as error:
                if attempt == TRIES - 1:
                    raise
                skipped.append(str(error))
            else:
                return pad(wave, (0, length - len(wave))), i, start
        raise AssertionError  # the last attempt returned or raised


class Batches(Dataset[Batch]):
    """Batches by step: `batches[step]` is the same whenever and wherever it is read.

    So training resumes exactly, with any number of processes reading ahead. Crop `j` of a step
    comes from a random generator of its own, seeded by (seed, step, j), and rank `r` of `world` has
    the crops from `r * batch` on: together the ranks have what one process would with batches of
    `world * batch`.

    A recording is drawn in proportion to its length, so that speakers and languages keep the share
    they have in the corpus, and a crop of it starts anywhere where the whole crop lies inside. The
    price is that the first and last crop's length of a long recording is drawn less often than its
    middle (its very first sample is in one crop only), and a recording shorter than a crop, which
    is padded with silence, less often than its length. (Starts that are uniform over all samples
    and run off the end instead make half a crop's length of every recording silence: a tenth of
    all, with crops of 1 s of utterances of 5 s.) With features a crop starts at a frame, so that
    each vector belongs to the samples of its own frame. Recordings shorter than a frame are never
    drawn.

    Args:
        source: the samples of the recordings.
        config: sizes and seed of the crops.
        augment: changes made to the crops; None for none, as in validation.
        view: changes made to the input for a second view of it; None for no such view.
        noises: noise to add, at the same rate; synthetic noise if None.
        features: features of the recordings of `source`, in their order.

    Raises:
        ValueError: no recording can be drawn, or noises or features have another rate.
    """

    def __init__(
        self,
        source: SampleCache | FileSamples,
        config: BatchConfig,
        *,
        augment: Augment | None = None,
        view: Augment | None = None,
        noises: SampleCache | FileSamples | None = None,
        features: FeatureSource | None = None,
    ) -> None:
        self.source = source
        self.config = config
        self.augment = augment
        self.view = view
        self.features = features
        self.length = config.frames * config.frame_size
        lengths = np.where(source.lengths < config.frame_size, 0, source.lengths)
        self._taught = None
        grid, why = 1, ""
        if features is not None:
            grid, why = config.frame_size, " or has no features"
            self._taught = np.array([features.has(i) for i in range(len(source))], bool)
            rate = Fraction(source.rate, config.frame_size)
            if features.frame_rate != rate:
                raise ValueError(
                    f"{features.frame_rate} features a second do not go with {rate} frames; "
                    "choose another teacher or codec"
                )
            if config.taught:
                lengths = np.where(self._taught, lengths, 0)
        self._sampler = _CropSampler(source, lengths, grid)
        if not self._sampler.nonempty:
            raise ValueError(
                f"none of {len(source)} recordings can be drawn: each is shorter than a frame of "
                f"{config.frame_size} samples{why}"
            )
        self._noises = None
        if noises is not None:
            self._noises = _CropSampler(noises, noises.lengths, 1)
            if noises.rate != source.rate or not self._noises.nonempty:
                raise ValueError(
                    f"{len(noises)} noises at {noises.rate} Hz: there must be some, "
                    f"at {source.rate} Hz"
                )

    def __getitem__(self, step: int) -> Batch:
        config, skipped = self.config, list[str]()
        first = config.rank * config.batch
        crops = [self._crop(step, j, skipped) for j in range(first, first + config.batch)]
        waves, cleans, recordings, starts = map(list, zip(*crops, strict=True))
        wave = torch.stack(waves)[:, None]
        same = all(one is other for one, other in zip(waves, cleans, strict=True))
        left = torch.from_numpy(self.source.lengths[recordings] - np.array(starts))
        ends = config.frame_size * torch.arange(1, config.frames + 1)
        features = taught = None
        if self.features is not None and self._taught is not None:
            taught = torch.from_numpy(self._taught[recordings])
            features = torch.stack(
                [
                    self.features.crop(i, start // config.frame_size, config.frames)
                    if there
                    else torch.zeros(config.frames, self.features.width)
                    for i, start, there in zip(recordings, starts, taught, strict=True)
                ]
            )
        return Batch(
            wave=wave,
            clean=wave if same else torch.stack(cleans)[:, None],
            features=features,
            taught=taught,
            real=ends <= left[:, None],
            recordings=recordings,
            starts=starts,
            text=[self.source.recordings[i].text for i in recordings],
            skipped=skipped,
            view=None if self.view is None else self._views(waves, step, first, skipped),
        )

    def _crop(self, step: int, j: int, skipped: list[str]) -> tuple[Tensor, Tensor, int, int]:
        """Return the input and the target of crop `j`, its recording, and its start in samples."""
        random = np.random.default_rng((self.config.seed, step, j))
        wave, recording, start = self._sampler.crop(random, self.length, skipped)
        if self.augment is None:
            return wave, wave, recording, start
        wave, clean = self._augmented(wave, self.augment, random, skipped)
        return wave, clean, recording, start

    def _views(self, waves: Sequence[Tensor], step: int, first: int, skipped: list[str]) -> Tensor:
        """Return the second views `[b 1 t]` of the inputs `[t]` of crops from number `first` on."""
        assert self.view is not None
        views = []
        for j, wave in enumerate(waves, first):
            random = np.random.default_rng((self.config.seed, step, j, 1))
            views.append(self._augmented(wave, self.view, random, skipped)[0])
        return torch.stack(views)[:, None]

    def _augmented(
        self, wave: Tensor, options: Augment, random: np.random.Generator, skipped: list[str]
    ) -> tuple[Tensor, Tensor]:
        """Return a crop `[t]` with random changes, as the input and the target of a codec."""
        noise = None
        if self._noises is not None:
            noise = partial(self._noise, self._noises, skipped)
        return augment_crop(wave, options, random, rate=self.source.rate, noise=noise)

    @staticmethod
    def _noise(
        noises: _CropSampler, skipped: list[str], random: np.random.Generator, length: int
    ) -> Tensor:
        """Return `length` samples of a noise, repeated if it is shorter."""
        wave, i, _ = noises.crop(random, length, skipped)
        own = int(noises.source.lengths[i])
        return wave if own >= length else wave[:own].repeat(-(-length // own))[:length]
