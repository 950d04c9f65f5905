"""How many real-time conversations `audiotok serve` holds: audio up, tokens and audio down.

    python tests/bench/serve.py --clients 10 20 40 --seconds 10
    python tests/bench/serve.py --clients 1 4 --recordings 16
    python tests/bench/serve.py --clients 30 40 50 60 80 --against CHECKOUT --rounds 3 --json FILE

One server process; all clients in this one, on raw sockets, each at its own pace and phase. A frame
is late when its answer takes longer than a frame lasts. Memory is that of the server's process.

With `--recordings` it is measured what so many clients that send recordings (live: false), one
after the other, take from those who are live: the answers that live clients get in so many
seconds, without and with them, by turns. Each live client sends its next frame when the last one is
answered: once in real time at most, once as fast as that goes.

With `--against` the server of another checkout takes turns with this one's, for the same client.
What counts is the median of the rounds of the 99th percentile of the delays, and up to how many
clients each holds every number measured within 20 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import os
import platform
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from clips import commit, machine, shown

from audiotok.audio.audio import Audio
from audiotok.serving.live.latency import spread
from audiotok.serving.server import protocol

ROOT = Path(__file__).parents[2]
SPEECH = ROOT / "egs/data/reading.flac"


class Socket(asyncio.Protocol):
    """A WebSocket client of very few instructions: the server is what is measured."""

    def __init__(self, host: str) -> None:
        self.host, self.data, self.greeted = host, bytearray(), False
        self.came: list[float] = []  # when tokens came
        self.said: list[dict[str, object]] = []
        loop = asyncio.get_running_loop()
        self.ready, self.over = loop.create_future(), loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        key = base64.b64encode(os.urandom(16)).decode()
        lines = (f"GET {protocol.PATH} HTTP/1.1", f"Host: {self.host}", "Upgrade: websocket")
        more = ("Connection: Upgrade", f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13")
        transport.write("\r\n".join([*lines, *more, "", ""]).encode())

    def data_received(self, data: bytes) -> None:
        now = perf_counter()
        self.data += data
        if not self.greeted:
            end = self.data.find(b"\r\n\r\n")
            if end < 0:
                return
            assert self.data.startswith(b"HTTP/1.1 101"), bytes(self.data[:200])
            del self.data[: end + 4]
            self.greeted = True
            self.ready.set_result(None)
        while len(self.data) >= 2:
            size, head = self.data[1] & 127, 2
            if size >= 126:
                head = 4 if size == 126 else 10
                size = int.from_bytes(self.data[2:head], "big")
            if len(self.data) < head + size:
                return
            kind = self.data[0] & 15
            if kind == 9:  # a ping
                self.send(frame(bytes(self.data[head : head + size]), 10))
            elif kind == 2 and self.data[head] == protocol.TOKENS:
                self.came.append(now)
            elif kind == 1:
                said = json.loads(self.data[head : head + size])
                self.said.append(said)
                if said["type"] in ("end", "error") and not self.over.done():
                    self.over.set_result(said)
            del self.data[: head + size]

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.over.done():
            self.over.set_exception(ConnectionError("the server hung up"))

    def send(self, frame: bytes) -> None:
        self.transport.write(frame)


def frame(payload: bytes, kind: int) -> bytes:
    """A WebSocket frame, masked with zeros."""
    size = len(payload)
    head = bytes([0x80 | kind, 0x80 | min(size, 126)])
    return head + (size.to_bytes(2, "big") if size > 125 else b"") + bytes(4) + payload


async def client(
    host: str, port: int, frames: list[bytes], start: float, period: float
) -> tuple[list[float], dict[str, object]]:
    """One conversation in real time; gives the delay of each frame, and what the server said."""
    loop = asyncio.get_running_loop()
    _, socket = await loop.create_connection(lambda: Socket(f"{host}:{port}"), host, port)
    await asyncio.wait_for(socket.ready, 30)
    socket.send(frame(json.dumps({"type": "start", "mode": "both"}).encode(), 1))
    sent = []
    for i, data in enumerate(frames):
        wait = start + i * period - perf_counter()
        await asyncio.sleep(max(0, wait))
        sent.append(perf_counter())
        socket.send(data)
    socket.send(frame(b'{"type": "end"}', 1))
    said = await asyncio.wait_for(socket.over, 60)
    socket.transport.close()
    # A frame is complete with a later message, always as many later; the last comes with the end.
    came = socket.came[:-1]
    lag = len(sent) - len(came)
    return [when - sent[i + lag] for i, when in enumerate(came)], said


async def conversation(
    address: tuple[str, int], frames: list[bytes], end: float, pace: float
) -> int:
    """The answers that a live client gets until `end`, who sends a frame when the last is answered.

    Args:
        address: host and port.
        frames: messages of a frame each, repeated.
        end: as `perf_counter` has it.
        pace: seconds between frames at least.
    """
    loop = asyncio.get_running_loop()
    _, socket = await loop.create_connection(lambda: Socket(":".join(map(str, address))), *address)
    await asyncio.wait_for(socket.ready, 30)
    socket.send(frame(json.dumps({"type": "start", "mode": "both"}).encode(), 1))
    sent, next_at = 0, perf_counter()
    while (now := perf_counter()) < end:
        # The first frame completes nothing yet.
        if sent <= len(socket.came) + 1 and now >= next_at:
            socket.send(frames[sent % len(frames)])
            sent, next_at = sent + 1, max(next_at + pace, now)
        await asyncio.sleep(0.0005)
    socket.over.cancel()
    socket.transport.abort()
    return len(socket.came)


async def recordings(
    address: tuple[str, int], mode: str, messages: list[bytes], over: asyncio.Event
) -> int:
    """How many recordings one client gets coded, one after the other until it is `over`; the last
    one is waited for."""
    loop, count = asyncio.get_running_loop(), 0
    while not over.is_set():
        _, socket = await loop.create_connection(
            lambda: Socket(":".join(map(str, address))), *address
        )
        await asyncio.wait_for(socket.ready, 30)
        about = {"type": "start", "mode": mode, "live": False}
        socket.send(frame(json.dumps(about).encode(), 1))
        for message in messages:
            socket.send(message)
        socket.send(frame(b'{"type": "end"}', 1))
        said = await asyncio.wait_for(socket.over, 300)
        assert said["type"] == "end", said
        socket.transport.close()
        count += 1
    return count


async def answers(
    address: tuple[str, int], clients: int, besides: int, pace: float, options: argparse.Namespace
) -> tuple[int, int, float]:
    """Answers that live clients get, recordings that end beside them, and seconds till the last."""
    audio = Audio.load(SPEECH).resample(16000).samples
    short = [frame(protocol.audio(x.numpy(), "s16le"), 2) for x in audio.split(320, 1)[:-1]]
    long = [frame(protocol.audio(x.numpy(), "s16le"), 2) for x in audio.split(16000, 1)]
    over = asyncio.Event()
    tasks = [
        asyncio.create_task(recordings(address, options.mode, long, over)) for _ in range(besides)
    ]
    await asyncio.sleep(1)  # they are under way
    end = perf_counter() + options.seconds
    live = await asyncio.gather(*(conversation(address, short, end, pace) for _ in range(clients)))
    over.set()
    done = await asyncio.gather(*tasks)
    return sum(live), sum(done), perf_counter() - end


@contextlib.contextmanager
def serving(
    options: argparse.Namespace, checkout: Path = ROOT
) -> Iterator[tuple[subprocess.Popen[str], str, int]]:
    """A server in a process of its own, its host and its port."""
    command = [sys.executable, "-m", "audiotok", "serve", "--port", "0", "--clients", "1000"]
    command += ["--threads", str(options.threads)]
    command += [] if options.gather is None else ["--gather-ms", str(options.gather)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
    environment["PYTHONPATH"] = str(checkout)
    command += ["--codec", options.codec, "--backend", options.backend]
    with (
        # `python -m` looks where it runs before it looks in PYTHONPATH.
        subprocess.Popen(
            command, stdout=subprocess.PIPE, env=environment, text=True, cwd=checkout
        ) as server,
        contextlib.ExitStack() as ending,
    ):
        ending.callback(server.terminate)
        assert server.stdout
        found = re.search(r"http://([\d.]+):(\d+)/", server.stdout.readline())
        assert found
        yield server, found[1], int(found[2])


def disturbed(clients: int, options: argparse.Namespace) -> None:
    """One server, so many live clients, without and with recordings beside them."""
    with serving(options) as (_, host, port):
        for pace in (0.02, 0.0):
            ratios: list[float] = []
            for _ in range(options.repeat):
                address, more = (host, port), options.recordings
                alone, *_ = asyncio.run(answers(address, clients, 0, pace, options))
                beside, count, rest = asyncio.run(answers(address, clients, more, pace, options))
                ratios.append(beside / alone)
                print(
                    f"{clients:3} live clients, {'real time' if pace else 'flat out'}: {alone} "
                    f"answers in {options.seconds:g} s alone, {beside} beside {options.recordings} "
                    f"that send recordings ({options.mode}): {beside / alone:.0%}; {count} "
                    f"recordings ended, the last {rest:.1f} s after the live clients",
                    flush=True,
                )
            print(f"    median {np.median(ratios):.0%}, mean {np.mean(ratios):.0%}", flush=True)


def counts(metrics: str, name: str) -> dict[float, float]:
    """Buckets of a histogram: how many took no more seconds than each bound."""
    rows = re.findall(rf'^audiotok_{name}_bucket{{le="(\S+)"}} (\S+)', metrics, re.MULTILINE)
    return {float(bound): float(count) for bound, count in rows}


def percentile(before: str, after: str, name: str, share: float) -> float:
    """The least bucket of what came between that so many do not exceed, in ms."""
    first = counts(before, name)
    rows = {bound: count - first[bound] for bound, count in counts(after, name).items()}
    total = max(rows.values())
    return next(1000 * bound for bound, count in rows.items() if count >= share * total)


def value(metrics: str, name: str) -> float:
    """One of the numbers that Prometheus is told."""
    found = re.search(rf"^audiotok_{name} (\S+)", metrics, re.MULTILINE)
    assert found, name
    return float(found[1])


def cpu_seconds(process: int) -> np.ndarray:
    """What a process has used of all cores: all its threads, and the one that has the sockets."""
    files = (f"/proc/{process}/stat", f"/proc/{process}/task/{process}/stat")
    fields = [Path(file).read_text().rpartition(")")[2].split()[11:13] for file in files]
    return np.array(fields, int).sum(1) / os.sysconf("SC_CLK_TCK")


def get(host: str, port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://{host}:{port}{path}") as answer:
        return answer.read().decode()


def measured(
    clients: int, seconds: float, options: argparse.Namespace, checkout: Path = ROOT
) -> dict[str, float]:
    """The delays of one server with so many clients, and what it needs for them."""
    with serving(options, checkout) as (server, host, port):
        hello = json.loads(get(host, port, "/healthz"))
        memory = value(get(host, port, "/metrics"), "resident_bytes")
        audio = Audio.load(SPEECH).resample(16000).samples
        count = int(seconds * 50)
        pieces = audio.repeat(1, 1 + count * 320 // audio.shape[1]).split(320, 1)[:count]
        frames = [frame(protocol.audio(piece.numpy(), "s16le"), 2) for piece in pieces]

        async def load() -> tuple[str, list[tuple[list[float], dict[str, object]]]]:
            start, turn = perf_counter() + 1, torch.rand(clients).tolist()
            talks = asyncio.gather(
                *(client(host, port, frames, start + 0.02 * t, 0.02) for t in turn)
            )
            await asyncio.sleep(1.5)  # half a second to warm up
            return await asyncio.to_thread(get, host, port, "/metrics"), await talks

        begin, before, used = perf_counter(), os.times(), cpu_seconds(server.pid)
        warm, results = asyncio.run(load())
        wall, after = perf_counter() - begin, os.times()
        used = cpu_seconds(server.pid) - used
        metrics = get(host, port, "/metrics")
        more = value(metrics, "resident_bytes") - memory
    delays = [delay for mine, _ in results for delay in mine[25:]]
    all_of, late = spread(delays), sum(delay > 0.02 for delay in delays)
    p50, p99 = (percentile(warm, metrics, "step_seconds", share) for share in (0.5, 0.99))
    abreast = value(metrics, "step_clients_sum") / value(metrics, "step_clients_count")
    each = used / len(frames) / clients * 1000
    print(
        f"{hello['codec']}, {clients:3} clients: frame there and back {all_of}; "
        f"{late / len(delays):.2%} later than 20 ms; step p50 {p50:g} ms, "
        f"p99 {p99:g} ms, of {abreast:.1f} clients; "
        f"{more / clients / 1e6:.2f} MB a client; server {used[0] / wall:.0%} of a core, "
        f"{each[0]:.2f} ms of it a frame, {each[1]:.2f} for sockets; load generator "
        f"{(after.user - before.user + after.system - before.system) / wall:.0%} of a core",
        flush=True,
    )
    return {
        "p99, ms": 1000 * float(np.percentile(delays, 99)),
        "median, ms": 1000 * float(np.median(delays)),
        "CPU of a frame, ms": float(each[0]),
    }


def compared(options: argparse.Namespace) -> None:
    """This build's server and another's in turns, and the numbers of clients that they hold."""
    builds = {"before": options.against.resolve(), "now": ROOT}
    scores: dict[str, dict[str, float]] = {}
    held: dict[str, int] = dict.fromkeys(builds, 0)
    failed = dict.fromkeys(builds, False)  # and more clients do not count either
    for clients in sorted(options.clients):
        rounds: dict[str, list[dict[str, float]]] = {build: [] for build in builds}
        for _ in range(options.rounds):
            for build, checkout in builds.items():
                rounds[build].append(measured(clients, options.seconds, options, checkout))
        row = scores[f"{clients} conversations"] = {}
        for build, facts in rounds.items():
            for name in facts[0]:
                row[f"{build}, {name}"] = round(float(np.median([one[name] for one in facts])), 3)
            failed[build] |= row[f"{build}, p99, ms"] > 20
            held[build] = held[build] if failed[build] else clients
        print(f"{clients} conversations: {row}", flush=True)
    scores["conversations within 20 ms"] = {**held, "ratio": held["now"] / max(1, held["before"])}
    print(scores["conversations within 20 ms"])
    if options.json:
        words = shown(sys.argv[1:], against=options.against)
        about = {
            "command": f"python tests/bench/serve.py {words}",
            "machine": f"{machine()}, clients on the same cores",
            "date": datetime.now(timezone.utc).date().isoformat(),
            "commit": commit(ROOT),
            "before": commit(options.against),
            "unit": "delay of a frame there and back, medians; of all threads",
        }
        options.json.write_text(json.dumps(about | {"scores": scores}, indent=1) + "\n", "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 10, 20, 40])
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--codec", default="speech")
    parser.add_argument("--backend", default="onnx")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--gather", type=float, help="ms; what the server does by itself if not")
    parser.add_argument("--recordings", type=int, default=0, help="clients beside the live ones")
    parser.add_argument("--mode", default="encode", help="of recordings: encode or both")
    parser.add_argument("--repeat", type=int, default=1, help="with --recordings")
    parser.add_argument("--against", type=Path, help="another checkout, whose server takes turns")
    parser.add_argument("--rounds", type=int, default=3, help="with --against")
    parser.add_argument("--json", type=Path, help="with --against: file to write the results to")
    options = parser.parse_args()
    cpu = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())[:1]
    print(f"{cpu or platform.processor()}, {os.cpu_count()} cores, torch {torch.__version__}")
    if options.against:
        return compared(options)
    for clients in options.clients:
        if options.recordings:
            disturbed(clients, options)
        else:
            measured(clients, options.seconds, options)
    return None


if __name__ == "__main__":
    main()
