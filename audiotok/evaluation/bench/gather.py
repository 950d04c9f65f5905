"""Conversion of the workers' files into results."""

from __future__ import annotations

import datetime
import platform
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from audiotok._platform.optional import commit
from audiotok.evaluation.bench.recipe import BenchRecipe
from audiotok.evaluation.bench.subjects import CodecSystem, System
from audiotok.evaluation.bench.summary import means, pairs, usage
from audiotok.evaluation.bench.work import ClipRecord, ScoringJob, audio_path, load_metric
from audiotok.evaluation.results import Clip, Finding, MetricInfo, Results, ScoreRow, Subject
from audiotok.tokens.tokens import Tokens

ROWS = ("original", "resampled", "noise")  # baselines that are no codec and not paired


def gather(
    recipe: BenchRecipe,
    job: ScoringJob,
    systems: Sequence[System],
    records: Mapping[Path, ClipRecord],
    findings: Sequence[Finding],
) -> Results:
    """Return the results of all recordings, in the order of `records`.

    Args:
        recipe: recipe of the bench.
        job: subjects, metrics and paths.
        systems: loaded subjects.
        records: content of the clips' files, by path.
        findings: findings of tasks.
    """
    rows = [row for target, one in records.items() for row in _rows(job, target.stem, one)]
    codecs = [p.spec.name for p in systems if p.spec.baseline not in ROWS]
    return Results(
        about=_run_info(recipe, records.values()),
        clips=[_clip(job, target, one) for target, one in records.items()],
        metrics=[_metric(job, spec, records.values()) for spec in job.metrics],
        subjects=[_subject(p, job, records) for p in systems],
        scores=rows,
        means=means(rows, seed=recipe.seed),
        pairs=pairs(rows, codecs, seed=recipe.seed),
        findings=list(findings),
        audio={p.spec.name: _audio(p, job, records) for p in systems},
    )


def _rows(job: ScoringJob, clip: str, record: ClipRecord) -> list[ScoreRow]:
    """Return a row for each subject and metric; a metric that cannot run has none."""
    rows = []
    for name in (spec.name for spec in job.subjects):
        output = record.outputs.get(name, {"error": "not reached"})
        error = output.get("error", "") or ("" if "apart" in output else "no decoder to score")
        for metric in job.metrics:
            score = record.scores.get(name, {}).get(metric)
            if error:
                rows.append(ScoreRow(name, clip, metric, None, None, error))
            elif score:
                of = score["total"], score["count"], score["error"], score.get("infinite", "")
                rows.append(ScoreRow(name, clip, metric, *of))
            elif metric not in record.not_run:
                rows.append(ScoreRow(name, clip, metric, None, None, "not reached"))
    return rows


def _clip(job: ScoringJob, target: Path, record: ClipRecord) -> Clip:
    """Return the description of a recording."""
    recording = job.clips[target]
    return Clip(
        target.stem,
        job.names[target],
        record.seconds,
        recording.speaker,
        recording.language,
        recording.text,
    )


def _metric(job: ScoringJob, spec: str, records: Iterable[ClipRecord]) -> MetricInfo:
    """Return the description of a metric, with the reason if it could not run."""
    metric = load_metric(spec, job.models)
    protocols = list(dict.fromkeys(one.protocols[spec] for one in records if spec in one.protocols))
    reasons = [one.not_run[spec] for one in records if spec in one.not_run]
    # There are several if a library changed between two runs.
    protocol = " | of other recordings: ".join(protocols)
    return MetricInfo(spec, metric.better, metric.unit, protocol, reasons[0] if reasons else "")


def _subject(system: System, job: ScoringJob, records: Mapping[Path, ClipRecord]) -> Subject:
    """Return the description of a subject with its rate in kbps, and its use of codebooks."""
    name = system.spec.name
    outputs = [(one.outputs.get(name, {}), one.seconds) for one in records.values()]
    written = [(out["bytes"], s) for out, s in outputs if out.get("bytes") is not None]
    subject = system.describe()
    differences = [abs(out["apart"]) for out, _ in outputs if out.get("apart")]
    if differences:
        note = (
            f"{len(differences)} of {len(outputs)}, by at most {max(differences)} samples; "
            "scored: the rest"
        )
        subject = replace(subject, facts={**subject.facts, "lengths that differ": note})
    if written:
        bits = 8 * sum(size for size, _ in written)
        subject = replace(subject, kbps=bits / sum(s for _, s in written) / 1000)
    if isinstance(system, CodecSystem) and not system.codec.width:
        codes = [t.codes for target in records if (t := _tokens(system, job, target))]
        subject = replace(subject, usage=usage(codes, subject.sizes))
    return subject


def _tokens(system: CodecSystem, job: ScoringJob, target: Path) -> Tokens | None:
    """Return the cached tokens of a recording, if there are any."""
    path = system.tokens_path(job.out / "tokens" / target.stem)
    return Tokens.load(path) if path.exists() else None


def _audio(system: System, job: ScoringJob, records: Mapping[Path, ClipRecord]) -> dict[str, str]:
    """Return paths of a subject's audio by recording, relative to the folder."""
    name = system.spec.name
    return {
        target.stem: audio_path(job.out, system.spec, target).relative_to(job.out).as_posix()
        for target, one in records.items()
        if "apart" in one.outputs.get(name, {})
    }


def _run_info(recipe: BenchRecipe, records: Iterable[ClipRecord]) -> dict[str, Any]:
    """Return date, command, machine, versions and data, on which the numbers depend."""
    seconds = [one.seconds for one in records]
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "command": shlex.join([_program(), *sys.argv[1:]]),
        "machine": f"{_processor()}, {torch.get_num_threads()} threads",
        "software": f"audiotok {version('audiotok')}, torch {torch.__version__}, "
        f"Python {platform.python_version()}",
        "commit": commit(),
        "data": f"{recipe.data.manifest} {recipe.data.split}".strip(),
        "recordings": len(seconds),
        "seconds": round(sum(seconds), 3),
        "longest": recipe.data.longest,
        "seed": recipe.seed,
        "models": dict(recipe.models),
        "audio": "scored as it is kept: 16-bit FLAC at the recording's rate, mono, clipped at 1",
        "intervals": "95 %, percentile bootstrap over recordings, 1,000 draws; pairs: the same "
        "recordings of both",
    }


def _program() -> str:
    """Return the name of the program that runs; "audiotok" by `python -m audiotok` too."""
    path = Path(sys.argv[0])
    return path.parent.name if path.name == "__main__.py" else path.name


def _processor() -> str:
    """Return the processor's name from the operating system."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
