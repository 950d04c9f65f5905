"""Executor with actors of a Ray cluster: one per GPU or CPU, which stay for the whole run.

The actors are plain ones, and the pool of this package hands out the work. Ray Data's `map_batches`
with an actor pool was tried; what a build promises does not hold on it:

- It retries the tasks of an actor that died without end (`max_restarts` and `max_task_retries` are
  -1), and does not say what was in hand: a recording that ends its process stops the run for good,
  without its name.
- The unit of its retries is the block: after a death all recordings of the block are encoded again,
  the one that is to blame among them.
- Its order is that of blocks, and what waits is bounded in bytes of its object store, not in
  recordings before the next commit.
"""

from __future__ import annotations

import logging
import os
import pickle
import re
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np

from audiotok._platform.console import one_line
from audiotok._platform.errors import InputError
from audiotok._platform.optional import optional_import
from audiotok.corpus.build.executors.base import BuildExecutor
from audiotok.corpus.build.pool import Launcher, Pool, WorkerDiedError, WorkerHandle
from audiotok.corpus.build.work import Event, Sent, Task, Work
from audiotok.data.recording import Recording

log = logging.getLogger("audiotok")

# Variables of keys, endpoints, caches and choices, as libraries read them from the environment.
CARRIED = re.compile(r"(AWS|FSSPEC|HF|AUDIOTOK|S3|GOOGLE|GCS|AZURE)_.*|.*_PROXY|.*_proxy")
# What Ray reads when it is imported. Else it prints the death of every worker on stdout, and a hint
# about variables of accelerators on stderr.
QUIET = {"RAY_DEDUP_LOGS_SKIP_REGEX": ".*", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
CONNECT = 5.0  # seconds for a connection to the address
ANSWER = 12.0  # seconds for an answer of Ray there
PATIENCE = 60.0  # seconds without any worker, before that is said


class Ray(BuildExecutor):
    """Executor with actors of a cluster; this process hands out work and commits the outcomes.

    The cluster is that of the address; else of the variable RAY_ADDRESS; else the one that runs on
    this machine; else a new one on this machine, for this run. Workers are started as the cluster
    has room for them, so that a node that is added takes part, and a node that is lost costs what
    its workers had in hand. They have this process's keys, endpoints and caches (the variables
    `CARRIED`), which are sent with the actors and not as a `runtime_env`, which Ray writes to its
    logs. A node without the file of the checkpoint gets this process's bytes.
    """

    description = "a Ray cluster (pip install 'audiotok[ray]')"
    machines = True

    def workers(self, work: Work) -> int:
        """Return the number of GPUs or CPUs of the cluster now."""
        return max(1, _capacity(_started(self.address), work))

    def run(self, work: Work, tasks: Iterator[Task | None], workers: int) -> Iterator[Event]:
        """See `BuildExecutor.run`."""
        actors = _Actors(_started(self.address), work, workers)
        pool = Pool(actors, tasks, work)
        try:
            for event in pool.events():
                self.active = pool.started
                yield event
        finally:
            pool.stop()


# -- the cluster ----------------------------------------------------------------------------------


def _started(address: str) -> Any:
    """Return Ray, connected to a cluster.

    Raises:
        InputError: no cluster answers at the address.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    ray: Any = optional_import("ray", extra="ray")
    logging.getLogger("ray").setLevel(logging.ERROR)
    if ray.is_initialized():
        return ray
    address = address or os.environ.get("RAY_ADDRESS", "")
    if address not in ("", "auto", "local"):
        _check(address)
    try:
        ray.init(
            address=address or None,
            include_dashboard=None if address not in ("", "local") else False,
            log_to_driver=False,
            configure_logging=False,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = address or "this machine"
        raise InputError(f"{where}: no Ray cluster can be joined ({_short(error)})") from None
    return ray


def _check(address: str) -> None:
    """Raise unless a Ray cluster answers at an address; Ray itself would try for minutes.

    Raises:
        InputError: none does, or it is no address.
    """
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not host or not port.isdigit():
        raise InputError(f"{address}: no address of a Ray cluster; write it as HOST:6379, or auto")
    advice = "start it there with `ray start --head`, or correct the address"
    try:
        with socket.create_connection((host.strip("[]"), int(port)), CONNECT) as connection:
            if not os.environ.get("RAY_USE_TLS"):
                _greet(connection)
    except (OSError, OverflowError) as error:
        why = f"{address}: no Ray cluster answers there ({one_line(error)}); {advice}"
        raise InputError(why) from None


def _greet(connection: socket.socket) -> None:
    """Raise OSError unless what answers speaks HTTP/2 (RFC 9113, section 3.4), as Ray does."""
    settings = b"\0\0\0\x04\0\0\0\0\0"  # a frame of this type begins each side's connection
    connection.settimeout(ANSWER)
    connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings)
    if connection.recv(9)[3:4] != settings[3:4]:
        raise ConnectionAbortedError("something else is there")


def _capacity(ray: Any, work: Work) -> int:
    """Return the number of GPUs or CPUs of the cluster."""
    return int(ray.cluster_resources().get("CPU" if work.device == "cpu" else "GPU", 0))


def _names(ray: Any) -> dict[str, str]:
    """Return the name of every living node by its id: its host, and a part of the id if needed."""
    alive = {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}
    names = {
        key: node["NodeManagerHostname"]
        if node.get("NodeName") in (None, node["NodeManagerAddress"])
        else node["NodeName"]
        for key, node in alive.items()
    }
    twice = [name for name in names.values() if [*names.values()].count(name) > 1]
    return {key: f"{name} ({key[:6]})" if name in twice else name for key, name in names.items()}


def _short(error: BaseException) -> str:
    """Return the last line of an error of Ray, which says most."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__


# -- workers --------------------------------------------------------------------------------------


class _Actors(Launcher):
    """Actors of the cluster."""

    in_hand = 1.0  # a call takes milliseconds
    forgiven = 10  # nodes come and go, also while a worker starts

    def __init__(self, ray: Any, work: Work, workers: int) -> None:
        self.ray = ray
        self.workers = workers
        on_gpu = work.device != "cpu"
        kind = work.device.split(",")[0].partition(":")[0]  # Ray chooses the device
        files = _files_of(work.codec)
        codec = str(Path(work.codec).absolute()) if files else work.codec
        self.work = replace(work, device=kind, codec=codec)
        self.files = ray.put(files) if files else None
        self.environment = {k: v for k, v in os.environ.items() if CARRIED.fullmatch(k)}
        self.factory = ray.remote(
            num_cpus=0 if on_gpu else 1,
            num_gpus=1 if on_gpu else 0,
            max_restarts=0,
            max_task_retries=0,
            max_concurrency=2,  # one call waits for messages while another brings tasks
            scheduling_strategy="SPREAD",
        )(_Actor)
        self.names: dict[str, str] = {}
        self.silent = time.monotonic()  # since when there has been no message
        self._looked = 0.0
        self._wanted = 1

    def wanted(self) -> int:
        if self.workers:
            return self.workers
        if time.monotonic() > self._looked + 2.0:
            self._looked = time.monotonic()
            self._wanted = max(1, _capacity(self.ray, self.work))
        return self._wanted

    def start(self) -> WorkerHandle:
        # A reference in a list is not fetched before the actor asks for it.
        return _Handle(self, self.factory.remote(self.work, self.environment, [self.files]))

    def wait(self, handles: Sequence[WorkerHandle], seconds: float) -> Sequence[WorkerHandle]:
        calls = {handle.call: handle for handle in handles if isinstance(handle, _Handle)}
        done, _ = self.ray.wait(list(calls), num_returns=1, timeout=seconds)
        if done:
            self.silent = time.monotonic()
            done, _ = self.ray.wait(list(calls), num_returns=len(calls), timeout=0)
        elif time.monotonic() > self.silent + PATIENCE and not any(h.node for h in handles):
            self.silent = time.monotonic()
            log.warning("no worker has started yet: the cluster has no room for one")
        return [calls[call] for call in done]

    def name(self, node: str) -> str:
        """Return the name of a node."""
        if node not in self.names:
            self.names |= _names(self.ray)
        return self.names.get(node, node[:6])

    def is_lost(self, node: str) -> bool:
        """Return whether a node is gone."""
        return bool(node) and not any(n["NodeID"] == node and n["Alive"] for n in self.ray.nodes())


class _Handle(WorkerHandle):
    """An actor, and the call that waits for its messages."""

    def __init__(self, actors: _Actors, actor: Any) -> None:
        self.actors = actors
        self.actor = actor
        self.id = ""  # of its node
        self.call = actor.messages.remote()

    def give(self, tasks: Sequence[Sent]) -> None:
        absolute = [
            (number, what.absolute() if isinstance(what, Recording) else what)
            for number, what in tasks
        ]
        self.actor.put.remote(pickle.dumps(absolute))

    def receive(self) -> list[tuple[str, object]]:
        ray = self.actors.ray
        try:
            messages = pickle.loads(ray.get(self.call))  # data of our own actor
        except ray.exceptions.RayError as error:
            if not self.id and "creation task" in str(error):
                raise InputError(f"{_where(error)}no worker starts ({_short(error)})") from None
            raise WorkerDiedError(lost=not self.id or self.actors.is_lost(self.id)) from None
        self.call = self.actor.messages.remote()
        if not self.id:  # the first message of an actor
            _, self.id = messages.pop(0)
            self.node = self.actors.name(self.id)
        return [
            (kind, f"node {self.node}: {content}" if kind == "failed" else content)
            for kind, content in messages
        ]

    def stop(self) -> None:
        with suppress(Exception):  # it has died
            self.actors.ray.kill(self.actor)


def _where(error: BaseException) -> str:
    """Return the address of the node that an error of Ray names, for the start of a message."""
    match = re.search(r"\bip[=:] ?([0-9a-fA-F.:]+)", str(error))
    return f"node {match[1]}: " if match else ""


def _files_of(codec: str) -> dict[str, np.ndarray]:
    """Return the bytes of a checkpoint's files by relative path; none if it is a name."""
    from audiotok.codecs.checkpoint import is_path

    path = Path(codec)
    if not is_path(codec) or not path.exists():
        return {}
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    names = [file.relative_to(path.parent).as_posix() for file in files]
    return {name: np.fromfile(file, np.uint8) for name, file in zip(names, files, strict=True)}


class _Actor:
    """Worker in a process of the cluster.

    Args:
        work: options of encoding.
        environment: variables of the build's process.
        files: reference to the files of the checkpoint; None if it has none.
    """

    def __init__(self, work: Work, environment: Mapping[str, str], files: list[Any]) -> None:
        ray: Any = import_module("ray")
        os.environ.update(environment)
        self.outbox: SimpleQueue[list[tuple[str, object]]] = SimpleQueue()
        self.outbox.put([("on", ray.get_runtime_context().get_node_id())])
        self.files = files[0]
        self.service: Any = None
        self.tasks: SimpleQueue[bytes] = SimpleQueue()
        threading.Thread(target=self._run, args=(work,), daemon=True).start()

    def put(self, tasks: bytes) -> None:
        """Add tasks, which come when the service is ready."""
        self.service.put(pickle.loads(tasks))  # data of our own build

    def messages(self) -> bytes:
        """Wait for messages, and return all that there are."""
        messages = self.outbox.get()
        with suppress(Empty):
            while True:
                messages = messages + self.outbox.get_nowait()
        return pickle.dumps(messages)

    def _run(self, work: Work) -> None:
        from audiotok.corpus.build.service import Service

        try:
            with ExitStack() as stack:
                if self.files is not None and not Path(work.codec).exists():
                    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="audiotok-"))
                    work = replace(work, codec=self._written(work.codec, Path(folder)))
                self.service = service = Service(work, self._send)
        except Exception as error:
            self._send([("failed", str(error))])
            return
        self._send([("ready", None)])
        service.run()

    def _send(self, messages: list[tuple[str, object]]) -> None:
        self.outbox.put(messages)

    def _written(self, codec: str, folder: Path) -> str:
        """Write the files of the checkpoint, and return the path that stands for it."""
        ray: Any = import_module("ray")
        files: Any = ray.get(self.files)
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            content.tofile(path)
        return str(folder / Path(codec).name)
