"""The room: who is in, who may come in, and how everybody leaves when it closes."""

from __future__ import annotations

import asyncio
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, Protocol, runtime_checkable

from audiotok.serving.server.engine import Engine
from audiotok.serving.server.metrics import Metrics, resident
from audiotok.serving.server.protocol import Hello, Limits

LAST_SECONDS = 1.5  # that those who are left get to hear it, at the end of a drain
# host, host:port, [address] or [address]:port, as in a Host header; in an Origin after a scheme.
AUTHORITY = re.compile(r"(?:([\w.-]+)|\[([0-9a-f:.]+)\])(?::\d{1,5})?", re.ASCII | re.IGNORECASE)
ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?P<authority>.*)", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a server is run."""

    host: str = "127.0.0.1"  # bound to loopback unless told otherwise
    port: int = 8765  # 0: any that is free
    token: str | None = None  # that clients must bring
    origins: tuple[str, ...] = ()  # of pages of other sites that may connect, "*" for any
    hosts: tuple[str, ...] = ()  # other names that this server goes by
    limits: Limits = field(default_factory=Limits)
    memory_mb: int = 0  # resident, above which nobody more comes in; 0: no limit
    send_seconds: float = 10.0  # that a client may leave an answer unread
    drain_seconds: float = 2.0  # that conversations may go on after SIGTERM
    gather_ms: float = 3.0  # that a message may wait for others to be stepped with
    quantum: int = 2  # frames of a client in one step
    ping_seconds: float = 20.0  # between pings; as long again without an answer ends a session


@dataclass(frozen=True)
class Refusal:
    """Why somebody may not come in."""

    status: int  # of HTTP
    why: str  # a word for the metrics
    message: str


@runtime_checkable
class Guest(Protocol):
    """What the room asks of a session."""

    def check(self, now: float) -> None:
        """End it if one of its times is over."""

    async def warn(self, seconds: float) -> None:
        """Say that the server will go away."""

    def dismiss(self) -> None:
        """End it in good order."""


class Room:
    """One server's sessions.

    Args:
        settings: who may come in, and for how long.
        engine: that steps them.
        hello: what they are greeted with.
        metrics: where it is counted.
    """

    def __init__(self, settings: Settings, engine: Engine, hello: Hello, metrics: Metrics) -> None:
        self.settings, self.engine, self.hello = settings, engine, hello
        self.metrics = metrics
        self.guests: set[Guest] = set()
        self.draining = False
        self._tasks: set[asyncio.Task[Any]] = set()

    # -- coming in -------------------------------------------------------------------------------

    def stranger(self, host: str | None, origin: str | None) -> Refusal | None:
        """Why a request for this host, of a page of this origin, is not answered.

        A page of another site may be open in the browser of somebody who may come in, and a
        name that is not this server's may have been made to point to it (DNS rebinding).
        """
        name = _name(host) if host else ""
        if name is None:
            return Refusal(400, "host", "the Host header is malformed")
        if _loopback(self.settings.host) and not (
            _loopback(name) or name in (self.settings.host, *self.settings.hosts)
        ):
            return Refusal(421, "host", f"this is not {name or 'nobody'}; --allow-host admits it")
        if origin is None or origin in self.settings.origins:
            return None
        parts = ORIGIN.fullmatch(origin)
        if origin != "null" and (parts is None or _name(parts["authority"]) is None):
            return Refusal(400, "origin", "the Origin header is malformed")
        if "*" in self.settings.origins:
            return None
        if parts and parts["authority"].lower() == (host or "").lower():
            return None
        return Refusal(403, "origin", "pages of another origin may not connect; --allow-origin")

    def unknown(self, token: str | None) -> Refusal | None:
        """Why a client with this token may not come in."""
        wanted = self.settings.token
        if wanted is None or (token and hmac.compare_digest(token.encode(), wanted.encode())):
            return None
        return Refusal(401, "token", "a bearer token is needed, and not this one")

    def full(self) -> Refusal | None:
        """Why nobody at all may come in now."""
        if self.draining:
            return Refusal(503, "draining", "the server is going away")
        most = self.settings.limits.clients
        if len(self.guests) >= most:
            return Refusal(503, "full", f"{most} clients are here already; try again later")
        memory = self.settings.memory_mb
        if memory and resident() > memory * 1_000_000:
            return Refusal(503, "memory", "the server is short of memory; try again later")
        return None

    def enter(self, guest: Guest) -> None:
        """One more."""
        self.guests.add(guest)
        self.metrics.clients.set(len(self.guests))

    def leave(self, guest: Guest) -> None:
        """One less."""
        self.guests.discard(guest)
        self.metrics.clients.set(len(self.guests))

    # -- staying, and leaving --------------------------------------------------------------------

    async def watch(self, tick: float = 0.25) -> None:
        """Ends sessions whose time is over, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(tick)
            for guest in list(self.guests):
                guest.check(loop.time())

    async def drain(self) -> None:
        """Lets nobody in and everybody finish, and in the end sees them out."""
        self.draining = True
        loop = asyncio.get_running_loop()
        until = loop.time() + self.settings.drain_seconds
        for guest in list(self.guests):  # one who reads nothing holds up nobody
            task = loop.create_task(guest.warn(self.settings.drain_seconds))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        while self.guests and loop.time() < until:
            await asyncio.sleep(0.05)
        for guest in list(self.guests):
            guest.dismiss()
        until = loop.time() + LAST_SECONDS
        while self.guests and loop.time() < until:
            await asyncio.sleep(0.05)
        for task in list(self._tasks):
            task.cancel()


def _name(authority: str) -> str | None:
    """Return the host of `host:port` in lower case, an address without brackets; None: it is
    malformed."""
    parts = AUTHORITY.fullmatch(authority)
    if parts is None:
        return None
    name, address = parts.groups()
    if name is not None:
        return name.lower()
    try:
        return str(ip_address(address))
    except ValueError:
        return None


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def exposed(hosts: Sequence[str]) -> list[str]:
    """Those of them that others than this machine can reach."""
    return [host for host in hosts if not _loopback(host)]
