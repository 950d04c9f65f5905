"""Shell commands in listings: run only with the user's permission, and kept from running without.

Every command that stands in a listing goes through here: those of Kaldi and of Lhotse that audiotok
starts itself (`run`, `run_once`), and those that another library would start while it loads what a
file describes (`withheld`).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from audiotok._platform.lock import locked_folder
from audiotok.audio.decoders import AudioFileError

COPY = "audiotok-"  # how the names of temporary copies begin
KEPT = 8  # outputs stored for further stretches of the same recordings
# Audit events of starting a program, and the decoders that libraries start with only a file name.
_STARTS = {
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.startfile",
    "os.system",
    "pty.spawn",
    "subprocess.Popen",
}
_DECODERS = {"avconv", "ffmpeg", "ffprobe"}


class CommandError(AudioFileError):
    """A recording produced by a shell command that the user has not allowed to run."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name}: is made by a shell command; commands=True lets the listing run them"
        )


def run(command: str, into: IO[bytes], name: str, *, allowed: bool) -> None:
    """Run a shell command of a listing and write its output to a file.

    Args:
        command: command line for the shell.
        into: file that receives its standard output.
        name: name of the recording, for messages.
        allowed: whether the user has allowed commands of this listing to run.

    Raises:
        CommandError: commands are not allowed.
        AudioFileError: the command fails.
    """
    if not allowed:
        raise CommandError(name)
    completed = subprocess.run(
        command, shell=True, stdout=into, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
    )
    if completed.returncode:
        why = completed.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise AudioFileError(f"{name}: its command failed ({' '.join(why)[:200]})")


def run_once(command: str, into: str, name: str, folder: Path, *, allowed: bool) -> None:
    """Run a shell command of a listing once, and reuse its output or its failure afterwards.

    Args:
        command: command line for the shell.
        into: path that receives its output.
        name: name of the recording, for messages.
        folder: folder of the last `KEPT` outputs, shared by all processes of a job.
        allowed: whether the user has allowed commands of this listing to run.

    Raises:
        CommandError: commands are not allowed.
        AudioFileError: the command fails, or failed before.
    """
    if not allowed:
        raise CommandError(name)
    kept = folder / hashlib.sha256(command.encode("utf-8", "surrogateescape")).hexdigest()[:32]
    failed = kept.with_suffix(".failed")
    with locked_folder(folder, f"{kept.name}.lock", wait=True):
        if failed.exists():
            raise AudioFileError(f"{name}: {failed.read_text('utf-8')}")
        try:
            _link(kept, into)
            return
        except FileNotFoundError:
            pass
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".part", delete=False) as part:
            try:
                run(command, part, name, allowed=allowed)
            except AudioFileError as error:
                failed.write_text(str(error).removeprefix(f"{name}: "), "utf-8")
                Path(part.name).unlink()
                raise
        _link(Path(part.name), into)
        Path(part.name).replace(kept)
    _evict(folder)


def _link(kept: Path, into: str) -> None:
    """Link a stored output to another path, where it stays when the store removes it."""
    link = f"{into}.link"
    try:
        os.link(kept, link)
    except FileNotFoundError:
        raise
    except OSError:  # a file system without links, or another one
        shutil.copyfile(kept, into)
    else:
        Path(link).replace(into)
    with suppress(OSError):
        os.utime(kept)


def _evict(folder: Path) -> None:
    """Remove the stored outputs that were used the longest time ago."""
    ages: list[tuple[float, Path]] = []
    for path in folder.iterdir():
        if not (path.suffix or path.name.startswith(COPY)):
            with suppress(OSError):
                ages.append((path.stat().st_mtime, path))
    for _, path in sorted(ages)[:-KEPT]:
        path.unlink(missing_ok=True)


class _Gate(threading.local):
    """Per-thread state of the audit hook: whether it refuses programs, and whether it has."""

    shut = False
    tried = False


_gate = _Gate()
_installed = threading.Lock()


def _watch(event: str, args: tuple[Any, ...]) -> None:
    """Refuse, as an audit hook, the start of a program in a thread whose gate is shut."""
    if event in _STARTS and _gate.shut:
        program = args[0] if args else ""
        if isinstance(program, str | bytes) and Path(os.fsdecode(program)).stem in _DECODERS:
            return
        _gate.tried = True
        raise CommandError("this")  # replaced by `withheld`, which knows the recording's name


@contextmanager
def withheld(name: str, *, allowed: bool) -> Iterator[None]:
    """Let no library start a program in this thread, except decoders, unless commands are allowed.

    Args:
        name: name of the recording, for messages.
        allowed: whether the user has allowed commands of this listing to run.

    Raises:
        CommandError: a library tried to start a program.
    """
    if allowed:
        yield
        return
    if _installed.acquire(blocking=False):  # once a process: a hook cannot be removed
        sys.addaudithook(_watch)
    was_shut = _gate.shut
    _gate.shut = True
    _gate.tried = False
    try:
        yield
    except Exception:
        if _gate.tried:
            raise CommandError(name) from None
        raise
    finally:
        _gate.shut = was_shut
    if _gate.tried:
        raise CommandError(name)
