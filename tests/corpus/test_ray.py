"""Builds on a Ray cluster of several nodes, all of them on this machine."""

from __future__ import annotations

import fcntl
import io
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from commandline import audiotok, process, recording, small
from rich.console import Console
from test_building import content, talks

from audiotok import load
from audiotok._platform.errors import InputError
from audiotok.codecs.checkpoint import save
from audiotok.corpus import CorpusError
from audiotok.corpus.build import BuildSummary, build
from audiotok.corpus.build.executors.ray import QUIET, Ray
from audiotok.corpus.build.work import Outcome, Work
from audiotok.data.locator import AudioLocator
from audiotok.data.recording import Recording

os.environ |= QUIET  # before ray is imported
ray: Any = pytest.importorskip("ray")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # of ray's own making
]

LIMIT = 100  # bytes of codes in a shard
STORE = 80_000_000  # bytes of each node's object store


class Nodes:
    """A cluster whose first node has no CPU, and runs the build."""

    def __init__(self, count: int) -> None:
        from ray.cluster_utils import Cluster  # pyright: ignore[reportMissingImports]

        options = {"num_cpus": 0, "object_store_memory": STORE, "include_dashboard": False}
        self.cluster = Cluster(initialize_head=True, head_node_args=options)
        self.nodes = [self.add() for _ in range(count)]
        _, _, port = str(self.cluster.address).rpartition(":")
        self.address = f"127.0.0.1:{port}"

    def add(self) -> Any:
        """Add a node with a CPU."""
        return self.cluster.add_node(num_cpus=1, object_store_memory=STORE)

    def workers(self) -> list[int]:
        """Ids of the processes of actors."""
        return [
            int(folder.name)
            for folder in Path("/proc").iterdir()
            if folder.name.isdigit() and b"ray::_Actor" in command_line(folder)
        ]


def command_line(folder: Path) -> bytes:
    try:
        return (folder / "cmdline").read_bytes()
    except OSError:
        return b""


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], Nodes]]:
    """A function that starts a cluster of so many nodes."""
    monkeypatch.setenv("RAY_worker_niceness", "0")  # a busy machine would starve them
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    started: list[Nodes] = []

    def start(count: int) -> Nodes:
        started.append(Nodes(count))
        return started[-1]

    yield start
    ray.shutdown()
    for each in started:
        each.cluster.shutdown()


def built(source: Path | str, out: Path, cluster: Nodes | None, **options: Any) -> BuildSummary:
    engine = {"engine": "ray", "address": cluster.address} if cluster else {"workers": 1}
    work = options.pop("work", None) or Work(codec=str(small()))
    options = {"limit": LIMIT, "most_bad": 0.5, "console": Console(file=io.StringIO())} | options
    return build(str(source), out, work, **engine, **options)


def when(condition: Callable[[], bool], then: Callable[[], object]) -> threading.Thread:
    """Do something as soon as a condition holds, in a thread."""

    def wait() -> None:
        while not condition():
            time.sleep(0.01)
        then()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def committed(out: Path) -> bool:
    return any(path.stat().st_size for path in (out / ".build").glob("*.log"))


def slow(source: Path, folder: Path) -> Path:
    """A listing whose recordings take a while, so that every worker has started before the end."""
    paths = sorted(source.rglob("*.wav"))
    folder.mkdir()
    lines = [f"{path.parent.name}-{path.stem} sleep 0.2; cat {path} |\n" for path in paths]
    (folder / "wav.scp").write_text("".join(lines))
    return folder


def test_nodes_come_and_go_and_die(nodes: Any, tmp_path: Path, capfd: Any):
    """The bytes are those of the local engine, and every node that was there has its part."""
    work = Work(codec=str(small()), commands=True)
    source = slow(talks(tmp_path / "in", 150), tmp_path / "data")
    built(source, tmp_path / "whole", None, work=work)
    cluster = nodes(2)
    out = tmp_path / "out"

    def upset() -> None:
        os.kill(cluster.workers()[0], signal.SIGKILL)
        cluster.add()
        cluster.cluster.remove_node(cluster.nodes[0], allow_graceful=False)

    thread = when(lambda: committed(out), upset)
    summary = built(source, out, cluster, work=work)
    thread.join()
    assert not capfd.readouterr().out
    assert content(out) == content(tmp_path / "whole")
    assert 2 <= len(summary.nodes) <= 3
    assert sum(node.recordings for node in summary.nodes) == 152
    assert sum(node.failed for node in summary.nodes) == 2
    assert len([label for label in summary.words() if label.startswith("node ")]) >= 2


def test_one_that_kills_its_worker_is_quarantined_with_its_name(nodes: Any, tmp_path: Path):
    paths = [recording(tmp_path / f"{i}.wav", 0.1, seed=i) for i in range(12)]
    lines = [f"utt-{i:02} {path}\n" for i, path in enumerate(paths)]
    lines[5] = "utt-05 kill -9 $PPID |\n"
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "wav.scp").write_text("".join(lines))
    work = Work(codec=str(small()), commands=True)
    summary = built(tmp_path / "data", tmp_path / "out", nodes(2), work=work)
    assert (summary.recordings, summary.quarantined) == (11, 1)
    row = (tmp_path / "out" / "quarantine.tsv").read_text().splitlines()[1]
    assert row.startswith("utt-05\t")
    assert "the process working on it ended (out of memory?)" in row


def test_containers_and_relative_paths(nodes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from test_containers import tars

    tars(tmp_path / "tars")
    talks(tmp_path / "talks", 6)
    shutil.copyfile(small(), tmp_path / "codec.safetensors")
    monkeypatch.chdir(tmp_path)
    work = Work(codec="codec.safetensors")
    kinds = {"tars": "webdataset", "talks": "folder"}
    for name, kind in kinds.items():
        built(name, tmp_path / f"{name}-whole", None, work=work, kind=kind)
    cluster = nodes(2)
    for name, kind in kinds.items():
        built(name, tmp_path / f"{name}-out", cluster, work=work, kind=kind)
        assert content(tmp_path / f"{name}-out") == content(tmp_path / f"{name}-whole")


def test_a_node_with_other_weights_stops_the_run(nodes: Any, tmp_path: Path):
    """The checkpoint at the path is another for the workers than for the build."""
    path = tmp_path / "codec.safetensors"
    shutil.copyfile(small(), path)
    work = Work(codec=str(path), fingerprint="0" * 16)
    item = Recording("a", AudioLocator("a.wav", str(recording(tmp_path / "a.wav"))))
    torch.manual_seed(5)
    model = load(small())
    for weight in model.parameters():
        weight.data.add_(torch.randn_like(weight) * 0.1)
    path.unlink()
    save(model, path)
    address = nodes(1).address
    with pytest.raises(ValueError, match=r"node .*: .*weights on .*give every machine the same"):
        list(Ray(address).run(work, iter([(0, item)]), 0))
    other = Work(codec=str(path), version="0.0.0")
    with pytest.raises(ValueError, match=r"node .*: audiotok .* is here, and 0\.0\.0 where"):
        list(Ray(address).run(other, iter([(0, item)]), 0))


def test_a_node_without_the_checkpoint_gets_the_bytes(
    nodes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from audiotok.corpus.build.executors import ray as module

    gone = tmp_path / "codec.safetensors"
    (data,) = module._files_of(str(small())).values()
    monkeypatch.setattr(module, "_files_of", lambda _: {gone.name: data})
    item = Recording("a", AudioLocator("a.wav", str(recording(tmp_path / "a.wav"))))
    work = Work(codec=str(gone), fingerprint=load(small()).fingerprint)
    (outcome,) = Ray(nodes(1).address).run(work, iter([(0, item)]), 0)
    assert isinstance(outcome, Outcome)
    assert outcome.coded.codes.size


def test_a_node_without_the_data_stops_the_run(nodes: Any, tmp_path: Path):
    """A worker sees another file system than the build: here, by a path in /proc/self."""
    source = recording(tmp_path / "in" / "a.wav").parent
    opened = os.open(source, os.O_RDONLY)
    descriptor = fcntl.fcntl(opened, fcntl.F_DUPFD, 900)  # a number that no worker has
    os.close(opened)
    listing = tmp_path / "list.tsv"
    listing.write_text(f"id\tpath\na\t/proc/self/fd/{descriptor}/a.wav\n")
    cluster = nodes(1)
    with pytest.raises(CorpusError, match=r"node .* does not have /proc/self/fd/\d+.*same paths"):
        built(listing, tmp_path / "out", cluster)
    assert not (tmp_path / "out" / "corpus.json").exists()
    os.close(descriptor)


def test_variables_reach_the_workers_and_no_log(
    nodes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Files are found by a plugin of fsspec that the environment configures."""
    secret = "hush-4711"
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    paths = [recording(tmp_path / f"{i}.wav", 0.1, seed=i) for i in range(2)]
    said = tmp_path / "said"
    lines = [
        f"utt-{i} echo $AWS_SECRET_ACCESS_KEY >>{said}; cat {p} |\n" for i, p in enumerate(paths)
    ]
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "wav.scp").write_text("".join(lines))
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("AWS_SECRET_ACCESS_KEY")
        cluster = nodes(1)
    work = Work(codec=str(small()), commands=True)
    assert built(tmp_path / "data", tmp_path / "out", cluster, work=work).recordings == 2
    assert said.read_text().split() == [secret, secret]
    session = Path(ray._private.worker._global_node.get_session_dir_path())
    logs = [path for path in session.rglob("*") if path.is_file()]
    assert logs
    assert not any(secret.encode() in path.read_bytes() for path in logs)


@pytest.mark.parametrize("kind", ["closed", "other", "no address", "no host"])
def test_a_wrong_address_is_one_line_soon(tmp_path: Path, kind: str):
    recording(tmp_path / "in" / "a.wav")
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        if kind == "other":  # it takes connections, and never answers
            server.listen()
        address = {"no address": "somewhere", "no host": "nowhere.invalid:6379"}.get(
            kind, f"127.0.0.1:{port}"
        )
        began = time.monotonic()
        arguments = ["--codec", small(), "--engine", "ray", "--address", address]
        done = process("corpus", "build", tmp_path / "in", "-o", tmp_path / "out", *arguments)
        assert time.monotonic() - began < 20
    assert done.code == 1
    assert len(done.lines) == 1
    assert address in done.lines[0]


def test_the_local_engine_has_no_address(tmp_path: Path):
    recording(tmp_path / "in" / "a.wav")
    with pytest.raises(InputError, match="has no address"):
        build(str(tmp_path / "in"), tmp_path / "out", Work(codec=str(small())), address="a:1")
    done = audiotok("corpus", "build", tmp_path / "in", "-o", tmp_path / "out", "--address", "a:1")
    assert (done.code, len(done.lines)) == (1, 1)
