"""A server in a thread, with a small codec, and clients that misbehave."""

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
from audiotok.codecs.models.base import Codec
from audiotok.serving.client import Client

for _library in ("fastapi", "uvicorn", "websockets", "prometheus_client"):
    pytest.importorskip(_library)

from audiotok.serving.server.room import Room, Settings  # noqa: E402
from audiotok.serving.server.run import Server, built, listen  # noqa: E402


class Running:
    """A server that runs."""

    def __init__(
        self, settings: Settings, exported: bool, codec: Codec | None, context: float | None
    ) -> None:
        self.codec = codec or load(small())
        self.apart = 1e-5 if exported else 0  # samples, from those of `codec`
        self.server: Server = built(
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
        return f"ws://127.0.0.1:{self.port}"

    @property
    def room(self) -> Room:
        return self.server.config.app.state.room  # type: ignore[union-attr]

    def get(self, path: str, **headers: str) -> tuple[int, str]:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def leave(self) -> None:
        """As a signal does."""
        self.server.handle_exit(15, None)

    def empty(self) -> bool:
        """Whether nothing is left of anybody."""
        engine = self.room.engine
        return not (self.room.sessions or engine.conversations) and engine.idle


@contextmanager
def serving(
    *,
    exported: bool = False,
    codec: Codec | None = None,
    context: float | None = None,
    **settings: Any,
) -> Iterator[Running]:
    """A server, of an exported codec if so; at the end nothing may be left of its clients."""
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
    """Waits until something is so."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.005)
    return found


def speech(seconds: float = 0.6, seed: int = 0) -> np.ndarray:
    """Samples [1 t]."""
    return noise(seconds, seed=seed).T.copy()


def start(client: Client, mode: str = "encode", **more: Any) -> None:
    """The message alone."""
    hello = client.hello
    about = {"mode": mode, "codec": hello.codec, "fingerprint": hello.fingerprint, **more}
    client.send(json.dumps({"type": "start", **about}))


def answer(client: Client) -> Any:
    """The next text message."""
    while isinstance(message := client.receive(timeout=20), bytes):
        pass
    return json.loads(message)
