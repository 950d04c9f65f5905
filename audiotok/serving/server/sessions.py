"""Sessions of a server: admission, time limits, and draining at the end."""

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

LAST_SECONDS = 1.5  # time for the remaining sessions to end after a drain
# host, host:port, [address] or [address]:port, as in a Host header, or in an Origin after a scheme.
AUTHORITY = re.compile(r"(?:([\w.-]+)|\[([0-9a-f:.]+)\])(?::\d{1,5})?", re.ASCII | re.IGNORECASE)
ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?P<authority>.*)", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of a server."""

    host: str = "127.0.0.1"  # address to bind, loopback by default
    port: int = 8765  # 0 for any free port
    token: str | None = None  # bearer token that clients must send, if any
    origins: tuple[str, ...] = ()  # other origins whose pages may connect, "*" for any
    hosts: tuple[str, ...] = ()  # other host names of this server
    limits: Limits = field(default_factory=Limits)
    memory_mb: int = 0  # resident memory above which clients are refused; 0 for no limit
    send_seconds: float = 10.0  # time that a client may leave an answer unread
    drain_seconds: float = 2.0  # time that conversations may go on after SIGTERM
    gather_ms: float = 1.0  # time that a message may wait for others in its step
    quantum: int = 2  # frames of one client per step
    ping_seconds: float = 20.0  # time between pings, and to wait for each answer


@dataclass(frozen=True)
class Refusal:
    """Refusal of a request."""

    status: int  # HTTP status
    why: str  # label in the metrics
    message: str


@runtime_checkable
class ManagedSession(Protocol):
    """Interface of a session."""

    def check(self, now: float) -> None:
        """End the session if one of its time limits has passed.

        Args:
            now: current time in seconds, of the event loop's clock.
        """

    async def warn(self, seconds: float) -> None:
        """Tell the client that the server will stop in so many seconds."""

    def dismiss(self) -> None:
        """End the session in good order."""


class SessionManager:
    """Sessions of one server.

    Args:
        settings: settings of the server.
        engine: engine that steps the conversations.
        hello: greeting of clients.
        metrics: metrics of the server.
        colours: message with the colours of tokens.
    """

    def __init__(
        self, settings: Settings, engine: Engine, hello: Hello, metrics: Metrics, colours: str
    ) -> None:
        self.settings = settings
        self.engine = engine
        self.hello = hello
        self.metrics = metrics
        self.colours = colours
        self.sessions: set[ManagedSession] = set()
        self.draining = False
        self._tasks: set[asyncio.Task[Any]] = set()

    # -- admission --------------------------------------------------------------------------------

    def stranger(self, host: str | None, origin: str | None) -> Refusal | None:
        """Return the refusal of a request for a host from a page of an origin, or None.

        A page of another site may be open in the browser of an admitted user, and a foreign host
        name may point to this server (DNS rebinding).
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
        """Return the refusal of a client with this token, or None."""
        wanted = self.settings.token
        if wanted is None or (token and hmac.compare_digest(token.encode(), wanted.encode())):
            return None
        return Refusal(401, "token", "a bearer token is needed, and not this one")

    def full(self) -> Refusal | None:
        """Return the refusal of any further client, or None."""
        if self.draining:
            return Refusal(503, "draining", "the server is going away")
        most = self.settings.limits.clients
        if len(self.sessions) >= most:
            return Refusal(503, "full", f"{most} clients are here already; try again later")
        memory = self.settings.memory_mb
        if memory and resident() > memory * 1_000_000:
            return Refusal(503, "memory", "the server is short of memory; try again later")
        return None

    def enter(self, session: ManagedSession) -> None:
        """Add a session."""
        self.sessions.add(session)
        self.metrics.clients.set(len(self.sessions))

    def leave(self, session: ManagedSession) -> None:
        """Remove a session."""
        self.sessions.discard(session)
        self.metrics.clients.set(len(self.sessions))

    # -- time limits and draining -----------------------------------------------------------------

    async def watch(self, tick: float = 0.25) -> None:
        """End sessions whose time limits have passed, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(tick)
            for session in list(self.sessions):
                session.check(loop.time())

    async def drain(self) -> None:
        """Refuse new clients, let conversations finish, and end the remaining sessions."""
        self.draining = True
        loop = asyncio.get_running_loop()
        until = loop.time() + self.settings.drain_seconds
        # In tasks, so that a client that reads nothing delays no other.
        for session in list(self.sessions):
            task = loop.create_task(session.warn(self.settings.drain_seconds))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        while self.sessions and loop.time() < until:
            await asyncio.sleep(0.05)
        for session in list(self.sessions):
            session.dismiss()
        until = loop.time() + LAST_SECONDS
        while self.sessions and loop.time() < until:
            await asyncio.sleep(0.05)
        for task in list(self._tasks):
            task.cancel()


def _name(authority: str) -> str | None:
    """Return the host of `host:port` in lower case, without brackets; None if it is malformed."""
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
    """Return the hosts that can be reached from other machines."""
    return [host for host in hosts if not _loopback(host)]
