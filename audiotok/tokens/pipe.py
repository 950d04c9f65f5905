"""A .tok file through a pipe: written frame by frame, read as it comes, nowhere seeking.

What `TokenSink` writes is a .tok file like any other once it has ended, of short blocks; what
`TokenSource` reads may be any .tok file.
"""

from __future__ import annotations

import secrets
import zlib
from collections.abc import Iterator
from io import BufferedIOBase

import numpy as np

from audiotok.tokens.format import (
    BLOCK,
    BLOCK_TAG,
    END,
    END_TAG,
    MAX_FRAMES,
    NEXT_TAG,
    NOBODY,
    End,
    Header,
    TokenFileDamagedError,
    block_bytes,
    end_at,
    key_of,
    seed_of,
    unpack,
)
from audiotok.tokens.reader import read_start


class TokenSink:
    """Writes tokens to an open file as they come, each so many frames at once.

    Args:
        file: binary; flushed after each block, never closed.
        header: of the recording.
        block: frames a block; 1 to `header.block_frames`. More cost less and come later.
        identity: 3 bytes that no other stream has; drawn if None.

    Raises:
        ValueError: such a block there is not.
        OSError: what the file raises (BrokenPipeError when nobody reads on).
    """

    def __init__(
        self,
        file: BufferedIOBase,
        header: Header,
        *,
        block: int = 1,
        identity: bytes | None = None,
    ) -> None:
        if not 1 <= block <= header.block_frames:
            raise ValueError(f"a block has 1 to {header.block_frames} frames, not {block}")
        self.header, self.block, self.frames, self.bytes = header, block, 0, 0
        self._file = file
        self._waiting = np.zeros((header.rows, 0), np.int64)
        start = header.to_bytes()
        self._seed = seed_of(start)
        identity = identity or secrets.token_bytes(len(NOBODY))
        self._key = key_of(identity, self._seed)
        self._write(start + identity)

    def append(self, codes: np.ndarray) -> None:
        """Codes [k f] of whole frames."""
        self.header.check(codes)
        if self.frames + self._waiting.shape[1] + codes.shape[1] > MAX_FRAMES:
            raise ValueError(f"more than {MAX_FRAMES} frames; begin another stream")
        self._waiting = np.concatenate([self._waiting, codes], axis=1)
        while self._waiting.shape[1] >= self.block:
            self._give(self.block)

    def finish(self, samples: int, original_samples: int | None = None) -> None:
        """The rest and the end: how long the recording was, at the codec's and at its own rate.

        Raises:
            ValueError: the frames do not stand for so many samples.
        """
        if original_samples is None:
            original_samples = self.header.to_original(samples)
        frames = self.frames + self._waiting.shape[1]
        self.header.check_length(frames, samples, original_samples)
        if self._waiting.shape[1]:
            self._give(self._waiting.shape[1])
        end = End(frames, samples, original_samples, 0, self._key)
        self._write(end.to_bytes(self._seed))

    def _give(self, frames: int) -> None:
        now, self._waiting = self._waiting[:, :frames], self._waiting[:, frames:]
        self._write(b"".join(block_bytes(self.header, self.frames, now, self._key)))
        self.frames += frames

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._file.flush()
        self.bytes += len(data)


class TokenSource:
    """Reads tokens from an open file as they come: `header`, then `blocks`, then the length.

    Args:
        file: binary; read no further than its end record.
        name: for messages.

    Raises (here and from `blocks`):
        TokenFileDamagedError: not tokens, cut short, or changed.
        TokenFileError: a newer audiotok wrote it.
    """

    def __init__(self, file: BufferedIOBase, name: str = "stdin") -> None:
        self.name, self._file = name, file
        self._start = read_start(name, file)
        self.header, self.bytes = self._start.header, self._start.bytes
        self._key = self._start.seed
        self.frames = 0
        self.samples = self.original_samples = -1  # until the end

    def blocks(self) -> Iterator[np.ndarray]:
        """Codes [k f] of one block after the other; after the last, `samples` is known."""
        self._run()
        while (tag := self._read(4)) != END_TAG:
            if tag == BLOCK_TAG:
                yield self._block(tag)
            elif tag == NEXT_TAG:
                self._end(tag)
                self._run()
            else:
                raise self._broken("is damaged")
        end = self._end(tag)
        self.samples, self.original_samples = end.samples, end.original_samples

    def _run(self) -> None:
        """Reads what a run begins with; in format 1 that is nothing."""
        if self._start.runs:
            self._key = key_of(self._read(len(NOBODY)), self._key)

    def _block(self, tag: bytes) -> np.ndarray:
        head = tag + self._read(BLOCK.size - 4)
        _, crc, first, frames = BLOCK.unpack(head)
        if first != self.frames or not 1 <= frames <= self.header.block_frames:
            raise self._broken("is damaged")
        payload = self._read(self.header.block_bytes(frames) - BLOCK.size)
        if zlib.crc32(head[8:] + payload, self._key) != crc:
            raise self._broken("is damaged (checksum)")
        codes = unpack(payload, self.header.widths, frames)
        try:
            self.header.check(codes)
        except ValueError as error:
            raise self._broken(f"is damaged ({error})") from None
        self.frames += frames
        return codes

    def _end(self, tag: bytes) -> End:
        end = end_at(self._start, tag + self._read(END.size - 4))
        if end is None or (end.frames, end.key) != (self.frames, self._key):
            raise self._broken("is damaged (end record)")
        return end

    def _read(self, size: int) -> bytes:
        data = self._file.read(size)
        if len(data) < size:
            raise self._broken("is cut short")
        self.bytes += size
        return data

    def _broken(self, how: str) -> TokenFileDamagedError:
        seconds = self.header.seconds(self.frames)
        return TokenFileDamagedError(
            f"{self.name}: the token stream {how} after {seconds:.2f} s; what came before is good"
        )
