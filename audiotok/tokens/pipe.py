"""Streaming of .tok files through pipes: written and read block by block, without seeking.

`TokenSink` writes a regular .tok file of short blocks; `TokenSource` reads any .tok file.
"""

from __future__ import annotations

import secrets
import zlib
from collections.abc import Iterator
from io import BufferedIOBase

import numpy as np

from audiotok._platform.errors import InputError
from audiotok.tokens.errors import TokenFileDamagedError
from audiotok.tokens.format import (
    BLOCK,
    BLOCK_TAG,
    END,
    END_TAG,
    MAX_FRAMES,
    NEXT_TAG,
    NO_IDENTITY,
    End,
    Header,
    block_bytes,
    end_at,
    key_of,
    seed_of,
)
from audiotok.tokens.reader import read_start


class TokenSink:
    """Writer of tokens to an open file, one block after the other as frames arrive.

    Attributes:
        frames: number of frames written so far.
        bytes: number of bytes written so far.

    Args:
        file: binary; flushed after each block, never closed.
        header: of the recording.
        block: frames a block, 1 to `header.block_frames`; more cost fewer bytes and add latency.
        identity: 3 bytes that no other stream has; random if None.

    Raises:
        ValueError: `block` is out of its range.
        OSError: writing to the file fails (BrokenPipeError when its reader has gone).
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
            raise InputError(f"a block has 1 to {header.block_frames} frames, not {block}")
        self.header = header
        self.block = block
        self.frames = 0
        self.bytes = 0
        self._file = file
        self._waiting = np.zeros((header.rows, 0), header.dtype)
        start = header.to_bytes()
        self._seed = seed_of(start)
        identity = identity or secrets.token_bytes(len(NO_IDENTITY))
        self._key = key_of(identity, self._seed)
        self._write(start + identity)

    def append(self, codes: np.ndarray) -> None:
        """Add codes `[k f]` or latents `[d f]`; blocks are written as soon as they are full.

        Raises:
            ValueError: frames that do not fit the header, or too many frames.
        """
        self.header.check(codes)
        if self.frames + self._waiting.shape[1] + codes.shape[1] > MAX_FRAMES:
            raise InputError(f"more than {MAX_FRAMES} frames; begin another stream")
        self._waiting = np.concatenate([self._waiting, codes.astype(self.header.dtype)], axis=1)
        while self._waiting.shape[1] >= self.block:
            self._write_block(self.block)

    def finish(self, samples: int, original_samples: int | None = None) -> None:
        """Write the remaining codes and the end record.

        Args:
            samples: length of the recording at the codec's rate.
            original_samples: length at its original rate; in proportion if None.

        Raises:
            ValueError: so many samples do not take so many frames.
        """
        if original_samples is None:
            original_samples = self.header.to_original(samples)
        frames = self.frames + self._waiting.shape[1]
        self.header.check_length(frames, samples, original_samples)
        if self._waiting.shape[1]:
            self._write_block(self._waiting.shape[1])
        end = End(frames, samples, original_samples, 0, self._key)
        self._write(end.to_bytes(self._seed))

    def _write_block(self, frames: int) -> None:
        """Write the first so many of the waiting frames."""
        codes = self._waiting[:, :frames]
        self._waiting = self._waiting[:, frames:]
        self._write(b"".join(block_bytes(self.header, self.frames, codes, self._key)))
        self.frames += frames

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._file.flush()
        self.bytes += len(data)


class TokenSource:
    """Reader of tokens from an open file as they arrive: `header`, then `blocks`, then the length.

    Attributes:
        header: of the recording.
        frames: number of frames read so far.
        bytes: number of bytes read so far.
        samples: length at the codec's rate; -1 until the end has been read.
        original_samples: length at the original rate; -1 until the end has been read.

    Args:
        file: binary; read no further than its end record.
        name: the file, for messages.

    Raises:
        TokenFileDamagedError: not tokens, cut short, or changed; `blocks` raises it too.
        TokenFileError: a newer audiotok wrote it.
    """

    def __init__(self, file: BufferedIOBase, name: str = "stdin") -> None:
        self.name = name
        self._file = file
        self._start = read_start(name, file)
        self.header = self._start.header
        self.bytes = self._start.bytes
        self._key = self._start.seed
        self.frames = 0
        self.samples = self.original_samples = -1

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield the codes or latents of each block; `samples` is known after the last one.

        Raises:
            TokenFileDamagedError: the stream is cut short or damaged.
        """
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
        self.samples = end.samples
        self.original_samples = end.original_samples

    def _run(self) -> None:
        """Read the identity at the beginning of a run; format 1 has none."""
        if self._start.runs:
            self._key = key_of(self._read(len(NO_IDENTITY)), self._key)

    def _block(self, tag: bytes) -> np.ndarray:
        """Read the rest of a block and return its codes."""
        head = tag + self._read(BLOCK.size - 4)
        _, crc, first, frames = BLOCK.unpack(head)
        if first != self.frames or not 1 <= frames <= self.header.block_frames:
            raise self._broken("is damaged")
        payload = self._read(self.header.block_bytes(frames) - BLOCK.size)
        if zlib.crc32(head[8:] + payload, self._key) != crc:
            raise self._broken("is damaged (checksum)")
        codes = self.header.unpack(payload, frames)
        try:
            self.header.check(codes)
        except ValueError as error:
            raise self._broken(f"is damaged ({error})") from None
        self.frames += frames
        return codes

    def _end(self, tag: bytes) -> End:
        """Read the rest of an end record."""
        end = end_at(self._start, tag + self._read(END.size - 4))
        if end is None or (end.frames, end.key) != (self.frames, self._key):
            raise self._broken("is damaged (end record)")
        return end

    def _read(self, size: int) -> bytes:
        """Read exactly so many bytes."""
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
