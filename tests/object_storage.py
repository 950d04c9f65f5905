"""Object storage on this machine for tests: moto's S3 server behind a proxy that injects faults.

    with object_storage() as s3:
        s3.put("bucket/a.wav", data)  # past the proxy; makes the bucket
        s3.faults.add("503", match="GET .*a.wav", seconds=8)
        Path("s3.txt").write_text(s3.url("bucket/a.wav"))  # s3://bucket/a.wav

While the context is open, the environment of this process (and of those that it starts) names the
server, so that s3fs and boto3 find it; `s3.environment` is for processes that inherit nothing.
"""

from __future__ import annotations

import logging
import os
import random
import re
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from unittest.mock import patch
from urllib.parse import quote
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import pytest

# Kinds of faults that are an answer: the status and the code in its XML.
ANSWERS = {
    "500": (500, "InternalError"),
    "503": (503, "SlowDown"),
    "429": (429, "TooManyRequests"),
    "denied": (403, "AccessDenied"),
    "expired": (400, "ExpiredToken"),
    "missing": (404, "NoSuchKey"),
    "no bucket": (404, "NoSuchBucket"),
}
# "reset" drops the connection instead of asking the server; "lost" drops it when the server has
# done what was asked, so that the client does not know; "truncated" ends in the middle of the
# body; "stalled" sends half of the body, and then nothing more.
BROKEN = ("reset", "lost", "truncated", "stalled")


@dataclass
class Fault:
    """A rule by which requests fail.

    Attributes:
        kind: a key of `ANSWERS`, or one of `BROKEN`.
        match: regular expression that is searched for in "METHOD /bucket/key?query ACCESSKEY".
        probability: share of the matching requests that fail.
        times: number of requests that fail at most; None for no limit.
        after: number of matching requests that go through first.
        until: time on the monotonic clock at which the rule ends; None for never.
        hits: number of requests that failed by this rule.
    """

    kind: str
    match: str = ""
    probability: float = 1.0
    times: int | None = None
    after: int = 0
    until: float | None = None
    hits: int = 0


class Faults:
    """The rules by which requests fail; the first that applies is followed."""

    def __init__(self, seed: int = 0) -> None:
        self.rules: list[Fault] = []
        self._random = random.Random(seed)
        self._lock = threading.Lock()

    def add(
        self,
        kind: str,
        match: str = "",
        *,
        probability: float = 1.0,
        times: int | None = None,
        after: int = 0,
        seconds: float | None = None,
    ) -> Fault:
        """Add a rule and return it; see `Fault`. It ends after these seconds."""
        assert kind in ANSWERS or kind in BROKEN, kind
        until = None if seconds is None else time.monotonic() + seconds
        rule = Fault(kind, match, probability, times, after, until)
        with self._lock:
            self.rules.append(rule)
        return rule

    def clear(self) -> None:
        """Remove all rules."""
        with self._lock:
            self.rules.clear()

    def kind_for(self, request: str) -> str:
        """Return the kind of fault that a request meets, "METHOD /bucket/key?query ACCESSKEY"."""
        with self._lock:
            return next((r.kind for r in self.rules if self._applies(r, request)), "")

    def _applies(self, rule: Fault, request: str) -> bool:
        over = rule.until is not None and time.monotonic() >= rule.until
        if over or rule.hits == rule.times or not re.search(rule.match, request):
            return False
        if rule.after:
            rule.after -= 1
            return False
        if self._random.random() >= rule.probability:
            return False
        rule.hits += 1
        return True


@dataclass
class ObjectStorage:
    """An S3 server with faults.

    Attributes:
        endpoint: address of the proxy, `http://127.0.0.1:PORT`.
        faults: rules by which requests through the proxy fail.
        requests: requests that came to the proxy, as "METHOD /bucket/key?query".
        watch: is called with each of them before it is answered, in the thread that answers.
    """

    endpoint: str
    server: tuple[str, int]
    faults: Faults = field(default_factory=Faults)
    requests: list[str] = field(default_factory=list)
    watch: Callable[[str], object] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """Variables by which s3fs, fsspec and boto3 find the server."""
        return {
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_EC2_METADATA_DISABLED": "true",
            "FSSPEC_S3_ENDPOINT_URL": self.endpoint,
        }

    def url(self, key: str = "") -> str:
        """Return the URL of `bucket/key` for fsspec."""
        return f"s3://{key}"

    def http(self, key: str) -> str:
        """Return the address of `bucket/key` as a file of a plain HTTP server, with the faults."""
        return f"{self.endpoint}/{quote(key)}"

    # These four go past the proxy: they meet no faults and are not counted.

    def put(self, key: str, data: bytes = b"") -> None:
        """Write an object `bucket/key`; a bucket that does not exist is made."""
        if self._status("PUT", key, data) == 404:
            self._status("PUT", key.partition("/")[0])
            assert self._status("PUT", key, data) == 200

    def get(self, key: str) -> bytes:
        """Return the content of an object; KeyError if there is none."""
        status, data = self._ask("GET", quote(key))
        if status != 200:
            raise KeyError(key)
        return data

    def delete(self, key: str) -> None:
        """Delete an object, or an empty bucket."""
        self._status("DELETE", key)

    def keys(self, prefix: str) -> list[str]:
        """Return the keys `bucket/key` that begin with `bucket/prefix`, in order."""
        bucket, _, start = prefix.partition("/")
        found, query = list[str](), f"list-type=2&prefix={quote(start, safe='')}"
        token: str | None = ""
        while token is not None:
            more = f"&continuation-token={quote(token, safe='')}" if token else ""
            status, data = self._ask("GET", f"{quote(bucket)}?{query}{more}")
            if status != 200:
                raise KeyError(bucket)
            root = ElementTree.fromstring(data)
            space = root.tag.partition("}")[0] + "}" if "}" in root.tag else ""
            found += [f"{bucket}/{each.text}" for each in root.iter(f"{space}Key")]
            token = root.findtext(f"{space}NextContinuationToken")
        return found

    def _status(self, method: str, key: str, data: bytes = b"") -> int:
        return self._ask(method, quote(key), data)[0]

    def _ask(self, method: str, path: str, data: bytes = b"") -> tuple[int, bytes]:
        # Signatures are not checked, but the region is read from this header.
        signed = "AWS4-HMAC-SHA256 Credential=testing/20200101/us-east-1/s3/aws4_request"
        headers = {"Authorization": signed, "x-amz-acl": "public-read"}  # for plain HTTP
        connection = HTTPConnection(*self.server)
        try:
            connection.request(method, f"/{path}", data, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


@contextmanager
def object_storage(host: str = "127.0.0.1") -> Iterator[ObjectStorage]:
    """Start an S3 server and its proxy, as a context manager; tests skip without moto and s3fs.

    Args:
        host: address at which the proxy listens; other namespaces reach one that is not local.
    """
    module = pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # else it prints every request
    server = module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    proxy = _Proxy((host, 0), _Handler)
    proxy.storage = ObjectStorage(
        f"http://{host}:{proxy.server_address[1]}", server.get_host_and_port()
    )
    thread = threading.Thread(target=proxy.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        with patch.dict(os.environ, proxy.storage.environment):
            _forget_connections()
            yield proxy.storage
    finally:
        _forget_connections()
        proxy.closing.set()
        proxy.shutdown()
        proxy.server_close()
        thread.join()
        server.stop()


def _forget_connections() -> None:
    """Let s3fs connect anew: it keeps its file systems, whichever server they were made for."""
    if "s3fs" in sys.modules:
        sys.modules["s3fs"].S3FileSystem.clear_instance_cache()


class _Proxy(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    storage: ObjectStorage

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.closing = threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a client that went away, as one that was killed does."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Proxy  # pyright: ignore[reportIncompatibleVariableOverride]

    def _answer(self) -> None:
        storage = self.server.storage
        request = f"{self.command} {self.path}"
        body = self._body()
        storage.requests.append(request)
        if storage.watch is not None:
            storage.watch(request)
        signed = re.search(r"Credential=([^/]*)", self.headers.get("Authorization", ""))
        kind = storage.faults.kind_for(f"{request} {signed[1] if signed else ''}")
        if kind in ANSWERS:
            self._refuse(*ANSWERS[kind])
        elif kind == "reset":
            self._reset()
        else:
            self._forward(body, kind)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _answer  # noqa: N815

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(parts)

    def _refuse(self, status: int, code: str) -> None:
        xml = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>for now</Message>"
        data = f"{xml}<Resource>{escape(self.path)}</Resource></Error>".encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _reset(self) -> None:
        # To linger for no time sends a reset instead of an end.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.rfile.close()
        self.wfile.close()
        self.connection.close()
        self.close_connection = True

    def _forward(self, body: bytes, kind: str) -> None:
        connection = HTTPConnection(*self.server.storage.server)
        skipped = ("connection", "transfer-encoding", "content-length", "expect")
        headers = {k: v for k, v in self.headers.items() if k.lower() not in skipped}
        if body or self.command in ("PUT", "POST"):
            headers["Content-Length"] = str(len(body))
        try:
            connection.request(self.command, self.path, body or None, headers)
            answer = connection.getresponse()
            data = answer.read()
            if kind == "lost":
                self._reset()
            else:
                self._pass_on(answer, data, kind)
        finally:
            connection.close()

    def _pass_on(self, answer: HTTPResponse, data: bytes, kind: str) -> None:
        self.send_response_only(answer.status, answer.reason)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else None
        for name, value in answer.getheaders():
            if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                self.send_header(name, value)
        if answer.status not in (204, 304):
            self.send_header("Content-Length", length or str(len(data)))
        self.end_headers()
        if kind in ("truncated", "stalled"):
            self.wfile.write(data[: len(data) // 2])
            self.wfile.flush()
            self.close_connection = True
            if kind == "stalled":
                self.server.closing.wait(600)
        else:
            self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""
