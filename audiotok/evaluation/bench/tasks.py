"""Tasks of a bench on the codes of each codec; their findings are cached, as scores are."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from audiotok._platform import jsonfile
from audiotok._platform.atomic import atomic_file
from audiotok._platform.optional import MissingModelError
from audiotok._platform.registry import find
from audiotok.data.alignment import Alignment
from audiotok.data.recording import Recording, stamp_of
from audiotok.evaluation.bench.recipe import BenchRecipe
from audiotok.evaluation.bench.subjects import CodecSystem, System
from audiotok.evaluation.bench.work import clip_name
from audiotok.evaluation.results import Finding
from audiotok.evaluation.tasks.base import Bench
from audiotok.tokens.codebooks import NoCodesError
from audiotok.tokens.kinds import AnyTokens

log = logging.getLogger("audiotok")


def run_tasks(
    recipe: BenchRecipe,
    systems: Sequence[System],
    recordings: Mapping[str, Recording],
    out: Path,
    *,
    console: Console,
) -> list[Finding]:
    """Return the findings of every task on every codec at every rate, on the readable recordings.

    A task that cannot run, or fails, gives a finding without a value whose note says why.

    Args:
        recipe: recipe of the bench.
        systems: subjects; tasks run on those that are codecs.
        recordings: recordings by name.
        out: folder of the bench, which caches tokens and findings.
        console: console for the progress.
    """
    all_findings: list[Finding] = []
    coded = [system for system in systems if isinstance(system, CodecSystem)]
    alignments: dict[int, Alignment] = {}
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        for spec in recipe.tasks:
            for system in coded:
                path = out / "tasks" / f"{_key(recipe, spec, system, recordings)}.json"
                findings = _read(path)
                if findings is None:
                    findings = _run_task(
                        recipe, spec, system, recordings, out, progress, alignments
                    )
                    _write(path, findings)
                all_findings += [dataclasses.replace(f, subject=system.spec.name) for f in findings]
    return all_findings


def _run_task(
    recipe: BenchRecipe,
    spec: str,
    system: CodecSystem,
    recordings: Mapping[str, Recording],
    out: Path,
    progress: Progress,
    alignments: dict[int, Alignment],
) -> list[Finding]:
    """Return the findings of one task on one codec."""
    name, _, option = spec.partition(":")
    task = find("tasks", name)(option)
    names = {id(recording): key for key, recording in recordings.items()}

    def encode(recording: Recording) -> AnyTokens:
        cache_stem = out / "tokens" / clip_name(names[id(recording)])
        audio = recording.load(longest=recipe.data.longest).mono()
        return system.first_tokens(audio, cache_stem)

    def track(items: Sequence[object], what: str) -> Sequence[object]:
        return list(progress.track(items, description=f"{spec} of {system.spec.name}: {what}"))

    bench = Bench(
        system.codec,
        system.codebooks,
        list(recordings.values()),
        encode,
        recipe.models,
        recipe.seed,
        track,
        alignments,
    )
    try:
        if not task.of_latents:
            system.codec.needs_codes(f"task {name}")
        return [_checked(finding) for finding in task.run(bench)]
    except NoCodesError as error:
        return [Finding(spec, "not run", None, note=f"not run: {error}")]
    except (ImportError, MissingModelError) as error:
        return [Finding(spec, "not run", None, note=f"not run: {error}")]
    except Exception as error:  # a failing task must not lose the findings of the others
        log.debug("%s", spec, exc_info=True)
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        return [Finding(spec, "failed", None, note=f"failed: {kind}{error}")]


def _checked(finding: Finding) -> Finding:
    """Return a finding whose numbers are finite, or without a value where one was not."""
    numbers = [x for x in (finding.value, finding.low, finding.high) if x is not None]
    if all(map(math.isfinite, numbers)):
        return finding
    note = f"came out as {', '.join(map(str, numbers))}" + (finding.note and f"; {finding.note}")
    return dataclasses.replace(finding, value=None, low=None, high=None, note=note)


def _key(
    recipe: BenchRecipe, spec: str, system: CodecSystem, recordings: Mapping[str, Recording]
) -> str:
    """Return a file name that depends on everything that the findings depend on."""
    corpus = [
        [name, *stamp_of(recording)[1:], sorted(recording.columns().items())]
        for name, recording in sorted(recordings.items())
    ]
    dependencies = [spec, system.id, corpus, sorted(recipe.models.items()), recipe.seed]
    digest = hashlib.sha256(json.dumps([*dependencies, recipe.data.longest]).encode()).hexdigest()[
        :8
    ]
    return f"{system.spec.folder}.{spec.replace(':', '_').replace('/', '_')[:60]}.{digest}"


def _read(path: Path) -> list[Finding] | None:
    """Return cached findings; None where there are none, or where a task could not run."""
    try:
        rows = [Finding(**row) for row in jsonfile.parse(path.read_bytes(), str(path))]
    except (OSError, ValueError, TypeError):
        return None
    # A task that could not run may be possible now.
    return None if any(row.note.startswith(("not run", "failed")) for row in rows) else rows


def _write(path: Path, findings: Sequence[Finding]) -> None:
    """Write findings to the cache."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as part:
        rows = [dataclasses.asdict(finding) for finding in findings]
        part.write_text(json.dumps(rows, ensure_ascii=False), "utf-8")
