"""One recording through every subject and metric, in a worker; what is known already is kept.

OUT/clips/CLIP.json              what is known of a recording: outputs and scores
OUT/audio/SUBJECT/CLIP.flac      what it came back as; this is what is scored
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
from audiotok._platform.atomic import complete
from audiotok._platform.cache import fingerprint
from audiotok._platform.registry import find
from audiotok.audio.audio import Audio
from audiotok.data.manifest import Recording
from audiotok.evaluation.bench.subjects import Player, Spec, player
from audiotok.evaluation.metrics.base import Metric, MissingModelError, Score

log = logging.getLogger("audiotok")


@dataclass(frozen=True)
class Order:
    """All that a worker needs to know; it is sent to other processes."""

    out: Path
    subjects: tuple[Spec, ...]
    metrics: tuple[str, ...]
    models: Mapping[str, str]
    clips: Mapping[Path, Recording]  # where a recording's scores go -> the recording
    names: Mapping[Path, str]  # the same -> its name, relative to the corpus
    longest: float  # seconds of a recording that are scored
    device: str = "cpu"


@dataclass
class Known:
    """What a clip's file says.

    `source`: names the samples that went in; "" if they could not be read. `outputs`: subject ->
    its id, bytes written, by how many samples its length differed, error. `scores`: subject ->
    metric -> total, count, error and what it depended on. `not_run`: metric -> why it cannot run at
    all. `protocols`: metric -> its protocol.
    """

    seconds: float = 0.0
    source: str = ""
    outputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    scores: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    not_run: dict[str, str] = field(default_factory=dict)
    protocols: dict[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> Known:
        """What is there; nothing, if it is damaged."""
        try:
            return cls(**jsonfile.parse(path.read_bytes(), str(path)))
        except (OSError, ValueError, TypeError):
            return cls()

    def save(self, path: Path) -> None:
        """Write it, complete or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with complete(path) as part:
            part.write_text(json.dumps(dataclasses.asdict(self), ensure_ascii=False), "utf-8")


def metric_of(spec: str, models: Mapping[str, str]) -> Metric:
    """The metric that `NAME[:OPTION]` means.

    Raises:
        ValueError: there is none of this name, or no such option.
    """
    name, _, option = spec.partition(":")
    return find("metrics", name)(option, models=models)


def scorer(order: Order) -> Callable[[Path, Path], dict[str, Any]]:
    """The job of a worker: a recording, and where what is known of it goes.

    Raises:
        ValueError: a codec or metric that there is not.
    """
    return Scorer(order).score


class Scorer:
    """Plays and scores, one recording at a time."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.players = [player(spec, order.device) for spec in order.subjects]
        self.metrics = {spec: metric_of(spec, order.models) for spec in order.metrics}
        # As they stand before the first score: a metric may add what it met in a text.
        self.protocols = {spec: metric.protocol for spec, metric in self.metrics.items()}
        self.missing: dict[str, str] = {}  # metric -> why it cannot run in this process

    def score(self, source: Path, target: Path) -> dict[str, Any]:
        """One recording: `seconds`, and `error` if it cannot be read.

        Raises:
            ValueError: it cannot be read; that is kept as the error of every subject.
        """
        order, known = self.order, Known.load(target)
        try:
            original = Audio.load(source, end=order.longest).mono()
            if not len(original):
                raise ValueError(f"{source}: no samples")
        except ValueError as error:
            reason = f"not read: {error}"
            known.outputs = {p.spec.name: {"id": p.id, "error": reason} for p in self.players}
            known.scores, known.source = {}, ""
            known.save(target)
            raise
        digest = fingerprint(original.samples, original.rate).hex()
        if known.source != digest:  # another file of this name, or more or less of it
            known = Known(original.seconds, digest)
            for path in (order.out / "tokens").glob(f"{escape(target.stem)}.*"):
                path.unlink()
        outputs = {p.spec.name: self._output(p, original, target, known) for p in self.players}
        for spec, metric in self.metrics.items():
            text = order.clips[target].text
            parts = (f"{part}={order.models.get(part, '')}" for part in metric.parts)
            needs = "; ".join([self.protocols[spec], *parts])
            if "recognizer" in metric.parts:
                needs += f" text={hashlib.sha256(text.encode()).hexdigest()[:8]}"
            self._fill(spec, metric, needs, outputs, original, text, known)
        known.save(target)
        return {"seconds": original.seconds}

    def _output(self, who: Player, original: Audio, target: Path, known: Known) -> Audio | None:
        """What it came back as, read from where it is kept; None if it failed."""
        name, order = who.spec.name, self.order
        path, stamp = kept(order.out, who.spec, target), who.stamp(order.names[target])
        before = known.outputs.get(name, {})
        if before.get("id") == stamp and not before.get("error") and path.exists():
            return Audio.load(path)
        known.scores.pop(name, None)
        try:
            output = who.output(original, order.names[target], order.out / "tokens" / target.stem)
            apart = len(output.audio) - len(original)
            if output.audio.rate != original.rate or abs(apart) > who.slack * original.rate:
                raise ValueError(f"came back with {len(output.audio)} samples of {len(original)}")
            path.parent.mkdir(parents=True, exist_ok=True)
            made = Audio(output.audio.samples[:, : len(original)].clamp(-1, 1), original.rate)
            made.save(path, force=True)
            about = {"bytes": output.bytes, "apart": apart, "error": ""}
            known.outputs[name] = {"id": stamp, **about}
            return Audio.load(path)
        except (ValueError, ImportError, RuntimeError) as error:
            log.debug("%s", name, exc_info=True)
            known.outputs[name] = {"id": stamp, "error": _reason(error)}
            return None

    def _fill(
        self,
        spec: str,
        metric: Metric,
        needs: str,
        outputs: Mapping[str, Audio | None],
        original: Audio,
        text: str,
        known: Known,
    ) -> None:
        """Score with one metric what has no score of it yet."""

        def has(name: str) -> bool:
            return known.scores.get(name, {}).get(spec, {}).get("needs") == needs

        todo = {name: audio for name, audio in outputs.items() if audio and not has(name)}
        if not todo:
            return
        known.not_run.pop(spec, None)
        if spec not in self.missing:
            try:
                rows = [_row(s) for s in self._scores(metric, list(todo.values()), original, text)]
                known.protocols[spec] = metric.protocol
            except (ImportError, MissingModelError) as error:
                self.missing[spec] = str(error)
            else:
                for name, row in zip(todo, rows, strict=True):
                    known.scores.setdefault(name, {})[spec] = {"needs": needs, **row}
        if spec in self.missing:
            known.not_run[spec] = self.missing[spec]

    def _scores(
        self, metric: Metric, outputs: list[Audio], original: Audio, text: str
    ) -> Sequence[Score | Exception]:
        """The scores of outputs of one recording; of a shorter one, of what both have."""
        references = [original[: len(o)] if metric.aligned else original for o in outputs]
        try:
            return metric.score_many(outputs, references, [text] * len(outputs))
        except (ImportError, MissingModelError):
            raise
        except Exception:  # a metric that crashes is a row with its reason, for that output only
            log.debug("%s", type(metric).__name__, exc_info=True)
        scores: list[Score | Exception] = []
        for output, reference in zip(outputs, references, strict=True):
            try:
                scores.append(metric.score(output, reference, text))
            except Exception as error:
                scores.append(error)
        return scores


def _row(score: Score | Exception) -> dict[str, Any]:
    if isinstance(score, Score):
        return {"total": score.total, "count": score.count, "error": ""}
    return {"total": None, "count": None, "error": _reason(score)}


def _reason(error: Exception) -> str:
    kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
    return f"{kind}{error}"[:300]


def kept(out: Path, spec: Spec, target: Path) -> Path:
    """Where the audio of a subject is, for the recording whose scores are at `target`."""
    return out / "audio" / spec.folder / f"{target.stem}.flac"


def clip_name(name: str) -> str:
    """A file name without suffix for a recording: its stem, made unique."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return f"{Path(name).stem[:60]}-{digest}"
