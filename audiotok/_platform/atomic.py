"""The name of a file until it is complete, and what is left of files that never were."""

from __future__ import annotations

import os
import platform
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def part_of(path: Path) -> Path:
    """A new name beside `path` that says who is writing: `.NAME.HOST.PID.RANDOM.part`."""
    return path.with_name(
        f".{path.name[:30]}.{platform.node()[:60]}.{os.getpid()}.{secrets.token_hex(4)}.part"
    )


@contextmanager
def complete(path: Path) -> Iterator[Path]:
    """A name to write to: it becomes `path` if all goes well, and else is no more."""
    part = part_of(path)
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def complete_folder(path: Path) -> Iterator[Path]:
    """A folder to write to: it becomes `path`, in the place of what is there, if all goes well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep([path.parent])
    part = part_of(path)
    part.mkdir()
    try:
        yield part
        if path.exists():
            old = part_of(path)
            path.rename(old)
            part.rename(path)
            shutil.rmtree(old)
        else:
            part.rename(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def sweep(folders: Iterable[Path]) -> None:
    """Removes from these folders what processes of this machine left that are no more.

    Parts of other machines, which may share the folder, and of living processes stay.
    """
    if os.name != "posix":  # elsewhere asking after a process can end it
        return
    mine = re.compile(rf"\..*\.{re.escape(platform.node()[:60])}\.(\d+)\.[0-9a-f]{{8}}\.part")
    for folder in folders:
        with suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                found = mine.fullmatch(entry.name)
                if found and not _alive(int(found[1])):
                    with suppress(OSError):
                        if entry.is_dir(follow_symlinks=False):
                            shutil.rmtree(entry)
                        else:
                            Path(entry).unlink()


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
