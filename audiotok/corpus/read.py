"""Reader of a corpus: by number, by id, by shard."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import overload

import numpy as np

from audiotok.corpus.base import NoSuchRecordingError, hashed, read_info
from audiotok.corpus.location import folder_of, storage_of
from audiotok.corpus.shard import Entry, Shard
from audiotok.corpus.storage import Storage
from audiotok.tokens.codebooks import needs_codes


class Corpus:
    """Reader of a token corpus; see `audiotok.corpus.base`. Few shards are open at a time.

    Args:
        path: folder of the corpus, or its URL in object storage. A shard of a URL is copied to a
            temporary folder when it is first read, and the copy goes when the shard is closed.

    Attributes:
        location: the folder or the URL, for messages.
        storage: the place of its files.
        info: content of corpus.json.
        shards: the shards, each of which can be read by itself.

    Raises:
        CorpusError: there is no corpus, it is not finished, or a newer audiotok wrote it.
        StorageError: the URL cannot be read.
    """

    def __init__(self, path: str | Path | Storage) -> None:
        self.storage = storage_of(path)
        self.location = self.storage.name
        self.info = read_info(self.storage)
        header = self.info.header
        self.shards = [Shard(self.storage, files, header) for files in self.info.shards]
        self._starts = np.cumsum([0, *(len(shard) for shard in self.shards)])

    @property
    def path(self) -> Path:
        """Folder of the corpus.

        Raises:
            InputError: it is behind a URL.
        """
        return folder_of(self.storage)

    @property
    def codec(self) -> str:
        """Name of the codec that made the codes."""
        return self.info.codec

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the codec's weights."""
        return self.info.fingerprint

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of entries in each codebook."""
        return self.info.sizes

    @property
    def codebooks(self) -> int:
        """Number of codebooks, which is that of codes in a frame."""
        return len(self.sizes)

    @property
    def width(self) -> int:
        """Features in a frame of latents, of a codec without codebooks; 0 of any other."""
        return self.info.width

    def needs_codes(self, use: str) -> None:
        """Raise unless the frames hold codes.

        Args:
            use: what codes are needed for, for the message.

        Raises:
            NoCodesError: they hold latents.
        """
        needs_codes(self.width, f"{self.location} ({self.codec})", use)

    @property
    def sample_rate(self) -> int:
        """Sample rate of the codec in Hz."""
        return self.info.sample_rate

    @property
    def frame_size(self) -> int:
        """Samples per frame."""
        return self.info.frame_size

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.sample_rate / self.frame_size

    @property
    def frames(self) -> int:
        """Frames of all recordings."""
        return sum(files.frames for files in self.info.shards)

    @property
    def seconds(self) -> float:
        """Seconds of audio in all recordings."""
        return sum(files.samples for files in self.info.shards) / self.sample_rate

    def close(self) -> None:
        """Close all files; they are opened again when needed."""
        for shard in self.shards:
            shard.close()

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __iter__(self) -> Iterator[Entry]:
        for shard in self.shards:
            yield from shard
            shard.close()

    @overload
    def __getitem__(self, which: int) -> Entry: ...
    @overload
    def __getitem__(self, which: str) -> Entry: ...
    def __getitem__(self, which: int | str) -> Entry:
        """Return the entry of a number (negative: from the end) or of an id.

        Raises:
            NoSuchRecordingError: there is no such number or id.
        """
        if isinstance(which, str):
            return self._named(which)
        shard, i = self.locate(which)
        return shard[i]

    def locate(self, i: int) -> tuple[Shard, int]:
        """Return the shard of recording i, and its number in that shard."""
        if not -len(self) <= i < len(self):
            raise NoSuchRecordingError(f"{self.location} has {len(self)} recordings, none at {i}")
        i = range(len(self))[i]
        shard = int(np.searchsorted(self._starts, i, "right")) - 1
        return self.shards[shard], i - int(self._starts[shard])

    def codes(self, i: int) -> np.ndarray:
        """Return codes `[k f]` int64, or latents `[d f]`, of recording i alone."""
        shard, number = self.locate(i)
        return shard.codes(number, number + 1)

    def _named(self, name: str) -> Entry:
        hashes, order = self._by_id
        wanted = np.uint64(hashed(name))
        at = int(np.searchsorted(hashes, wanted))
        while at < len(hashes) and hashes[at] == wanted:
            shard, i = self.locate(int(order[at]))
            if shard.row(i)["id"] == name:
                return shard[i]
            at += 1
        raise NoSuchRecordingError(f"{self.location} has no recording {name!r}")

    @cached_property
    def _by_id(self) -> tuple[np.ndarray, np.ndarray]:
        """Sorted hashes of all ids, and the number of the recording of each."""
        none = np.zeros(0, np.uint64)
        hashes = np.concatenate([none, *(shard.index["id"] for shard in self.shards)])
        order = np.argsort(hashes, kind="stable")
        return hashes[order], order
