"""A server with too much to do: who is live comes first, nobody starves, what nobody waits for is
dropped, and it ends when it is told to."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from serving import Running, answer, serving, speech, start, until

from audiotok.audio.audio import Audio
from audiotok.runtime.stream import StreamBatch
from audiotok.serving.client import Client
from audiotok.serving.server import protocol
from audiotok.serving.server.engine import Engine, StreamSession
from audiotok.serving.server.metrics import resident
from audiotok.serving.server.scheduling import Allowance
from audiotok.serving.server.sessions import Settings

FRAME = 320
LIVE_SECONDS, BLOCK_SECONDS = 0.004, 0.04  # of a step


@dataclass(eq=False)
class _Stream:
    block: int
    held: int = 0

    def finish_encode(self) -> np.ndarray:
        return np.zeros((1, 0), np.int64)


class _Sleeps(StreamBatch[Any]):
    """Steps that take a time of their own, whatever else the machine does."""

    executor = SimpleNamespace(plan=SimpleNamespace(block=50), numpy=lambda codes: codes)
    codec: Any = SimpleNamespace(frame_size=FRAME, channels=1, codebooks=1, executor=executor)

    def __init__(self) -> None:
        self.blocks, self.context = 0, None

    def open(self, *, block: int = 1) -> Any:
        return _Stream(block)

    def encode(self, pieces: Mapping[Any, Any]) -> dict[Any, Any]:
        made, size = {}, FRAME * next(iter(pieces)).block
        for stream, piece in pieces.items():
            stream.held += piece.shape[1]
            made[stream] = np.zeros((1, stream.held // size * stream.block), np.int64)
            stream.held %= size
        if any(codes.shape[1] for codes in made.values()):
            blocks = next(iter(pieces)).block > 1
            self.blocks += blocks
            time.sleep(BLOCK_SECONDS if blocks else LIVE_SECONDS)
        return made

    def decode(self, codes: Mapping[Any, Any]) -> dict[Any, Any]:
        raise AssertionError


async def _live(engine: Engine, end: float, pace: float) -> int:
    """The answers to a live client that sends a frame when the last is answered."""
    conversation, count = engine.open("encode", 1), 0
    piece, due = np.zeros((1, FRAME), np.float32), time.monotonic()
    while time.monotonic() < end:
        await engine.push(conversation, piece)
        count += 1
        due += pace
        await asyncio.sleep(max(0, due - time.monotonic()))
    engine.close(conversation)
    return count


async def _recording(engine: Engine, over: asyncio.Event) -> None:
    """One after the other, of 2 s each; the last one is finished."""
    while not over.is_set():
        conversation: StreamSession = engine.open("encode", 1, live=False)
        for _ in range(2):
            await engine.push(conversation, np.zeros((1, 50 * FRAME), np.float32))
        await engine.finish(conversation)
        engine.close(conversation)


def _counts(live: int, recordings: int, pace: float, seconds: float = 1.5) -> tuple[int, int]:
    """Answers to the live, and blocks of recordings meanwhile."""

    async def main() -> tuple[int, int]:
        steps = _Sleeps()
        engine, over = Engine(steps), asyncio.Event()
        tasks = [asyncio.create_task(_recording(engine, over)) for _ in range(recordings)]
        end = time.monotonic() + seconds
        counts = await asyncio.gather(*(_live(engine, end, pace) for _ in range(live)))
        blocks = steps.blocks
        over.set()
        await asyncio.wait_for(asyncio.gather(*tasks), 20)
        await asyncio.to_thread(engine.stop)
        return sum(counts), blocks

    return asyncio.run(main())


@pytest.mark.parametrize("live", [1, 3])
@pytest.mark.parametrize("pace", [0, 0.02, 0.1], ids=["flat-out", "frames", "pieces"])
def test_recordings_do_not_starve_those_who_are_live(live: int, pace: float):
    ratios, blocks = [], []
    # In a twentieth of the time, and where frames come five at a time in what that leaves.
    least = 4 if pace == 0.1 else 1
    for _ in range(3):  # the best of three: others use this machine too
        alone, _ = _counts(live, 0, pace)
        beside, count = _counts(live, 16, pace)
        ratios.append(beside / alone)
        blocks.append(count)
        if ratios[-1] > 0.8 and count >= least:
            break
    assert max(ratios) > 0.8, ratios
    assert max(blocks) >= least, "recordings starve"


def test_the_allowance_of_recordings():
    allowance = Allowance(0.0, share=0.1, most=0.01)
    assert allowance.wait(0.0, waits=True) == 0
    allowance.spend(0.04)
    assert allowance.wait(0.0, waits=False) == pytest.approx(0.3)
    assert allowance.wait(0.0, waits=True) == pytest.approx(0.4)
    assert allowance.wait(0.3, waits=False) == pytest.approx(0)
    assert allowance.wait(0.3, waits=True) == pytest.approx(0.1)
    assert allowance.wait(9.0, waits=True) == 0
    allowance.spend(0.01)  # it has grown no further than that
    assert allowance.wait(9.0, waits=True) == pytest.approx(0.1)


def _flood(hello: protocol.Hello, size: int = 250_000) -> bytes:
    """A message of tokens of one codebook: an hour and more of audio."""
    frames = size * 8 // hello.widths[0]
    return protocol.tokens(np.zeros((1, frames), np.int64), hello.widths)


def _decoded(running: Running) -> float:
    found = re.search(r'samples_total{way="out"} (\S+)', running.get("/metrics")[1])
    assert found
    return float(found[1])


class _Silent:
    """A client that reads nothing, or no more."""

    def __init__(self, port: int, *, hello: protocol.Hello) -> None:
        self.raw = socket.create_connection(("127.0.0.1", port))
        lines = [f"GET {protocol.PATH} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Upgrade: websocket"]
        lines += ["Connection: Upgrade", "Sec-WebSocket-Version: 13"]
        self.raw.sendall(
            "\r\n".join([*lines, "Sec-WebSocket-Key: " + "A" * 22 + "==", "", ""]).encode()
        )
        head = b""
        while b"\r\n\r\n" not in head:
            head += self.raw.recv(1)
        about = {"codec": hello.codec, "fingerprint": hello.fingerprint, "live": False}
        self.send(
            json.dumps({"type": "start", "mode": "decode", "codebooks": 1, **about}).encode(), 1
        )

    def send(self, payload: bytes, kind: int) -> None:
        head = bytes([0x80 | kind, 0x80 | 127]) + len(payload).to_bytes(8, "big")
        if kind == 8:
            head = bytes([0x88, 0x80 | len(payload)])
        self.raw.sendall(head + bytes(4) + payload)

    def reset(self) -> None:
        self.raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.raw.close()


def _hello(running: Running) -> protocol.Hello:
    with Client(running.url) as client:
        return client.hello


def test_a_long_message_is_decoded_as_it_is_read():
    with serving(send_seconds=60) as running, ExitStack() as ending:
        hello = _hello(running)
        flood = _flood(hello)
        seconds = len(flood) * 8 / hello.widths[0] * hello.frame_size / hello.sample_rate
        assert seconds > 3600
        before = resident()
        for _ in range(4):
            client = _Silent(running.port, hello=hello)
            ending.callback(client.reset)
            client.send(flood, 2)
        until(lambda: _decoded(running))
        time.sleep(1)
        # What the pipes hold, and a piece or two.
        assert _decoded(running) < 4 * 120 * hello.sample_rate
        assert resident() - before < 40e6


def test_a_long_message_is_decoded_to_the_last_sample():
    with serving() as running, Client(running.url) as client:
        hello = client.hello
        here = running.codec.encode(Audio(torch.from_numpy(speech(1111 * 0.02)), 16000)).first(2)
        start(client, "decode", codebooks=2, live=False, format="f32le")
        client.send(protocol.tokens(here.codes, hello.widths))
        client.send(json.dumps({"type": "end", "samples": here.samples}))
        pieces = []
        while isinstance(came := client.receive(timeout=20), bytes):
            pieces.append(protocol.binary(came, hello, "f32le")[1])
        assert json.loads(came)["samples"] == here.samples
        assert len(pieces) > 3
        assert np.allclose(np.hstack(pieces), running.codec.decode(here).samples.numpy(), atol=1e-5)


@pytest.mark.parametrize("how", ["reset", "leaves", "closes"])
def test_what_nobody_waits_for_is_dropped_within_a_second(how: str):
    with serving() as running:
        hello = _hello(running)
        until(running.empty)
        client = _Silent(running.port, hello=hello)
        client.send(_flood(hello), 2)
        if how != "closes":
            client.send(_flood(hello), 2)  # more than is read ahead
        until(lambda: _decoded(running))
        if how == "closes":
            client.send(b"", 8)
        elif how == "leaves":
            client.raw.close()
        else:
            client.reset()
        gone = time.monotonic()
        until(running.empty)
        assert time.monotonic() - gone < 1
        client.raw.close()


def test_it_ends_in_time_whatever_is_queued():
    """What the command takes more is to end Python."""
    with serving(drain_seconds=Settings().drain_seconds) as running, ExitStack() as ending:
        hello, clients = _hello(running), []
        for _ in range(4):
            client = _Silent(running.port, hello=hello)
            ending.callback(client.raw.close)
            client.send(_flood(hello), 2)
            clients.append(client)
        clients[0].raw.close()
        reads = threading.Thread(target=_drain, args=(clients[1].raw,))
        reads.start()
        until(lambda: _decoded(running))
        asked = time.monotonic()
        running.leave()
        running.thread.join(30)
        assert time.monotonic() - asked < 4
        reads.join(10)
        assert not reads.is_alive()


def _drain(raw: socket.socket) -> None:
    with suppress(OSError):
        while raw.recv(1 << 16):
            pass


def test_many_who_say_nothing_keep_nobody_out():
    with serving() as running, ExitStack() as ending:
        for i in range(300):
            silent = ending.enter_context(socket.create_connection(("127.0.0.1", running.port)))
            if i % 3 == 0:
                silent.sendall(b"GET / HTTP/1.1\r\nHost: 12")
        for path in ("/healthz", "/", "/metrics"):
            began = time.monotonic()
            assert running.get(path)[0] == 200
            assert time.monotonic() - began < 2
        with Client(running.url) as client:
            assert client.encode(speech(0.1)).frames == 5


def test_a_pong_behind_what_waits_is_no_pong_that_fails_to_come():
    """Whoever sends faster than it is served is asked for no pong until all is read."""
    with serving(ping_seconds=1) as running, Client(running.url) as client:
        start(client, live=False)
        piece = protocol.audio(np.zeros((1, 16000), "f4"), "s16le")
        slow = running.manager.engine.batch.encode
        batch: Any = running.manager.engine.batch

        def slowly(pieces: Any) -> Any:
            time.sleep(0.1)
            return slow(pieces)

        batch.encode = slowly
        try:
            for _ in range(40):
                client.send(piece)
            client.send('{"type": "end"}')
            assert answer(client)["samples"] == 40 * 16000
        finally:
            batch.encode = slow
