"""Facts that identify a training run of a language model, to be checked when it is resumed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from audiotok.corpus import Corpus
from audiotok.lm.recipe import LmRecipe
from audiotok.training.resume import RunFacts

SIZES = (
    "layout",
    *(f"model.{name}" for name in ("width", "depth", "heads", "causal", "phones", "gaussians")),
)
ORDER = (  # facts that the position in packed contexts depends on
    *("train.seed", "train.accumulate", "data.batch", "data.frames", "data.packed"),
    *("training data", "processes"),
)


def run_facts(
    recipe: LmRecipe,
    corpus: Corpus,
    training: Sequence[int] | None,
    validation: Sequence[int],
    *,
    processes: int,
) -> RunFacts:
    """Return the facts that a run starts with.

    Args:
        recipe: the recipe of the run.
        corpus: the corpus that it trains on.
        training: indices of the training recordings in the corpus; None for the contexts of
            `data.packed`.
        validation: indices of the validation recordings in the corpus.
        processes: number of processes that train together.
    """
    shards = json.dumps([shard.files.sha256 for shard in corpus.shards])
    if training is None:
        files = sorted(Path(recipe.data.packed).glob("shard-*.ids"))
        sizes = [[file.name, file.stat().st_size] for file in files]
        training_data = f"{len(files)} shards ({_digest(shards, sizes)})"
    else:
        training_data = f"{len(training)} recordings ({_digest(shards, training)})"
    validation_data = f"{len(validation)} recordings ({_digest(shards, validation)})"
    return RunFacts.of(
        recipe,
        training_data=training_data,
        validation_data=validation_data,
        processes=processes,
    )


def fixed(recipe: LmRecipe) -> tuple[str, ...]:
    """Return the names of the facts that must not change when a run is resumed."""
    return (*SIZES, *ORDER) if recipe.data.packed else SIZES


def _digest(*values: object) -> str:
    """Return the first 8 hexadecimal digits of the SHA-256 of values as JSON."""
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:8]
