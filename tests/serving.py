"""Helpers for tests of the server: a server in a thread, and messages of clients."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from commandline import noise, small
from test_backends import as_exported

from audiotok.codecs.checkpoint import load
from audiotok.serving.client import Client

for _library in ("fastapi", "uvicorn", "websockets", "prometheus_client"):
    pytest.importorskip(_library)

from audiotok.serving.server.run import Server, listen, make_server  # noqa: E402
from audiotok.serving.server.sessions import SessionManager, Settings  # noqa: E402


class Running:
    """Running server in a thread.

    Args:
        settings: settings of the server.
        exported: whether to serve an exported codec.
        codec: the codec; None for a small one.
        context: context of the decoder in seconds.

    Attributes:
        apart: tolerance of its samples against those of `codec`.
    """

    def __init__(
        self, settings: Settings, exported: bool, codec: Any, context: float | None
    ) -> None:
        self.codec = codec or load(small())
        self.apart = 1e-5 if exported else 0
        self.server: Server = make_server(
            as_exported(self.codec, rings=True) if exported else self.codec,
            settings,
            context=context,
        )
        self.door = listen(settings.host, 0)
        self.port = self.door.getsockname()[1]
        self.thread = threading.Thread(target=self.server.run, args=([self.door],))
        self.thread.start()
        until(lambda: self.server.started)

    @property
    def url(self) -> str:
        """WebSocket URL of the server."""
        return f"ws://127.0.0.1:{self.port}"

    @property
    def manager(self) -> SessionManager:
        """Sessions of the server."""
        return self.server.config.app.state.manager  # type: ignore[union-attr]

    def get(self, path: str, **headers: str) -> tuple[int, str]:
        """Return the status and the body of an HTTP request."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def leave(self) -> None:
        """Stop the server as SIGTERM does."""
        self.server.handle_exit(15, None)

    def empty(self) -> bool:
        """Return whether no state of any client is left."""
        engine = self.manager.engine
        return not (self.manager.sessions or engine.conversations) and engine.idle


@contextmanager
def serving(
    *,
    exported: bool = False,
    codec: Any = None,
    context: float | None = None,
    **settings: Any,
) -> Iterator[Running]:
    """Run a server within the context, and assert at its end that no state of clients is left.

    Args:
        exported: whether to serve an exported codec.
        codec: the codec; None for a small one.
        context: context of the decoder in seconds.
        **settings: further `Settings`.
    """
    running = Running(Settings(**{"drain_seconds": 0.2, **settings}), exported, codec, context)
    try:
        yield running
        if running.thread.is_alive() and not running.server.should_exit:
            until(running.empty)
    finally:
        running.server.should_exit = True
        running.thread.join(30)
        running.door.close()
    assert not running.thread.is_alive()


def until(condition: Callable[[], Any], seconds: float = 30) -> Any:
    """Wait until a condition holds and return its value; fail after `seconds` seconds."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.005)
    return found


def speech(seconds: float = 0.6, seed: int = 0) -> np.ndarray:
    """Return noise `[1 t]` at 16 kHz."""
    return noise(seconds, seed=seed).T.copy()


def start(client: Client, mode: str = "encode", **more: Any) -> None:
    """Send the message that starts a session, without waiting for the answer."""
    hello = client.hello
    about = {"mode": mode, "codec": hello.codec, "fingerprint": hello.fingerprint, **more}
    client.send(json.dumps({"type": "start", **about}))


def answer(client: Client) -> Any:
    """Return the next text message of the server, parsed; audio and codes before it are dropped."""
    while isinstance(message := client.receive(timeout=20), bytes):
        pass
    return json.loads(message)
