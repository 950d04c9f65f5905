"""What a recipe of a bench says: what to score, on what, by what."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from audiotok._platform.config import ABOVE_ZERO, NONE_OR_MORE, SEED


@dataclass(frozen=True)
class BenchData:
    """What to score on."""

    manifest: (
        str  # TSV or JSONL with `path` (`split`, `text`, `speaker` are understood), or a folder
    )
    split: str = ""  # value of `split` to score on; "" is all
    where: dict[str, tuple[str, ...]] = field(default_factory=dict)  # column -> values to keep
    limit: Annotated[int, NONE_OR_MORE] = 0  # recordings, drawn at random; 0 is all
    longest: Annotated[float, ABOVE_ZERO] = 60.0  # seconds of a recording that are scored


@dataclass(frozen=True)
class BenchRecipe:
    """What to score, on what, by what."""

    data: BenchData
    codecs: tuple[str, ...] = ()  # "speech", "speech@4" (its first 4 codebooks), "opus:6", a path
    metrics: tuple[str, ...] = ()  # "pesq", "dnsmos:sig"
    tasks: tuple[str, ...] = ()  # of codes, "information", "dasb:speaker"
    models: dict[str, str] = field(default_factory=dict)  # part of a metric -> name or path
    clips: Annotated[int, NONE_OR_MORE] = 8  # recordings that can be heard in the report
    seed: Annotated[int, SEED] = 0
