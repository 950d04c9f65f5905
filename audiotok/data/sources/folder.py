"""A folder of audio, local or at a URL, with speakers and transcripts where corpora keep them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from audiotok.audio.folder import transcript_reader
from audiotok.data.locator import AudioLocator, ListingError, is_url
from audiotok.data.recording import Recording
from audiotok.data.sources.base import ALL, Listing, Split, every, names_in, walk


class Folder(Listing):
    """Every audio file below a folder; the id is the path relative to the folder."""

    description = "a folder of audio, here or s3://bucket/prefix"

    @classmethod
    def takes(cls, path: str) -> bool:
        """See `Listing.takes`."""
        return any(names_in(path)) if is_url(path) else Path(path).is_dir()

    def items(self, path: str, part: Split = ALL) -> Iterator[Recording]:
        """See `Listing.items`."""
        root, empty = path.rstrip("/") or "/", True
        tell = transcript_reader(lru_cache(32), Path(root))
        for file in every(walk(root), part):
            empty = False
            name = file[len(root) :].lstrip("/\\").replace("\\", "/")
            try:
                speaker, text = ("", "") if is_url(file) else tell(Path(file))
            except (ValueError, OSError) as error:  # raised by a file of transcripts
                raise ListingError(str(error)) from None
            row = {"speaker": speaker} if speaker else {}
            row |= {"text": text} if text else {}
            cells = {"path": file, "speaker": speaker, "text": text}
            yield Recording(name, AudioLocator(name, file), row, cells=cells)
        if empty and part == ALL:
            raise ListingError(f"{path}: no audio file in this folder")
