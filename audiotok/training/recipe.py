"""Schema of a training recipe; every key in its file must be one of these fields."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from audiotok._platform.config import (
    ABOVE_ZERO,
    ANY,
    BELOW_ONE,
    NONE_OR_MORE,
    ONE_OR_MORE,
    SEED,
    SHARE,
    Range,
    read_toml,
)
from audiotok.data.augment import Augment

JUDGED = ("adversarial", "feature_matching")  # losses computed from discriminators


@dataclass(frozen=True)
class Data:
    """Training and validation data of a recipe."""

    manifest: str  # TSV or JSONL with `path`, a folder, or any other source of recordings
    train: str = "train"  # value of `split` to train on
    validate: str = "dev"  # value of `split` to validate on
    kind: str = "auto"  # kind of the source: folder, kaldi, lhotse ...; "auto" chooses by the path
    audio: str = ""  # column, or member of a sample, that is the audio, where there are several
    cache: str = "runs/cache"  # folder for decoded audio
    direct: bool = False  # read crops from the files instead, for corpora too large for a cache
    seconds: Annotated[float, ABOVE_ZERO] = 1.0  # length of a crop
    batch: Annotated[int, ONE_OR_MORE] = 24  # crops a step and process
    aligned: bool = False  # crops start at whole frames, as they do with a teacher
    workers: Annotated[int, NONE_OR_MORE] = (
        0  # processes that read ahead; 0 reads in the training process
    )
    augment: Augment = field(default_factory=Augment)
    view: Augment = field(  # changes to each crop for its second view (loss `consistency`)
        default_factory=lambda: Augment(
            gain=1.0, gain_low=-40.0, band=0.3, noise=0.7, snr_low=10.0, snr_high=40.0
        )
    )


@dataclass(frozen=True)
class TeacherOptions:
    """Options of a teacher, a model whose features the codec learns to predict."""

    weights: str = ""  # path or name in a hub; "" is the teacher's default
    layer: Annotated[int | Literal["mean"], NONE_OR_MORE] = (
        "mean"  # hidden state, 0 is the first block's input
    )
    weight: Annotated[float, NONE_OR_MORE] = (
        1.0  # share in the distillation loss, beside other teachers
    )
    codebooks: Annotated[tuple[int, ...], ONE_OR_MORE] = (
        1,
    )  # codebooks that learn it, counted from 1; each of them does


@dataclass(frozen=True)
class Distillation:
    """Options of distillation from teachers (loss `distillation`)."""

    axis: Literal["d", "t", "labels"] = "d"  # cosine over time, over features; or cross-entropy
    units: Annotated[int, ONE_OR_MORE] = (
        500  # k-means clusters of the teacher's features, or codes of a codec, for axis "labels"
    )
    cache: str = "runs/features"  # folder for features
    teachers: dict[str, TeacherOptions] = field(default_factory=dict)  # name -> options

    @property
    def used(self) -> dict[str, TeacherOptions]:
        """Teachers that are learnt from: those of a weight above zero."""
        return {name: one for name, one in self.teachers.items() if one.weight > 0}


@dataclass(frozen=True)
class Adversary:
    """Options of the discriminators (losses `adversarial` and `feature_matching`)."""

    kind: Literal["lsgan", "hinge"] = "lsgan"  # loss: least squares or hinge
    reduce: Literal["mean", "sum"] = "mean"  # reduction over discriminators
    relative: bool = False  # divide feature distances by the size of real features (EnCodec)
    scores: bool = False  # scores count as features too (HiFi-GAN)
    start: Annotated[int, NONE_OR_MORE] = 0  # step at which the discriminators begin to learn
    delay: Annotated[int, NONE_OR_MORE] = 0  # further steps until the codec gets their losses
    every: Annotated[int, ONE_OR_MORE] = 1  # steps between updates of the discriminators
    seconds: Annotated[float, NONE_OR_MORE] = 0.0  # part of each crop that they get; 0 is all of it
    rate: Annotated[float, NONE_OR_MORE] = 0.0  # learning rate; 0 is the codec's


@dataclass(frozen=True)
class Ctc:
    """Options of the recogniser that reads what the codec decodes (loss `ctc`)."""

    width: Annotated[int, Range(2)] = 128  # features of its layers
    blocks: Annotated[int, ONE_OR_MORE] = 3  # ConvNeXt blocks before the BiLSTM
    original: Annotated[float, NONE_OR_MORE] = (
        1.0  # weight of its own loss on the recordings, beside that on what is decoded
    )
    rate: Annotated[float, NONE_OR_MORE] = 0.0  # learning rate; 0 is the codec's


@dataclass(frozen=True)
class Train:
    """Options of the training loop."""

    steps: Annotated[int, ONE_OR_MORE] = 20000  # number of steps
    rate: Annotated[float, ABOVE_ZERO] = 1e-3  # highest learning rate
    schedule: Literal["linear", "cosine", "exponential"] = "linear"  # how the rate falls
    warmup: Annotated[int, NONE_OR_MORE] = 500  # steps to reach it
    cooldown: Annotated[int, NONE_OR_MORE] = (
        4000  # last steps, in which it falls to zero (linear, cosine)
    )
    gamma: Annotated[float, Range(0, 1, above=True)] = (
        0.999996  # factor of the rate per step (exponential)
    )
    betas: Annotated[tuple[float, float], BELOW_ONE] = (0.8, 0.99)  # of AdamW
    weight_decay: Annotated[float, NONE_OR_MORE] = 0.01  # of AdamW
    clip: Annotated[float, ABOVE_ZERO] = 1.0  # gradient norm
    accumulate: Annotated[int, ONE_OR_MORE] = 1  # batches per step
    precision: Literal["fp32", "bf16"] = "fp32"  # of the codec; losses are fp32
    balance: bool = False  # weights are shares of the gradient at the output (EnCodec's balancer)
    compile: bool = False  # torch.compile, which takes minutes and pays off on a GPU
    ema: Annotated[float, SHARE] = 0.999  # decay of the averaged weights, which are what is saved
    whole: Annotated[float, SHARE] = (
        0.5  # share of crops that use all codebooks; the rest a random number
    )
    keep: Annotated[
        tuple[float, ...], NONE_OR_MORE
    ] = ()  # or: relative shares of crops that use 1, 2 ... codebooks
    seed: Annotated[int, SEED] = 0  # of first weights, crops and augmentation
    every: Annotated[int, ONE_OR_MORE] = (
        500  # steps between checkpoints, with losses on held-out crops
    )
    score: Annotated[int, NONE_OR_MORE] = 0  # steps between validations by metrics; 0 is never
    best: str = "validation"  # column of log.csv by which the best weights are chosen
    clips: Annotated[int, NONE_OR_MORE] = (
        16  # held-out recordings that are scored; the first four go to TensorBoard
    )
    metrics: tuple[str, ...] = ("pesq", "stoi", "si_sdr", "mel")  # metrics that score them
    codebooks: Annotated[
        tuple[int, ...], ONE_OR_MORE
    ] = ()  # numbers of codebooks that scores are taken with; all if empty
    start_from: str = ""  # a codec's name or a checkpoint whose weights to begin with
    frozen: tuple[str, ...] = ()  # parts of the codec that keep their weights ("encoder")
    init_from_data: bool = False  # scale the encoder's first weights to latents of variance 1


@dataclass(frozen=True)
class Band:
    """Range in which a logged value should lie from a step on."""

    step: Annotated[int, NONE_OR_MORE]  # first step that the range holds for
    key: str  # a column of log.csv
    low: Annotated[float, ANY]  # least value without a warning
    high: Annotated[float, ANY]  # greatest value without a warning


@dataclass(frozen=True)
class Recipe:
    """Training recipe, as read from TOML."""

    codec: str  # name of the codec, or of a decoder apart that learns from a `tokenizer`
    data: Data
    tokenizer: str = ""  # name or path of the frozen tokenizer whose tokens a decoder apart learns
    config: dict[str, Any] = field(
        default_factory=dict
    )  # sizes of the codec that differ from its defaults
    loss: Annotated[dict[str, float], NONE_OR_MORE] = field(
        default_factory=dict
    )  # name of a loss -> weight
    loss_from: Annotated[dict[str, int], ONE_OR_MORE] = field(
        default_factory=dict
    )  # name of a loss -> least codebooks of a crop that counts for it
    loss_start: Annotated[dict[str, int], NONE_OR_MORE] = field(
        default_factory=dict
    )  # name of a loss -> step from which it counts
    distillation: Distillation = field(default_factory=Distillation)
    discriminators: dict[str, dict[str, Any]] = field(default_factory=dict)  # name -> sizes
    adversary: Adversary = field(default_factory=Adversary)
    train: Train = field(default_factory=Train)
    models: dict[str, str] = field(default_factory=dict)  # part of a metric -> name or path
    bands: tuple[Band, ...] = ()
    ctc: Ctc = field(default_factory=Ctc)

    @property
    def used_losses(self) -> dict[str, float]:
        """Weights of the losses that are learnt from: those above zero.

        A loss of weight zero costs nothing in training and needs nothing (no teacher, no
        discriminators); a reconstruction loss is still measured on held-out crops.
        """
        return {name: weight for name, weight in self.loss.items() if weight > 0}

    @property
    def used_discriminators(self) -> dict[str, dict[str, Any]]:
        """Sizes of the discriminators by name; none if no loss that needs them is learnt from."""
        return self.discriminators if set(JUDGED) & set(self.used_losses) else {}


def read_recipe(path: str | Path | None, settings: Sequence[str] | None = None) -> Recipe:
    """Read a training recipe, with `section.key=value` settings put over it.

    Args:
        path: a TOML file, or None for settings alone.
        settings: settings that replace values of the file.

    Raises:
        ValueError: see `read_toml`.
    """
    return read_toml(Recipe, path, settings)
