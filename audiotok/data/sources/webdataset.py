"""WebDataset: tar files in which members with the same name form a sample."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from audiotok._platform.errors import InputError
from audiotok._platform.jsonfile import parse
from audiotok.audio.columns import with_our_names
from audiotok.audio.decoders import AUDIO
from audiotok.audio.folder import TEXTS, is_timed
from audiotok.data.archives import bytes_of, locator_of, tar_members
from audiotok.data.locator import AudioLocator, ListingError
from audiotok.data.recording import Recording
from audiotok.data.sources.base import Containers, files_of, length_of, names_in

_TARS = (".tar", ".tar.gz", ".tgz")
# As in the webdataset library, a sample's name ends at the first dot of the last part of a path,
# and members beginning with __x__ describe the archive.
_NAME = re.compile(r"((?:.*/|)[^.]+)\.([^/]*)")
_ARCHIVE_NOTES = re.compile(r"__[^/]*__($|/)")
_TEXTS = (*(suffix[1:] for suffix in TEXTS), "text")
_FIELDS = {"cls": "class", "spk": "speaker"}  # fields of the row by extension
_READ = ("json", *_TEXTS, *_FIELDS)


class Webdataset(Containers):
    """Samples of tar files: `x.flac` with `x.json`, `x.txt` ...; the id is the members' name.

    The source is one tar file, a folder of them, a glob, or a range as in `shard-{000..099}.tar`,
    local or at a URL. Members of an uncompressed tar file on disk are read in place. `audio` is
    the extension of the member to take where a sample has several, as `clean.wav`, or `clean`.
    """

    description = "WebDataset tar files: one, a folder, a glob, or shard-{000..099}.tar"
    chooses = True

    @classmethod
    def takes(cls, path: str) -> bool:
        """See `Listing.takes`."""
        if path.lower().endswith(_TARS):
            return True
        return any(name.endswith(".tar") for name in names_in(path))

    def containers(self, path: str) -> list[str]:
        """See `Containers.containers`."""
        return files_of(path, _TARS)

    def items_of(self, path: str, file: str) -> Iterator[Recording]:
        """See `Listing.items_of`."""
        for sample in _samples(file):
            yield _item(sample, self.audio)


@dataclass
class _Sample:
    """The members of a sample, which have one name."""

    archive: str  # path of the tar file
    key: str
    names: dict[str, str] = field(default_factory=dict)  # name of each member by extension
    audio: dict[str, AudioLocator] = field(default_factory=dict)  # locators of audio by extension
    known: dict[str, bytes] = field(default_factory=dict)  # content of other members


def _samples(path: str) -> Iterator[_Sample]:
    """Yield the samples of a tar file, in which the members of a sample are adjacent."""
    sample, seen = None, set[str]()
    with tar_members(path) as members:
        for tar, member in members:
            named = _NAME.fullmatch(member.name)
            if not named or _ARCHIVE_NOTES.match(member.name):
                continue
            if not (member.isfile() or member.islnk() or member.issym()):
                continue
            if sample is None or named[1] != sample.key:
                if sample:
                    yield sample
                sample = _Sample(path, named[1])
                if sample.key in seen:
                    raise ListingError(
                        f"{path}/{member.name}: stands apart from the other members of sample "
                        f"`{sample.key}`; sort the archive, e.g. with `tar --sort=name`"
                    )
                seen.add(sample.key)
            kind = named[2].lower()
            if kind in sample.names:
                raise ListingError(f"{path}/{member.name}: is there twice; name them apart")
            sample.names[kind] = member.name
            if f".{kind}".endswith(AUDIO):
                sample.audio[kind] = locator_of(path, tar, member)
            elif kind.rpartition(".")[2] in _READ:
                sample.known[kind] = bytes_of(tar, member)
        if sample:
            yield sample


def _item(sample: _Sample, audio: str) -> Recording:
    """Return the item of a sample; one that cannot be read raises when it is opened."""
    archive = sample.archive.replace("\\", "/").rpartition("/")[2]
    kind = _audio_member(sample, audio)
    if kind is None:
        what = f"no audio `{audio}`" if audio else "no audio"
        error = f"{what} in this sample, only {', '.join(sample.names.values())[:200]}"
        return Recording(sample.key, AudioLocator(f"{archive}/{sample.key}", error=error))
    locator = sample.audio[kind]
    try:
        row = _row(sample, kind.rpartition(".")[0])
    except ValueError as error:
        return Recording(sample.key, AudioLocator(locator.name, error=str(error)))
    return Recording(sample.key, locator, row, length_of(row))


def _audio_member(sample: _Sample, audio: str) -> str | None:
    """Return the extension of the audio member that is meant, or None if there is none.

    Raises:
        ListingError: there are several.
    """
    wanted = audio.lower().lstrip(".")
    kinds = [
        kind for kind in sample.audio if not wanted or wanted in (kind, kind.rpartition(".")[0])
    ]
    if len(kinds) > 1:
        raise ListingError(
            f"{sample.archive}: sample `{sample.key}` has {len(kinds)} audio members "
            f"({', '.join(kinds)}); say which with the option `audio`, or name the members apart "
            "before the first dot, where a sample's name ends"
        )
    return kinds[0] if kinds else None


def _row(sample: _Sample, prefix: str) -> dict[str, Any]:
    """Return the fields that the members of a sample hold for its audio.

    They are members with the audio's prefix (`x.clean.txt`), or with none.

    Raises:
        ValueError: a member cannot be read.
    """
    row: dict[str, Any] = {}
    for start in dict.fromkeys(("", f"{prefix}." if prefix else "")):
        if (kind := f"{start}json") in sample.known:
            value = parse(sample.known[kind], sample.names[kind])
            row |= with_our_names(value) if isinstance(value, dict) else {"json": value}
        for suffix, name in _FIELDS.items():
            if (kind := start + suffix) in sample.known:
                row[name] = _text(sample, kind)
        for suffix in _TEXTS:
            kind = start + suffix
            if kind in sample.known and not is_timed(f".{suffix}", _text(sample, kind)):
                row["text"] = _text(sample, kind)
                break
    return row


def _text(sample: _Sample, kind: str) -> str:
    """Return the text of a member."""
    try:
        return sample.known[kind].decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise InputError(f"{sample.names[kind]} is not UTF-8") from None
