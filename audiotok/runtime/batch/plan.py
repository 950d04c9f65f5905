"""Which files are meant, and what becomes of each."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from audiotok._platform.console import UsageError
from audiotok.audio.decoders import AUDIO as AUDIO
from audiotok.audio.walk import inside, matching
from audiotok.runtime.batch.workers import Pair

Failure = tuple[str, str]  # a source, and a line that names it and says what is wrong


@dataclass(frozen=True)
class Plan:
    """Files and what is to become of them, and what cannot be planned."""

    pairs: list[Pair]
    errors: list[Failure]


def find(paths: Iterable[str], suffixes: Iterable[str]) -> tuple[list[Pair], list[Failure]]:
    """Each file that is meant, once, with its place in the tree it came from.

    Folders are searched, but for hidden files, and files keep their place below them; so do
    those of a glob below its first wildcard.

    Args:
        paths: files, folders, globs; "-" is taken as a file.
        suffixes: extensions to take from folders.

    Returns:
        (file, path relative to what was searched), and what there is not.
    """
    found: dict[str, Pair] = {}
    errors: list[Failure] = []
    for given in paths:
        path = Path(given)
        refused: list[OSError] = []
        if path.is_dir():
            pairs = [(p, p.relative_to(path)) for p in inside(path, suffixes, refused.append)]
            why = f"no {_listed(suffixes)} file in this folder"
        elif given == "-" or path.exists() or not glob.has_magic(given):
            # os.path.exists: what may not be looked at is for the reader to explain.
            pairs = [(path, Path(path.name))] if given == "-" or _there(path) else []
            why = "no such file; check the path"
        else:
            root = Path(*takewhile(lambda part: not glob.has_magic(part), path.parts))
            pairs = [(p, p.relative_to(root)) for p in map(Path, matching(given, refused.append))]
            why = "no file matches"
        errors += [(str(e.filename), _not_listed(e)) for e in refused]
        if not pairs and not refused:
            errors.append((given, f"{given}: {why}"))
        for file, place in pairs:
            found.setdefault(os.path.normpath(file), (file, place))
    return list(found.values()), errors


def _not_listed(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return f"{error.filename}: no permission to list this folder; try `chmod +rx`"
    return f"{error.filename}: cannot be listed ({error.strerror})"


def _there(path: Path) -> bool:
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:  # not allowed to look, a name too long: the reader says it
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
) -> Plan:
    """Pair each file with what it becomes.

    Args:
        paths: files, folders, globs, or "-" for stdin.
        out: a folder, or for a single file a file; None: beside each file.
        suffixes: extensions to take from folders.
        suffix: extension of what is made.
        makes: extensions that say that `out` is a file.

    Raises:
        UsageError: an `out` that does not suit the paths.
    """
    paths, suffixes = list(paths), tuple(suffixes)
    pairs, errors = find(paths, suffixes)
    if out is None and any(given == "-" or Path(given).is_dir() for given in paths):
        raise UsageError("say where to with --out; only files have a place beside them")
    if out is not None and not out.is_dir():
        alone = len(paths) == 1 and len(pairs) <= 1 and not Path(paths[0]).is_dir()
        if out.suffix.lower() in makes:
            if not alone:
                raise UsageError(f"--out {out}: that is one file, for more name a folder")
            return Plan([_apart(source, out) for source, _ in pairs], errors)
        if out.exists() or (alone and out.suffix):
            kinds = " ".join(makes)
            raise UsageError(f"--out {out}: neither a folder nor a new file ({kinds})")
    taken: dict[Path, Path] = {}
    for source, place in pairs:
        name = Path("stdin") if str(source) == "-" else place
        cut = name.suffix.lower() in suffixes
        name = name.with_suffix(suffix) if cut else name.with_name(name.name + suffix)
        target = source.with_name(name.name) if out is None else out / name
        if target in taken:
            why = f"would become {target}, as {taken[target]} does; give it another --out"
            errors.append((str(source), f"{source}: {why}"))
        else:
            taken[target] = source
    return Plan([(source, target) for target, source in taken.items()], errors)


def _apart(source: Path, target: Path) -> Pair:
    if os.path.abspath(source) == os.path.abspath(target):  # noqa: PTH100 - links not followed
        raise UsageError(f"--out {target}: would overwrite what it is made of")
    return source, target
