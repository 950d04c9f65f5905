"""Training card: what a codec was trained on, how, and how far, kept inside its weights.

`checkpoint.save` stores it as JSON under the key "card" of the safetensors metadata, where
`checkpoint.read_card(path)["card"]` finds it; whoever copies weights passes it on to `save`.

    step, steps       step of these weights, of so many in the run
    seed              random seed of weights, crops and augmentation
    hours             hours of training until then
    hours_of_audio    hours of crops drawn until then; null where a run began before it was counted
    processes         processes that trained together
    recipe            every option of the recipe, with the sizes of the codec in full
    data              manifest (file name and SHA-256), and for training and validation: split,
                      recordings, hours, digest, speakers, and recordings by language and licence
    started_from      name and fingerprint of the weights it began with; null for new ones
    changes           what changed in recipe or data where the run was resumed, with the step
    software          versions of audiotok and its libraries, and the commit where it is known
    curves            the line of log.csv at this step: losses, usage of codebooks, scores

Paths stand in it as the recipe gives them.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from audiotok._platform.optional import commit, version
from audiotok.codecs.models.base import Codec
from audiotok.data.manifest import listing_of
from audiotok.data.recording import Recording
from audiotok.training.recipe import Recipe
from audiotok.training.resume import data_digest

LIBRARIES = ("audiotok", "torch", "numpy", "safetensors", "accelerate", "soundfile")
LICENCES = ("license", "licence")  # columns of a manifest
MOST = 50  # languages or licences that are listed, most frequent first


@dataclass
class TrainingCard:
    """Facts about a run that do not change from step to step, and those added when it is resumed.

    Args:
        recipe: the recipe.
        codec: the codec in training, for its sizes.
        processes: number of processes that train together.
        data: description of the data, of `describe_data`.
        started_from: fingerprint of the weights of `train.start_from`; "" for new ones.
        changes: changes of recipe and data, by the step at which the run was resumed.
    """

    recipe: Recipe
    codec: Codec
    processes: int
    data: dict[str, Any]
    started_from: str = ""
    changes: list[dict[str, Any]] = field(default_factory=list)

    def at(self, row: dict[str, Any], *, audio: float | None) -> dict[str, Any]:
        """Return the card of the weights of one step, as plain data.

        Args:
            row: the line of log.csv.
            audio: seconds of audio seen; None where that is not known.
        """
        options = self.recipe.train
        name = options.start_from
        card = {
            "step": row["step"],
            "steps": options.steps,
            "seed": options.seed,
            "hours": row.get("hours"),
            "hours_of_audio": None if audio is None else round(audio / 3600, 6),
            "processes": self.processes,
            "recipe": asdict(self.recipe) | {"config": asdict(self.codec.config)},
            "data": self.data,
            "started_from": {"name": name, "fingerprint": self.started_from} if name else None,
            "changes": self.changes,
            "software": software(),
            "curves": row,
        }
        return json.loads(json.dumps(card, default=str))


def describe_data(
    recipe: Recipe, parts: dict[str, tuple[Sequence[Recording], float]]
) -> dict[str, Any]:
    """Return the description of a run's data.

    Args:
        recipe: the recipe, for the manifest and the names of the splits.
        parts: "train" and "validate" -> recordings and their seconds.
    """
    manifest = Path(recipe.data.manifest)
    table = manifest.is_file() and not listing_of(str(manifest), recipe.data.kind).costly
    return {
        "manifest": manifest.name,
        # None for a folder or an archive.
        "sha256": hashlib.sha256(manifest.read_bytes()).hexdigest() if table else None,
        **{
            name: {"split": getattr(recipe.data, name), **_part(recordings, seconds)}
            for name, (recordings, seconds) in parts.items()
        },
    }


def software() -> dict[str, str]:
    """Return the versions of Python and of the libraries, and the commit where it is known."""
    versions = dict(version(library).split(" ", 1) for library in LIBRARIES)
    return {**versions, "python": platform.python_version(), "commit": commit()}


def _part(recordings: Sequence[Recording], seconds: float) -> dict[str, Any]:
    """Return the description of one split."""
    return {
        "recordings": len(recordings),
        "hours": round(seconds / 3600, 6),
        "digest": data_digest(recordings),
        "speakers": len({recording.speaker for recording in recordings} - {""}),
        "languages": _counted(recordings, ("language",)),
        "licences": _counted(recordings, LICENCES),
    }


def _counted(recordings: Sequence[Recording], columns: Sequence[str]) -> dict[str, int]:
    """Return the values of the first of some columns that a recording has -> recordings."""
    values = (
        next((value for c in columns if (value := recording.column(c))), "")
        for recording in recordings
    )
    return dict(Counter(value for value in values if value).most_common(MOST))
