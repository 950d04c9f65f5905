"""What a training recipe says; every key in its file must be one of these."""

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


@dataclass(frozen=True)
class Data:
    """What to train on."""

    manifest: str  # TSV or JSONL with `path` (`split`, `text` are understood), or a folder
    train: str = "train"  # value of `split` to train on
    validate: str = "dev"  # value of `split` to watch
    cache: str = "runs/cache"  # where decoded audio is kept
    direct: bool = False  # read crops from the files instead: for corpora no cache can hold
    seconds: Annotated[float, ABOVE_ZERO] = 1.0  # length of a crop
    batch: Annotated[int, ONE_OR_MORE] = 24  # crops a step and process
    workers: Annotated[int, NONE_OR_MORE] = (
        0  # processes that read ahead; 0 reads in the training process
    )
    augment: Augment = field(default_factory=Augment)


@dataclass(frozen=True)
class TeacherOptions:
    """A model whose features the codec is to predict."""

    weights: str = ""  # a path or a hub's name; "" is the teacher's usual one
    layer: Annotated[int | Literal["mean"], NONE_OR_MORE] = (
        "mean"  # hidden state, 0 is the first block's input
    )
    weight: Annotated[float, NONE_OR_MORE] = (
        1.0  # share in the distillation loss, beside other teachers
    )
    codebooks: Annotated[tuple[int, ...], ONE_OR_MORE] = (
        1,
    )  # which codebooks learn it, counted from 1; every one does


@dataclass(frozen=True)
class Distillation:
    """What codebooks learn from teachers (loss `distillation`)."""

    axis: Literal["d", "t", "labels"] = "d"  # cosine over time, over features; or cross-entropy
    units: Annotated[int, ONE_OR_MORE] = (
        500  # of axis "labels": k-means clusters of the teacher's features
    )
    cache: str = "runs/features"  # where features are kept
    teachers: dict[str, TeacherOptions] = field(default_factory=dict)  # name -> options


@dataclass(frozen=True)
class Adversary:
    """How the discriminators take part (losses `adversarial` and `feature_matching`)."""

    kind: Literal["lsgan", "hinge"] = "lsgan"
    reduce: Literal["mean", "sum"] = "mean"  # over discriminators
    relative: bool = False  # feature distances over the size of the recording's features (EnCodec)
    scores: bool = False  # scores count as features too (HiFi-GAN)
    start: Annotated[int, NONE_OR_MORE] = 0  # step at which the discriminators begin to learn
    delay: Annotated[int, NONE_OR_MORE] = 0  # steps more until the codec hears them
    every: Annotated[int, ONE_OR_MORE] = 1  # steps between updates of the discriminators
    seconds: Annotated[float, NONE_OR_MORE] = 0.0  # of each crop that they judge; 0 is all of it
    rate: Annotated[float, NONE_OR_MORE] = 0.0  # learning rate; 0 is the codec's


@dataclass(frozen=True)
class Train:
    """How to train."""

    steps: Annotated[int, ONE_OR_MORE] = 20000  # in all
    rate: Annotated[float, ABOVE_ZERO] = 1e-3  # highest learning rate
    schedule: Literal["linear", "cosine", "exponential"] = "linear"  # how it falls
    warmup: Annotated[int, NONE_OR_MORE] = 500  # steps to reach it
    cooldown: Annotated[int, NONE_OR_MORE] = (
        4000  # last steps, in which it falls to zero (linear, cosine)
    )
    gamma: Annotated[float, Range(0, 1, above=True)] = 0.999996  # factor a step (exponential)
    betas: Annotated[tuple[float, float], BELOW_ONE] = (0.8, 0.99)  # of AdamW
    weight_decay: Annotated[float, NONE_OR_MORE] = 0.01
    clip: Annotated[float, ABOVE_ZERO] = 1.0  # gradient norm
    accumulate: Annotated[int, ONE_OR_MORE] = 1  # batches a step
    precision: Literal["fp32", "bf16"] = "fp32"  # of the codec; losses are fp32
    balance: bool = False  # weights are shares of the gradient at the output (EnCodec's balancer)
    compile: bool = False  # torch.compile, worth its minutes on a GPU
    ema: Annotated[float, SHARE] = 0.999  # decay of the averaged weights, which are what is saved
    whole: Annotated[float, SHARE] = (
        0.5  # share of crops that use all codebooks; the rest a random number
    )
    keep: Annotated[
        tuple[float, ...], NONE_OR_MORE
    ] = ()  # or: how many use 1, 2 ... codebooks, relative to each other
    seed: Annotated[int, SEED] = 0
    every: Annotated[int, ONE_OR_MORE] = (
        500  # steps between checkpoints, with losses on held-out crops
    )
    score: Annotated[int, NONE_OR_MORE] = 0  # steps between validations by metrics; 0 is never
    best: str = "validation"  # column of log.csv that decides which weights are kept as the best
    clips: Annotated[int, NONE_OR_MORE] = (
        16  # held-out recordings that are scored, and heard in TensorBoard
    )
    metrics: tuple[str, ...] = ("pesq", "stoi", "si_sdr", "mel")  # what scores them
    codebooks: Annotated[
        tuple[int, ...], ONE_OR_MORE
    ] = ()  # how many they are decoded from when scored; all if empty
    start_from: str = ""  # a codec's name or a checkpoint whose weights to begin with
    frozen: tuple[str, ...] = ()  # parts of the codec that keep their weights ("encoder")


@dataclass(frozen=True)
class Band:
    """Where a logged value should lie from a step on."""

    step: Annotated[int, NONE_OR_MORE]
    key: str  # a column of log.csv
    low: Annotated[float, ANY]
    high: Annotated[float, ANY]


@dataclass(frozen=True)
class Recipe:
    """A training recipe."""

    codec: str  # name of the codec
    data: Data
    config: dict[str, Any] = field(default_factory=dict)  # sizes of the codec, where not its own
    loss: Annotated[dict[str, float], NONE_OR_MORE] = field(
        default_factory=dict
    )  # name of a loss -> weight
    loss_from: Annotated[dict[str, int], ONE_OR_MORE] = field(
        default_factory=dict
    )  # -> codebooks a crop must use for it
    distillation: Distillation = field(default_factory=Distillation)
    discriminators: dict[str, dict[str, Any]] = field(default_factory=dict)  # name -> sizes
    adversary: Adversary = field(default_factory=Adversary)
    train: Train = field(default_factory=Train)
    models: dict[str, str] = field(default_factory=dict)  # part of a metric -> name or path
    bands: tuple[Band, ...] = ()


def read_recipe(path: str | Path | None, settings: Sequence[str] | None = None) -> Recipe:
    """Read a training recipe, with `section.key=value` settings put over it.

    Raises:
        ValueError: see `read_toml`.
    """
    return read_toml(Recipe, path, settings)
