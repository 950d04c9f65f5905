"""Download of published weights into a local cache.

    load("encodec_24khz") -> our cache -> the cache of huggingface_hub, if it is installed
                          -> else a download over https, resumed where it was interrupted

The download is not left to huggingface_hub, which without a network retries for half a minute and
logs many lines.

The cache is `$AUDIOTOK_CACHE`, or `audiotok` in the platform's folder for caches; it has a folder
for each codec. A file copied there by hand is used like a downloaded one.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from audiotok._platform.atomic import partial_path, remove_stale_parts
from audiotok._platform.errors import Error

log = logging.getLogger("audiotok")

SUFFIXES = (".safetensors", ".pt", ".pth", ".th", ".ckpt", ".bin")
FOLDER = ("model.safetensors", "pytorch_model.bin")  # weights files of Hugging Face repositories
TRIES = 5  # consecutive connections without new bytes
TIMEOUT = 30  # seconds without a byte


class HubError(Error, ValueError):
    """Error for weights that cannot be downloaded; says where to put the file instead."""


@dataclass(frozen=True, kw_only=True)
class PublishedWeights:
    """Published location of a codec's weights.

    Attributes:
        file: name of the file, or its path in `repo`.
        url: address of the file.
        repo: Hugging Face repository that holds the file, if there is no `url`.
        copy: Hugging Face repository with the same weights in transformers' format, for those who
            know it by that id, or have it in the cache of huggingface_hub.
        page: web page to get the file from by hand, if it cannot be downloaded.
        sha256: SHA-256 of the file, or its first digits; "" where it is not published.
    """

    file: str
    url: str = ""
    repo: str = ""
    copy: str = ""
    page: str = ""
    sha256: str = ""

    @property
    def name(self) -> str:
        """Name of the file in the cache."""
        return PurePosixPath(self.file).name

    @property
    def address(self) -> str:
        """Address to download the file from; "" if there is none."""
        hub = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
        return self.url or (f"{hub}/{self.repo}/resolve/main/{self.file}" if self.repo else "")

    @property
    def where(self) -> str:
        """Address for people: of the repository, else of the file, else of the page."""
        return f"https://huggingface.co/{self.repo}" if self.repo else self.url or self.page


def is_folder(path: Path) -> bool:
    """Return whether this is the folder of a Hugging Face repository with weights."""
    return any((path / name).is_file() for name in FOLDER)


def cache_folder() -> Path:
    """Return the folder that downloaded weights are kept in."""
    chosen = os.environ.get("AUDIOTOK_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home())) / "audiotok"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "audiotok"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "audiotok"


def cached(codec: str, source: PublishedWeights | None) -> Path | None:
    """Return the path of the weights of `codec` in the cache, or None.

    This is the file of `source`, or else the only weights file in the folder of the codec.
    """
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
    return _huggingface_file(source) if source and (source.repo or source.copy) else None


def fetch(codec: str, source: PublishedWeights) -> Path:
    """Return the path of the weights of `codec`, after downloading them unless they are cached.

    Raises:
        HubError: they cannot be downloaded; one line that says which file to put where.
    """
    existing = cached(codec, source)
    if existing:
        return existing
    path = cache_folder() / codec / source.name
    advice = f"put {source.name} into {path.parent}{os.sep}"
    if not source.address:
        raise HubError(
            f"codec {codec!r} has no weights here: get them at {source.page} and {advice}"
        )
    try:
        return download(source.address, path, sha256=source.sha256)
    except HubError as error:
        raise HubError(f"codec {codec!r} has no weights here: {error}; {advice}") from None
    except OSError as error:  # of the cache: disk full, no permission
        raise HubError(f"codec {codec!r} has no weights here: {path}: {error.strerror}") from None


def _huggingface_file(source: PublishedWeights) -> Path | None:
    """Return the file in the cache of huggingface_hub, or None; also if that is not installed."""
    try:
        from huggingface_hub import constants
    except ImportError:
        return None
    places = ((source.repo, source.file), (source.copy, "model.safetensors"))
    for repo, file in places:
        # Its functions take 0.1 s to import; most often there is no folder of the repository.
        if repo and Path(constants.HF_HUB_CACHE, f"models--{repo.replace('/', '--')}").is_dir():
            from huggingface_hub import try_to_load_from_cache

            path = try_to_load_from_cache(repo, file)
            if isinstance(path, str):
                return Path(path)
    return None


# -- over https ------------------------------------------------------------------------------------


def download(address: str, path: Path, *, sha256: str = "") -> Path:
    """Download a file completely or not at all, resuming an interrupted download.

    The hash of the file is written beside it, in the format of `sha256sum`.

    Args:
        address: https address, or http on this machine.
        path: path of the downloaded file; its folder is created.
        sha256: SHA-256 that the file must have, or its first digits; "" for any.

    Raises:
        HubError: the address cannot be reached, or has no such file or a different one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_stale_parts([path.parent])
    part, tag = partial_path(path), ""
    for unfinished in path.parent.glob(f".{path.name}.*.unfinished"):
        try:
            unfinished.replace(part)  # only one of several processes succeeds
        except FileNotFoundError:
            continue
        tag = unfinished.name.removesuffix(".unfinished").rpartition(".")[2]
        break
    transfer = _Download(address, part, tag)
    try:
        transfer.receive()
        digest = sha256_of(part)
        if not digest.startswith(sha256):
            part.unlink()
            raise HubError(f"{address} has sha256 {digest[:16]}..., not {sha256}...; not kept")
        hash_file = path.with_name(f"{path.name}.sha256")
        hash_file.write_text(f"{digest}  {path.name}\n", "utf-8")
        part.replace(path)
    finally:
        if part.is_file() and part.stat().st_size and transfer.tag:
            part.replace(path.with_name(f".{path.name}.{transfer.tag}.unfinished"))
        part.unlink(missing_ok=True)
    return path


class _Download:
    """Download of one file over as many connections as needed.

    `tag` identifies the version of the file whose beginning is in `part`.
    """

    def __init__(self, address: str, part: Path, tag: str) -> None:
        self.address = address
        self.part = part
        self.tag = tag
        self._announced = False

    def receive(self) -> None:
        """Download the whole file into `part`."""
        import http.client  # with urllib's, 40 ms for who has the weights
        import urllib.error

        tries = 0
        while True:
            before = self._size()
            try:
                return self._connect()
            except urllib.error.HTTPError as error:
                if error.code == 416 and before:  # the file has changed and is shorter now
                    self.part.unlink()
                    continue
                raise self._lost(f"HTTP {error.code} {error.reason}") from None
            except (OSError, http.client.HTTPException) as error:
                tries = 0 if self._size() > before else tries + 1
                refused = isinstance(error, urllib.error.URLError)
                if refused or tries >= TRIES:
                    raise self._lost(str(getattr(error, "reason", error))) from None

    def _connect(self) -> None:
        import urllib.request

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
            self.tag = tag
            rest = int(answer.headers.get("Content-Length") or 0)
            self._announce(have + rest)
            with self.part.open("ab" if have else "wb") as file:
                while piece := answer.read(1 << 20):
                    file.write(piece)
        if rest and self._size() < have + rest:
            raise ConnectionError(f"broke off after {self._size()} of {have + rest} bytes")

    def _refuse_unsafe(self, address: str) -> None:
        """Raise unless the address is https, or http on this machine; redirects are checked too."""
        parts = urlsplit(address)
        if parts.scheme != "https" and parts.hostname not in ("127.0.0.1", "::1", "localhost"):
            raise HubError(f"{address} is not https")

    def _announce(self, size: int) -> None:
        if not self._announced:
            megabytes = f" ({size / 1e6:.0f} MB)" if size else ""
            log.warning("downloading %s%s", self.address, megabytes)
        self._announced = True

    def _size(self) -> int:
        return self.part.stat().st_size if self.part.is_file() else 0

    def _lost(self, reason: str) -> HubError:
        return HubError(f"{self.address} cannot be had ({reason})")


def sha256_of(path: Path) -> str:
    """Return the hash of a file of any size, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
