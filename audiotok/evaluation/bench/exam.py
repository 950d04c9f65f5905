"""Tasks of a bench: what the codes of each codec are good for; kept, as scores are."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from audiotok._platform import jsonfile
from audiotok._platform.atomic import complete
from audiotok._platform.optional import MissingModelError
from audiotok._platform.registry import find
from audiotok.audio.audio import Audio
from audiotok.data.manifest import Recording
from audiotok.evaluation.bench.recipe import BenchRecipe
from audiotok.evaluation.bench.subjects import Coded, Player
from audiotok.evaluation.bench.work import clip_name
from audiotok.evaluation.results import Finding
from audiotok.evaluation.tasks.base import Bench
from audiotok.tokens.tokens import Tokens

log = logging.getLogger("audiotok")


def examine(
    recipe: BenchRecipe,
    players: Sequence[Player],
    recordings: Mapping[str, Recording],
    out: Path,
    *,
    console: Console,
) -> list[Finding]:
    """Findings of every task about every codec at every rate asked for, on what can be read.

    A task that cannot be done, or fails, is a finding without a value that says why.
    """
    found: list[Finding] = []
    coded = [player for player in players if isinstance(player, Coded)]
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        for spec in recipe.tasks:
            for player in coded:
                path = out / "tasks" / f"{_key(recipe, spec, player, recordings)}.json"
                findings = _kept(path)
                if findings is None:
                    findings = _examined(recipe, spec, player, recordings, out, progress)
                    _keep(path, findings)
                found += [dataclasses.replace(f, subject=player.spec.name) for f in findings]
    return found


def _examined(
    recipe: BenchRecipe,
    spec: str,
    player: Coded,
    recordings: Mapping[str, Recording],
    out: Path,
    progress: Progress,
) -> list[Finding]:
    name, _, option = spec.partition(":")
    task = find("tasks", name)(option)
    names = {id(recording): key for key, recording in recordings.items()}

    def encode(recording: Recording) -> Tokens:
        keep = out / "tokens" / clip_name(names[id(recording)])
        audio = Audio.load(recording.path, end=recipe.data.longest).mono()
        return player.tokens(audio, keep).first(player.codebooks)

    def shown(items: Sequence[object], what: str) -> Sequence[object]:
        return list(progress.track(items, description=f"{spec} of {player.spec.name}: {what}"))

    bench = Bench(
        player.codec,
        player.codebooks,
        list(recordings.values()),
        encode,
        recipe.models,
        recipe.seed,
        shown,
    )
    try:
        return task.run(bench)
    except (ImportError, MissingModelError) as error:
        return [Finding(spec, "not run", None, note=f"not run: {error}")]
    except Exception as error:  # one task must not cost the findings of the others
        log.debug("%s", spec, exc_info=True)
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        return [Finding(spec, "failed", None, note=f"failed: {kind}{error}")]


def _key(recipe: BenchRecipe, spec: str, player: Coded, recordings: Mapping[str, Recording]) -> str:
    """Names what findings depend on."""
    corpus = [
        [name, *_stamp(recording.path), sorted(recording.fields.items())]
        for name, recording in sorted(recordings.items())
    ]
    about = [spec, player.id, corpus, sorted(recipe.models.items()), recipe.seed]
    digest = hashlib.sha256(json.dumps([*about, recipe.data.longest]).encode()).hexdigest()[:8]
    return f"{player.spec.folder}.{spec.replace(':', '_').replace('/', '_')[:60]}.{digest}"


def _stamp(path: Path) -> tuple[int, int]:
    """Changes when a file does."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_size, found.st_mtime_ns


def _kept(path: Path) -> list[Finding] | None:
    try:
        rows = [Finding(**row) for row in jsonfile.parse(path.read_bytes(), str(path))]
    except (OSError, ValueError, TypeError):
        return None
    # What could not be done may be possible now.
    return None if any(row.note.startswith(("not run", "failed")) for row in rows) else rows


def _keep(path: Path, findings: Sequence[Finding]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with complete(path) as part:
        rows = [dataclasses.asdict(finding) for finding in findings]
        part.write_text(json.dumps(rows, ensure_ascii=False), "utf-8")
