"""Failures of reading a recording: which may pass, or be one machine's, and how they are said."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from audiotok._platform.console import one_line
from audiotok._platform.errors import Error
from audiotok._platform.jsonfile import parse
from audiotok.data.locator import AudioLocator, as_listed, is_url, sources_of
from audiotok.data.remote import bucket_answers
from audiotok.data.transient import is_transient


def may_be_transient(error: Exception, locator: AudioLocator) -> bool:
    """Return whether reading a recording may succeed when it is tried again.

    A decoder calls a file damaged where the disk did not return its bytes, so the file is read once
    more to find out. One that is missing may come back if its folder is missing too.
    """
    paths = _paths(locator)
    if is_transient(error, remote=any(map(is_url, paths))) or missing_here(locator):
        return True
    return any(_fails_for_now(path) for path in paths if not is_url(path))


def _fails_for_now(path: str) -> bool:
    """Return whether a disk fails to return the bytes of a file, which may pass."""
    try:
        with Path(path).open("rb") as file:
            while file.read(1 << 20):
                pass
    except OSError as refused:
        return is_transient(refused)
    except ValueError:  # a null character in the path
        return False
    return False


def missing_here(locator: AudioLocator) -> bool:
    """Return whether this machine cannot see the files of a recording, which others may.

    The folder of a file, or of a command, is missing or empty, a mount does not answer, or a bucket
    is not there. A file that is missing among others is no such case, and neither is an object in a
    bucket that answers.
    """
    if locator.command and locator.listed:  # see _absolute_command
        return not Path(shlex.split(locator.command.partition(" || ")[0])[1]).is_dir()
    return any(map(_missing_here, _paths(locator)))


def _paths(locator: AudioLocator) -> list[str]:
    """Return the paths and URLs of the files that a recording is in."""
    if not locator.cut:
        return [locator.path] if locator.path else []
    sources = sources_of(parse(locator.cut, locator.name))
    return [str(each["source"]) for each in sources if each.get("type") in ("file", "url")]


def _missing_here(path: str) -> bool:
    """Return whether a file cannot be seen, nor others in its folder."""
    if is_url(path):
        return not bucket_answers(path)
    try:
        os.stat(path)  # noqa: PTH116 - Path.exists hides what a mount says
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        return is_transient(error) and not isinstance(error, PermissionError)
    except ValueError:  # a null character
        return False
    else:
        return False
    try:
        return not any(Path(path).parent.iterdir())
    except NotADirectoryError:
        return False
    except OSError:
        return True


def reason(error: Exception, locator: AudioLocator) -> str:
    """Return why a recording has no codes, in one line that is the same on every machine."""
    text = as_listed(one_line(error), locator)
    if isinstance(error, MemoryError):
        text = "not enough memory"
    elif not isinstance(error, (Error, ValueError, OSError, ImportError)):
        text = f"{type(error).__name__}: {text[:300]}"
    return text.removeprefix(f"{locator.name}: ")
