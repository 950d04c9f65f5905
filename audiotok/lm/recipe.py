"""What a recipe of a language model says; `audiotok.training.recipe` reads it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from audiotok._platform.config import BELOW_ONE, NONE_OR_MORE, ONE_OR_MORE
from audiotok.lm.model import Config
from audiotok.training.recipe import Band, Train


@dataclass(frozen=True)
class LmData:
    """What to train on."""

    corpus: str  # a token corpus
    train: str = "train"  # value of a row's `split` to train on; "" is all
    validate: str = "dev"  # value to watch
    packed: str = ""  # train on this export to npy, contexts of `frames` ids without gaps between
    where: dict[str, tuple[str, ...]] = field(default_factory=dict)  # field of a row -> values
    text: bool = False  # condition on a row's `text`, letter by letter
    spans: str = ""  # a file of `audiotok lm align`: condition on phones, in their frames
    frames: Annotated[int, ONE_OR_MORE] = (
        500  # of a recording at most: a longer one is cut, or left out where there is text
    )
    hidden: Annotated[float, BELOW_ONE] = (
        0.0  # share of codes that are masked: what comes next is then told by the text
    )
    batch: Annotated[int, ONE_OR_MORE] = 8  # recordings, or contexts, a step and process


@dataclass(frozen=True)
class LayoutOptions:
    """How codes become ids."""

    codebooks: Annotated[int, NONE_OR_MORE] = 0  # use the first so many; 0 is all
    pattern: str = "flat"
    options: dict[str, Any] = field(default_factory=dict)  # of the pattern
    runs: Literal["keep", "drop", "durations"] = "keep"
    pieces: Annotated[int, NONE_OR_MORE] = 0  # size of a vocabulary of pieces; 0 is none
    kind: Literal["bpe", "unigram"] = "bpe"  # of pieces


@dataclass(frozen=True)
class LmRecipe:
    """A recipe of a language model."""

    data: LmData
    layout: LayoutOptions = field(default_factory=LayoutOptions)
    model: Config = field(default_factory=Config)  # `causal = false` is VALL-E's second model
    train: Train = field(default_factory=Train)
    bands: tuple[Band, ...] = ()
