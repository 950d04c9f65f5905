"""Members of tar files, local or behind URLs, and the audio in them."""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from audiotok.data.locator import AudioLocator, ListingError, is_url, listing_error, reading


class _Member(tarfile.TarInfo):
    """A member whose header must be complete: tarfile takes a damaged one for the archive's end."""

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> _Member:
        """Read the next header, or raise ReadError if it is damaged."""
        try:
            return super().fromtarfile(tarfile)
        except _BROKEN as error:
            raise _READ_ERROR(f"a header is damaged: {error}") from None


_MODULE: Any = tarfile  # the type stubs lack these two exceptions
_BROKEN = (_MODULE.InvalidHeaderError, _MODULE.TruncatedHeaderError)
_READ_ERROR = tarfile.ReadError


@contextmanager
def tar_members(path: str) -> Iterator[Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]]:
    """Open a tar file, local or behind a URL, and yield an iterator of it and its members.

    Raises:
        ListingError: it is damaged, or what is done with it raises an error of reading.
        TransientError: it cannot be read for now.
    """
    try:
        with (
            reading(path) as file,
            tarfile.open(  # concatenated archives are read to the end (ignore_zeros)
                fileobj=file,
                mode="r:" if _in_place(path) else "r|*",
                tarinfo=_Member,
                ignore_zeros=True,
            ) as tar,
        ):
            yield _members(tar)
    except ListingError:
        raise
    except (tarfile.TarError, EOFError, OSError, zlib.error, ValueError, OverflowError) as error:
        why = f"{path}: damaged, or not a tar file ({error}); fetch it anew"
        raise listing_error(path, error, why) from None


def _in_place(path: str) -> bool:
    """Return whether members of a tar file can be read where they are."""
    return not is_url(path) and path.lower().endswith(".tar")


def _members(tar: tarfile.TarFile) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """Yield a tar file with each of its members."""
    for member in tar:
        tar.members = []  # pyright: ignore[reportAttributeAccessIssue] - else they fill the memory
        yield tar, member


def locator_of(path: str, tar: tarfile.TarFile, member: tarfile.TarInfo) -> AudioLocator:
    """Return the locator of an audio member, which is read now unless it can be read in place."""
    name = f"{path.replace(chr(92), '/').rpartition('/')[2]}/{member.name}"
    if not member.isfile():
        why = "a link, without the file; make the archive with `tar -h --hard-dereference`"
        return AudioLocator(name, error=why)
    if _in_place(path) and not member.issparse():
        return AudioLocator(name, path, offset=member.offset_data, size=member.size)
    return AudioLocator(name, data=bytes_of(tar, member))


def bytes_of(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """Return the content of a member, or no bytes for a link."""
    file = tar.extractfile(member) if member.isfile() else None
    return file.read() if file else b""
