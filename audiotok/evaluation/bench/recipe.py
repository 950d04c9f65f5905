"""Schema of a bench's recipe: data, codecs, metrics and tasks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from audiotok._platform.config import ABOVE_ZERO, NONE_OR_MORE, SEED


@dataclass(frozen=True)
class BenchData:
    """Recordings to score on."""

    manifest: str  # TSV or JSONL with `path`, a folder, or any other source of recordings
    split: str = ""  # value of `split` to score on; "" is all
    where: dict[str, tuple[str, ...]] = field(default_factory=dict)  # column -> values to keep
    limit: Annotated[int, NONE_OR_MORE] = 0  # recordings to draw at random; 0 is all
    longest: Annotated[float, ABOVE_ZERO] = 60.0  # seconds that are scored of a longer recording
    kind: str = "auto"  # kind of the source: folder, kaldi, lhotse ...; "auto" chooses by the path
    audio: str = ""  # column, or member of a sample, that is the audio, where there are several


@dataclass(frozen=True)
class BenchRecipe:
    """Data, codecs, metrics and tasks of a bench."""

    data: BenchData
    codecs: tuple[str, ...] = ()  # "speech", "speech@4" (its first 4 codebooks), "opus:6", a path
    metrics: tuple[str, ...] = ()  # "pesq", "dnsmos:sig"
    tasks: tuple[str, ...] = ()  # of codes, "information", "dasb:speaker"
    models: dict[str, str] = field(default_factory=dict)  # part of a metric -> name or path
    clips: Annotated[int, NONE_OR_MORE] = 8  # recordings embedded in the report
    seed: Annotated[int, SEED] = 0  # of draws of recordings, tasks and intervals
