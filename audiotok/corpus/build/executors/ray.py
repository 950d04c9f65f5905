"""Actors of a Ray cluster, through Ray Data: one a GPU, or one a CPU."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

from audiotok.corpus.build.executors.base import Engine
from audiotok._platform.optional import needed
from audiotok.corpus.build.worker import Outcome, Stage, Task, Work

BATCH = 32  # recordings that an actor is handed at once, and that are done again if it dies


class Ray(Engine):
    """A map over the listing with stateful actors; this process commits what comes, in order.

    Ray's own cluster is used where RAY_ADDRESS says there is one, else one on this machine. Actors
    come and go with the work there is, from one to `workers`; Ray holds back what would not fit
    into its object store, and gives the batch of an actor or node that died to another. A recording
    that ends every process it meets stops the run; the local engine would quarantine it.
    """

    about = "a Ray cluster (pip install 'audiotok[ray]')"
    window = 1 << 15  # a map over so many at a time; starting its actors takes seconds

    def workers(self, work: Work) -> int:
        """See `Engine.workers`: what the cluster has."""
        resources = _started().cluster_resources()
        return max(1, int(resources.get("CPU" if work.device == "cpu" else "GPU", 1)))

    def run(self, work: Work, tasks: Iterator[Task | None], workers: int) -> Iterator[Outcome]:
        """See `Engine.run`."""
        ray = _started()
        ray.data.DataContext.get_current().enable_progress_bars = False
        more = True
        while more:
            some: list[dict[str, bytes]] = []
            for task in tasks:
                if task is None:
                    break
                some.append({"task": pickle.dumps(task)})
                if len(some) == self.window:
                    break
            else:
                more = False
            if some:
                yield from self._map(ray, work, some, workers)

    def _map(
        self, ray: Any, work: Work, some: list[dict[str, bytes]], workers: int
    ) -> Iterator[Outcome]:
        blocks = -(-len(some) // BATCH)
        on_gpu = work.device != "cpu"
        made = ray.data.from_items(some, override_num_blocks=blocks).map_batches(
            _Actor,
            fn_constructor_args=(work,),
            batch_size=BATCH,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=workers),
            num_cpus=0 if on_gpu else 1,
            num_gpus=1 if on_gpu else 0,
        )
        for row in made.iter_rows():
            outcome = pickle.loads(row["outcome"])  # of our own actor
            if isinstance(outcome, str):
                raise ValueError(outcome)
            yield outcome


def _started() -> Any:
    ray: Any = needed("ray", "ray[data]", extra="ray")
    needed("ray.data", "ray[data]", extra="ray")
    if not ray.is_initialized():
        ray.init(include_dashboard=False, log_to_driver=False, logging_level="error")
    return ray


class _Actor:
    """A codec that stays."""

    def __init__(self, work: Work) -> None:
        self.failed = ""
        try:
            self.stage = Stage(work)
        except ValueError as error:  # raised here, Ray would try again and again
            self.failed = str(error)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[bytes]]:
        if self.failed:
            return {"outcome": [pickle.dumps(self.failed)]}
        outcomes = self.stage.all([pickle.loads(task) for task in batch["task"]])
        return {"outcome": [pickle.dumps(outcome) for outcome in outcomes]}
