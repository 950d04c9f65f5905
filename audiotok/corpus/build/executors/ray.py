"""Executor with actors of a Ray cluster, through Ray Data: one per GPU or CPU."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

from audiotok._platform.errors import InputError
from audiotok._platform.optional import optional_import
from audiotok.corpus.build.executors.base import BuildExecutor
from audiotok.corpus.build.work import Outcome, Task, Work
from audiotok.corpus.build.worker import Worker

BATCH = 32  # recordings that an actor gets at once, and that are repeated if it dies


class Ray(BuildExecutor):
    """Executor that maps stateful actors over the listing; this process commits the outcomes.

    The cluster is that of RAY_ADDRESS if it is set, else one on this machine. The number of actors
    follows the work, from one to `workers`; Ray holds back tasks that would not fit into its object
    store, and gives the batch of an actor or node that died to another. A recording that ends every
    process it is given to stops the run; the local executor would quarantine it.
    """

    description = "a Ray cluster (pip install 'audiotok[ray]')"
    window = 1 << 15  # tasks in one map; starting its actors takes seconds

    def workers(self, work: Work) -> int:
        """Return the number of GPUs or CPUs of the cluster."""
        resources = _started().cluster_resources()
        return max(1, int(resources.get("CPU" if work.device == "cpu" else "GPU", 1)))

    def run(self, work: Work, tasks: Iterator[Task | None], workers: int) -> Iterator[Outcome]:
        """See `BuildExecutor.run`."""
        ray = _started()
        ray.data.DataContext.get_current().enable_progress_bars = False
        more = True
        while more:
            batch: list[dict[str, bytes]] = []
            for task in tasks:
                if task is None:
                    break
                batch.append({"task": pickle.dumps(task)})
                if len(batch) == self.window:
                    break
            else:
                more = False
            if batch:
                yield from self._map(ray, work, batch, workers)

    def _map(
        self, ray: Any, work: Work, batch: list[dict[str, bytes]], workers: int
    ) -> Iterator[Outcome]:
        blocks = -(-len(batch) // BATCH)
        on_gpu = work.device != "cpu"
        rows = ray.data.from_items(batch, override_num_blocks=blocks).map_batches(
            _Actor,
            fn_constructor_args=(work,),
            batch_size=BATCH,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=workers),
            num_cpus=0 if on_gpu else 1,
            num_gpus=1 if on_gpu else 0,
        )
        for row in rows.iter_rows():
            outcome = pickle.loads(row["outcome"])  # data of our own actor
            if isinstance(outcome, str):
                raise InputError(outcome)
            yield outcome


def _started() -> Any:
    ray: Any = optional_import("ray", "ray[data]", extra="ray")
    optional_import("ray.data", "ray[data]", extra="ray")
    if not ray.is_initialized():
        ray.init(include_dashboard=False, log_to_driver=False, logging_level="error")
    return ray


class _Actor:
    """Actor that keeps a loaded codec."""

    def __init__(self, work: Work) -> None:
        self.failed = ""
        try:
            self.worker = Worker(work)
        except ValueError as error:  # raised here, Ray would retry for ever
            self.failed = str(error)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[bytes]]:
        if self.failed:
            return {"outcome": [pickle.dumps(self.failed)]}
        outcomes = self.worker.all([pickle.loads(task) for task in batch["task"]])
        return {"outcome": [pickle.dumps(outcome) for outcome in outcomes]}
