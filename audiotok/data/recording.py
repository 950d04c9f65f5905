"""A recording, or a stretch of one: the model that every source makes and every job takes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audiotok._platform.errors import InputError
from audiotok.audio.decoders import AudioFileError
from audiotok.audio.folder import Probe
from audiotok.audio.reader import Source, sample_at
from audiotok.data.locator import AudioLocator, opened
from audiotok.data.transient import READING_WAITS

if TYPE_CHECKING:
    from audiotok.audio.audio import Audio


@dataclass(frozen=True)
class Recording:
    """A recording or a stretch of one: its id, the locator of its audio, and what is known of it.

    Attributes:
        id: name that no other recording of its source has.
        locator: where its bytes are, and which stretch and channel of them is meant.
        fields: text, speaker, language, split and whatever else is known, under these names.
        seconds: duration, where the source has it.
        rate: sample rate in Hz, where the source has it.
        cells: the row of its table as text, empty fields and all; None where there is no table.
    """

    id: str
    locator: AudioLocator
    fields: Mapping[str, Any] = field(default_factory=dict)
    seconds: float | None = None
    rate: int | None = None
    cells: Mapping[str, str] | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of_file(cls, path: str | Path, fields: Mapping[str, Any] | None = None) -> Recording:
        """Return the recording that a whole file is.

        Args:
            path: the file; its path is the id.
            fields: what is known of it.
        """
        return cls(str(path), AudioLocator(str(path), str(path)), dict(fields or {}))

    @property
    def name(self) -> str:
        """Name of the recording in messages."""
        return self.locator.name

    @property
    def start(self) -> float:
        """Start of the stretch in its file, seconds."""
        return self.locator.start

    @property
    def end(self) -> float | None:
        """End of the stretch in its file, seconds; None for the end of the file."""
        return self.locator.end

    @property
    def channel(self) -> int | None:
        """Index of the only channel that is meant; None for all channels."""
        return self.locator.channel

    @property
    def text(self) -> str:
        """Transcript; empty where none is known."""
        return self.column("text")

    @property
    def speaker(self) -> str:
        """Speaker; empty where none is known."""
        return self.column("speaker")

    @property
    def language(self) -> str:
        """Language; empty where none is known."""
        return self.column("language")

    @property
    def split(self) -> str:
        """Split of the corpus that the recording belongs to; empty where none is known."""
        return self.column("split")

    @property
    def path(self) -> Path:
        """Path of the file that the recording is, whole.

        Raises:
            ValueError: the recording is a stretch of a file, or in no file of this machine.
        """
        if not self.is_file:
            raise InputError(f"{self.name}: is not a whole file of this machine; use `load`")
        return Path(self.locator.path)

    @property
    def is_file(self) -> bool:
        """True if the recording is a whole file of this machine."""
        return self.locator.is_file and self.locator.stretch is None

    def column(self, name: str) -> str:
        """Return a field as text; "" where the recording has none of this name."""
        value = self.fields.get(name)
        return "" if value is None else as_text(value)

    def columns(self) -> dict[str, str]:
        """Return all fields as text: those of its table where it comes from one."""
        if self.cells is not None:
            return dict(self.cells)
        return {key: as_text(value) for key, value in self.fields.items() if value is not None}

    def with_fields(self, **more: str) -> Recording:
        """Return the recording with more fields."""
        cells = None if self.cells is None else {**self.cells, **more}
        return replace(self, fields={**self.fields, **more}, cells=cells)

    def absolute(self, folder: str = "") -> Recording:
        """Return the recording that is the same in every working directory.

        Its id, its name and its digest stay.

        Args:
            folder: the folder that relative paths start from; the working directory if empty.
        """
        return replace(self, locator=self.locator.absolute(folder))

    def open(self) -> AbstractContextManager[Source]:
        """Open the audio for reading by blocks, as a context manager; see `locator.opened`."""
        return opened(self.locator, waits=READING_WAITS)

    def probe(self) -> Probe:
        """Return the rate, the channels and the length of what is meant.

        They are read from the header; the file is decoded where the header does not say its length.

        Raises:
            AudioFileError: it cannot be read, or holds no samples.
        """
        with self.open() as source:
            samples = source.samples
            if samples is None:
                samples = sum(block.shape[1] for block in source.arrays())
            if not samples:
                raise AudioFileError(f"{self.name}: holds no samples; record it again")
            return Probe(source.rate, source.channels, samples)

    def load(self, *, longest: float | None = None) -> Audio:
        """Return the audio at its own rate, with all channels that are meant.

        Args:
            longest: seconds to read at most; None for all.

        Raises:
            AudioFileError: it cannot be read, or the stretch lies past the end of the file.
        """
        import torch

        from audiotok.audio.audio import Audio

        with self.open() as source:
            limit = None
            if longest is not None:
                limit = sample_at(self.start + longest, source.rate)
                limit -= sample_at(self.start, source.rate)
            blocks, length = [torch.zeros(source.channels, 0)], 0
            for block in source.blocks():
                blocks.append(block)
                length += block.shape[1]
                if limit is not None and length >= limit:
                    break
            return Audio(torch.cat(blocks, 1)[:, :limit], source.rate)


def as_text(value: Any) -> str:
    """Return a value as a table holds it: text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def stamp_of(recording: Recording) -> list[Any]:
    """Return values that change when the samples of a recording may: path, size, time, stretch.

    Audio that is in no file of this machine is known by its URL, its command or a hash of its
    bytes.
    """
    locator = recording.locator
    stretch = [] if locator.stretch is None else [*locator.stretch]
    if locator.offset or locator.size is not None:
        stretch += ["bytes", locator.offset, locator.size]
    file = locator.local
    if not file:
        data = locator.data
        content = "" if data is None else hashlib.blake2b(data, digest_size=16).hexdigest()
        return [locator.path or locator.command or locator.cut or content, *stretch]
    try:
        status = Path(file).stat()
    except OSError:  # raised again when the file is opened
        return [str(Path(file)), *stretch]
    return [str(Path(file)), status.st_size, status.st_mtime_ns, *stretch]


def key_of(recordings: Sequence[Recording], *more: int) -> str:
    """Return a hash of the recordings' files (names, sizes, times), stretches and further numbers.

    It names cached data that is computed from the recordings, and changes with them.

    Args:
        recordings: the recordings, in order.
        more: numbers that the cached data also depends on.
    """
    content = json.dumps([*more, *map(stamp_of, recordings)])
    return hashlib.sha256(content.encode()).hexdigest()[:16]


_DIGESTED = [each.name for each in fields(AudioLocator) if each.repr]


def digest_of(recording: Recording) -> bytes:
    """Return 8 bytes that identify a recording, by which builds notice a changed listing.

    Builds store them, so the text that is hashed does not depend on the name of the locator's
    class, nor on whether its path was made absolute.
    """
    locator = recording.locator.as_listed()
    shown = ", ".join(
        [f"{name}={None if name == 'data' else getattr(locator, name)!r}" for name in _DIGESTED]
    )
    row = sorted(recording.fields.items(), key=lambda pair: pair[0])
    text = f"({recording.id!r}, Place({shown}), {row!r})"
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest()
