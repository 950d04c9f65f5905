"""Conversion of the workers' files into results."""

from __future__ import annotations

import datetime
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from audiotok.evaluation.bench.recipe import BenchRecipe
from audiotok.evaluation.bench.subjects import Coded, Player
from audiotok.evaluation.bench.summary import means, pairs, usage
from audiotok.evaluation.bench.work import Known, Order, kept, metric_of
from audiotok.evaluation.results import About, Clip, Finding, Results, ScoreRow, Subject
from audiotok.tokens.tokens import Tokens

ROWS = ("original", "resampled", "noise")  # baselines that are no codec and not paired


def gather(
    recipe: BenchRecipe,
    order: Order,
    players: Sequence[Player],
    known: Mapping[Path, Known],
    findings: Sequence[Finding],
) -> Results:
    """Return the results of all recordings, in the order of `known`.

    Args:
        recipe: recipe of the bench.
        order: subjects, metrics and paths.
        players: loaded subjects.
        known: content of the clips' files, by path.
        findings: findings of tasks.
    """
    rows = [row for target, one in known.items() for row in _rows(order, target.stem, one)]
    codecs = [p.spec.name for p in players if p.spec.anchor not in ROWS]
    return Results(
        about=_about(recipe, known.values()),
        clips=[_clip(order, target, one) for target, one in known.items()],
        metrics=[_metric(order, spec, known.values()) for spec in order.metrics],
        subjects=[_counted(p, order, known) for p in players],
        scores=rows,
        means=means(rows, seed=recipe.seed),
        pairs=pairs(rows, codecs, seed=recipe.seed),
        findings=list(findings),
        audio={p.spec.name: _audio(p, order, known) for p in players},
    )


def _rows(order: Order, clip: str, known: Known) -> list[ScoreRow]:
    """Return a row for each subject and metric; a metric that cannot run has none."""
    found = []
    for name in (spec.name for spec in order.subjects):
        error = known.outputs.get(name, {"error": "not reached"}).get("error", "")
        for metric in order.metrics:
            score = known.scores.get(name, {}).get(metric)
            if error:
                found.append(ScoreRow(name, clip, metric, None, None, error))
            elif score:
                of = score["total"], score["count"], score["error"]
                found.append(ScoreRow(name, clip, metric, *of))
            elif metric not in known.not_run:
                found.append(ScoreRow(name, clip, metric, None, None, "not reached"))
    return found


def _clip(order: Order, target: Path, known: Known) -> Clip:
    """Return the description of a recording."""
    recording = order.clips[target]
    return Clip(
        target.stem,
        order.names[target],
        known.seconds,
        recording.speaker,
        recording.fields.get("language", ""),
        recording.text,
    )


def _metric(order: Order, spec: str, known: Iterable[Known]) -> About:
    """Return the description of a metric, with the reason if it could not run."""
    metric = metric_of(spec, order.models)
    told = list(dict.fromkeys(one.protocols[spec] for one in known if spec in one.protocols))
    reasons = [one.not_run[spec] for one in known if spec in one.not_run]
    # There are several if a library changed between two runs.
    protocol = " | of other recordings: ".join(told)
    return About(spec, metric.better, metric.unit, protocol, reasons[0] if reasons else "")


def _counted(player: Player, order: Order, known: Mapping[Path, Known]) -> Subject:
    """Return the description of a subject with its rate in kbps, and its use of codebooks."""
    name = player.spec.name
    outputs = [(one.outputs.get(name, {}), one.seconds) for one in known.values()]
    written = [(out["bytes"], s) for out, s in outputs if out.get("bytes") is not None]
    subject = player.described()
    apart = [abs(out["apart"]) for out, _ in outputs if out.get("apart")]
    if apart:
        note = f"{len(apart)} of {len(outputs)}, by at most {max(apart)} samples; scored: the rest"
        subject = replace(subject, facts={**subject.facts, "lengths that differ": note})
    if written:
        bits = 8 * sum(size for size, _ in written)
        subject = replace(subject, kbps=bits / sum(s for _, s in written) / 1000)
    if isinstance(player, Coded):
        codes = [t.codes for target in known if (t := _tokens(player, order, target))]
        subject = replace(subject, usage=usage(codes, subject.sizes))
    return subject


def _tokens(player: Coded, order: Order, target: Path) -> Tokens | None:
    """Return the cached tokens of a recording, if there are any."""
    path = player.kept(order.out / "tokens" / target.stem)
    return Tokens.load(path) if path.exists() else None


def _audio(player: Player, order: Order, known: Mapping[Path, Known]) -> dict[str, str]:
    """Return paths of a subject's audio by recording, relative to the folder."""
    name = player.spec.name
    return {
        target.stem: kept(order.out, player.spec, target).relative_to(order.out).as_posix()
        for target, one in known.items()
        if name in one.outputs and not one.outputs[name]["error"]
    }


def _about(recipe: BenchRecipe, known: Iterable[Known]) -> dict[str, Any]:
    """Return date, command, machine, versions and data, on which the numbers depend."""
    seconds = [one.seconds for one in known]
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "machine": f"{_processor()}, {torch.get_num_threads()} threads",
        "software": f"audiotok {version('audiotok')}, torch {torch.__version__}, "
        f"Python {platform.python_version()}",
        "commit": _commit(),
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


def _processor() -> str:
    """Return the processor's name from the operating system."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _commit() -> str:
    """Return the commit of the checkout that this runs from; "" where it is installed."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=7"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True)
    except OSError:
        return ""
    return done.stdout.strip()
