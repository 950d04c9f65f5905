"""`audiotok serve` and its client: the same codes for everybody, and an end in good order."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import signal
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from commandline import audiotok, background, small
from contracts import noise
from serving import Running, answer, serving, speech, start, until
from sizes import SIZES, made
from test_backends import as_exported

from audiotok.audio.audio import Audio
from audiotok.codecs.checkpoint import load
from audiotok.codecs.embeddings import entries_of
from audiotok.runtime.stream import Stream
from audiotok.serving.client import AsyncClient, Client, ClientError
from audiotok.serving.server import protocol
from audiotok.serving.server.protocol import Limits
from audiotok.serving.server.run import listen, make_server
from audiotok.serving.server.sessions import Settings
from audiotok.tokens.colours import code_colours, similarity_colours
from audiotok.tokens.tokens import Tokens


@pytest.fixture(scope="module", params=[False, True], ids=["torch", "exported"])
def server(request: pytest.FixtureRequest) -> Iterator[Running]:
    with serving(exported=request.param) as running:
        yield running


def offline(running: Running, samples: np.ndarray, codebooks: int | None = None) -> Tokens:
    return running.codec.encode(Audio(torch.from_numpy(samples), 16000), codebooks=codebooks)


@pytest.mark.parametrize("seconds", [0, 1 / 16000, 0.31, 3.0])
def test_a_recording_there_and_back_is_what_it_is_here(server: Running, seconds: float):
    samples = speech(seconds)
    here = offline(server, samples)
    with Client(server.url) as client:
        tokens = client.encode(samples)
        assert tokens == here
        assert client.encode(samples, codebooks=2) == here.first(2)
        back = client.decode(tokens)
        assert np.allclose(
            back, server.codec.decode(here).samples.numpy(), rtol=0, atol=server.apart
        )
        coarse = client.decode(tokens.first(2))
        here = server.codec.decode(here.first(2)).samples.numpy()
        assert np.allclose(coarse, here, rtol=0, atol=server.apart)


@pytest.mark.parametrize("encoding", ["f32le", "s16le"])
@pytest.mark.parametrize("length", [1, 12480, 12481, 12700, 12800])
def test_piece_by_piece_both_ways(server: Running, encoding: str, length: int):
    samples = (np.round(speech(0.8) * 32768) / 32768).astype("f4")  # as 16 bits have it
    samples = samples[:, :length]
    here = offline(server, samples)
    with Client(server.url) as client, client.start("both", format=encoding) as talk:
        heard = [talk.push(piece) for piece in np.split(samples, range(100, length, 357), 1)]
        heard.append(talk.finish())
        assert talk.summary["samples"] == length
        assert 0 < talk.summary["p50_ms"] <= talk.summary["p99_ms"]
        # The connection can be used again.
        assert client.encode(samples) == here
    assert np.array_equal(np.hstack([h.codes for h in heard]), here.codes)
    back = np.hstack([h.samples for h in heard])
    assert back.shape == samples.shape
    wanted = server.codec.decode(here).samples.numpy()
    assert np.allclose(back, wanted, atol=1e-4 if encoding == "s16le" else 1e-5)


def test_the_number_of_codebooks_changes_while_it_goes_on(server: Running):
    samples = speech(0.6)
    here = offline(server, samples)
    with Client(server.url) as client, client.start("both") as talk:
        talk.decode_with(1)
        first = talk.push(samples[:, :4800])
        talk.decode_with(4)
        rest = [talk.push(samples[:, 4800:]), talk.finish()]
    assert np.array_equal(np.hstack([h.codes for h in (first, *rest)]), here.codes)
    back = np.hstack([first.samples, *(h.samples for h in rest)])
    assert back.shape == samples.shape
    coarse = server.codec.decode(here.first(1)).samples.numpy()
    assert np.allclose(back[:, :3000], coarse[:, :3000], atol=1e-5)
    fine = server.codec.decode(here).samples.numpy()
    assert not np.allclose(back[:, -1000:], coarse[:, -1000:], atol=1e-3)
    assert np.allclose(back[:, -100:], fine[:, -100:], atol=0.2)


def test_many_at_once_each_get_their_own(server: Running):
    """Clients of all kinds, pacing as they like: everybody's codes are those they get alone."""
    recordings = [speech(0.3 + 0.07 * i, seed=i) for i in range(12)]

    async def one(i: int) -> np.ndarray:
        draw = np.random.default_rng(i)
        codes = []
        mode: protocol.Mode = "both" if i % 2 else "encode"
        async with (
            AsyncClient(server.url) as client,
            client.start(mode, live=i % 3 > 0) as talk,
        ):

            async def send() -> None:
                at = 0
                while at < recordings[i].shape[1]:
                    step = int(draw.integers(1, 900))
                    await talk.send(recordings[i][:, at : at + step])
                    at += step
                    await asyncio.sleep(float(draw.random()) / 200)
                await talk.end()

            sending = asyncio.create_task(send())
            codes.extend([heard.codes async for heard in talk])
            await sending
        return np.hstack(codes)

    async def everybody() -> list[np.ndarray]:
        return await asyncio.gather(*map(one, range(len(recordings))))

    for samples, codes in zip(recordings, asyncio.run(everybody()), strict=True):
        assert np.array_equal(codes, offline(server, samples).codes)
    metrics = server.get("/metrics")[1]
    abreast = re.search(r"audiotok_step_clients_bucket\{le=\"1.0\"\} (\S+)", metrics)
    steps = re.search(r"audiotok_step_clients_count (\S+)", metrics)
    assert abreast
    assert steps
    assert float(abreast[1]) < float(steps[1]), "nobody was ever stepped beside another"


def test_tokens_of_another_codec_are_refused(server: Running):
    tokens = offline(server, speech(0.2))
    other = Tokens.__new__(Tokens)
    other.__dict__.update(tokens.__dict__ | {"fingerprint": "0" * 16})
    with Client(server.url) as client:
        with pytest.raises(ClientError, match="the server has"):
            client.decode(other)
        start(client, "decode", fingerprint="0" * 16)
        assert answer(client)["code"] == "wrong_codec"


def test_tokens_under_a_former_name_of_the_same_codes_are_decoded():
    codec = load(small())
    codec.former_fingerprints = ("0123456789abcdef",)
    with serving(codec=codec) as server, Client(server.url) as client:
        tokens = offline(server, speech(0.2))
        before = replace(tokens, fingerprint="0123456789abcdef")
        assert np.array_equal(client.decode(before), client.decode(tokens))
        asked = {"mode": "decode", "codec": "speech", "fingerprint": before.fingerprint}
        assert protocol.Start.read(asked, client.hello).mode == "decode"


def test_a_codec_that_needs_the_whole_is_served_in_windows():
    codec = made("speechtokenizer", SIZES["speechtokenizer"][0])
    context = 10 / float(codec.frame_rate)
    samples = noise(codec, 60 * codec.frame_size + 17).samples.numpy()
    stream = Stream(codec, context=context)
    codes = stream.encode(torch.from_numpy(samples))
    sound = stream.decode(codes)
    rest = stream.finish()
    codes, sound = (torch.cat(pair, 1).numpy() for pair in zip((codes, sound), rest, strict=True))
    with (
        serving(codec=codec, context=context) as running,
        Client(running.url) as one,
        Client(running.url) as other,
    ):
        with one.start("both", format="f32le") as talk:
            heard = [talk.push(piece) for piece in np.split(samples, [1, 1000, 1200, 2000], 1)]
            tokens = other.encode(samples)
            heard.append(talk.finish())
        assert np.array_equal(tokens.codes, codes)
        assert np.allclose(other.decode(tokens), sound, atol=1e-5)
        assert np.array_equal(np.hstack([h.codes for h in heard]), codes)
        back = np.hstack([h.samples for h in heard])
        assert back.shape == samples.shape
        assert np.allclose(back, sound, atol=1e-5)
        assert other.hello.latency == stream.latency.algorithmic == pytest.approx(3 * context)
    with pytest.raises(ValueError, match=r"cannot stream exactly; context=SECONDS lets"):
        make_server(codec, Settings())
    exported = as_exported(codec, steps=False)
    with serving(codec=exported, context=context) as running, Client(running.url) as client:
        assert (client.encode(samples).codes != codes).any(0).sum() <= 1


def test_the_colours_of_tokens_are_told_at_any_time(server: Running):
    """By embeddings in torch, by number for an exported codec; a conversation goes on after it."""
    samples = speech(0.3)
    with Client(server.url) as client:
        start(client, "encode")
        client.send(protocol.dumps("colours"))
        message = answer(client)
        protocol.check(message, protocol.SERVER, {})
        tables = [np.frombuffer(base64.b64decode(x), np.uint8) for x in message["tables"]]
        embeddings = entries_of(server.manager.engine.codec)
        if embeddings is None:
            assert message["by"] == "code"
            wanted = [code_colours()]
        else:
            assert message["by"] == "similarity"
            wanted = similarity_colours(embeddings)
        assert all(np.array_equal(a, b.ravel()) for a, b in zip(tables, wanted, strict=True))
        client.send(protocol.audio(samples, "s16le"))
        client.send(protocol.dumps("end"))
        assert answer(client)["samples"] == samples.shape[1]
        client.send(protocol.dumps("colours", of="all"))
        assert "colours has no field 'of'" in answer(client)["message"]


def test_health_metrics_and_the_page(server: Running):
    status, text = server.get("/healthz")
    assert (status, json.loads(text)["status"], json.loads(text)["codec"]) == (200, "ok", "speech")
    assert "audiotok_clients" in server.get("/metrics")[1]
    status, page = server.get("/")
    assert status == 200
    assert not re.search(r"(src|href)=\"(https?:)?//", page), "it asks for something elsewhere"
    for name in re.findall(r'(?:src|href)="([\w.]+)"', page):
        assert server.get(f"/{name}")[0] == 200
    assert server.get("/../sessions.py")[0] == 404
    assert server.get("/nothing")[0] == 404


def test_who_may_come_in():
    with serving(token="sesame-öffne") as running:
        with pytest.raises(ClientError, match=r"refused \(401\): a bearer token is needed"):
            Client(running.url)
        with pytest.raises(ClientError, match="401"):
            Client(running.url, token="sesam")
        with Client(running.url, token="sesame-öffne") as client:
            assert client.encode(speech(0.1)).frames == 5
        assert running.get("/metrics")[0] == 401
        assert running.get("/healthz")[0] == 200


def test_a_browsers_token_and_its_origin():
    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import connect

    with serving(token="sesame", origins=("https://elsewhere.example",)) as running:
        url, offers = running.url + protocol.PATH, [protocol.SUBPROTOCOL, "bearer.c2VzYW1l"]
        mine = f"http://127.0.0.1:{running.port}"
        for origin in (mine, "https://elsewhere.example"):
            with connect(url, subprotocols=offers, origin=origin, proxy=None) as socket:  # type: ignore[arg-type]
                assert socket.subprotocol == protocol.SUBPROTOCOL
                assert json.loads(socket.recv())["codec"] == "speech"
        for origin in ("http://evil.example", "null", "http://127.0.0.1:1"):
            with pytest.raises(InvalidStatus) as caught:  # noqa: SIM117
                with connect(url, subprotocols=offers, origin=origin, proxy=None):  # type: ignore[arg-type]
                    pass
            assert caught.value.response.status_code == 403
        # A name that was made to point here (DNS rebinding) is none of this server's.
        assert running.get("/", Host="evil.example", Origin="http://evil.example")[0] == 421
        assert running.get("/", Host=f"localhost:{running.port}")[0] == 200


def test_no_more_than_so_many():
    with serving(limits=Limits(clients=2)) as running:
        full = pytest.raises(ClientError, match=r"refused \(503\): 2 clients are here already")
        with Client(running.url), Client(running.url), full:
            Client(running.url)
        until(running.empty)
        with Client(running.url) as client:
            assert client.hello.codec == "speech"
    with (
        serving(memory_mb=1) as running,
        pytest.raises(ClientError, match="short of memory"),
    ):
        Client(running.url)


def test_a_drain_lets_conversations_end():
    samples = speech(0.5)
    with serving(drain_seconds=20) as running:
        here = offline(running, samples)
        with Client(running.url) as client, client.start("encode") as talk:
            first = talk.push(samples[:, :4000])
            running.leave()
            until(lambda: running.manager.draining)
            assert running.get("/healthz")[0] == 503
            with pytest.raises(ClientError, match=r"503.*going away"):
                Client(running.url)
            rest = [talk.push(samples[:, 4000:]), talk.finish()]
            assert talk.draining
        codes = np.hstack([h.codes for h in (first, *rest)])
        assert np.array_equal(codes, here.codes)
        running.thread.join(10)  # nobody is left: it does not wait
        assert not running.thread.is_alive()


def test_at_the_end_of_a_drain_who_is_left_gets_the_rest():
    samples = speech(0.5)
    with serving(drain_seconds=0.2) as running, Client(running.url) as client:
        here = offline(running, samples)
        start(client, format="f32le")
        client.send(protocol.audio(samples, "f32le"))
        until(lambda: 'samples_total{way="in"} 8000' in running.get("/metrics")[1])
        running.leave()
        said, codes = [], []
        while not said or said[-1]["type"] != "error":
            message = client.receive(timeout=20)
            if isinstance(message, bytes):
                codes.append(protocol.binary(message, client.hello, "f32le")[1])
            else:
                said.append(json.loads(message))
        assert [row["type"] for row in said] == ["draining", "end", "error"]
        assert said[-1]["code"] == "draining"
        assert np.array_equal(np.hstack(codes), here.codes)
        running.thread.join(10)
        assert not running.thread.is_alive()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_serves_and_drains(number: int):
    child = background("serve", "--codec", small(), "--port", "0")
    assert child.stdout
    found = re.search(r"http://127.0.0.1:(\d+)/", child.stdout.readline())
    assert found
    try:
        with Client(f"http://127.0.0.1:{found[1]}/") as client:
            assert client.encode(speech(0.1)).frames == 5
    finally:
        os.kill(child.pid, number)
        _, said = child.communicate(timeout=60)
    assert (child.returncode, said) == (0, "")


def test_it_ends_though_nobody_reads_what_it_says():
    child = background("serve", "--codec", small(), "--port", "0", "--drain", "0.2")
    assert child.stdout
    assert child.stderr
    found = re.search(r":(\d+)/", child.stdout.readline())
    assert found
    child.stderr.close()
    try:
        with Client(f"ws://127.0.0.1:{found[1]}"):
            os.kill(child.pid, signal.SIGTERM)
            assert child.wait(30) == 0
    finally:
        child.kill()
        child.stdout.close()


def test_errors_of_the_command_are_one_line(server: Running):
    done = audiotok("serve", "--codec", small(), "--port", server.port)
    assert done.code == 1
    assert len(done.lines) == 1
    assert f"cannot listen on 127.0.0.1 port {server.port}" in done.err
    assert "cannot read" in audiotok("serve", "--codec", small(), "--cert", "nowhere.pem").err


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("ftp://somewhere", "not the address of a server"),
        ("ws://127.0.0.1:9", "is `audiotok serve` running there"),
    ],
)
def test_a_client_without_a_server(url: str, says: str):
    with pytest.raises(ClientError) as caught:
        Client(url)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_server_that_is_none(tmp_path: Path):
    from http.server import HTTPServer, SimpleHTTPRequestHandler

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Quiet) as other:
        thread = threading.Thread(target=other.handle_request)
        thread.start()
        with pytest.raises(ClientError, match=r"ws://127.0.0.1:\d+/v1/stream: "):
            Client(f"ws://127.0.0.1:{other.server_port}")
        thread.join()


def test_an_answer_waits_for_no_acknowledgement():
    """Without this option it would wait for the client's next message, a frame later."""
    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
