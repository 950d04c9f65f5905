"""Plan of a batch job: which files to read, and which to write."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from audiotok._platform.console import UsageError
from audiotok.audio.decoders import AUDIO as AUDIO
from audiotok.audio.walk import files_below, glob_files
from audiotok.runtime.batch.workers import Pair

Failure = tuple[str, str]  # a source, and a line that names it and the error


@dataclass(frozen=True)
class FilePlan:
    """Pairs of source and target, and the sources that cannot be planned."""

    pairs: list[Pair]
    errors: list[Failure]


def find(paths: Iterable[str], suffixes: Iterable[str]) -> tuple[list[Pair], list[Failure]]:
    """Return each file once, with its path relative to the folder that was searched.

    Folders are searched except for hidden files. Relative paths begin below the given folder, or
    below the part of a glob before its first wildcard.

    Args:
        paths: files, folders, globs; "-" is treated as a file.
        suffixes: extensions of files to take from folders.

    Returns:
        Pairs of file and relative path, and a failure for each path without files.
    """
    files: dict[str, Pair] = {}
    errors: list[Failure] = []
    for given in paths:
        path = Path(given)
        refused: list[OSError] = []
        if path.is_dir():
            pairs = [(p, p.relative_to(path)) for p in files_below(path, suffixes, refused.append)]
            why = f"no {_listed(suffixes)} file in this folder"
        elif given == "-" or path.exists() or not glob.has_magic(given):
            # A path that cannot be accessed is left to the reader, which explains the error.
            pairs = [(path, Path(path.name))] if given == "-" or _there(path) else []
            why = "no such file; check the path"
        else:
            root = Path(*takewhile(lambda part: not glob.has_magic(part), path.parts))
            pairs = [(p, p.relative_to(root)) for p in map(Path, glob_files(given, refused.append))]
            why = "no file matches"
        errors += [(str(e.filename), _not_listed(e)) for e in refused]
        if not pairs and not refused:
            errors.append((given, f"{given}: {why}"))
        for file, relative in pairs:
            files.setdefault(os.path.normpath(file), (file, relative))
    return list(files.values()), errors


def _not_listed(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return f"{error.filename}: no permission to list this folder; try `chmod +rx`"
    return f"{error.filename}: cannot be listed ({error.strerror})"


def _there(path: Path) -> bool:
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:  # no permission, or a name too long: the reader reports it
        return True
    return True


def _listed(suffixes: Iterable[str]) -> str:
    names = list(suffixes)
    return "audio" if len(names) > 3 else " ".join(names)


def plan(
    paths: Iterable[str],
    out: Path | None,
    *,
    suffixes: Iterable[str],
    suffix: str,
    makes: Iterable[str] = (),
) -> FilePlan:
    """Pair each source file with its target.

    Args:
        paths: files, folders, globs, or "-" for stdin.
        out: target folder, or target file of a single source; beside each source if None.
        suffixes: extensions of files to take from folders.
        suffix: extension of the targets.
        makes: extensions by which `out` is recognised as a file.

    Raises:
        UsageError: `out` does not suit the paths.
    """
    paths, suffixes = list(paths), tuple(suffixes)
    pairs, errors = find(paths, suffixes)
    if out is None and any(given == "-" or Path(given).is_dir() for given in paths):
        raise UsageError("say where to with out=FOLDER; only files have a place beside them")
    if out is not None and not out.is_dir():
        alone = len(paths) == 1 and len(pairs) <= 1 and not Path(paths[0]).is_dir()
        if out.suffix.lower() in makes:
            if not alone:
                raise UsageError(f"{out}: that is one file, for more name a folder")
            return FilePlan([_distinct(source, out) for source, _ in pairs], errors)
        if out.exists() or (alone and out.suffix):
            kinds = " ".join(makes)
            raise UsageError(f"{out}: neither a folder nor a new file ({kinds})")
    taken: dict[Path, Path] = {}
    for source, relative in pairs:
        name = Path("stdin") if str(source) == "-" else relative
        cut = name.suffix.lower() in suffixes
        name = name.with_suffix(suffix) if cut else name.with_name(name.name + suffix)
        target = source.with_name(name.name) if out is None else out / name
        if target in taken:
            why = f"would become {target}, as {taken[target]} does; write it elsewhere"
            errors.append((str(source), f"{source}: {why}"))
        else:
            taken[target] = source
    return FilePlan([(source, target) for target, source in taken.items()], errors)


def _distinct(source: Path, target: Path) -> Pair:
    if os.path.abspath(source) == os.path.abspath(target):  # noqa: PTH100 - links not followed
        raise UsageError(f"{target}: would overwrite what it is made of")
    return source, target
