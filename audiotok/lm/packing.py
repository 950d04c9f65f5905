"""Torch dataset of a corpus's ids, concatenated and cut into contexts of equal length.

It reads an export of `audiotok export-corpus --to npy` through memory maps, so that memory does not
grow with the corpus. The order of shards, and of recordings within a shard, depends on seed and
epoch alone; each process, and each worker of a data loader, reads shards of its own.

    recordings   |begin a a a end|begin b b end|begin c c c c end| ...
    contexts     |-------- n + 1 ids --------|
                                             |-------- n + 1 ids --------|     (sharing one id)
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
from audiotok._platform.errors import InputError
from audiotok.lm.layout import Layout


@dataclass
class Position:
    """Position of a reader."""

    epoch: int = 0
    shard: int = 0  # index into the reader's shards, in this epoch's order
    contexts: int = 0  # contexts of this shard that were read


MESSAGE = 1 << 18  # ids of a message of a worker


class Packed(IterableDataset[Tensor]):
    """Dataset of contexts `[n + 1]`, int64: `x[:-1]` are inputs and `x[1:]` targets.

    An epoch covers every id of a shard except the incomplete context at its end.

    >>> data = Packed("ids", context=1024, seed=0, rank=rank, world=world)
    >>> loader = DataLoader(data, batch_size=16)
    >>> state = data.state_dict()          # in the training process, between two contexts
    >>> data.load_state_dict(state)        # continues with the next one

    See `batches` for batches that worker processes read, and for resuming among those.

    Args:
        folder: an export to npy.
        context: n, the number of inputs of a context.
        seed: random seed of the order.
        shuffle: whether to shuffle; False keeps the order of the corpus.
        rank: number of this process.
        world: number of processes.

    Attributes:
        layout: the layout of the ids.
        shards: folders of the shards, in the order of the corpus.

    Raises:
        ValueError: there is no such export, there are fewer shards than readers, or a shard is
            damaged.
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
        self.folder = Path(folder)
        self.context = context
        self.seed = seed
        self.shuffle = shuffle
        if context < 1 or not 0 <= rank < world:
            raise InputError(
                f"context {context}, rank {rank} of {world}: context >= 1, rank < world"
            )
        try:
            header = jsonfile.parse((self.folder / "export.json").read_bytes(), "export.json")
            known = header["to"] == "npy"
        except (OSError, ValueError, KeyError, TypeError):
            known = False
        self.shards = sorted(self.folder.glob("shard-*.ids"))
        if not known or not self.shards:
            raise InputError(f"{folder}: no export in the format npy")
        self.layout = Layout.load(self.folder / "layout.json")
        self.rank = rank
        self.world = world
        self._position = Position()

    def state_dict(self) -> dict[str, Any]:
        """Return the position, to be kept in a checkpoint."""
        return {**asdict(self._position), "seed": self.seed, "context": self.context}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from the position of a `state_dict`.

        Raises:
            ValueError: the state is of another seed or context.
        """
        if (state["seed"], state["context"]) != (self.seed, self.context):
            raise InputError("a state of another seed or context would go on in another order")
        self._position = Position(state["epoch"], state["shard"], state["contexts"])

    def seek(self, contexts: int) -> None:
        """Move to the position after the first `contexts` contexts of the first epoch.

        Raises:
            ValueError: no shard of this reader holds a complete context.
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
                raise InputError(f"{self.folder}: shards of less than {self.context + 1} ids")
            for i, number in enumerate(mine):
                if contexts < counts[number]:
                    self._position = Position(epoch, i, contexts)
                    return
                contexts -= counts[number]
            epoch += 1

    def __iter__(self) -> Iterator[Tensor]:
        position = self._position
        mine = self._mine(position.epoch)
        while position.shard < len(mine):
            stream = self._contexts(mine[position.shard], position.epoch, position.contexts)
            for context in stream:
                position.contexts += 1
                yield context
            position.shard += 1
            position.contexts = 0
        position.epoch += 1
        position.shard = 0

    def endless(self, skip: int = 0) -> Iterator[Tensor]:
        """Yield contexts `[n + 1]` of epoch after epoch, from context number `skip` on."""
        self.seek(skip)
        while True:
            yield from self

    def batches(self, batch: int, *, workers: int = 0, skip: int = 0) -> Iterator[Tensor]:
        """Yield batches `[batch, n + 1]` of epoch after epoch, read by worker processes if any.

        A message of a worker costs about a millisecond whatever its size, more than reading a batch
        of 16 contexts of 1024 ids, so a message holds many batches.

        >>> for step, ids in enumerate(data.batches(16, workers=2, skip=first), first): ...

        Args:
            batch: number of contexts in a batch.
            workers: number of processes that read; 0 reads in this process, which is fast enough
                for most models.
            skip: number of batches to skip, of the same size and number of workers.

        Raises:
            ValueError: a number is out of range, or there are fewer shards than readers.
        """
        if batch < 1 or workers < 0 or skip < 0:
            raise InputError(f"batch {batch}, workers {workers}, skip {skip}: 1, 0, 0 at least")
        each = max(1, MESSAGE // (batch * self.context))  # batches per message
        turn = each * max(1, workers)  # batches in one message from each worker
        blocks = _Blocks(self.endless, each * batch, skip // turn)
        loader = DataLoader(blocks, batch_size=None, num_workers=workers)
        every = (ids.long() for block in loader for ids in block.view(each, batch, -1))
        yield from islice(every, skip % turn, None)

    def _mine(self, epoch: int) -> list[int]:
        """Return the numbers of this reader's shards in the order of an epoch."""
        order = np.arange(len(self.shards))
        if self.shuffle:
            order = np.random.default_rng((self.seed, epoch)).permutation(order)
        worker = get_worker_info()
        part, parts = (worker.id, worker.num_workers) if worker else (0, 1)
        readers = self.world * parts
        if len(self.shards) < readers:
            raise InputError(
                f"{self.folder}: {len(self.shards)} shards for {readers} readers; export a corpus "
                "of smaller shards (audiotok corpus split), or take fewer workers"
            )
        return order[self.rank * parts + part :: readers].tolist()

    def _read(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the ids of a shard as a memory map, and the bounds of its recordings."""
        shard = self.shards[number]
        try:
            ids = np.load(shard / "ids.npy", mmap_mode="r", allow_pickle=False)
            bounds = np.load(shard / "bounds.npy", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise InputError(f"{shard}: cannot be read ({error}); export it again") from None
        if not len(bounds) or bounds[-1] != len(ids):
            raise InputError(f"{shard}: {len(ids)} ids, and bounds of others; export it again")
        return ids, bounds

    def _contexts(self, number: int, epoch: int, skip: int) -> Iterator[Tensor]:
        """Yield the contexts of a shard from number `skip` on."""
        ids, bounds = self._read(number)
        order = np.arange(len(bounds) - 1)
        if self.shuffle:
            order = np.random.default_rng((self.seed, epoch, number)).permutation(order)
        lengths = np.diff(bounds)[order]
        ends = np.cumsum(lengths)  # in the order of this epoch
        total, n = int(ends[-1]) if len(ends) else 0, self.context
        for start in range(skip * n, total - n, n):
            context = np.empty(n + 1, np.int64)
            filled, i = 0, int(np.searchsorted(ends, start, "right"))
            while filled <= n:
                within = start + filled - int(ends[i] - lengths[i])
                a = int(bounds[order[i]]) + within
                take = min(n + 1 - filled, int(lengths[i]) - within)
                context[filled : filled + take] = ids[a : a + take]
                filled, i = filled + take, i + 1
            yield torch.from_numpy(context)


class _Blocks(IterableDataset[Tensor]):
    """Endless blocks `[size, n + 1]`, int32, from block number `skip` of each worker on."""

    def __init__(self, contexts: Callable[[int], Iterator[Tensor]], size: int, skip: int) -> None:
        self.contexts = contexts
        self.size = size
        self.skip = skip

    def __iter__(self) -> Iterator[Tensor]:
        contexts = self.contexts(self.skip * self.size)
        while True:
            first = next(contexts).numpy()
            block = np.empty((self.size, len(first)), np.int32)
            block[0] = first
            for i in range(1, self.size):
                block[i] = next(contexts).numpy()
            yield torch.from_numpy(block)
