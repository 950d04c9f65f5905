"""Kill -9 of drivers, workers and nodes at random moments, from and to object storage.

Audio comes from a bucket and codes go to it, through a proxy that fails now and then; the corpus is
that of an undisturbed build, to the byte.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from commandline import audiotok, background
from object_storage import object_storage
from test_building import command, content, talks
from test_building_storage import stored

pytest.importorskip("ray")
pytest.importorskip("moto")
pytest.importorskip("s3fs")

from test_ray import nodes as nodes

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # of ray's own making
]
KILLS = 100


def test_kill_9_of_drivers_workers_and_nodes(nodes: Any, tmp_path: Path):
    source, draw, killed = talks(tmp_path / "in", 240), random.Random(4), Counter[str]()
    with object_storage() as s3:
        for path in sorted(source.rglob("*.wav")):
            s3.put(f"bucket/in/{path.relative_to(source)}", path.read_bytes())
        listing = Path("s3:", "bucket", "in")  # `command` takes a path
        options = command(listing, tmp_path / "whole", "--accept-missing")
        options[options.index(str(listing))] = "s3://bucket/in/"
        whole = audiotok(*options, "-j", "1")
        assert whole.code == 0, whole.err
        expected = content(tmp_path / "whole")
        cluster = nodes(2)
        options[options.index(str(tmp_path / "whole"))] = "s3://bucket/out"
        options += ["--engine", "ray", "--address", cluster.address]
        s3.faults.add("503", "GET /bucket/in", probability=0.02)
        finished = 0
        while sum(killed.values()) < KILLS or not finished:
            driver = background(*options)
            upset(driver, cluster, draw, killed)
            _, said = driver.communicate(timeout=300)
            if driver.returncode == 0:
                finished += 1
                again = [*options, "--retry-quarantined"]
                while killed_twice(stored("s3://bucket/out"), expected):
                    retried = audiotok(*again)
                    assert retried.code in (0, 3), retried.err
                got = stored("s3://bucket/out")
                names = sorted({*got, *expected})
                different = [name for name in names if got.get(name) != expected.get(name)]
                assert not different, {
                    name: (got.get(name), expected.get(name)) for name in different
                }
                for key in s3.keys("bucket/out"):
                    s3.delete(key)
            else:
                assert driver.returncode == -signal.SIGKILL, said
    assert min(killed[kind] for kind in ("driver", "worker", "node")) > 5, killed


def killed_twice(got: dict[str, bytes], expected: dict[str, bytes]) -> bool:
    """Return whether recordings are in quarantine because the test killed their workers twice.

    That is the rule for what ends its worker; any other reason is a failure of the build.
    """
    known = expected["quarantine.tsv"].decode().splitlines()
    more = [row for row in got["quarantine.tsv"].decode().splitlines() if row not in known]
    assert all("the process working on it ended" in row for row in more), more
    return bool(more)


def upset(
    driver: subprocess.Popen[str], cluster: Any, draw: random.Random, killed: Counter[str]
) -> None:
    """Kill workers and nodes, and at last perhaps the driver, until it has ended."""
    last = time.monotonic() + draw.uniform(5, 40)
    while driver.poll() is None and sum(killed.values()) < KILLS:
        time.sleep(draw.uniform(1.5, 4.0))  # workers start meanwhile
        workers = cluster.workers()
        if time.monotonic() > last:
            os.killpg(driver.pid, signal.SIGKILL)
            killed["driver"] += 1
            return
        if not workers:
            continue
        if draw.random() < 0.2:
            cluster.cluster.remove_node(cluster.nodes.pop(0), allow_graceful=False)
            cluster.nodes.append(cluster.add())
            killed["node"] += 1
        else:
            try:
                os.kill(draw.choice(workers), signal.SIGKILL)
            except ProcessLookupError:  # ended meanwhile
                continue
            killed["worker"] += 1
