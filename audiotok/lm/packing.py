"""Ids of a corpus, packed end to end into contexts: a torch dataset for training.

Reads what `audiotok export-corpus --to npy` wrote, through memory maps: memory stays flat however
large the corpus is. Shards, and recordings within each, come in an order that seed and epoch alone
decide; every process, and every worker of a loader, takes its own shards.

    recordings   |begin a a a end|begin b b end|begin c c c c end| ...
    contexts     |-------- n + 1 ids --------|
                                             |-------- n + 1 ids --------|     (one id in common)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from audiotok._platform import jsonfile
from audiotok.lm.layout import Layout


@dataclass
class Place:
    """How far a reader is."""

    epoch: int = 0
    shard: int = 0  # of its own, in this epoch's order
    contexts: int = 0  # of this shard that were given


MESSAGE = 1 << 18  # ids that a worker sends at a time


class Packed(IterableDataset[Tensor]):
    """Contexts `[n + 1]` int64: `x[:-1]` is seen, `x[1:]` is said.

    An epoch gives every id of a shard but what is left of it after its last whole context, less
    than one.

    >>> data = Packed("ids", context=1024, seed=0, rank=rank, world=world)
    >>> loader = DataLoader(data, batch_size=16)
    >>> state = data.state_dict()          # in the training process, between two contexts
    >>> data.load_state_dict(state)        # goes on with the very next one

    Processes that read beside the training one, and a place among batches of theirs: `batches`.

    Args:
        folder: an export to npy.
        context: n.
        seed: of the order.
        shuffle: False keeps the corpus's order.
        rank: of this process.
        world: how many processes there are.

    Raises:
        ValueError: no such export, fewer shards than readers, or a shard that is damaged.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        context: int,
        seed: int = 0,
        shuffle: bool = True,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.folder, self.context, self.seed, self.shuffle = Path(folder), context, seed, shuffle
        if context < 1 or not 0 <= rank < world:
            raise ValueError(
                f"context {context}, rank {rank} of {world}: context >= 1, rank < world"
            )
        try:
            about = jsonfile.parse((self.folder / "export.json").read_bytes(), "export.json")
            known = about["to"] == "npy"
        except (OSError, ValueError, KeyError, TypeError):
            known = False
        self.shards = sorted(self.folder.glob("shard-*.ids"))
        if not known or not self.shards:
            raise ValueError(f"{folder}: no export; audiotok export-corpus --to npy makes one")
        self.layout = Layout.load(self.folder / "layout.json")
        self.rank, self.world = rank, world
        self._place = Place()

    def state_dict(self) -> dict[str, Any]:
        """Where it is, to be kept with a checkpoint."""
        return {**asdict(self._place), "seed": self.seed, "context": self.context}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from there.

        Raises:
            ValueError: a state of another seed or context.
        """
        if (state["seed"], state["context"]) != (self.seed, self.context):
            raise ValueError("a state of another seed or context would go on in another order")
        self._place = Place(state["epoch"], state["shard"], state["contexts"])

    def seek(self, contexts: int) -> None:
        """Goes to where a reader is that has given so many contexts from the start on.

        Raises:
            ValueError: no shard of this reader holds a whole context.
        """
        counts: dict[int, int] = {}
        epoch = 0
        while True:
            mine = self._mine(epoch)
            for number in mine:
                if number not in counts:
                    total = len(self._read(number)[0])
                    counts[number] = max(0, (total - 1) // self.context)
            if not any(counts[number] for number in mine):
                raise ValueError(f"{self.folder}: shards of less than {self.context + 1} ids")
            for i, number in enumerate(mine):
                if contexts < counts[number]:
                    self._place = Place(epoch, i, contexts)
                    return
                contexts -= counts[number]
            epoch += 1

    def __iter__(self) -> Iterator[Tensor]:
        place = self._place
        mine = self._mine(place.epoch)
        while place.shard < len(mine):
            stream = self._contexts(mine[place.shard], place.epoch, place.contexts)
            for context in stream:
                place.contexts += 1
                yield context
            place.shard, place.contexts = place.shard + 1, 0
        place.epoch, place.shard = place.epoch + 1, 0

    def endless(self, skip: int = 0) -> Iterator[Tensor]:
        """Contexts `[n + 1]`, epoch after epoch, after the first `skip`."""
        self.seek(skip)
        while True:
            yield from self

    def batches(self, batch: int, *, workers: int = 0, skip: int = 0) -> Iterator[Tensor]:
        """Batches `[batch, n + 1]`, epoch after epoch, read by other processes if there are any.

        What a worker sends costs a millisecond whatever its size, which is more than it takes to
        read a batch of 16 contexts of 1024: so each sends many batches at a time.

        >>> for step, ids in enumerate(data.batches(16, workers=2, skip=first), first): ...

        Args:
            batch: contexts of a batch.
            workers: processes that read; 0 reads in this one, and is fast enough for most models.
            skip: goes on after so many batches of the same size and number of workers.

        Raises:
            ValueError: a number that cannot be, or fewer shards than readers.
        """
        if batch < 1 or workers < 0 or skip < 0:
            raise ValueError(f"batch {batch}, workers {workers}, skip {skip}: 1, 0, 0 at least")
        each = max(1, MESSAGE // (batch * self.context))  # batches of a message
        turn = each * max(1, workers)  # of a message of each worker
        blocks = _Blocks(self.endless, each * batch, skip // turn)
        loader = DataLoader(blocks, batch_size=None, num_workers=workers)
        every = (ids.long() for block in loader for ids in block.view(each, batch, -1))
        yield from islice(every, skip % turn, None)

    def _mine(self, epoch: int) -> list[int]:
        """Shards of this reader, in order."""
        order = np.arange(len(self.shards))
        if self.shuffle:
            order = np.random.default_rng((self.seed, epoch)).permutation(order)
        worker = get_worker_info()
        part, parts = (worker.id, worker.num_workers) if worker else (0, 1)
        readers = self.world * parts
        if len(self.shards) < readers:
            raise ValueError(
                f"{self.folder}: {len(self.shards)} shards for {readers} readers; export a corpus "
                "of smaller shards (audiotok corpus split), or take fewer workers"
            )
        return order[self.rank * parts + part :: readers].tolist()

    def _read(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """The ids of a shard, mapped, and where its recordings begin and end."""
        shard = self.shards[number]
        try:
            ids = np.load(shard / "ids.npy", mmap_mode="r", allow_pickle=False)
            bounds = np.load(shard / "bounds.npy", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise ValueError(f"{shard}: cannot be read ({error}); export it again") from None
        if not len(bounds) or bounds[-1] != len(ids):
            raise ValueError(f"{shard}: {len(ids)} ids, and bounds of others; export it again")
        return ids, bounds

    def _contexts(self, number: int, epoch: int, skip: int) -> Iterator[Tensor]:
        """Contexts of a shard after the first `skip`."""
        ids, bounds = self._read(number)
        order = np.arange(len(bounds) - 1)
        if self.shuffle:
            order = np.random.default_rng((self.seed, epoch, number)).permutation(order)
        lengths = np.diff(bounds)[order]
        ends = np.cumsum(lengths)  # in the order of this epoch
        total, n = int(ends[-1]) if len(ends) else 0, self.context
        for start in range(skip * n, total - n, n):
            made = np.empty(n + 1, np.int64)
            filled, i = 0, int(np.searchsorted(ends, start, "right"))
            while filled <= n:
                within = start + filled - int(ends[i] - lengths[i])
                a = int(bounds[order[i]]) + within
                take = min(n + 1 - filled, int(lengths[i]) - within)
                made[filled : filled + take] = ids[a : a + take]
                filled, i = filled + take, i + 1
            yield torch.from_numpy(made)


class _Blocks(IterableDataset[Tensor]):
    """Blocks `[size, n + 1]` int32 without end, after the first `skip` of each worker."""

    def __init__(self, contexts: Callable[[int], Iterator[Tensor]], size: int, skip: int) -> None:
        self.contexts, self.size, self.skip = contexts, size, skip

    def __iter__(self) -> Iterator[Tensor]:
        contexts = self.contexts(self.skip * self.size)
        while True:
            first = next(contexts).numpy()
            block = np.empty((self.size, len(first)), np.int32)
            block[0] = first
            for i in range(1, self.size):
                block[i] = next(contexts).numpy()
            yield torch.from_numpy(block)
