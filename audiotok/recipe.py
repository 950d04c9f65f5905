"""Reads a recipe: a TOML file in which every key must be known."""

from __future__ import annotations

import dataclasses
import difflib
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from audiotok.data.augment import Augment
from audiotok.ranges import DEEPEST, check_ranges, deep

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pyright: ignore[reportMissingImports]

T = TypeVar("T")


@dataclass(frozen=True)
class Data:
    """What to train on."""

    manifest: str  # TSV or JSONL with `path` (`split`, `text` are understood), or a folder
    train: str = "train"  # value of `split` to train on
    validate: str = "dev"  # value of `split` to watch
    cache: str = "runs/cache"  # where decoded audio is kept
    direct: bool = False  # read crops from the files instead: for corpora no cache can hold
    seconds: float = 1.0  # length of a crop
    batch: int = 24  # crops a step and process
    workers: int = 0  # processes that read ahead; 0 reads in the training process
    augment: Augment = field(default_factory=Augment)


@dataclass(frozen=True)
class TeacherOptions:
    """A model whose features the codec is to predict."""

    weights: str = ""  # a path or a hub's name; "" is the teacher's usual one
    layer: int | Literal["mean"] = "mean"  # hidden state, 0 is the first block's input
    weight: float = 1.0  # share in the distillation loss, beside other teachers
    codebooks: tuple[int, ...] = (1,)  # which codebooks learn it, counted from 1; every one does


@dataclass(frozen=True)
class Distillation:
    """What codebooks learn from teachers (loss `distillation`)."""

    axis: Literal["d", "t", "labels"] = "d"  # cosine over time, over features; or cross-entropy
    units: int = 500  # of axis "labels": k-means clusters of the teacher's features
    cache: str = "runs/features"  # where features are kept
    teachers: dict[str, TeacherOptions] = field(default_factory=dict)  # name -> options


@dataclass(frozen=True)
class Adversary:
    """How the discriminators take part (losses `adversarial` and `feature_matching`)."""

    kind: Literal["lsgan", "hinge"] = "lsgan"
    reduce: Literal["mean", "sum"] = "mean"  # over discriminators
    relative: bool = False  # feature distances over the size of the recording's features (EnCodec)
    scores: bool = False  # scores count as features too (HiFi-GAN)
    start: int = 0  # step at which the discriminators begin to learn
    delay: int = 0  # steps more until the codec hears them
    every: int = 1  # steps between updates of the discriminators
    seconds: float = 0.0  # of each crop that they judge; 0 is all of it
    rate: float = 0.0  # learning rate; 0 is the codec's


@dataclass(frozen=True)
class Train:
    """How to train."""

    steps: int = 20000  # in all
    rate: float = 1e-3  # highest learning rate
    schedule: Literal["linear", "cosine", "exponential"] = "linear"  # how it falls
    warmup: int = 500  # steps to reach it
    cooldown: int = 4000  # last steps, in which it falls to zero (linear, cosine)
    gamma: float = 0.999996  # factor a step (exponential)
    betas: tuple[float, float] = (0.8, 0.99)  # of AdamW
    weight_decay: float = 0.01
    clip: float = 1.0  # gradient norm
    accumulate: int = 1  # batches a step
    precision: Literal["fp32", "bf16"] = "fp32"  # of the codec; losses are fp32
    balance: bool = False  # weights are shares of the gradient at the output (EnCodec's balancer)
    compile: bool = False  # torch.compile, worth its minutes on a GPU
    ema: float = 0.999  # decay of the averaged weights, which are what is saved
    whole: float = 0.5  # share of crops that use all codebooks; the rest a random number
    keep: tuple[float, ...] = ()  # or: how many use 1, 2 ... codebooks, relative to each other
    seed: int = 0
    every: int = 500  # steps between checkpoints, with losses on held-out crops
    score: int = 0  # steps between validations by metrics; 0 is never
    best: str = "validation"  # column of log.csv that decides which weights are kept as the best
    clips: int = 16  # held-out recordings that are scored, and heard in TensorBoard
    metrics: tuple[str, ...] = ("pesq", "stoi", "si_sdr", "mel")  # what scores them
    codebooks: tuple[int, ...] = ()  # how many they are decoded from when scored; all if empty
    start_from: str = ""  # a codec's name or a checkpoint whose weights to begin with
    frozen: tuple[str, ...] = ()  # parts of the codec that keep their weights ("encoder")


@dataclass(frozen=True)
class Band:
    """Where a logged value should lie from a step on."""

    step: int
    key: str  # a column of log.csv
    low: float
    high: float


@dataclass(frozen=True)
class Recipe:
    """A training recipe."""

    codec: str  # name of the codec
    data: Data
    config: dict[str, Any] = field(default_factory=dict)  # sizes of the codec, where not its own
    loss: dict[str, float] = field(default_factory=dict)  # name of a loss -> weight
    loss_from: dict[str, int] = field(default_factory=dict)  # -> codebooks a crop must use for it
    distillation: Distillation = field(default_factory=Distillation)
    discriminators: dict[str, dict[str, Any]] = field(default_factory=dict)  # name -> sizes
    adversary: Adversary = field(default_factory=Adversary)
    train: Train = field(default_factory=Train)
    models: dict[str, str] = field(default_factory=dict)  # part of a metric -> name or path
    bands: tuple[Band, ...] = ()


@dataclass(frozen=True)
class BenchData:
    """What to score on."""

    manifest: (
        str  # TSV or JSONL with `path` (`split`, `text`, `speaker` are understood), or a folder
    )
    split: str = ""  # value of `split` to score on; "" is all
    where: dict[str, tuple[str, ...]] = field(default_factory=dict)  # column -> values to keep
    limit: int = 0  # recordings, drawn at random; 0 is all
    longest: float = 60.0  # seconds of a recording that are scored


@dataclass(frozen=True)
class BenchRecipe:
    """What to score, on what, by what."""

    data: BenchData
    codecs: tuple[str, ...] = ()  # "speech", "speech@4" (its first 4 codebooks), "opus:6", a path
    metrics: tuple[str, ...] = ()  # "pesq", "dnsmos:sig"
    tasks: tuple[str, ...] = ()  # of codes, "information", "dasb:speaker"
    models: dict[str, str] = field(default_factory=dict)  # part of a metric -> name or path
    clips: int = 8  # recordings that can be heard in the report
    seed: int = 0


def read_recipe(
    path: str | Path | None,
    settings: list[str] | None = None,
    kind: type[T] = Recipe,
) -> T:
    """Read a recipe, with `section.key=value` settings put over it (values in TOML).

    A recipe that begins with `extends = "other.toml"` (a path beside it) says only what differs
    from that one: tables are merged, other values replaced.

    Raises:
        ValueError: no such file, not TOML, an unknown or mistyped key, a number out of its range
            (`ranges`); the message names the file, the key and the nearest known one.
    """
    table = {} if path is None else _read(Path(path), ())
    for setting in settings or []:
        key, eq, value = setting.partition("=")
        if not eq:
            raise ValueError(f"--set {setting}: write it as section.key=value")
        *sections, last = key.strip().split(".")
        inner = table
        for section in sections:
            inner = inner.setdefault(section, {})
            if not isinstance(inner, dict):
                raise ValueError(f"--set {setting}: {section!r} is a value, not a table")
        inner[last] = _value(value)
    if deep(table):
        raise ValueError(f"{path or '--set'}: tables nested more than {DEEPEST} levels deep")
    return _fill(kind, table, str(path or "--set"))


def _read(path: Path, below: tuple[Path, ...]) -> dict[str, Any]:
    """A recipe's table over that of the recipe it extends."""
    if path in below:
        raise ValueError(f"{path}: extends itself")
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such recipe") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
    except RecursionError:
        raise ValueError(f"{path}: not a recipe: nested too deeply") from None
    except ValueError as error:  # TOML's, UTF-8's, and Python's own of thousands of digits
        raise ValueError(f"{path}: not TOML: {error}") from None
    if deep(table):
        raise ValueError(f"{path}: tables nested more than {DEEPEST} levels deep")
    base = table.pop("extends", None)
    if base is None:
        return table
    if not isinstance(base, str):
        raise ValueError(f"{path}: 'extends' must be str, not {base!r}")
    return _merged(_read(path.parent / base, (*below, path)), table)


def _merged(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    both = under | over
    for key in under.keys() & over.keys():
        if isinstance(under[key], dict) and isinstance(over[key], dict):
            both[key] = _merged(under[key], over[key])
        elif over[key] is False and not isinstance(under[key], bool):
            del both[key]
    return both


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except RecursionError:
        raise ValueError("--set: a value nested too deeply") from None
    except ValueError:
        return text.strip()


def _fill(kind: type[T], table: dict[str, Any], where: str) -> T:
    """A dataclass from a table."""
    fields = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    hints = get_type_hints(kind)
    for key in table:
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(fields)}"
            raise ValueError(f"{where}: unknown key {key!r}{hint}")
    made: dict[str, Any] = {}
    for name, f in fields.items():
        if name in table:
            made[name] = _fit(hints[name], table[name], where, name)
        elif f.default is f.default_factory is dataclasses.MISSING:
            raise ValueError(f"{where}: key {name!r} is missing")
    options = kind(**made)
    check_ranges(options, where)
    return options


def _fit(hint: Any, value: Any, where: str, name: str) -> Any:
    """`value` as the type `hint` of the field `name`, or the reason why not."""
    origin, inside = get_origin(hint), get_args(hint)

    def refuse(wanted: str) -> ValueError:
        return ValueError(f"{where}: {name!r} must be {wanted}, not {value!r}")

    if dataclasses.is_dataclass(hint) or origin is dict:
        if type(value) is not dict:
            raise refuse("a table")
        if origin is not dict:
            return _fill(hint, value, f"{where} [{name}]")  # type: ignore[arg-type]
        return {key: _fit(inside[1], v, f"{where} [{name}]", key) for key, v in value.items()}
    if origin is tuple:
        if type(value) is not list or (inside[-1] is not ... and len(value) != len(inside)):
            raise refuse("a list" + (f" of {len(inside)}" if inside[-1] is not ... else ""))
        each = [inside[0]] * len(value) if inside[-1] is ... else inside
        return tuple(_fit(h, v, where, name) for h, v in zip(each, value, strict=True))
    if origin in (Union, UnionType):
        for choice in inside:
            try:
                return _fit(choice, value, where, name)
            except ValueError:
                continue
        raise refuse(" or ".join(_called(choice) for choice in inside))
    if origin is Literal:
        if value not in inside:
            raise refuse(_called(hint))
        return value
    if hint is float and type(value) is int:
        try:
            return float(value)
        except OverflowError:
            raise ValueError(f"{where}: {name!r} is a number of {len(str(value))} digits") from None
    if hint is not Any and type(value) is not hint:
        raise refuse(hint.__name__)
    return value


def _called(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return " or ".join(repr(choice) for choice in get_args(hint))
    return hint.__name__
