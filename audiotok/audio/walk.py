"""Files below a folder or matching a glob, without pipes and without circles of links."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatch
from pathlib import Path

from audiotok._platform.errors import InputError


def walk(
    folder: str, suffixes: Iterable[str], refused: Callable[[OSError], object]
) -> Iterator[str]:
    """Yield the files below a folder that have one of these extensions, in the order of names.

    Hidden files and folders are left out, and so are pipes, sockets and devices. Links are
    followed, except to a folder that contains them. A broken link is yielded, so that opening it
    raises an error.

    Args:
        folder: the folder to search.
        suffixes: extensions in lower case, each with its dot.
        refused: called with the error of a folder that cannot be listed; the search goes on.
    """
    known = tuple(suffixes)
    above: list[tuple[int, int]] = []  # device and inode of the folders that are being listed
    stack = [iter([(folder, True)])]
    while stack:
        path, is_folder = next(stack[-1], ("", False))
        if not path:
            stack.pop()
            del above[len(stack) - 1 :]
        elif not is_folder:
            yield path
        else:
            try:
                status = os.stat(path)  # noqa: PTH116 - a Path each is slow
                inode = status.st_dev, status.st_ino
                if inode not in above:
                    entries = _entries(path, known)
                    above.append(inode)
                    stack.append(entries)
            except OSError as error:
                refused(error)


def _entries(folder: str, suffixes: tuple[str, ...]) -> Iterator[tuple[str, bool]]:
    """Return path and whether it is a folder, of the folders and matching files in a folder."""
    kept: list[tuple[str, str, bool]] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            if name.startswith("."):
                continue
            is_folder = _is_folder(entry)
            if is_folder or (name.lower().endswith(suffixes) and is_file(entry)):
                kept.append((name, entry.path, is_folder))
    return iter([(path, is_folder) for _, path, is_folder in sorted(kept)])


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def is_file(entry: os.DirEntry[str] | Path) -> bool:
    """Return whether an entry is a regular file, or a broken link, which its reader reports."""
    try:
        return entry.is_file() or (entry.is_symlink() and not os.path.exists(entry))  # noqa: PTH110
    except OSError:  # a link to itself
        return True


def files_below(
    folder: Path, suffixes: Iterable[str], refused: Callable[[OSError], object] | None = None
) -> list[Path]:
    """Return the files of `walk` as a list.

    Args:
        folder: the folder to search.
        suffixes: extensions in lower case, each with its dot.
        refused: called with the error of a folder that cannot be listed; None to raise it.

    Raises:
        ValueError: a folder cannot be listed, and `refused` is None.
    """

    def stop(error: OSError) -> None:
        raise InputError(f"{error.filename}: cannot be listed ({error.strerror})")

    return [Path(path) for path in walk(str(folder), suffixes, refused or stop)]


def glob_files(pattern: str, refused: Callable[[OSError], object] = lambda _: None) -> list[str]:
    """Return the files that match a glob, sorted; `**` matches any number of folders.

    Pipes are left out, and below a `**` everything that `walk` leaves out: Python's own `**`
    follows circles of links.

    Args:
        pattern: the glob.
        refused: called with the error of a folder that cannot be listed.
    """
    parts = Path(pattern).parts
    if "**" not in parts:
        paths = glob.glob(pattern)  # noqa: PTH207
        return sorted(path for path in paths if is_file(Path(path)))
    fixed = parts.index("**")
    files: set[str] = set()
    for root in glob.glob(os.path.join(*parts[:fixed])) if fixed else [""]:  # noqa: PTH118, PTH207
        for path in walk(root or ".", ("",), refused) if os.path.isdir(root or ".") else ():  # noqa: PTH112
            inner = os.path.relpath(path, root or ".")
            if _fits(Path(inner).parts, parts[fixed:]):
                files.add(os.path.join(root, inner))  # noqa: PTH118
    return sorted(files)


def _fits(parts: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    """Return whether the parts of a path match those of a glob."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_fits(parts[i:], pattern[1:]) for i in range(len(parts) + 1))
    return bool(parts) and fnmatch(parts[0], pattern[0]) and _fits(parts[1:], pattern[1:])
