"""Entry point of a bench: check the recipe, run workers, summarise and report."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
from rich.console import Console

from audiotok._platform.atomic import remove_stale_parts
from audiotok._platform.console import stderr_console
from audiotok._platform.errors import InputError
from audiotok._platform.registry import find
from audiotok.audio.base import is_utf8
from audiotok.codecs.external import is_import
from audiotok.data.manifest import read_manifest
from audiotok.data.recording import Recording
from audiotok.data.unreadable import Unreadable
from audiotok.evaluation.bench.gather import gather
from audiotok.evaluation.bench.recipe import BenchRecipe
from audiotok.evaluation.bench.subjects import Spec, load_system
from audiotok.evaluation.bench.tasks import run_tasks
from audiotok.evaluation.bench.work import (
    ClipRecord,
    ScoringJob,
    clip_name,
    load_metric,
    scorer,
    variants,
)
from audiotok.evaluation.report import write_report
from audiotok.evaluation.results import Results
from audiotok.runtime.batch.plan import FilePlan
from audiotok.runtime.batch.processes import TORCH
from audiotok.runtime.batch.run import BatchReport, run

ORIGINAL = "original"  # a row of every bench, as the reference for the others


@dataclass(frozen=True)
class Benched:
    """Outcome of a bench."""

    results: Results
    report: BatchReport  # scored recordings and errors
    page: Path  # the HTML report


def bench(
    recipe: BenchRecipe,
    out: str | Path,
    *,
    jobs: int = 1,
    device: str = "cpu",
    backend: str = "torch",
    imports: Collection[str] = (),
    commands: bool = False,
    console: Console = stderr_console,
) -> Benched:
    """Score every codec of the recipe on its data, and write results and a report into `out`.

    Outputs and scores that `out` holds already for the same codecs, metrics and models are not
    computed again, so that an interrupted bench continues, and another codec or metric costs only
    itself.

    Args:
        recipe: see `BenchRecipe`.
        out: a folder, for this bench alone.
        jobs: number of processes; each holds all codecs and models.
        device: device of the codecs.
        backend: backend that runs the codecs; tasks, which look into them, need torch.
        imports: names of the recipe's codecs, `module:codec`, whose code may be imported; a recipe
            alone, which may be anyone's file, cannot have code run.
        commands: whether shell commands of the data's source may run.
        console: console for the progress.

    Raises:
        ValueError: the recipe names a part that does not exist, or code to import that `imports`
            does not, or the data cannot be read.
    """
    out = Path(out)
    recipe = replace(
        recipe,
        metrics=tuple(dict.fromkeys(chain(*map(variants, recipe.metrics)))),
        tasks=tuple(dict.fromkeys(recipe.tasks)),
    )
    specs = _subjects(recipe)
    for spec in specs:
        if is_import(spec.codec) and spec.name not in imports:
            raise InputError(
                f"{spec.name}: code that a recipe names is not imported; give that codec yourself"
            )
    if not (recipe.metrics or recipe.tasks):
        raise InputError("nothing to score: give metrics or tasks, or a recipe that names some")
    if not is_utf8(recipe.data.manifest):
        raise InputError(f"{recipe.data.manifest}: the name is not UTF-8; rename it")
    for name in recipe.metrics:  # a wrong name must fail before any work is done
        load_metric(name, recipe.models)
    for name in recipe.tasks:
        task, _, option = name.partition(":")
        find("tasks", task)(option)
    if recipe.tasks and backend != "torch":
        raise InputError(f"tasks look into a codec, which {backend} cannot: score them in torch")
    systems = [load_system(spec, device, backend) for spec in specs]
    recordings = _recordings(recipe, out / "encoded", commands)
    clips = {out / "clips" / f"{clip_name(name)}.json": name for name in recordings}
    job = ScoringJob(
        out,
        tuple(specs),
        recipe.metrics,
        recipe.models,
        {target: recordings[name] for target, name in clips.items()},
        clips,
        recipe.data.longest,
        device,
        backend,
    )
    remove_stale_parts(
        [out, *(folder for folder in out.glob("*/*") if folder.is_dir()), *out.glob("*/")]
    )
    plan = FilePlan([(Path(recordings[name].name), target) for target, name in clips.items()], [])
    build = partial(scorer, job)
    report = run(
        build, plan, done=_never, jobs=jobs, console=console, verb="scoring", imports=TORCH
    )
    records = {target: ClipRecord.load(target) for target in clips}
    read = {clips[target]: recordings[clips[target]] for target in clips if records[target].source}
    findings = run_tasks(recipe, systems, read, out, console=console)
    results = gather(recipe, job, systems, records, findings)
    results.save(out / "results.json")
    write_report(results, out, clips=recipe.clips)
    return Benched(results, report, out / "report.html")


def _never(source: Path, target: Path) -> bool:
    """Return False: a worker checks for itself which scores are there."""
    return False


def _subjects(recipe: BenchRecipe) -> list[Spec]:
    """Return the subjects of a recipe, each once, with the original first."""
    names = list(dict.fromkeys((ORIGINAL, *recipe.codecs)))
    if len(names) == 1:
        raise InputError("nothing to score: give a codec, or a recipe that names some")
    specs = [Spec.parse(name) for name in names]
    folders: dict[str, str] = {}
    for spec in specs:
        if spec.folder in folders:
            raise InputError(f"{spec.name} and {folders[spec.folder]} would share a folder")
        folders[spec.folder] = spec.name
    return specs


def _recordings(recipe: BenchRecipe, store: Path, commands: bool) -> dict[str, Recording]:
    """Return recordings by name, drawn at random where there is a limit.

    The name of a file in a table or a folder is its path relative to that; that of any other
    recording is its id.
    """
    data = recipe.data

    def choose(recordings: list[Recording]) -> list[Recording]:
        allowed = {column: set(values) for column, values in data.where.items()}
        kept = [r for r in recordings if all(r.column(k) in v for k, v in allowed.items())]
        if not kept:
            raise InputError(f"{data.manifest}: no recording with {dict(data.where)}")
        if not 0 < data.limit < len(kept):
            return kept
        random = np.random.default_rng(recipe.seed)
        drawn = random.choice(len(kept), data.limit, replace=False)
        return [kept[i] for i in sorted(drawn)]

    chosen = read_manifest(
        data.manifest,
        split=data.split or None,
        kind=data.kind,
        audio=data.audio,
        commands=commands,
        store=store,
        choose=choose,
    )
    manifest = Path(data.manifest)
    root = manifest if manifest.is_dir() else manifest.parent
    named: dict[str, Recording] = {}
    bad = Unreadable(len(chosen))
    for recording in chosen:
        name = recording.id
        if recording.is_file and recording.cells is not None:
            name = os.path.relpath(recording.path, root)
        if not is_utf8(name):  # results and report could not hold it
            bad.add(name, InputError("the name is not UTF-8; rename it"))
        elif name in named:
            bad.add(name, InputError("another recording before it has this name; give it an `id`"))
        else:
            named[name] = recording
    return named
