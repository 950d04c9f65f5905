"""Recipe of a language model; `audiotok.training.recipe` reads it from a TOML file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from audiotok._platform.config import BELOW_ONE, NONE_OR_MORE, ONE_OR_MORE
from audiotok.lm.model import Config
from audiotok.training.recipe import Band, Train


@dataclass(frozen=True)
class LmData:
    """Training data of a language model."""

    corpus: str  # path of a token corpus
    codec: str = ""  # checkpoint of the corpus's codec, for `model.entries`; "" finds it by name
    train: str = "train"  # value of a row's `split` to train on; "" takes all rows
    validate: str = "dev"  # value of a row's `split` to validate on
    packed: str = ""  # path of an npy export: train on its packed contexts of `frames` ids
    where: dict[str, tuple[str, ...]] = field(default_factory=dict)  # field -> values to keep
    text: bool = False  # condition on a row's `text`, as UTF-8 bytes
    spans: str = ""  # file of `audiotok lm align`: condition each frame on its phones
    # Length of the longest segment, in frames. A longer recording is cut, or left out if the model
    # is conditioned on text or phones.
    frames: Annotated[int, ONE_OR_MORE] = 500
    # Share of input codes that are masked, so that the model relies on the text.
    hidden: Annotated[float, BELOW_ONE] = 0.0
    batch: Annotated[int, ONE_OR_MORE] = 8  # recordings, or contexts, per step and process


@dataclass(frozen=True)
class LayoutOptions:
    """Options of the layout that turns codes into ids."""

    codebooks: Annotated[int, NONE_OR_MORE] = 0  # number to use, from the first; 0 uses all
    pattern: str = "flat"  # order of the codes: `flat`, `delay`, `parallel` ...
    options: dict[str, Any] = field(default_factory=dict)  # arguments of the pattern
    runs: Literal["keep", "drop", "durations"] = "keep"  # what becomes of equal frames in a row
    pieces: Annotated[int, NONE_OR_MORE] = 0  # size of a vocabulary of pieces; 0 uses no pieces
    kind: Literal["bpe", "unigram"] = "bpe"  # model that pieces are learned by


@dataclass(frozen=True)
class LmRecipe:
    """Options of a training run of a language model."""

    data: LmData
    layout: LayoutOptions = field(default_factory=LayoutOptions)
    model: Config = field(default_factory=Config)  # `causal = false` is VALL-E's second model
    train: Train = field(default_factory=Train)
    bands: tuple[Band, ...] = ()
