"""Atomic writing of files and folders through temporary `.part` names; removal of stale ones."""

from __future__ import annotations

import os
import platform
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def partial_path(path: Path) -> Path:
    """Return a new temporary name beside `path`: `.NAME.HOST.PID.RANDOM.part`."""
    return path.with_name(
        f".{path.name[:30]}.{platform.node()[:60]}.{os.getpid()}.{secrets.token_hex(4)}.part"
    )


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary file name; rename it to `path` on success, remove it on an exception."""
    part = partial_path(path)
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder; on success rename it to `path`, replacing what is there.

    On an exception the temporary folder is removed and `path` stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_stale_parts([path.parent])
    part = partial_path(path)
    part.mkdir()
    try:
        yield part
        if path.exists():
            old = partial_path(path)
            path.rename(old)
            part.rename(path)
            shutil.rmtree(old)
        else:
            part.rename(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def remove_stale_parts(folders: Iterable[Path]) -> None:
    """Remove the temporary parts that ended processes of this machine left in these folders.

    Parts of living processes stay, and so do those of other machines, which may share a folder.
    """
    if os.name != "posix":  # on Windows `os.kill(pid, 0)` terminates the process
        return
    own_part = re.compile(rf"\..*\.{re.escape(platform.node()[:60])}\.(\d+)\.[0-9a-f]{{8}}\.part")
    for folder in folders:
        with suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                match = own_part.fullmatch(entry.name)
                if match and not _alive(int(match[1])):
                    with suppress(OSError):
                        if entry.is_dir(follow_symlinks=False):
                            shutil.rmtree(entry)
                        else:
                            Path(entry).unlink()


def _alive(process: int) -> bool:
    """Return whether a process of this number is running."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
