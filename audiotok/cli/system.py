"""Wording of the operating system's errors that no part of the program has explained."""

from __future__ import annotations

from errno import EACCES, EDQUOT, EEXIST, ENOENT, ENOSPC, ENOTDIR, EPERM, EROFS
from pathlib import Path

from audiotok._platform.errors import Error

WAYS_OUT = {
    **dict.fromkeys((EACCES, EPERM, EROFS), "change its permissions, or name another place"),
    **dict.fromkeys((ENOSPC, EDQUOT), "free some and run again"),
    ENOENT: "check the path",
}


def explained(error: Exception) -> str:
    """Return an error of the operating system in one line: which path, what is wrong, what to do.

    Of a temporary file (`.NAME.part`), whose name means nothing to users, the folder is named.

    Args:
        error: any; other errors, and those without a path, are as they say themselves.
    """
    if not isinstance(error, OSError) or isinstance(error, Error):
        return str(error)
    if error.filename is None or not error.strerror:
        return str(error)
    path = Path(str(error.filename))
    if path.name.startswith(".") and path.suffix == ".part":
        path = path.parent
    if error.errno in (EEXIST, ENOTDIR):
        for parent in (path, *path.parents):
            if parent.is_file():
                return f"{parent}: a file, where a folder is needed; name another place"
    doing = "cannot write there: " if path.is_dir() else ""
    way_out = WAYS_OUT.get(error.errno or 0)
    return f"{path}: {doing}{error.strerror}" + (f"; {way_out}" if way_out else "")
