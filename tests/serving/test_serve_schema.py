"""Whatever is sent to the server, in messages or headers, it takes or refuses in one line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serving import Running, serving, until
from websockets.exceptions import ConnectionClosed

from audiotok.serving.client import Client
from audiotok.serving.server import protocol
from audiotok.serving.server.protocol import CLIENT, SERVER, Hello, ProtocolError
from audiotok.serving.server.sessions import SessionManager, Settings

HELLO = Hello(
    codec="speech",
    fingerprint="f",
    sample_rate=16000,
    channels=1,
    frame_size=320,
    codebooks=4,
    sizes=(64, 64, 64, 64),
    latency=0.04,
    limits={},
)
numbers = st.sampled_from([-1, 0, 1, 2, 4, 5, 99, 1 << 31, 1 << 64, 10**400]) | st.integers(-2, 6)
words = st.sampled_from(["encode", "decode", "both", "s16le", "f32le", "speech", "f", ""])
anything = st.recursive(
    st.none() | st.booleans() | numbers | st.floats() | words | st.text(max_size=200),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=5,
)
names = sorted(
    {name for schema in (CLIENT, SERVER) for fields in schema.values() for name in fields}
)
kinds = st.sampled_from([*CLIENT, *SERVER]) | anything
messages = st.builds(
    lambda kind, fields: {"type": kind, **fields},
    kinds,
    st.dictionaries(st.sampled_from(names) | st.text(max_size=6), anything, max_size=6),
)


def one_line(message: str) -> None:
    """Raises unless it can be shown, and a socket can be closed with it."""
    assert 0 < len(message) < 200
    assert message.isprintable()
    assert len(protocol.reason(message).encode()) <= 123


@settings(max_examples=300, deadline=None)
@given(messages)
def test_any_message_is_taken_as_declared_or_refused(message: dict[str, Any]):
    try:
        said = protocol.text(json.dumps(message))
        protocol.check(said, CLIENT, {"codebooks": 4})
        start = protocol.Start.read(said, HELLO) if said["type"] == "start" else None
    except ProtocolError as error:
        one_line(str(error))
        return
    assert set(said) - {"type"} <= set(CLIENT[said["type"]])
    assert 1 <= said.get("codebooks", 1) <= 4
    assert said.get("samples", 0) >= 0
    if start is not None:
        assert start.mode in ("encode", "decode", "both")
        assert start.format in ("s16le", "f32le")
        assert type(start.live) is bool


@settings(max_examples=150, deadline=None)
@given(messages)
def test_a_client_takes_what_a_server_says_or_refuses_it(message: dict[str, Any]):
    with suppress(ProtocolError):
        said = protocol.text(json.dumps(message))
        protocol.check(said, SERVER, {}, others=True)
        if said["type"] == "error":
            assert isinstance(said["message"], str)
        hello = Hello.read(said)
        assert len(hello.sizes) == hello.codebooks


def test_a_later_server_may_say_more():
    said = json.loads(protocol.dumps("hello", HELLO)) | {"weather": "fine"}
    assert Hello.read(said) == HELLO
    protocol.check({"type": "weather"}, SERVER, {}, others=True)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=30) | st.from_regex(r"\[?[0-9a-z.:]*\]?(:\d*)?"), st.booleans())
def test_any_host_and_origin_is_let_in_or_refused(text: str, loopback: bool):
    manager = SessionManager.__new__(SessionManager)
    manager.settings = Settings(host="127.0.0.1" if loopback else "0.0.0.0")
    for host, origin in ((text, None), ("localhost", text), (text, text), (text, f"http://{text}")):
        refusal = manager.stranger(host, origin)
        if refusal is not None:
            assert refusal.status in (400, 403, 421)
            one_line(refusal.message)


def test_any_message_over_a_socket(caplog: pytest.LogCaptureFixture):
    """A connection each: it is answered or refused, and nothing goes wrong in the server."""
    starts = ({"type": "start", "mode": mode} for mode in ("encode", "decode", "both"))
    cases: list[tuple[dict[str, Any] | None, Any]] = []

    # Drawn before there is a server, whose threads use `random`, which hypothesis forbids.
    @settings(max_examples=100, deadline=None, database=None)
    @given(
        st.sampled_from([None, *starts]), messages | st.text(max_size=20) | st.binary(max_size=20)
    )
    def draw(first: dict[str, Any] | None, message: Any) -> None:
        cases.append((first, message))

    draw()
    with serving() as running:
        about = {"codec": "speech", "fingerprint": running.codec.fingerprint}
        for first, message in cases:
            with Client(running.url) as client:
                if first is not None:
                    client.send(json.dumps({**first, **about}))
                client.send(json.dumps(message) if isinstance(message, dict) else message)
                with suppress(ConnectionClosed):  # it has been refused already
                    client.send('{"type": "end"}')
                while isinstance(came := client.receive(timeout=20), bytes):
                    pass
            said = json.loads(came)
            protocol.check(said, SERVER, {})
            if said["type"] == "error":
                assert said["code"] in ("malformed", "out_of_order", "wrong_codec"), (
                    first,
                    message,
                )
                one_line(said["message"])
        until(running.empty)
    assert not caplog.records


@pytest.fixture(scope="module", params=[None, "sesame"], ids=["open", "token"])
def server(request: pytest.FixtureRequest) -> Iterator[Running]:
    with serving(token=request.param) as running:
        yield running


@pytest.mark.parametrize("upgrade", [False, True])
@pytest.mark.parametrize(
    ("name", "value", "status"),
    [
        ("host", "[::1", 400),
        ("host", "]", 400),
        ("host", "[zz]:1", 400),
        ("host", "a b", 400),
        ("host", "localhost:port", 400),
        ("host", "evil.example", 421),
        ("origin", "http://[", 400),
        ("origin", "http://[::1", 400),
        ("origin", "nothing", 400),
        ("origin", "null", 403),
    ],
)
def test_headers_that_are_malformed(
    server: Running,
    caplog: pytest.LogCaptureFixture,
    name: str,
    value: str,
    status: int,
    upgrade: bool,
):
    headers = {
        name: value,
        **({"connection": "upgrade", "upgrade": "websocket"} if upgrade else {}),
    }
    if upgrade:
        headers |= {"sec-websocket-version": "13", "sec-websocket-key": "A" * 22 + "=="}
    came, text = server.get(protocol.PATH if upgrade else "/healthz", **headers)
    assert came == status
    one_line(text)
    assert not caplog.records


def test_text_that_is_no_utf8(server: Running, caplog: pytest.LogCaptureFixture):
    from websockets.sync.client import connect

    more = {"Authorization": "Bearer sesame"}
    url = server.url + protocol.PATH
    with connect(url, additional_headers=more, proxy=None) as socket:
        socket.recv()
        socket.send(b"\xff\xfe", text=True)
        with pytest.raises(ConnectionClosed, match=r"1007.*a text message is not UTF-8"):
            socket.recv()
    assert not caplog.records
