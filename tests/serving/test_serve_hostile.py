"""Clients that are malformed, oversized, slow, half-open or hostile: they get one line, nothing of
them stays, and whoever is beside them keeps exact codes."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from serving import Running, answer, serving, speech, start, until
from websockets.exceptions import ConnectionClosed

from audiotok.audio.audio import Audio
from audiotok.runtime.stream import Stream
from audiotok.serving.client import AsyncClient, Client, ClientError
from audiotok.serving.server import protocol
from audiotok.serving.server.metrics import resident
from audiotok.serving.server.protocol import Limits, ProtocolError

HELLO = protocol.Hello(
    codec="speech",
    fingerprint="f",
    sample_rate=16000,
    channels=1,
    frame_size=320,
    codebooks=2,
    sizes=(64, 100),
    latency=0.04,
    limits={},
)
LIMITS = Limits(message_bytes=20_000, clients=40)


@pytest.fixture(scope="module", params=[False, True], ids=["torch", "exported"])
def server(request: pytest.FixtureRequest) -> Iterator[Running]:
    with serving(exported=request.param, limits=LIMITS) as running:
        yield running


@contextmanager
def neighbour(running: Running) -> Iterator[None]:
    """Somebody who speaks all the while, and is served as if nobody else were there."""
    samples, over, found = speech(4, seed=9), threading.Event(), []

    def speak() -> None:
        with Client(running.url) as client, client.start("encode") as talk:
            codes = []
            for piece in np.split(samples, range(320, samples.shape[1], 320), 1):
                codes.append(talk.push(piece).codes)
                if not over.is_set():
                    time.sleep(0.01)
            codes.append(talk.finish().codes)
            found.append(np.hstack(codes))

    thread = threading.Thread(target=speak)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(60)
    here = running.codec.encode(Audio(torch.from_numpy(samples), 16000))
    assert len(found) == 1
    assert np.array_equal(found[0], here.codes)


AUDIO = protocol.audio(np.zeros((1, 320), "f4"), "s16le")
MALFORMED: list[tuple[str, list[Any], str, str]] = [
    ("no JSON", ["{"], "malformed", "not JSON"),
    ("deep JSON", ["[" * 9000], "malformed", "not JSON"),
    ("no object", ["[1]"], "malformed", "no JSON object"),
    ("no such thing", ['{"type": "fly"}'], "malformed", "there is no message 'fly'"),
    ("audio before start", [AUDIO], "out_of_order", "nothing was started"),
    ("end before start", ['{"type": "end"}'], "out_of_order", "nothing was started"),
    ("start twice", ["start", "start"], "out_of_order", "start comes after end"),
    ("a mode", ['{"type": "start", "mode": "sing"}'], "malformed", "mode is 'sing'"),
    ("a format", ['{"type": "start", "mode": "both", "format": "mp3"}'], "malformed", "mp3"),
    ("codebooks", ['{"type": "start", "mode": "both", "codebooks": 99}'], "malformed", "1 to 4"),
    (
        "a list for a format",
        ['{"type": "start", "mode": "both", "format": []}'],
        "malformed",
        "format is []",
    ),
    ("an object for a mode", ['{"type": "start", "mode": {}}'], "malformed", "mode is {}"),
    ("no mode", ['{"type": "start"}'], "malformed", "start lacks mode"),
    (
        "live",
        ['{"type": "start", "mode": "both", "live": 1}'],
        "malformed",
        "live is 1; it is true or",
    ),
    (
        "a field",
        ['{"type": "start", "mode": "both", "formt": 1}'],
        "malformed",
        "no field 'formt'; there",
    ),
    ("a field of end", ["start", '{"type": "end", "sample": 1}'], "malformed", "no field 'sample'"),
    ("no codebooks", ["start", '{"type": "codebooks"}'], "malformed", "codebooks lacks codebooks"),
    ("infinite", ["start", '{"type": "end", "samples": 1e999}'], "malformed", "samples is inf"),
    (
        "a long mode",
        [json.dumps({"type": "start", "mode": "\xe9" * 900})],
        "malformed",
        "mode is '",
    ),
    ("a codec", ['{"type": "start", "mode": "both", "codec": "x"}'], "wrong_codec", "speech"),
    ("decode blindly", ['{"type": "start", "mode": "decode"}'], "wrong_codec", "None"),
    ("nothing", ["start", b""], "malformed", "its header alone has 8"),
    ("a kind", ["start", b"\x07" + bytes(7)], "malformed", "kind 7"),
    ("too short", ["start", AUDIO[:-1]], "malformed", "are not 320 samples"),
    ("a count", ["start", struct.pack("<BBHI", 1, 0, 1, 2**32 - 1)], "malformed", "are not"),
    ("channels", ["start", struct.pack("<BBHI", 1, 0, 9, 0)], "malformed", "9 channels"),
    ("tokens up", ["start", protocol.tokens(np.zeros((4, 1), int), [6] * 4)], "malformed", "audio"),
    (
        "samples",
        ["start", '{"type": "end", "samples": -1}'],
        "malformed",
        "a whole number of samples",
    ),
    ("a length", ["start", '{"type": "end", "samples": 5}'], "malformed", "is of a decoding"),
    ("books", ["start", '{"type": "codebooks", "codebooks": 1}'], "malformed", "in both"),
]


@pytest.mark.parametrize(
    ("messages", "code", "says"), [row[1:] for row in MALFORMED], ids=[r[0] for r in MALFORMED]
)
def test_malformed(server: Running, messages: list[Any], code: str, says: str):
    with Client(server.url) as client:
        for message in messages:
            if message == "start":
                start(client)
            else:
                client.send(message)
        said = answer(client)
        assert (said["type"], said["code"]) == ("error", code)
        assert says in said["message"]
        assert "\n" not in said["message"]
        assert len(said["message"]) < 200
        with pytest.raises(Exception, match=r"received 10\d\d"):
            client.receive(timeout=20)
    until(server.empty)


def test_nan_is_refused_and_harms_nobody(server: Running):
    with neighbour(server), Client(server.url) as client:
        start(client, format="f32le")
        client.send(protocol.audio(np.full((1, 320), np.nan, "f4"), "f32le"))
        assert "not a finite number" in answer(client)["message"]


def test_too_much_at_once(server: Running):
    with neighbour(server), Client(server.url) as client:
        start(client)
        client.send(protocol.audio(np.zeros((1, 20_000), "f4"), "s16le"))
        with pytest.raises(Exception, match="1009"):
            client.receive(timeout=20)
    until(server.empty)


def test_fuzz(server: Running):
    """Any bytes at all: an answer or a refusal, never an internal error."""
    draw = np.random.default_rng(0)
    with neighbour(server):
        for i in range(40):
            with Client(server.url) as client:
                start(client, ("encode", "decode", "both")[i % 3])
                data = bytearray(AUDIO if i % 2 else draw.bytes(int(draw.integers(0, 300))))
                for _ in range(int(draw.integers(0, 4))):
                    if data:
                        data[int(draw.integers(0, min(len(data), 12)))] = int(draw.integers(256))
                client.send(bytes(data))
                with suppress(ConnectionClosed):  # it has been refused already
                    client.send('{"type": "end"}')
                assert answer(client).get("code") != "internal"
    until(server.empty)


def test_binary_messages_read_back_or_are_refused():
    draw = np.random.default_rng(1)
    for frames in (0, 1, 7):
        codes = np.stack([draw.integers(0, size, frames) for size in HELLO.sizes])
        kind, back = protocol.binary(protocol.tokens(codes, HELLO.widths), HELLO, "s16le")
        assert kind == protocol.TOKENS
        assert np.array_equal(back, codes)
    with pytest.raises(ProtocolError, match="code 101 in codebook 1, of 100"):
        protocol.binary(protocol.tokens(np.array([[1], [101]]), [6, 7]), HELLO, "s16le")
    for _ in range(3000):
        data = draw.bytes(int(draw.integers(0, 40)))
        with suppress(ProtocolError):  # and nothing else
            assert protocol.binary(data, HELLO, "f32le")[1].ndim == 2


def test_who_reads_nothing_is_cut_off():
    """Their answers fill the pipes; then they are stopped, and then thrown out."""
    with serving(limits=LIMITS, send_seconds=0.5) as running, neighbour(running):
        raw = _raw(running)
        _send(raw, b'{"type": "start", "mode": "both", "live": false, "format": "f32le"}', 1)
        loud = protocol.audio(speech(0.3), "f32le")
        raw.settimeout(20)  # longer than a busy machine takes for a piece
        with pytest.raises(OSError, match=r"timed out|reset|[Bb]roken"):  # it is read no more
            any(_send(raw, loud, 2) for _ in range(1000))
        until(lambda: 'how="too_slow"' in running.get("/metrics")[1])  # by itself
        raw.close()


def test_idle_and_long_sessions_end():
    with serving(limits=Limits(idle_seconds=0.3)) as running, Client(running.url) as client:
        assert answer(client)["code"] == "idle"
    with serving(limits=Limits(session_seconds=0.4)) as running, Client(running.url) as client:
        start(client)
        said: list[str] = []

        def speak() -> None:
            with suppress(Exception):  # when it is over
                while True:
                    client.send(AUDIO)
                    time.sleep(0.02)

        thread = threading.Thread(target=speak)
        thread.start()
        said.append(answer(client)["code"])
        client.close()
        thread.join()
        assert said == ["session_time"]


def test_half_open_connections_are_found():
    """A client whose machine is gone answers no ping; one that asks for nothing gets no time."""
    with serving(ping_seconds=1.0) as running:
        raw = _raw(running)
        _send(raw, b'{"type": "start", "mode": "encode"}', 1)
        until(lambda: running.manager.engine.conversations == 1)
        until(lambda: running.manager.engine.conversations == 0)  # it never read, nor answered
        raw.close()


def test_connections_that_ask_for_nothing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("audiotok.serving.server.run.HEADER_SECONDS", 0.3)
    with serving() as running, neighbour(running):
        silent = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(30)]
        silent[0].send(b"GET / HTTP/1.1\r\nHost: 127")
        for one in silent:
            one.settimeout(20)
            with one, suppress(ConnectionResetError):
                assert one.recv(100) == b""


def test_who_goes_without_goodbye_leaves_nothing(server: Running):
    def rough(i: int) -> None:
        raw = _raw(server)
        _send(raw, b'{"type": "start", "mode": "both"}', 1)
        for _ in range(i % 4):
            _send(raw, AUDIO, 2)
        if i % 2:  # a reset
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raw.close()

    def round_of_them() -> tuple[int, int, int]:
        for i in range(30):
            rough(i)
        until(server.empty)
        gc.collect()
        streams = sum(type(thing) is Stream for thing in gc.get_objects())
        return streams, threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))

    with neighbour(server):
        round_of_them()
    first = round_of_them()
    memory = resident()
    last = [round_of_them() for _ in range(4)][-1]
    assert last[0] <= first[0]
    assert last[1] <= first[1]
    assert last[2] <= first[2] + 2
    assert resident() - memory < 20e6


def test_a_flood_of_small_messages_does_not_starve_others(server: Running):
    with neighbour(server), Client(server.url) as client:
        start(client)
        tiny = protocol.audio(np.zeros((1, 1), "f4"), "s16le")
        for _ in range(3000):
            client.send(tiny)
        client.send('{"type": "end"}')
        assert answer(client)["samples"] == 3000


def test_a_step_that_fails_ends_those_in_it_and_no_others(
    server: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def fails(*_: object) -> None:
        raise MemoryError

    with Client(server.url) as client:
        start(client)
        with monkeypatch.context() as patch:
            patch.setattr(server.manager.engine.batch, "encode", fails)
            client.send(AUDIO)
            said = answer(client)
        assert (said["code"], said["message"]) == ("internal", "a step failed: MemoryError")
    with Client(server.url) as client:
        assert client.encode(speech(0.1)).frames == 5
    assert "a step of 1 conversations failed" in caplog.text


def test_the_client_is_told_in_one_line(server: Running):
    with Client(server.url) as client, client.start("encode", codebooks=99) as talk:
        with pytest.raises(ClientError, match="codebooks is 99; there are 1 to 4") as caught:
            talk.finish()
        assert caught.value.code == "malformed"


@pytest.mark.parametrize("how", ["push", "decode_with", "finish"])
def test_what_the_server_said_before_it_hung_up_is_told(server: Running, how: str):
    with Client(server.url) as client, client.start("encode", codebooks=99) as talk:
        until(lambda: client._socket.close_code is not None)
        given = {"push": [speech(0.1)], "decode_with": [1], "finish": []}[how]
        with pytest.raises(ClientError, match="codebooks is 99; there are 1 to 4") as caught:
            getattr(talk, how)(*given)
        assert caught.value.code == "malformed"


@pytest.mark.parametrize("how", ["send", "end"])
def test_what_it_said_is_told_in_asyncio_too(server: Running, how: str):
    async def talk() -> None:
        async with (
            AsyncClient(server.url) as client,
            client.start("encode", codebooks=99) as conversation,
        ):
            await client._socket.wait_closed()
            await getattr(conversation, how)(*[speech(0.1)] * (how == "send"))

    with pytest.raises(ClientError, match="codebooks is 99; there are 1 to 4") as caught:
        asyncio.run(talk())
    assert caught.value.code == "malformed"


def _raw(running: Running) -> socket.socket:
    """A socket that has said hello and reads no more."""
    raw = socket.create_connection(("127.0.0.1", running.port))
    lines = [f"GET {protocol.PATH} HTTP/1.1", f"Host: 127.0.0.1:{running.port}"]
    lines += ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
    raw.sendall("\r\n".join([*lines, "Sec-WebSocket-Key: " + "A" * 22 + "==", "", ""]).encode())
    head = b""
    while b"\r\n\r\n" not in head:
        head += raw.recv(1)
    assert head.startswith(b"HTTP/1.1 101")
    return raw


def _send(raw: socket.socket, payload: bytes, kind: int) -> None:
    size = len(payload)
    head = bytes([0x80 | kind, 0x80 | min(size, 126)])
    raw.sendall(head + (size.to_bytes(2, "big") if size > 125 else b"") + bytes(4) + payload)


def test_hello_is_what_it_says():
    said = json.loads(protocol.dumps("hello", HELLO))
    assert protocol.Hello.read(said) == HELLO
    for broken in ({}, {"type": "hello", "protocol": 2}, {"type": "hello", "protocol": 1}):
        with pytest.raises(ProtocolError):
            protocol.Hello.read(broken)
