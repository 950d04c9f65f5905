"""Training batches of packed contexts, read from an export that `audiotok export-corpus` wrote."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import torch

from audiotok._platform.errors import InputError
from audiotok.corpus import Corpus
from audiotok.lm.data import IGNORED, SequenceBatch, plain_layout
from audiotok.lm.packing import Packed
from audiotok.lm.recipe import LmRecipe


class Contexts:
    """Source of batches `[b 1 n]` of ids, in which recordings are concatenated without padding.

    Args:
        recipe: the recipe; `data.packed` is the export, `data.frames` is n, `data.batch` is b.
        rank: number of this process.
        world: number of processes.

    Attributes:
        layout: the layout of the ids.

    Raises:
        ValueError: there is no such export, its codes or layout are not those of the recipe, or
            the recipe asks for text, spans or a filter of rows.
    """

    def __init__(self, recipe: LmRecipe, rank: int, world: int) -> None:
        data = self.data = recipe.data
        if data.text or data.spans or data.where:
            raise InputError("data.packed is of codes alone: without text, spans and where")
        seed = recipe.train.seed
        self._packed = Packed(data.packed, context=data.frames, seed=seed, rank=rank, world=world)
        self.layout = self._packed.layout
        corpus = Corpus(data.corpus)
        if plain_layout(recipe, corpus) != replace(self.layout, pieces=None):
            raise InputError(
                f"{data.packed}: codes of other weights, or in another layout, than the recipe's"
            )
        self._iterator = iter(self._packed)

    def seek(self, batches: int) -> None:
        """Skip to the position after the first `batches` batches of the first epoch."""
        self._packed.seek(batches * self.data.batch)
        self._iterator = iter(self._packed)

    def batch(self) -> SequenceBatch:
        """Return the next batch, which may span two epochs."""
        contexts = list(islice(self._iterator, self.data.batch))
        while len(contexts) < self.data.batch:
            self._iterator = iter(self._packed)
            contexts += islice(self._iterator, self.data.batch - len(contexts))
        whole = torch.stack(contexts)
        ids, targets = whole[:, None, :-1], whole[:, None, 1:].clone()
        for name in ("begin", "pad"):  # the model is not trained to predict these
            targets[targets == self.layout.special(name)] = IGNORED
        lengths = torch.full((len(whole),), ids.shape[2])
        frames = int((targets != IGNORED).sum()) // len(self.layout.sizes)
        return SequenceBatch(ids, targets, lengths, frames)
