"""Writing: whole or not at all, as the codes come, and at the end of what is there."""

from __future__ import annotations

import os
import struct
import zlib
from array import array
from contextlib import suppress
from pathlib import Path

import numpy as np

from audiotok._platform.atomic import part_of
from audiotok.tokens.format import (
    BATCH,
    BLOCK,
    BLOCK_TAG,
    END,
    END_TAG,
    MAX_FRAMES,
    NEXT_TAG,
    NOBODY,
    End,
    Header,
    TokenFileError,
    TokenFileExistsError,
    block_bytes,
    explained,
    identity_of,
    key_of,
    seed_of,
)
from audiotok.tokens.reader import TokenReader


class TokenWriter:
    """Writes a .tok file as its codes come, in constant memory; use it in a `with`.

    All goes to a temporary `.NAME.*.part` beside the file, which takes its name only when it is
    complete and on the disk; an exception (Ctrl-C too) removes it. `reopen` appends in place.

    What tells the blocks of one file from those of another follows from the codes alone, so that
    the same codes are the same bytes: it is known at the end, and put into all checksums then.

    Raises (on entering, `append` or leaving):
        TokenFileExistsError: something is at `path` and not `force`.
        TokenFileError: it cannot be written there; a full disk says so.
    """

    def __init__(self, path: str | Path, header: Header, *, force: bool = False) -> None:
        self.path, self.header, self.force = Path(path), header, force
        self._part = part_of(self.path)
        self._end, self._old_bytes = End(0, 0, 0, 0), 0
        self._waiting: list[np.ndarray] = []  # codes of less than a block
        self._written = 0  # frames
        self._runs, self._seed = True, 0  # as in `FileStart`
        self._before: int | None = None  # key of the run before; None: no run is begun
        self._sums = array("I")  # of its blocks

    @classmethod
    def reopen(cls, path: str | Path) -> TokenWriter:
        """A writer that appends to a finished file, in place; one writer at a time.

        Blocks are never rewritten: after a crash `Tokens.recover` has all that was there. On an
        exception the file is made as it was.

        Raises:
            TokenFileError: the file cannot be read.
            ValueError: it ends within a frame, so nothing can follow.
        """
        with TokenReader(path) as reader:
            writer = cls(path, reader.header)
            writer._end = reader.end._replace(previous=reader.bytes - END.size)
            writer._runs, writer._seed = reader.start.runs, reader.start.seed
            writer._old_bytes, writer._written = reader.bytes, reader.frames
            writer._check_whole()
            return writer

    def __enter__(self) -> TokenWriter:
        try:
            with explained(self.path, "write"):
                if self._old_bytes:
                    self._file = self.path.open("r+b")
                    self._file.seek(self._old_bytes)
                else:
                    self._refuse()
                    self._file = self._part.open("xb")
                    start = self.header.to_bytes()
                    self._seed = seed_of(start)
                    self._end = self._end._replace(key=self._seed)
                    self._file.write(start)
                    self._begin(NOBODY)
        except BaseException:
            self._abort()
            raise
        return self

    def append(
        self, codes: np.ndarray, *, samples: int | None = None, original_samples: int | None = None
    ) -> None:
        """Adds codes [k f] that stand for `samples` samples (all of their frames if None).

        `original_samples` counts at the original rate (None: in proportion). Codes that stand
        for less than their frames must be the last.

        Raises:
            ValueError: codes, or lengths, that cannot follow.
        """
        header, end = self.header, self._end
        header.check(codes)
        self._check_whole()
        frames = codes.shape[1]
        if end.frames + frames > MAX_FRAMES:
            raise ValueError(f"{self.path}: more than {MAX_FRAMES} frames; begin another file")
        count = frames * header.frame_size if samples is None else samples
        total = end.samples + count
        original = header.to_original(total) - header.to_original(end.samples)
        original = original if original_samples is None else original_samples
        header.check_length(frames, count, original)
        original += end.original_samples
        self._end = End(end.frames + frames, total, original, end.previous, end.key)
        self._waiting.append(np.array(codes, np.int64))
        self._write(self.header.block_frames)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._abort()
            return
        try:
            with explained(self.path, "write"):
                self._write(1)
                if not self._old_bytes:
                    self._identify()
                self._file.write(self._end.to_bytes(self._seed))
                self._sync()
                if self._old_bytes:  # now, and only now, the old end may stop being one
                    self._file.seek(self._old_bytes - END.size)
                    self._file.write(NEXT_TAG)
                    self._sync()
                self._file.close()
                if not self._old_bytes:
                    self._publish()
                    self._sync_folder()
        except BaseException:
            self._abort()
            raise

    def _check_whole(self) -> None:
        if self._end.samples != self._end.frames * self.header.frame_size:
            raise ValueError(f"{self.path}: nothing can follow codes that end within a frame")

    def _write(self, least: int) -> None:
        """Writes what waits, if it is at least so many frames; full blocks unless that is 1."""
        waiting = self._end.frames - self._written
        begun = self._before is not None
        if waiting < least and (begun or least > 1):
            return
        none = np.zeros((self.header.rows, 0), np.int64)
        codes = np.concatenate([none, *self._waiting], axis=1)
        if not begun:  # appended codes are never rewritten: what is there says whose they are
            self._begin(identity_of(codes.astype("<i4").tobytes()))
        step = self.header.block_frames
        whole = waiting if least == 1 else waiting - waiting % step
        batch = max(1, BATCH // (self.header.rows * step)) * step
        with explained(self.path, "write"):
            for a in range(0, whole, batch):
                part = codes[:, a : min(a + batch, whole)]
                for block in block_bytes(self.header, self._written + a, part, self._end.key):
                    self._file.write(block)
                    self._sums.append(BLOCK.unpack_from(block)[1])
        self._waiting = [codes[:, whole:].copy()]
        self._written += whole

    def _begin(self, identity: bytes) -> None:
        """Begins a run; in a file of format 1 it has no identity."""
        self._before = self._end.key
        if self._runs:
            self._file.write(identity)
            self._end = self._end._replace(key=key_of(identity, self._before))

    def _identify(self) -> None:
        """Gives the run of a new file the identity of its codes, and its blocks its key.

        A CRC is linear: another key changes those of all blocks of one length by the same bits.
        """
        assert self._before is not None
        lengths = struct.pack("<QQ", self._end.samples, self._end.original_samples)
        sums = np.array(self._sums, "<u4").tobytes()
        identity = identity_of(sums + lengths)
        old, key = self._end.key, key_of(identity, self._before)
        header, offset = self.header, len(self.header.to_bytes())
        step, left = header.block_frames, self._end.frames
        self._file.seek(offset)
        self._file.write(identity)
        offset += len(identity)
        change = length = 0
        for sum_ in self._sums:
            size = header.block_bytes(min(step, left))
            if size != length:
                length, covered = size, bytes(size - 8)  # all but the tag and the checksum
                change = zlib.crc32(covered, old) ^ zlib.crc32(covered, key)
            self._file.seek(offset + len(BLOCK_TAG))
            self._file.write(struct.pack("<I", sum_ ^ change))
            offset, left = offset + size, left - step
        self._file.seek(offset)
        self._end = self._end._replace(key=key)

    def _sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())

    def _refuse(self) -> None:
        if self.path.exists() and not self.path.is_file():
            raise TokenFileError(f"{self.path}: cannot write: not a regular file")
        if not self.force and self.path.exists():
            raise TokenFileExistsError(f"{self.path}: exists already; force=True overwrites it")

    def _publish(self) -> None:
        """Gives the complete file its name."""
        self._refuse()
        if not self.force:
            with suppress(OSError):  # a link cannot overwrite what came in the meantime
                os.link(self._part, self.path)
                self._part.unlink()
                return
            self._refuse()  # else: this file system knows no links
        self._part.replace(self.path)

    def _sync_folder(self) -> None:
        """Puts the new name on the disk too, where a folder can be opened."""
        with suppress(OSError):
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def _abort(self) -> None:
        """Leaves things as they were."""
        with suppress(OSError, AttributeError):
            self._file.close()
        with suppress(OSError):
            if not self._old_bytes:
                self._part.unlink()
                return
            with self.path.open("r+b") as file:
                file.seek(self._old_bytes - END.size)
                file.write(END_TAG)
                file.truncate(self._old_bytes)
