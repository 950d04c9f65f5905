"""Weights that others publish: where they are, and how they come into the local cache.

    load("encodec_24khz") -> in our cache? -> in that of huggingface_hub, if it is installed?
                          -> else over https, resumed where it broke off

huggingface_hub does not download: without a network it tries for half a minute, in many lines.

The cache is `$AUDIOTOK_CACHE`, or `audiotok` in the platform's folder for caches; it has a folder
for each codec. A file that was put there by hand is as good as a downloaded one.
"""

from __future__ import annotations

import hashlib
import http.client
import logging
import os
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from audiotok._platform.atomic import part_of, sweep

log = logging.getLogger("audiotok")

SUFFIXES = (".safetensors", ".pt", ".pth", ".th", ".ckpt", ".bin")
TRIES = 5  # in a row that bring nothing new
TIMEOUT = 30  # seconds without a byte


class HubError(ValueError):
    """Weights that cannot be had; says where to put the file instead."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where the weights of a codec are published.

    Attributes:
        file: the file's name, or its path in `repo`.
        url: its address.
        repo: the Hugging Face repository that holds it, if there is no `url`.
        page: where a person gets it, if no program can.
        sha256: of the file, or the first digits of it; "" where it is not published.
    """

    file: str
    url: str = ""
    repo: str = ""
    page: str = ""
    sha256: str = ""

    @property
    def name(self) -> str:
        """The file's name in the cache."""
        return PurePosixPath(self.file).name

    @property
    def address(self) -> str:
        """Where it is downloaded from; "" if it cannot be."""
        hub = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
        return self.url or (f"{hub}/{self.repo}/resolve/main/{self.file}" if self.repo else "")


def cache_folder() -> Path:
    """Where downloaded weights are kept."""
    chosen = os.environ.get("AUDIOTOK_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home())) / "audiotok"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "audiotok"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "audiotok"


def cached(codec: str, source: Source | None) -> Path | None:
    """The weights of `codec` in the cache, or None: the source's file, or else the only one."""
    folder = cache_folder() / codec
    if source and (folder / source.name).is_file():
        return folder / source.name
    files = [
        path
        for path in (folder.iterdir() if folder.is_dir() else ())
        if path.suffix in SUFFIXES and path.is_file() and not path.name.startswith(".")
    ]
    if len(files) == 1:
        return files[0]
    return _huggingface_file(source) if source and source.repo else None


def fetch(codec: str, source: Source) -> Path:
    """The weights of `codec`, from the cache or else downloaded into it.

    Raises:
        HubError: they cannot be downloaded; one line that says which file to put where.
    """
    found = cached(codec, source)
    if found:
        return found
    path = cache_folder() / codec / source.name
    todo = f"put {source.name} into {path.parent}{os.sep}"
    if not source.address:
        raise HubError(f"codec {codec!r} has no weights here: get them at {source.page} and {todo}")
    try:
        return download(source.address, path, sha256=source.sha256)
    except HubError as error:
        raise HubError(f"codec {codec!r} has no weights here: {error}; {todo}") from None
    except OSError as error:  # the cache's own: no room, no permission
        raise HubError(f"codec {codec!r} has no weights here: {path}: {error.strerror}") from None


def _huggingface_file(source: Source) -> Path | None:
    """The file in huggingface_hub's own cache; None if it is not there or not installed."""
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    found = try_to_load_from_cache(source.repo, source.file)
    return Path(found) if isinstance(found, str) else None


# -- over https ------------------------------------------------------------------------------------


def download(address: str, path: Path, *, sha256: str = "") -> Path:
    """Download a file, whole or not at all; what an interrupted try left is gone on with.

    The file's hash is written beside it, as `sha256sum` does.

    Args:
        address: over https, or from this machine.
        path: where to; its folder is made.
        sha256: that the file must have, or its first digits.

    Raises:
        HubError: the address cannot be reached, has no such file, or another one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep([path.parent])
    part, tag = part_of(path), ""
    for kept in path.parent.glob(f".{path.name}.*.unfinished"):
        try:
            kept.replace(part)  # one process wins
        except FileNotFoundError:
            continue
        tag = kept.name.removesuffix(".unfinished").rpartition(".")[2]
        break
    incoming = _Incoming(address, part, tag)
    try:
        incoming.receive()
        digest = _sha256(part)
        if not digest.startswith(sha256):
            part.unlink()
            raise HubError(f"{address} has sha256 {digest[:16]}..., not {sha256}...; not kept")
        beside = path.with_name(f"{path.name}.sha256")
        beside.write_text(f"{digest}  {path.name}\n", "utf-8")
        part.replace(path)
    finally:
        if part.is_file() and part.stat().st_size and incoming.tag:
            part.replace(path.with_name(f".{path.name}.{incoming.tag}.unfinished"))
        part.unlink(missing_ok=True)
    return path


class _Incoming:
    """A file on its way, over as many connections as it takes.

    `tag` stands for the version of the file that `part` holds the beginning of.
    """

    def __init__(self, address: str, part: Path, tag: str) -> None:
        self.address, self.part, self.tag = address, part, tag
        self.said = False

    def receive(self) -> None:
        """All of it, in `part`."""
        tries = 0
        while True:
            before = self._size()
            try:
                return self._connect()
            except urllib.error.HTTPError as error:
                if error.code == 416 and before:  # another file by now: there is no such range
                    self.part.unlink()
                    continue
                raise self._lost(f"HTTP {error.code} {error.reason}") from None
            except (OSError, http.client.HTTPException) as error:
                tries = 0 if self._size() > before else tries + 1
                refused = isinstance(error, urllib.error.URLError)
                if refused or tries >= TRIES:
                    raise self._lost(str(getattr(error, "reason", error))) from None

    def _connect(self) -> None:
        have = self._size()
        request = urllib.request.Request(self.address, headers={"User-Agent": "audiotok"})
        if have:
            request.add_header("Range", f"bytes={have}-")
        self._refuse_unsafe(self.address)
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            self._refuse_unsafe(answer.url)
            version = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
            tag = hashlib.sha256(version.encode()).hexdigest()[:16] if version else ""
            if answer.status == 206 and tag != self.tag:
                self.part.unlink()
                return self._connect()
            if answer.status != 206:
                have = 0
            self.tag, rest = tag, int(answer.headers.get("Content-Length") or 0)
            self._say(have + rest)
            with self.part.open("ab" if have else "wb") as file:
                while piece := answer.read(1 << 20):
                    file.write(piece)
        if rest and self._size() < have + rest:
            raise ConnectionError(f"broke off after {self._size()} of {have + rest} bytes")

    def _refuse_unsafe(self, address: str) -> None:
        """Weights come over https, also when redirected; http will do within this machine."""
        parts = urlsplit(address)
        if parts.scheme != "https" and parts.hostname not in ("127.0.0.1", "::1", "localhost"):
            raise HubError(f"{address} is not https")

    def _say(self, size: int) -> None:
        if not self.said:
            much = f" ({size / 1e6:.0f} MB)" if size else ""
            log.warning("downloading %s%s", self.address, much)
        self.said = True

    def _size(self) -> int:
        return self.part.stat().st_size if self.part.is_file() else 0

    def _lost(self, reason: str) -> HubError:
        return HubError(f"{self.address} cannot be had ({reason})")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
