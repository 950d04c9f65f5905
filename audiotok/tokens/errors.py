"""Errors of .tok files, each one line about the file and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from errno import EDQUOT, EFBIG, ENOSPC
from pathlib import Path

from audiotok._platform.errors import Error

KINDS = {"codes": "Tokens", "latents": "Latents"}  # kind of frames -> the class that reads them


def way_out(kind: str) -> str:
    """Return what to do with a damaged file of a kind, "codes" or "latents"."""
    return f"`{KINDS[kind]}.recover(path)` reads what is left, or encode the recording again"


class TokenFileError(Error, ValueError):
    """Error of a .tok file that cannot be read or written: one line with its name and a remedy."""


class TokenFileDamagedError(TokenFileError):
    """Error of a .tok file whose bytes are not those that were written."""


class TokenFileExistsError(TokenFileError, FileExistsError):
    """Error of writing to a path that exists, without `force`."""


@contextmanager
def explained(path: Path, doing: str) -> Iterator[None]:
    """Turn errors of the operating system into a TokenFileError of one line about `path`.

    Args:
        path: the file.
        doing: the verb of the message, "read" or "write".
    """
    try:
        yield
    except TokenFileError:
        raise
    except OSError as error:
        if error.errno in (ENOSPC, EDQUOT, EFBIG):
            why = "no space left on the device for this file; free some and run again"
        else:
            why = f"cannot {doing}: {error.strerror or error}"
        raise TokenFileError(f"{path}: {why}") from error
