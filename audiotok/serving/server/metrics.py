"""Metrics of a server for Prometheus."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

MS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 18, 20, 25, 30, 40, 50, 100, 200, 500, 1000, 5000)
BUCKETS = tuple(ms / 1000 for ms in MS)


def resident() -> int:
    """Return the resident memory of this process in bytes; 0 where it is not available."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        pass
    if sys.platform == "win32":
        return 0
    import resource  # the peak is the best available value

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most * (1 if sys.platform == "darwin" else 1024)


class Metrics:
    """Metrics of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        options = {"registry": self.registry, "namespace": "audiotok"}
        self.clients = Gauge("clients", "Clients that are connected.", **options)
        self.sessions = Counter("sessions", "Sessions that ended, by how.", ["how"], **options)
        self.refused = Counter("refused", "Connections that were refused.", ["why"], **options)
        self.encoded = Counter("frames", "Frames of tokens.", ["way"], **options).labels("encoded")
        samples = Counter("samples", "Samples of audio.", ["way"], **options)
        self.samples_in = samples.labels("in")
        self.samples_out = samples.labels("out")
        self.steps = Histogram("step_seconds", "A step of the model.", buckets=BUCKETS, **options)
        self.batch_sizes = Histogram(
            "step_clients",
            "Clients in one step.",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128),
            **options,
        )
        self.answers = Histogram(
            "answer_seconds", "From a message's arrival to its answer.", buckets=BUCKETS, **options
        )
        memory = Gauge("resident_bytes", "Memory of the process.", **options)
        memory.set_function(resident)

    def stepped(self, clients: int, seconds: float) -> None:
        """Count a step of so many clients and seconds."""
        self.steps.observe(seconds)
        self.batch_sizes.observe(clients)

    def text(self) -> bytes:
        """Return all metrics in the format of Prometheus."""
        return generate_latest(self.registry)
