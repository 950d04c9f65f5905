"""Shell commands that a file names: they run with the user's word, and nothing else starts them.

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

from audiotok._platform.lock import alone
from audiotok.audio.decoders import AudioFileError

KEPT = 8  # outputs that are kept for the next stretch of the same recording
# What starts a program, and the decoders that libraries start with a file's name and nothing else.
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
    """Audio that a shell command makes, which nobody allowed to run."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name}: is made by a shell command; --commands lets the listing run them"
        )


def run(command: str, into: IO[bytes], name: str, *, allowed: bool) -> None:
    """Run a command of a file, and write what it writes.

    Args:
        command: for the shell.
        into: a file, which is truncated to that.
        name: of the recording, for messages.
        allowed: whether the user has said that commands of this file may run.

    Raises:
        CommandError: they may not.
        AudioFileError: the command fails.
    """
    if not allowed:
        raise CommandError(name)
    done = subprocess.run(
        command, shell=True, stdout=into, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        why = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise AudioFileError(f"{name}: its command failed ({' '.join(why)[:200]})")


def run_once(command: str, into: str, name: str, folder: Path, *, allowed: bool) -> None:
    """Run a command of a file, unless it was: what it wrote is kept, and so is its failure.

    Args:
        command: for the shell.
        into: the path that its output gets.
        name: of the recording, for messages.
        folder: where outputs are kept, by all processes that share it; the last `KEPT` of them.
        allowed: whether the user has said that commands of this file may run.

    Raises:
        CommandError: they may not.
        AudioFileError: the command fails, or failed before.
    """
    if not allowed:
        raise CommandError(name)
    kept = folder / hashlib.sha256(command.encode("utf-8", "surrogateescape")).hexdigest()[:32]
    failed = kept.with_suffix(".failed")
    with alone(folder, f"{kept.name}.lock", wait=True):
        if failed.exists():
            raise AudioFileError(f"{name}: {failed.read_text('utf-8')}")
        try:
            _linked(kept, into)
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
        _linked(Path(part.name), into)
        Path(part.name).replace(kept)
    _thin(folder)


def _linked(kept: Path, into: str) -> None:
    """Give what is kept another name, under which it stays when it is not kept any longer."""
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


def _thin(folder: Path) -> None:
    """Remove the outputs that were not asked for the longest."""
    ages: list[tuple[float, Path]] = []
    for path in folder.iterdir():
        if not path.suffix:
            with suppress(OSError):
                ages.append((path.stat().st_mtime, path))
    for _, path in sorted(ages)[:-KEPT]:
        path.unlink(missing_ok=True)


class _Gate(threading.local):
    shut = False
    tried = False


_gate = _Gate()
_installed = threading.Lock()


def _watch(event: str, args: tuple[Any, ...]) -> None:
    if event in _STARTS and _gate.shut:
        program = args[0] if args else ""
        if isinstance(program, str | bytes) and Path(os.fsdecode(program)).stem in _DECODERS:
            return
        _gate.tried = True
        raise CommandError("this")  # `withheld` names the recording


@contextmanager
def withheld(name: str, *, allowed: bool) -> Iterator[None]:
    """Let no library start a program in this thread, but for decoders, unless it is allowed.

    Args:
        name: of the recording, for messages.
        allowed: whether the user has said that commands of this file may run.

    Raises:
        CommandError: something tried to.
    """
    if allowed:
        yield
        return
    if _installed.acquire(blocking=False):  # once a process: a hook cannot be removed
        sys.addaudithook(_watch)
    before, _gate.shut, _gate.tried = _gate.shut, True, False
    try:
        yield
    except Exception:
        if _gate.tried:
            raise CommandError(name) from None
        raise
    finally:
        _gate.shut = before
    if _gate.tried:
        raise CommandError(name)
