"""What Prometheus is told."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

MS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 18, 20, 25, 30, 40, 50, 100, 200, 500, 1000, 5000)
BUCKETS = tuple(ms / 1000 for ms in MS)


def resident() -> int:
    """Bytes that this process has in memory; 0 where that cannot be asked."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        pass
    if sys.platform == "win32":
        return 0
    import resource  # the most that it had, which will do

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most * (1 if sys.platform == "darwin" else 1024)


class Metrics:
    """Counters of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        every = {"registry": self.registry, "namespace": "audiotok"}
        self.clients = Gauge("clients", "Clients that are connected.", **every)
        self.sessions = Counter("sessions", "Sessions that ended, by how.", ["how"], **every)
        self.refused = Counter("refused", "Connections that were refused.", ["why"], **every)
        self.encoded = Counter("frames", "Frames of tokens.", ["way"], **every).labels("encoded")
        samples = Counter("samples", "Samples of audio.", ["way"], **every)
        self.samples_in, self.samples_out = (samples.labels(way) for way in ("in", "out"))
        self.steps = Histogram("step_seconds", "A step of the model.", buckets=BUCKETS, **every)
        self.abreast = Histogram(
            "step_clients",
            "Clients in one step.",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128),
            **every,
        )
        self.answers = Histogram(
            "answer_seconds", "From a message's arrival to its answer.", buckets=BUCKETS, **every
        )
        memory = Gauge("resident_bytes", "Memory of the process.", **every)
        memory.set_function(resident)

    def stepped(self, clients: int, seconds: float) -> None:
        """A step there was."""
        self.steps.observe(seconds)
        self.abreast.observe(clients)

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self.registry)
