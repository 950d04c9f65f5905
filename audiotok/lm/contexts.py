"""Batches of packed contexts, for a model of codes alone: what `audiotok export-corpus` wrote."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import torch

from audiotok.corpus import Corpus
from audiotok.lm.data import IGNORED, Batch, plain_layout
from audiotok.lm.packing import Packed
from audiotok.lm.recipe import LmRecipe


class Contexts:
    """Batches `[b 1 n]` of whole recordings and parts of them, end to end.

    Args:
        recipe: `data.packed` is the export, `data.frames` is n, `data.batch` is b.
        rank: of this process.
        world: how many processes there are.

    Attributes:
        layout: of the ids.

    Raises:
        ValueError: no export, or one of other codes or of another layout than the recipe's.
    """

    def __init__(self, recipe: LmRecipe, rank: int, world: int) -> None:
        data = self.data = recipe.data
        if data.text or data.spans or data.where:
            raise ValueError("data.packed is of codes alone: without text, spans and where")
        seed = recipe.train.seed
        self._packed = Packed(data.packed, context=data.frames, seed=seed, rank=rank, world=world)
        self.layout, corpus = self._packed.layout, Corpus(data.corpus)
        if plain_layout(recipe, corpus) != replace(self.layout, pieces=None):
            raise ValueError(
                f"{data.packed}: codes of other weights, or in another layout, than the recipe's"
            )
        self._left = iter(self._packed)

    def seek(self, batches: int) -> None:
        """Goes to where it is after so many batches from the start on."""
        self._packed.seek(batches * self.data.batch)
        self._left = iter(self._packed)

    def batch(self) -> Batch:
        """The next batch, if need be of the next epoch."""
        made = list(islice(self._left, self.data.batch))
        while len(made) < self.data.batch:
            self._left = iter(self._packed)
            made += islice(self._left, self.data.batch - len(made))
        whole = torch.stack(made)
        ids, targets = whole[:, None, :-1], whole[:, None, 1:].clone()
        for name in ("begin", "pad"):  # nobody is to say that a recording begins
            targets[targets == self.layout.special(name)] = IGNORED
        lengths = torch.full((len(whole),), ids.shape[2])
        frames = int((targets != IGNORED).sum()) // len(self.layout.sizes)
        return Batch(ids, targets, lengths, frames)
