"""Writing of .tok files as frames arrive, complete or not at all; appending to finished ones."""

from __future__ import annotations

import os
import struct
import zlib
from array import array
from contextlib import suppress
from pathlib import Path

import numpy as np

from audiotok._platform.atomic import partial_path
from audiotok._platform.errors import InputError
from audiotok.tokens.errors import TokenFileError, TokenFileExistsError, explained
from audiotok.tokens.format import (
    BATCH,
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
    identity_of,
    key_of,
    seed_of,
)
from audiotok.tokens.reader import TokenReader


class TokenWriter:
    """Writer of a .tok file as its frames arrive, in constant memory; a context manager.

    The frames go to a temporary `.NAME.*.part` beside the file, which gets its name only when it is
    complete and on the disk; an exception (Ctrl-C too) removes it. `reopen` appends in place.

    The identity of a file's blocks follows from the frames alone, so that the same frames give the
    same bytes: it is known only at the end, and then put into all checksums.

    Args:
        path: the file to write.
        header: of the recording.
        force: whether to overwrite an existing file.

    Raises:
        TokenFileExistsError: `path` exists, and `force` is False; raised on entering or leaving.
        TokenFileError: the file cannot be written, or the disk is full; raised on entering, in
            `append` or on leaving.
    """

    def __init__(self, path: str | Path, header: Header, *, force: bool = False) -> None:
        self.path = Path(path)
        self.header = header
        self.force = force
        self._part = partial_path(self.path)
        self._end = End(0, 0, 0, 0)
        self._old_bytes = 0  # size of the file that is appended to
        self._waiting: list[np.ndarray] = []  # frames of less than a block
        self._written = 0  # frames
        self._runs = True  # as in `FileStart`
        self._seed = 0  # as in `FileStart`
        self._before: int | None = None  # key of the previous run; None before a run begins
        self._sums = array("I")  # checksums of the blocks written

    @classmethod
    def reopen(cls, path: str | Path) -> TokenWriter:
        """Return a writer that appends to a finished file, in place; one writer at a time.

        Blocks are never rewritten: after a crash `Tokens.recover` reads everything that was in
        the file. After an exception the file is as before.

        Raises:
            TokenFileError: the file cannot be read.
            ValueError: the file ends within a frame, so that no codes can follow.
        """
        with TokenReader(path) as reader:
            writer = cls(path, reader.header)
            writer._end = reader.end._replace(previous=reader.bytes - END.size)
            writer._runs = reader.start.runs
            writer._seed = reader.start.seed
            writer._old_bytes = reader.bytes
            writer._written = reader.frames
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
                    self._begin(NO_IDENTITY)
        except BaseException:
            self._abort()
            raise
        return self

    def append(
        self, codes: np.ndarray, *, samples: int | None = None, original_samples: int | None = None
    ) -> None:
        """Add frames `[rows f]`.

        Args:
            codes: integers within the codebooks; or latents, rounded to the header's type.
            samples: length at the codec's rate; that of whole frames if None. Only the last codes
                may have less.
            original_samples: length at the original rate; in proportion if None.

        Raises:
            ValueError: frames do not fit the header, lengths do not fit them, the frames before
                ended within a frame, or there are too many frames.
            TokenFileError: the file cannot be written.
        """
        header, end = self.header, self._end
        header.check(codes)
        self._check_whole()
        frames = codes.shape[1]
        if end.frames + frames > MAX_FRAMES:
            raise InputError(f"{self.path}: more than {MAX_FRAMES} frames; begin another file")
        count = frames * header.frame_size if samples is None else samples
        total = end.samples + count
        original = header.to_original(total) - header.to_original(end.samples)
        original = original if original_samples is None else original_samples
        header.check_length(frames, count, original)
        original += end.original_samples
        self._end = End(end.frames + frames, total, original, end.previous, end.key)
        self._waiting.append(np.array(codes, header.dtype))
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
                if self._old_bytes:  # the new end is on the disk, so the old one may be invalidated
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
        """Raise ValueError if the codes so far end within a frame."""
        if self._end.samples != self._end.frames * self.header.frame_size:
            raise InputError(f"{self.path}: nothing can follow codes that end within a frame")

    def _write(self, least: int) -> None:
        """Write the waiting codes if they are `least` frames or more; full blocks only unless 1."""
        waiting = self._end.frames - self._written
        in_run = self._before is not None
        if waiting < least and (in_run or least > 1):
            return
        empty = np.zeros((self.header.rows, 0), self.header.dtype)
        codes = np.concatenate([empty, *self._waiting], axis=1)
        if not in_run:  # appended blocks are not rewritten: the first codes give the identity
            self._begin(identity_of(self.header.raw(codes)))
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
        """Begin a run with its identity; runs of format 1 have none."""
        self._before = self._end.key
        if self._runs:
            self._file.write(identity)
            self._end = self._end._replace(key=key_of(identity, self._before))

    def _identify(self) -> None:
        """Write the identity of a new file's run, and the checksums of its blocks under its key.

        A CRC is linear: another key flips the same bits in those of all blocks of one length.
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
        """Put everything written so far on the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def _refuse(self) -> None:
        """Raise if the path is taken and may not be overwritten."""
        if self.path.exists() and not self.path.is_file():
            raise TokenFileError(f"{self.path}: cannot write: not a regular file")
        if not self.force and self.path.exists():
            raise TokenFileExistsError(f"{self.path}: exists already; force=True overwrites it")

    def _publish(self) -> None:
        """Give the complete file its name."""
        self._refuse()
        if not self.force:
            with suppress(OSError):  # a link cannot overwrite a file written in the meantime
                os.link(self._part, self.path)
                self._part.unlink()
                return
            self._refuse()  # without links in this file system, check again and rename
        self._part.replace(self.path)

    def _sync_folder(self) -> None:
        """Put the new name on the disk too, where folders can be opened."""
        with suppress(OSError):
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def _abort(self) -> None:
        """Restore the state before writing: remove the unfinished file, or undo the append."""
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
