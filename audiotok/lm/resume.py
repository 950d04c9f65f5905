"""The facts that a run of a language model began with, and those of them it cannot change."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from audiotok.corpus import Corpus
from audiotok.lm.recipe import LmRecipe
from audiotok.training.resume import Begun

SIZES = ("layout", *(f"model.{name}" for name in ("width", "depth", "heads", "causal", "phones")))
ORDER = (  # what the place in packed contexts depends on, where a run goes on
    *("train.seed", "train.accumulate", "data.batch", "data.frames", "data.packed"),
    *("training data", "processes"),
)


def begun(
    recipe: LmRecipe,
    corpus: Corpus,
    training: Sequence[int] | None,
    validation: Sequence[int],
    *,
    processes: int,
) -> Begun:
    """Return the facts that a run begins with.

    Args:
        recipe: of the run.
        corpus: that it learns.
        training: recordings of the corpus; None for the contexts of `data.packed`.
        validation: recordings that it is judged by.
        processes: how many train together.
    """
    shards = json.dumps([shard.files.sha256 for shard in corpus.shards])
    if training is None:
        files = sorted(Path(recipe.data.packed).glob("shard-*.ids"))
        sizes = [[file.name, file.stat().st_size] for file in files]
        taken = f"{len(files)} shards ({_digest(shards, sizes)})"
    else:
        taken = f"{len(training)} recordings ({_digest(shards, training)})"
    held = f"{len(validation)} recordings ({_digest(shards, validation)})"
    return Begun.of(recipe, training_data=taken, validation_data=held, processes=processes)


def fixed(recipe: LmRecipe) -> tuple[str, ...]:
    """Return the facts that a run cannot change."""
    return (*SIZES, *ORDER) if recipe.data.packed else SIZES


def _digest(*values: object) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:8]
