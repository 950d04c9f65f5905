"""Results of a bench as plain data, read and written as JSON.

Results
  about       date, command, machine and commit
  recordings  the recordings that were scored
  metrics     metrics with their protocols, or why they were not run
  subjects    codecs and baselines, with their rates
  scores      one for each subject, recording and metric: a value, or why there is none
  means       means of scores, with intervals
  pairs       differences between two subjects on the recordings both have
  findings    results of tasks on a subject's codes
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from audiotok._platform import jsonfile
from audiotok._platform.atomic import atomic_file
from audiotok._platform.errors import InputError

VERSION = 1
SIDE = "side information"  # name of that fact about a subject
# Fewest recordings on which two subjects are told apart: on fewer, differences of one sign on all
# of them are chance more than once in twenty (sign test, 2 / 2^n).
FEWEST = 6

Outcome = Literal["few", "equal", "tied", "higher", "lower"]


@dataclass(frozen=True)
class Clip:
    """Recording that was scored."""

    name: str  # unique
    path: str  # path of the original, as it was read
    seconds: float
    speaker: str = ""
    language: str = ""
    text: str = ""


@dataclass(frozen=True)
class MetricInfo:
    """Metric with its unit and the conditions that its numbers depend on."""

    name: str  # name with its option: "pesq", "dnsmos:sig"
    better: str  # "higher" or "lower"
    unit: str  # "dB", "%", "MOS", "" ...
    protocol: str
    not_run: str = ""  # why it could not be run at all; "" if it was


@dataclass(frozen=True)
class Subject:
    """Subject of the scores: a codec at a rate, a baseline or a folder."""

    name: str  # unique: "speech@4", "opus:6", "original"
    kind: str  # "codec", "anchor" or "folder"
    nominal_kbps: float | None  # frames/s x the information of a frame; None where none is stated
    kbps: float | None  # rate of the bytes written, with the container; None where none are
    facts: dict[str, Any] = field(default_factory=dict)  # fingerprint, parameters, versions ...
    # For a codec: how often each entry of each codebook was used, most frequent first.
    usage: list[list[int]] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)  # entries in each codebook

    @property
    def side_information(self) -> str:
        """Conditions of its decoder beside the tokens; "" for one without any."""
        return str(self.facts.get(SIDE, ""))


@dataclass(frozen=True)
class ScoreRow:
    """Score of one output in one metric: a sum and what it is over, or why there is none."""

    subject: str
    clip: str
    metric: str
    total: float | None
    count: float | None
    error: str = ""
    infinite: str = ""  # "inf" or "-inf" where the score is infinite, and total and count are None

    @property
    def value(self) -> float | None:
        """The mean, which may be infinite; None where there is none."""
        if self.infinite:
            return float(self.infinite)
        if self.total is None or not self.count:
            return None
        return self.total / self.count


@dataclass(frozen=True)
class Mean:
    """Mean of a metric over the recordings of a subject that could be scored."""

    subject: str
    metric: str
    value: float | None  # pooled as the metric pools; None if none could be scored
    low: float | None  # 95 % interval
    high: float | None
    n: int  # recordings that the value is over
    failed: dict[str, int] = field(default_factory=dict)  # reason -> recordings
    infinite: dict[str, int] = field(default_factory=dict)  # "inf", "-inf" -> recordings, not in n

    @property
    def level(self) -> float | None:
        """The value, or infinity where every score is infinite with one sign; None if neither."""
        if self.value is None and len(self.infinite) == 1:
            return float(next(iter(self.infinite)))
        return self.value


@dataclass(frozen=True)
class Pair:
    """Paired difference of two subjects in a metric: `a` minus `b`."""

    metric: str
    a: str
    b: str
    difference: float
    low: float  # 95 % interval
    high: float
    n: int  # recordings that both have

    @property
    def outcome(self) -> Outcome:
        """Verdict of the paired difference on `a` against `b`.

        "few": less than `FEWEST` recordings; "equal": no difference in any draw; "tied": the
        interval of the difference holds 0; else whether `a` is "higher" or "lower". Nothing but
        this interval decides: those of the two means may overlap though the two differ.
        """
        if self.n < FEWEST:
            return "few"
        if self.low == self.high == 0:
            return "equal"
        if self.low <= 0 <= self.high:
            return "tied"
        return "higher" if self.difference > 0 else "lower"


@dataclass(frozen=True)
class Finding:
    """Result of a task on the codes of a codec."""

    task: str
    name: str  # name of the quantity: "phones right", "entropy of codebook 1"
    value: float | None  # None: not measured, `note` says why
    unit: str = ""
    better: str = ""  # "higher", "lower", or "" where neither is
    low: float | None = None  # 95 % interval
    high: float | None = None
    n: int | None = None  # number of recordings or frames it is over; `note` says which
    note: str = ""
    subject: str = ""  # set by the bench


@dataclass(frozen=True)
class Results:
    """Results of a bench."""

    about: dict[str, Any]
    clips: list[Clip]
    metrics: list[MetricInfo]
    subjects: list[Subject]
    scores: list[ScoreRow]
    means: list[Mean]
    pairs: list[Pair]
    findings: list[Finding]
    # Paths of decoded audio relative to the file of results: audio/SUBJECT/CLIP.flac
    audio: dict[str, dict[str, str]] = field(default_factory=dict)  # subject -> clip -> path

    def save(self, path: str | Path) -> None:
        """Write JSON; the file appears under its name when it is complete."""
        table = {"version": VERSION, **dataclasses.asdict(self)}
        with atomic_file(Path(path)) as part:
            part.write_text(json.dumps(table, ensure_ascii=False, allow_nan=False), "utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Results:
        """Read results that `save` wrote.

        Raises:
            ValueError: the file cannot be read, or does not hold results.
        """
        try:
            table = jsonfile.parse(Path(path).read_bytes(), str(path))
            if table.pop("version") != VERSION:
                raise InputError("of another version")
            kinds = {
                "clips": Clip,
                "metrics": MetricInfo,
                "subjects": Subject,
                "scores": ScoreRow,
                "means": Mean,
                "pairs": Pair,
                "findings": Finding,
            }
            lists: Any = {key: [k(**row) for row in table.pop(key)] for key, k in kinds.items()}
            return cls(**table, **lists)
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from None
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(f"{path}: not results of a bench: {error}") from None
