"""Worker of a bench: outputs and scores of one recording for every subject and metric, cached.

OUT/clips/CLIP.json              outputs and scores of a recording
OUT/audio/SUBJECT/CLIP.flac      audio of an output, which is scored
OUT/tokens/CLIP.*.tok            its tokens
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from glob import escape
from pathlib import Path
from typing import Any

from audiotok._platform import jsonfile
from audiotok._platform.atomic import atomic_file
from audiotok._platform.errors import InputError
from audiotok._platform.registry import find
from audiotok.audio.audio import Audio
from audiotok.data.recording import Recording
from audiotok.evaluation.bench.subjects import Spec, System, load_system
from audiotok.evaluation.cache import fingerprint
from audiotok.evaluation.metrics.base import (
    InfiniteScoreError,
    Metric,
    MissingModelError,
    Score,
)

log = logging.getLogger("audiotok")


@dataclass(frozen=True)
class ScoringJob:
    """Subjects, metrics and paths of a bench, sent to worker processes."""

    out: Path
    subjects: tuple[Spec, ...]
    metrics: tuple[str, ...]
    models: Mapping[str, str]
    clips: Mapping[Path, Recording]  # path of a recording's scores -> the recording
    names: Mapping[Path, str]  # path of a recording's scores -> its name
    longest: float  # seconds that are scored of a longer recording
    device: str = "cpu"
    backend: str = "torch"


@dataclass
class ClipRecord:
    """Content of a clip's file: outputs and scores of one recording.

    Attributes:
        seconds: length of the recording.
        source: fingerprint of its samples; "" if they could not be read.
        outputs: subject -> its id, bytes written, difference of lengths in samples, error.
        scores: subject -> metric -> total, count, error and the conditions it depends on.
        not_run: metric -> why it cannot run at all.
        protocols: metric -> its protocol.
    """

    seconds: float = 0.0
    source: str = ""
    outputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    scores: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    not_run: dict[str, str] = field(default_factory=dict)
    protocols: dict[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> ClipRecord:
        """Return the content of a file; an empty one if it is missing or damaged."""
        try:
            return cls(**jsonfile.parse(path.read_bytes(), str(path)))
        except (OSError, ValueError, TypeError):
            return cls()

    def save(self, path: Path) -> None:
        """Write the file, complete or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as part:
            part.write_text(json.dumps(dataclasses.asdict(self), ensure_ascii=False), "utf-8")


def variants(spec: str) -> tuple[str, ...]:
    """Return the metrics that `NAME[:OPTION]` means: several of them for a name of several.

    Raises:
        ValueError: there is no metric of this name.
    """
    name, _, option = spec.partition(":")
    several = getattr(find("metrics", name), "groups", {}).get(option)
    return (spec,) if several is None else tuple(f"{name}:{each}" for each in several)


def load_metric(spec: str, models: Mapping[str, str]) -> Metric:
    """Return the metric that `NAME[:OPTION]` means.

    Raises:
        ValueError: there is no metric of this name, or no such option, or it lacks what
            every metric has.
    """
    name, _, option = spec.partition(":")
    metric = find("metrics", name)(option, models=models)
    for member in ("better", "protocol"):
        if not hasattr(metric, member):
            raise InputError(f"metric {name!r}: {type(metric).__name__} does not define {member}")
    return metric


def scorer(job: ScoringJob) -> Callable[[Path, Path], dict[str, Any]]:
    """Return the job of a worker: a function of a recording's path and the path of its scores.

    Raises:
        ValueError: a codec or metric does not exist.
    """
    return Scorer(job).score


class Scorer:
    """Worker that codes and scores one recording at a time."""

    def __init__(self, job: ScoringJob) -> None:
        self.job = job
        self.systems = [load_system(spec, job.device, job.backend) for spec in job.subjects]
        self.metrics = {spec: load_metric(spec, job.models) for spec in job.metrics}
        # Recorded before the first score, since scoring a text may extend a protocol.
        self.protocols = {spec: metric.protocol for spec, metric in self.metrics.items()}
        self.missing: dict[str, str] = {}  # metric -> why it cannot run in this process

    def score(self, source: Path, target: Path) -> dict[str, Any]:
        """Code and score one recording, as far as its scores are not cached.

        Returns:
            `seconds`, the length of the recording.

        Raises:
            ValueError: the recording cannot be read; that is stored as the error of every subject.
        """
        job, record = self.job, ClipRecord.load(target)
        try:
            original = job.clips[target].load(longest=job.longest).mono()
            if not len(original):
                raise InputError(f"{source}: no samples")
        except ValueError as error:
            reason = f"not read: {error}"
            record.outputs = {p.spec.name: {"id": p.id, "error": reason} for p in self.systems}
            record.scores = {}
            record.source = ""
            record.save(target)
            raise
        digest = fingerprint(original.samples, original.rate).hex()
        if record.source != digest:  # the file or the length to score has changed
            record = ClipRecord(original.seconds, digest)
            for path in (job.out / "tokens").glob(f"{escape(target.stem)}.*"):
                path.unlink()
        outputs = {p.spec.name: self._output(p, original, target, record) for p in self.systems}
        for spec, metric in self.metrics.items():
            text = job.clips[target].text
            parts = (f"{part}={job.models.get(part, '')}" for part in metric.parts)
            needs = "; ".join([self.protocols[spec], *parts])
            if "recognizer" in metric.parts:
                needs += f" text={hashlib.sha256(text.encode()).hexdigest()[:8]}"
            self._fill(spec, metric, needs, outputs, original, text, record)
        record.save(target)
        return {"seconds": original.seconds}

    def _output(
        self, system: System, original: Audio, target: Path, record: ClipRecord
    ) -> Audio | None:
        """Return the output of a subject, from the cache where it is there.

        None if it failed, or is of a tokenizer without a decoder.
        """
        name, job, text = system.spec.name, self.job, self.job.clips[target].text
        path, stamp = (
            audio_path(job.out, system.spec, target),
            system.stamp(job.names[target], text),
        )
        cached = record.outputs.get(name, {})
        if cached.get("id") == stamp and not cached.get("error") and path.exists():
            return Audio.load(path)
        record.scores.pop(name, None)
        try:
            stem = job.out / "tokens" / target.stem
            output = system.output(original, job.names[target], stem, text)
            if output.audio is None:
                record.outputs[name] = {"id": stamp, "bytes": output.bytes, "error": ""}
                return None
            difference = len(output.audio) - len(original)
            if output.audio.rate != original.rate or abs(difference) > system.slack * original.rate:
                raise InputError(f"came back with {len(output.audio)} samples of {len(original)}")
            path.parent.mkdir(parents=True, exist_ok=True)
            audio = Audio(output.audio.samples[:, : len(original)].clamp(-1, 1), original.rate)
            audio.save(path, force=True)
            fields = {"bytes": output.bytes, "apart": difference, "error": ""}
            record.outputs[name] = {"id": stamp, **fields}
            return Audio.load(path)
        except (ValueError, ImportError, RuntimeError) as error:
            log.debug("%s", name, exc_info=True)
            record.outputs[name] = {"id": stamp, "error": _reason(error)}
            return None

    def _fill(
        self,
        spec: str,
        metric: Metric,
        needs: str,
        outputs: Mapping[str, Audio | None],
        original: Audio,
        text: str,
        record: ClipRecord,
    ) -> None:
        """Add the scores of one metric for outputs that have none yet."""

        def has(name: str) -> bool:
            return record.scores.get(name, {}).get(spec, {}).get("needs") == needs

        todo = {name: audio for name, audio in outputs.items() if audio and not has(name)}
        if not todo:
            return
        record.not_run.pop(spec, None)
        if spec not in self.missing:
            try:
                rows = [_row(s) for s in self._scores(metric, list(todo.values()), original, text)]
                record.protocols[spec] = metric.protocol
            except (ImportError, MissingModelError) as error:
                self.missing[spec] = str(error)
            else:
                for name, row in zip(todo, rows, strict=True):
                    record.scores.setdefault(name, {})[spec] = {"needs": needs, **row}
        if spec in self.missing:
            record.not_run[spec] = self.missing[spec]

    def _scores(
        self, metric: Metric, outputs: list[Audio], original: Audio, text: str
    ) -> Sequence[Score | Exception]:
        """Return the scores of outputs of one recording, shorter ones against its beginning."""
        references = [original[: len(o)] if metric.aligned else original for o in outputs]
        try:
            return metric.score_many(outputs, references, [text] * len(outputs))
        except (ImportError, MissingModelError):
            raise
        except Exception:  # one at a time, so that a crash is the error of that output only
            log.debug("%s", type(metric).__name__, exc_info=True)
        scores: list[Score | Exception] = []
        for output, reference in zip(outputs, references, strict=True):
            try:
                scores.append(metric.score(output, reference, text))
            except Exception as error:
                scores.append(error)
        return scores


def _row(score: Score | Exception) -> dict[str, Any]:
    """Return a score as a row of the clip's file."""
    if isinstance(score, Score):
        return {"total": score.total, "count": score.count, "error": ""}
    if isinstance(score, InfiniteScoreError):
        return {"total": None, "count": None, "error": "", "infinite": str(score.value)}
    return {"total": None, "count": None, "error": _reason(score)}


def _reason(error: Exception) -> str:
    """Return an error as the reason of a row, with its kind unless it is a ValueError."""
    kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
    return f"{kind}{error}"[:300]


def audio_path(out: Path, spec: Spec, target: Path) -> Path:
    """Return the path of the audio of a subject for the recording whose scores are at `target`."""
    return out / "audio" / spec.folder / f"{target.stem}.flac"


def clip_name(name: str) -> str:
    """Return a unique file name without suffix for a recording, from its stem and a digest."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return f"{Path(name).stem[:60]}-{digest}"
