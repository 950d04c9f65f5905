"""Reading of .tok files: any range of frames, with the checksums of the blocks that are read."""

from __future__ import annotations

import math
import os
import stat
import zlib
from bisect import bisect_right
from collections.abc import Iterator
from io import BufferedIOBase
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from audiotok._platform.errors import InputError
from audiotok.tokens.errors import TokenFileDamagedError, TokenFileError, explained, way_out
from audiotok.tokens.format import (
    BATCH,
    BLOCK,
    END,
    END_TAG,
    MAGIC,
    MAJOR,
    MAX_HEADER,
    NO_IDENTITY,
    PREFIX,
    End,
    FileStart,
    Header,
    block_at,
    end_at,
    key_of,
)


def open_file(path: Path) -> IO[bytes]:
    """Open a regular file for reading; refuse a pipe or a device, which could block forever.

    Raises:
        TokenFileError: it cannot be opened, or is no regular file.
    """
    with explained(path, "read"):
        if not stat.S_ISREG(path.stat().st_mode):
            raise TokenFileError(f"{path}: cannot read: not a regular file")
        return path.open("rb")


def read_start(path: Path | str, file: IO[bytes] | BufferedIOBase) -> FileStart:
    """Read the header at the start of a file, of this format or an older one.

    Args:
        path: the file, for messages.
        file: open at its beginning.

    Raises:
        TokenFileDamagedError: not a .tok file, or its header is damaged.
        TokenFileError: a newer audiotok wrote it.
    """
    start = file.read(PREFIX.size)
    if start[: len(MAGIC)] != MAGIC or len(start) < PREFIX.size:
        if start[8:9] == b"{":  # after the length of its header
            raise TokenFileDamagedError(
                f"{path}: a .safetensors file; latents are stored in .tok files, so compute again "
                "what an older audiotok stored otherwise (`audiotok units vectors`)"
            )
        problem = "not a .tok file" if start else "an empty file"
        raise TokenFileDamagedError(f"{path}: {problem}; give a file that `audiotok encode` made")
    _, major, _, length, crc = PREFIX.unpack(start)
    if major > MAJOR:
        raise TokenFileError(
            f"{path}: written in format {major}, this audiotok reads up to {MAJOR}; upgrade it"
        )
    text = file.read(length) if length <= MAX_HEADER else b""
    broken = f"{path}: the header is damaged and nothing can be read without it; encode again"
    if len(text) < length or zlib.crc32(start[:-4] + text) != crc:
        raise TokenFileDamagedError(f"{broken} (checksum)")
    try:
        header = Header.from_json(text)
    except (ValueError, RecursionError) as error:
        raise TokenFileDamagedError(f"{broken} ({error})") from error
    runs = major > 1
    return FileStart(header, len(start) + length, runs, crc if runs else 0)


class BlockRun(NamedTuple):
    """A sequence of blocks in the file, all with the same number of frames but the last."""

    offset: int  # byte of its first block
    first: int  # number of its first frame
    frames: int
    step: int  # frames a block: `block_frames`, or fewer in a stream of `TokenSink`
    key: int  # from which the checksums of its blocks continue


class TokenReader:
    """An open .tok file: its `header`, its length, and `read` for any range of its frames.

    It is a context manager, which closes the file.

    Attributes:
        header: of the recording.
        frames: number of frames.
        samples: length at the codec's rate.
        original_samples: length at the original rate.
        bytes: size of the file.

    Raises:
        TokenFileDamagedError: not a .tok file, or it is cut short, extended or changed.
        TokenFileError: it cannot be opened, or a newer audiotok wrote it.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file = open_file(self.path)
        try:
            with explained(self.path, "read"):
                self.start = read_start(self.path, self._file)
                self.header = self.start.header
                self.bytes = os.fstat(self._file.fileno()).st_size
                self.end, self.runs = self._read_ends()
        except BaseException:
            self._file.close()
            raise
        self.frames, self.samples, self.original_samples, *_ = self.end

    def __enter__(self) -> TokenReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, first: int, last: int) -> np.ndarray:
        """Return a range of frames, read-only; read only their blocks.

        They are codes `[k f]` int64, or latents `[d f]` in the type in which they are stored.

        Args:
            first: the first frame.
            last: the frame after the last one.

        Raises:
            ValueError: the recording has no such frames.
            TokenFileDamagedError: one of these blocks is damaged.
        """
        if not 0 <= first <= last <= self.frames:
            raise InputError(f"no frames {first} to {last}: the recording has {self.frames}")
        header = self.header
        codes = np.empty((header.rows, last - first), header.dtype)
        nearest = bisect_right(self.runs, first, key=lambda run: run.first) - 1
        for offset, start, frames, step, key in self.runs[max(0, nearest) :]:
            if start >= last:
                break
            batch = max(1, BATCH // (header.rows * step))
            full, rest = divmod(frames, step)
            low = min(full, max(0, first - start) // step)
            high = min(full, -(-(last - start) // step))
            wanted = [(i, min(batch, high - i), step) for i in range(low, high, batch)]
            if rest and last > start + full * step:
                wanted.append((full, 1, rest))
            for block, count, each in wanted:
                at = start + block * step
                byte = offset + block * header.block_bytes(step)
                decoded = self._blocks(byte, count, at, each, key)
                a, b = max(at, first), min(at + count * each, last)
                codes[:, a - first : b - first] = decoded[:, a - at : b - at]
        codes.flags.writeable = False
        return codes

    def _bytes(self, offset: int, count: int) -> bytes:
        """Return up to so many bytes at an offset of the file."""
        with explained(self.path, "read"):
            self._file.seek(offset)
            return self._file.read(count)

    def _blocks(self, offset: int, count: int, first: int, frames: int, key: int) -> np.ndarray:
        """Return the frames of `count` successive blocks, each of so many.

        Args:
            offset: byte of the first block.
            count: number of blocks.
            first: number of the first frame.
            frames: frames in each block.
            key: of the run.
        """
        header, size = self.header, self.header.block_bytes(frames)
        data = self._bytes(offset, count * size)
        for i in range(count):
            at = first + i * frames
            if block_at(header, data, i * size, key) != (at, frames):
                when = f"{header.seconds(at):.2f} s to {header.seconds(at + frames):.2f} s"
                where = f"the block at byte {offset + i * size} ({when}) is damaged (checksum)"
                raise TokenFileDamagedError(f"{self.path}: {where}; {way_out(self.header.kind)}")
        payload = np.frombuffer(data, np.uint8).reshape(count, size)[:, BLOCK.size :]
        if frames * header.frame_bits % 8:  # each block is padded to a whole byte
            blocks = [header.unpack(one.tobytes(), frames) for one in payload]
            codes = np.concatenate(blocks, axis=1)
        else:
            codes = header.unpack(payload.tobytes(), count * frames)
        try:
            header.check(codes)
        except ValueError as error:
            why = f"{error}; {way_out(header.kind)}"
            raise TokenFileDamagedError(f"{self.path}: {why}") from error
        return codes

    def _read_ends(self) -> tuple[End, list[BlockRun]]:
        """Follow the end records from the last to the first; return the last one and all runs.

        Every run must fill the bytes between two end records exactly.
        """
        header, at, runs, start = self.header, self.bytes - END.size, [], self.start.bytes
        why = "the end is missing: the file is cut short, or an append was interrupted"
        last = end_at(self.start, self._bytes(max(0, at), END.size), tags=(END_TAG,))
        if not last or at < start:
            raise TokenFileDamagedError(f"{self.path}: {why}; {way_out(self.header.kind)}")
        end = last
        while True:
            before, offset = End(0, 0, 0, 0, self.start.seed), start
            if end.previous:
                inside = start <= end.previous <= at - END.size
                record = end_at(self.start, self._bytes(end.previous, END.size)) if inside else None
                if not record or record.samples != record.frames * header.frame_size:
                    why = "an end record is damaged"
                    break
                before, offset = record, end.previous + END.size
            if self.start.runs:
                if key_of(self._bytes(offset, len(NO_IDENTITY)), before.key) != end.key:
                    why = "the beginning of a run is damaged, or does not belong here"
                    break
                offset += len(NO_IDENTITY)
            frames = end.frames - before.frames
            step = next((n for n in self._steps(offset) if self._size(frames, n) == at - offset), 0)
            if frames < 0 or not step:
                why = "bytes are missing, or do not belong here"
                break
            runs.append(BlockRun(offset, before.frames, frames, step, end.key))
            if not end.previous:
                return last, runs[::-1]
            at, end = end.previous, before
        raise TokenFileDamagedError(f"{self.path}: {why}; {way_out(self.header.kind)}")

    def _steps(self, offset: int) -> Iterator[int]:
        """Yield the possible frames a block of a run: by the header, or by its first block."""
        yield self.header.block_frames
        if len(first := self._bytes(offset, BLOCK.size)) == BLOCK.size:
            frames = BLOCK.unpack(first)[3]
            if 1 <= frames < self.header.block_frames:
                yield frames

    def _size(self, frames: int, step: int) -> int:
        """Return the bytes that so many frames take in blocks of `step`."""
        full, rest = divmod(frames, step)
        size = full * self.header.block_bytes(step)
        return size + (self.header.block_bytes(rest) if rest else 0)


def frame_range(
    header: Header, samples: int, start: float | int | None, end: float | int | None
) -> tuple[int, int]:
    """Return the first frame of a time range, and the frame after its last one.

    Every frame that contains a sample of the range belongs to it.

    Args:
        header: of the recording.
        samples: length of the recording at the codec's rate.
        start: seconds; None for the start of the recording.
        end: seconds; None for its end, as is any time past it.

    Raises:
        ValueError: not 0 <= start <= end.
    """
    start, end = 0.0 if start is None else start, math.inf if end is None else end
    if not 0 <= start <= end:
        raise InputError(f"cannot cut from {start} s to {end} s: it must be 0 <= start <= end")
    a, b = (min(samples, round(min(at, 1e12) * header.sample_rate)) for at in (start, end))
    last = -(-b // header.frame_size)
    return (a // header.frame_size if a < b else last), last
