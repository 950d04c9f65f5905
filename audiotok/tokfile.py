"""The .tok file: packed codes in checksummed blocks behind a JSON header; read with numpy alone.

    header  magic 6 | major 1 | minor 1 | length 4 | CRC 4 | JSON, `length` bytes
    block   "BLK:"  | CRC 4 | first frame 4 | frames 4 | codes, packed, padded to a whole byte
    block   ...       every block of a run but its last holds `block_frames` frames, so the place
    block   ...       of any frame is computed, not searched
    end     "END."  | CRC 4 | frames 8 | samples 8 | original samples 8 | previous end 8

Numbers are little-endian. A CRC (zlib's CRC-32) covers every byte of its record but the tag and
itself; the header's covers magic to length too. Codes go frame after frame, within a frame
codebook after codebook, each in exactly ceil(log2 size) bits, lowest bit first.

Appending never rewrites a block. It adds a run of blocks and an end that points to the previous
one, then turns the previous tag into "NEXT", which can no longer end a file:

    header | block block block | NEXT | block block | END.
             ^---- run 0 ----^  ^       ^- run 1 -^   |
                                +--- previous end ----+

Past the header a file costs its codes, 16 bytes a block (of at least 1 KiB of codes) and 40 bytes
an end: 8 codebooks of 1024 at 50 frames/s (4 kbps) cost 4.10 kbps or less from 10 s on, 4.2 at
3 s, 4.5 at 1 s.

Over 300 lines because layout, reader and writer are one promise (what one writes the others find,
byte for byte) and are checked against each other best in one place. The parts are marked.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import re
import secrets
import stat
import struct
import zlib
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from errno import EDQUOT, EFBIG, ENOSPC
from functools import cached_property
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

MAGIC, MAJOR, MINOR = b"\x93ATOK\n", 1, 0
BLOCK_TAG, END_TAG, NEXT_TAG = b"BLK:", b"END.", b"NEXT"
PREFIX, BLOCK, END = struct.Struct("<6sBBII"), struct.Struct("<4sIII"), struct.Struct("<4sIQQQQ")
MAX_HEADER = 1 << 16  # bytes of JSON
MAX_FRAMES = (1 << 32) - 1
MAX_ROWS = 1024  # codebooks x streams
MAX_SIZE = 1 << 24  # so that a code and its shift within a byte fit in 32 bits
BATCH = 1 << 18  # codes packed or unpacked at a time: bounds memory and stays in the cache
LIMITS = {
    "sample_rate": (1, 10_000_000),
    "original_rate": (1, 10_000_000),
    "frame_size": (1, 1 << 24),
    "channels": (1, MAX_ROWS),
    "streams": (1, MAX_ROWS),
    "block_frames": (0, 1 << 20),
}
WAY_OUT = "`Tokens.recover(path)` reads what is left, or encode the recording again"


class TokenFileError(ValueError):
    """A .tok file cannot be read or written; one line that names the file and the way out."""


class TokenFileDamagedError(TokenFileError):
    """The bytes of a .tok file are not what was written."""


class TokenFileExistsError(TokenFileError, FileExistsError):
    """Something is there already, and `force` was not given."""


@contextmanager
def explained(path: Path, doing: str) -> Iterator[None]:
    """Turns an operating system error into one line about `path`."""
    try:
        yield
    except TokenFileError:
        raise
    except OSError as error:
        if error.errno in (ENOSPC, EDQUOT, EFBIG):
            why = "no space left on the device for this file; free some and run again"
        else:
            why = f"cannot {doing}: {error.strerror or error}"
        raise TokenFileError(f"{path}: {why}") from error


@dataclass(frozen=True, kw_only=True)
class Header:
    """What all codes of a recording have in common: everything but the codes and their length.

    Raises:
        ValueError: a field is of the wrong type or out of its range (`LIMITS`).
    """

    codec: str
    fingerprint: str
    sizes: tuple[int, ...]  # entries in each codebook of one stream
    sample_rate: int
    frame_size: int
    original_rate: int
    channels: int = 1
    streams: int = 1
    block_frames: int = field(default=0, compare=False)  # 0: chosen so that a block is >= 1 KiB

    def __post_init__(self) -> None:
        for name in ("codec", "fingerprint"):
            text = getattr(self, name)
            if not isinstance(text, str) or len(text) > 200 or not text.isprintable():
                raise ValueError(f"{name} must be printable text of at most 200 characters")
        for size in self.sizes:
            if type(size) is not int or not 2 <= size <= MAX_SIZE:
                raise ValueError(f"size {size!r}: a codebook has 2 to {MAX_SIZE} entries")
        for name, (low, high) in LIMITS.items():
            value = getattr(self, name)
            if type(value) is not int or not low <= value <= high:
                raise ValueError(f"{name} is {value!r}; it must be an integer in {low} to {high}")
        if not 1 <= self.rows <= MAX_ROWS:
            raise ValueError(f"{self.rows} codebooks in all; there can be 1 to {MAX_ROWS}")
        if self.channels % self.streams:
            raise ValueError(f"{self.channels} channels do not divide into {self.streams} streams")
        if self.block_frames == 0:
            wanted = 8 * 1024 / self.frame_bits  # frames in 1 KiB
            frames = 1 << max(3, math.ceil(math.log2(wanted)))
            object.__setattr__(self, "block_frames", frames)
        if self.block_frames % 8:  # so that full blocks end on a whole byte
            raise ValueError(f"block_frames {self.block_frames} is not a multiple of 8")

    @property
    def rows(self) -> int:
        """Rows of `codes`: streams x codebooks."""
        return len(self.sizes) * self.streams

    @cached_property
    def widths(self) -> list[int]:
        """Bits in a code of each row of one frame."""
        return [(size - 1).bit_length() for size in self.sizes] * self.streams

    @cached_property
    def frame_bits(self) -> int:
        """Bits in a frame."""
        return sum(self.widths)

    def block_bytes(self, frames: int) -> int:
        """Bytes that a block of so many frames takes."""
        return BLOCK.size + (frames * self.frame_bits + 7) // 8

    def seconds(self, frames: int) -> float:
        """Where frame number `frames` begins."""
        return frames * self.frame_size / self.sample_rate

    def to_original(self, samples: int) -> int:
        """Samples at the original rate in so many at `sample_rate`, rounded."""
        return (samples * self.original_rate + self.sample_rate // 2) // self.sample_rate

    def check_length(self, frames: int, samples: int, original_samples: int) -> None:
        """Raises ValueError unless these many frames are what these many samples take."""
        if type(samples) is not int or samples < 0 or -(-samples // self.frame_size) != frames:
            need = f"{frames} frames of {self.frame_size}"
            raise ValueError(f"samples is {samples}, which {need} do not stand for")
        if type(original_samples) is not int or not 0 <= original_samples < 1 << 63:
            raise ValueError(f"original_samples is {original_samples}; it must be 0 or more")

    def check(self, codes: np.ndarray) -> None:
        """Raises ValueError unless `codes` is an integer array [k f] within the codebooks."""
        if not isinstance(codes, np.ndarray) or not np.issubdtype(codes.dtype, np.integer):
            kind = codes.dtype if isinstance(codes, np.ndarray) else type(codes).__name__
            raise ValueError(f"codes must be a numpy array of integers, not {kind}")
        if codes.ndim != 2 or codes.shape[0] != self.rows:
            raise ValueError(f"codes have shape {codes.shape}; expected [{self.rows} frames]")
        if codes.size == 0:
            return
        low, high = codes.min(axis=1), codes.max(axis=1)
        for row, size in enumerate(self.sizes * self.streams):
            if low[row] < 0 or high[row] >= size:
                code = low[row] if low[row] < 0 else high[row]
                raise ValueError(f"code {code} in codebook {row}: codes there are 0 to {size - 1}")

    def to_bytes(self) -> bytes:
        """The header as it stands at the start of a file."""
        text = json.dumps(asdict(self), separators=(",", ":")).encode()
        start = PREFIX.pack(MAGIC, MAJOR, MINOR, len(text), 0)[:-4]
        return start + struct.pack("<I", zlib.crc32(start + text)) + text

    @classmethod
    def from_json(cls, text: bytes) -> Header:
        """Reads what `to_bytes` wrote; unknown keys (of a newer minor version) are ignored."""
        values: Any = json.loads(text)
        if not isinstance(values, dict):
            raise ValueError("it is not an object")
        kinds = {"codec": str, "fingerprint": str, "sizes": list, **dict.fromkeys(LIMITS, int)}
        for name, kind in kinds.items():
            if type(values.get(name)) is not kind:
                raise ValueError(f"{name} is not of type {kind.__name__}")
        if any(type(size) is not int for size in values["sizes"]) or not values["block_frames"]:
            raise ValueError("sizes are not integers, or block_frames is 0")
        known: dict[str, Any] = {name: values[name] for name in kinds}
        known["sizes"] = tuple(known["sizes"])
        return cls(**known)


# ---- packing


def pack(codes: np.ndarray, widths: list[int]) -> bytes:
    """Packs codes [k f] at widths[k] bits a code: frame after frame, lowest bit first."""
    rows, frames = codes.shape
    groups = -(-frames // 8)  # eight frames are a whole number of bytes: one vector over groups
    padded = np.zeros((rows, groups * 8), np.uint64)
    padded[:, :frames] = codes
    columns = padded.reshape(rows, groups, 8)
    words = np.zeros((sum(widths) // 8 + 2, groups), "<u8")
    bit = 0
    for frame in range(8):
        for row, width in enumerate(widths):
            word, shift = divmod(bit, 64)
            words[word] |= columns[row, :, frame] << np.uint64(shift)
            if shift + width > 64:
                words[word + 1] |= columns[row, :, frame] >> np.uint64(64 - shift)
            bit += width
    packed = np.ascontiguousarray(words.T).view(np.uint8)[:, : sum(widths)]
    return packed.tobytes()[: (frames * sum(widths) + 7) // 8]


def unpack(data: bytes, widths: list[int], frames: int) -> np.ndarray:
    """The codes [k f] int64 that `pack` packed."""
    data += bytes(4)
    # The 32 bits that start at each byte, without copying: a code spans at most 24 + 7 of them.
    words = np.ndarray((len(data) - 3,), "<u4", buffer=data, strides=(1,))
    starts = np.cumsum([0, *widths[:-1]])[:, None] + np.arange(frames) * sum(widths)
    shifts = (starts & 7).astype(np.uint32)
    masks = (np.uint32(1) << np.array(widths, np.uint32)) - np.uint32(1)
    return ((words[starts >> 3] >> shifts) & masks[:, None]).astype(np.int64)


# ---- records


class End(NamedTuple):
    """An end record: the length of all that comes before it."""

    frames: int
    samples: int
    original_samples: int
    previous: int  # where the end before this one stands; 0: there is none

    def to_bytes(self) -> bytes:
        """The record as it stands in a file."""
        fields = END.pack(END_TAG, 0, *self)[8:]
        return END_TAG + struct.pack("<I", zlib.crc32(fields)) + fields


def block_bytes(header: Header, first: int, codes: np.ndarray) -> bytes:
    """Blocks of codes [k f], of which the first frame is number `first` of the recording."""
    packed, frames, step = pack(codes, header.widths), codes.shape[1], header.block_frames
    size = header.block_bytes(step) - BLOCK.size
    out = []
    for i, start in enumerate(range(0, frames, step)):
        rest = struct.pack("<II", first + start, min(step, frames - start))
        rest += packed[i * size : (i + 1) * size]
        out += [BLOCK_TAG, struct.pack("<I", zlib.crc32(rest)), rest]
    return b"".join(out)


def block_at(header: Header, data: Any, offset: int) -> tuple[int, int] | None:
    """First frame and frames of the block at `offset` of a buffer; None: no sound block there."""
    if offset + BLOCK.size > len(data):
        return None
    tag, crc, first, frames = BLOCK.unpack_from(data, offset)
    stop = offset + header.block_bytes(frames)
    if tag != BLOCK_TAG or not 1 <= frames <= header.block_frames or stop > len(data):
        return None
    return (first, frames) if zlib.crc32(data[offset + 8 : stop]) == crc else None


def end_at(
    header: Header, data: Any, offset: int = 0, tags: Any = (END_TAG, NEXT_TAG)
) -> End | None:
    """The end record at `offset` of a buffer; None: no sound record there."""
    if offset + END.size > len(data):
        return None
    tag, crc, *fields = END.unpack_from(data, offset)
    end = End(*fields)
    if tag not in tags or zlib.crc32(data[offset + 8 : offset + END.size]) != crc:
        return None
    sound = -(-end.samples // header.frame_size) == end.frames <= MAX_FRAMES
    return end if sound and end.original_samples < 1 << 63 else None


# ---- reading


def open_file(path: Path) -> IO[bytes]:
    """Opens a regular file to read; a pipe or a device, which could hang, is refused."""
    with explained(path, "read"):
        if not stat.S_ISREG(path.stat().st_mode):
            raise TokenFileError(f"{path}: cannot read: not a regular file")
        return path.open("rb")


def read_header(path: Path, file: IO[bytes]) -> tuple[Header, int]:
    """The header at the start of a file, and how many bytes it takes."""
    start = file.read(PREFIX.size)
    if start[: len(MAGIC)] != MAGIC or len(start) < PREFIX.size:
        what = "not a .tok file" if start else "an empty file"
        raise TokenFileDamagedError(f"{path}: {what}; give a file that `audiotok encode` made")
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
        return Header.from_json(text), len(start) + length
    except (ValueError, RecursionError) as error:
        raise TokenFileDamagedError(f"{broken} ({error})") from error


class Run(NamedTuple):
    """Blocks on end in the file, all full but the last."""

    offset: int
    first: int  # frame
    frames: int


class TokenReader:
    """An open .tok file: its `header`, its length, and `read` for any stretch of its codes.

    Raises:
        TokenFileDamagedError: not a .tok file, or it is cut short, extended or changed.
        TokenFileError: it cannot be opened, or a newer audiotok wrote it.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file = open_file(self.path)
        try:
            with explained(self.path, "read"):
                self.header, start = read_header(self.path, self._file)
                self.bytes = os.fstat(self._file.fileno()).st_size
                self.end, self.runs = self._read_ends(start)
        except BaseException:
            self._file.close()
            raise
        self.frames, self.samples, self.original_samples, _ = self.end

    def __enter__(self) -> TokenReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, first: int, last: int) -> np.ndarray:
        """Codes [k f] int64 of frames `first` to `last` (not included); reads only their blocks.

        Raises:
            ValueError: the recording has no such frames.
            TokenFileDamagedError: one of these blocks is damaged.
        """
        if not 0 <= first <= last <= self.frames:
            raise ValueError(f"no frames {first} to {last}: the recording has {self.frames}")
        header, step = self.header, self.header.block_frames
        codes = np.empty((header.rows, last - first), np.int64)
        batch = max(1, BATCH // (header.rows * step))
        nearest = bisect_right(self.runs, first, key=lambda run: run.first) - 1
        for offset, start, frames in self.runs[max(0, nearest) :]:
            if start >= last:
                break
            full, rest = divmod(frames, step)
            low = min(full, max(0, first - start) // step)
            high = min(full, -(-(last - start) // step))
            wanted = [(i, min(batch, high - i), step) for i in range(low, high, batch)]
            if rest and last > start + full * step:
                wanted.append((full, 1, rest))
            for block, count, each in wanted:
                at = start + block * step
                got = self._blocks(offset + block * header.block_bytes(step), count, at, each)
                a, b = max(at, first), min(at + count * each, last)
                codes[:, a - first : b - first] = got[:, a - at : b - at]
        codes.flags.writeable = False
        return codes

    def _bytes(self, offset: int, count: int) -> bytes:
        with explained(self.path, "read"):
            self._file.seek(offset)
            return self._file.read(count)

    def _blocks(self, offset: int, count: int, first: int, frames: int) -> np.ndarray:
        """Codes of `count` blocks on end, each of so many frames."""
        header, size = self.header, self.header.block_bytes(frames)
        data = self._bytes(offset, count * size)
        for i in range(count):
            at = first + i * frames
            if block_at(header, data, i * size) != (at, frames):
                when = f"{header.seconds(at):.2f} s to {header.seconds(at + frames):.2f} s"
                where = f"the block at byte {offset + i * size} ({when}) is damaged (checksum)"
                raise TokenFileDamagedError(f"{self.path}: {where}; {WAY_OUT}")
        payload = np.frombuffer(data, np.uint8).reshape(count, size)[:, BLOCK.size :]
        codes = unpack(payload.tobytes(), header.widths, count * frames)
        try:
            header.check(codes)
        except ValueError as error:
            raise TokenFileDamagedError(f"{self.path}: {error}; {WAY_OUT}") from error
        return codes

    def _read_ends(self, start: int) -> tuple[End, list[Run]]:
        """Follows the ends from the last to the first; every run must fit its place exactly."""
        header, at, runs = self.header, self.bytes - END.size, []
        why = "the end is missing: the file is cut short, or an append was interrupted"
        last = end_at(header, self._bytes(max(0, at), END.size), tags=(END_TAG,))
        if not last or at < start:
            raise TokenFileDamagedError(f"{self.path}: {why}; {WAY_OUT}")
        end = last
        while True:
            before, run = End(0, 0, 0, 0), Run(start, 0, end.frames)
            if end.previous:
                inside = start <= end.previous <= at - END.size
                found = end_at(header, self._bytes(end.previous, END.size)) if inside else None
                if not found or found.samples != found.frames * header.frame_size:
                    why = "an end record is damaged"
                    break
                before = found
                run = Run(end.previous + END.size, before.frames, end.frames - before.frames)
            full, rest = divmod(run.frames, header.block_frames)
            size = full * header.block_bytes(header.block_frames)
            size += header.block_bytes(rest) if rest else 0
            if run.frames < 0 or run.offset + size != at:
                why = "bytes are missing, or do not belong here"
                break
            runs.append(run)
            if not end.previous:
                return last, runs[::-1]
            at, end = end.previous, before
        raise TokenFileDamagedError(f"{self.path}: {why}; {WAY_OUT}")


def frame_range(
    header: Header, samples: int, start: float | int | None, end: float | int | None
) -> tuple[int, int]:
    """First and last (not included) of the frames that any sample from `start` to `end` s is in.

    None is the recording's own start or end; what lies past its end is left out.

    Raises:
        ValueError: not 0 <= start <= end.
    """
    start, end = 0.0 if start is None else start, math.inf if end is None else end
    if not 0 <= start <= end:
        raise ValueError(f"cannot cut from {start} s to {end} s: it must be 0 <= start <= end")
    a, b = (min(samples, round(min(at, 1e12) * header.sample_rate)) for at in (start, end))
    last = -(-b // header.frame_size)
    return (a // header.frame_size if a < b else last), last


# ---- damage


@dataclass(frozen=True)
class Report:
    """What `verify` found: `damage` in plain words, and how much audio can still be read."""

    ok: bool
    damage: tuple[str, ...]
    recoverable_seconds: float


class Piece(NamedTuple):
    """A stretch of a damaged file without a gap."""

    first: int  # frame
    codes: np.ndarray
    samples: int
    original_samples: int


def verify(path: str | Path) -> Report:
    """Reads the whole file in constant memory; `ok` promises that loading it succeeds.

    Raises:
        TokenFileError: it cannot be opened, or a newer audiotok wrote it.
    """
    try:
        with TokenReader(path) as reader:
            step = max(1, BATCH // reader.header.rows)
            for first in range(0, reader.frames, step):
                reader.read(first, min(first + step, reader.frames))
            return Report(True, (), reader.samples / reader.header.sample_rate)
    except TokenFileDamagedError as error:
        try:
            header, pieces, damage = salvage(path)
        except TokenFileDamagedError:  # no header
            return Report(False, (str(error),), 0.0)
        samples = sum(piece.samples for piece in pieces)
        return Report(False, tuple(damage) or (str(error),), samples / header.sample_rate)


def salvage(path: str | Path) -> tuple[Header, list[Piece], list[str]]:
    """Finds every sound block of a file, wherever it stands, and says what lies between them.

    Raises:
        TokenFileDamagedError: the header cannot be read.
        TokenFileError: the file cannot be opened, or a newer audiotok wrote it.
    """
    path = Path(path)
    with open_file(path) as file, explained(path, "read"):
        header, start = read_header(path, file)
        if os.fstat(file.fileno()).st_size == start:
            return header, [], [f"the file stops after its header, at byte {start}"]
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return header, *_salvage(header, data, start)


def _salvage(header: Header, data: mmap.mmap, start: int) -> tuple[list[Piece], list[str]]:
    tags = re.compile(b"|".join(map(re.escape, (BLOCK_TAG, END_TAG, NEXT_TAG))))
    found: list[tuple[int, list[np.ndarray], End | None]] = []
    damage: list[str] = []
    at = sound = start  # `sound`: where the last sound record stops
    expected = stop = 0  # frames: the next one, and where the last piece stops
    finished = False
    # A candidate costs a checksum; the budget keeps a file full of false tags from costing more
    # than a few readings of it.
    budget = 4 * len(data) + (1 << 20)
    while at < len(data) and budget > 0:
        size, first, codes = 0, expected, None
        end = end_at(header, data, at)
        if end and end.frames >= expected:
            size, first, finished = END.size, end.frames, data[at : at + 4] == END_TAG
        elif (block := block_at(header, data, at)) and block[0] >= expected:
            first, frames = block
            size, finished = header.block_bytes(frames), False
            codes = unpack(data[at + BLOCK.size : at + size], header.widths, frames)
            try:
                header.check(codes)
            except ValueError:
                size = 0
        if not size:
            budget -= 64 + min(header.block_bytes(header.block_frames), len(data) - at)
            tag = tags.search(data, at + 1)
            at = tag.start() if tag else len(data)
            continue
        if at > sound or first > expected:
            when = f"{header.seconds(expected):.2f} s to {header.seconds(first):.2f} s"
            lost = f"{when} is lost" if first > expected else "no audio is lost"
            damage.append(f"bytes {sound} to {at} are damaged or missing: {lost}")
        if codes is not None:
            if not found or first != stop:
                found.append((first, [], None))
            found[-1][1].append(codes)
            expected = stop = first + codes.shape[1]
        elif end:
            if found and first == stop:
                found[-1] = (*found[-1][:2], end)
            expected = first
        at = sound = at + size
    if sound < len(data):
        lost = f"what came after {header.seconds(expected):.2f} s, if anything, is lost"
        damage.append(f"bytes {sound} to {len(data)} are damaged or do not belong: {lost}")
    elif not finished:
        damage.append(f"the end is missing at byte {len(data)}: the file is cut short")
    return [_piece(header, *each) for each in found], damage


def _piece(header: Header, first: int, chunks: list[np.ndarray], end: End | None) -> Piece:
    codes, start = np.concatenate(chunks, axis=1), first * header.frame_size
    samples = codes.shape[1] * header.frame_size
    original = header.to_original(start + samples) - header.to_original(start)
    if end and end.frames == first + codes.shape[1]:  # the exact length is known
        samples = end.samples - start
        original = max(0, end.original_samples - header.to_original(start))
    codes.flags.writeable = False
    return Piece(first, codes, samples, original)


# ---- writing


class TokenWriter:
    """Writes a .tok file as its codes come, in constant memory; use it in a `with`.

    All goes to a temporary `.NAME.*.part` beside the file, which takes its name only when it is
    complete and on the disk; an exception (Ctrl-C too) removes it. `reopen` appends in place.

    Raises (on entering, `append` or leaving):
        TokenFileExistsError: something is at `path` and not `force`.
        TokenFileError: it cannot be written there; a full disk says so.
    """

    def __init__(self, path: str | Path, header: Header, *, force: bool = False) -> None:
        self.path, self.header, self.force = Path(path), header, force
        name = f".{self.path.name[:40]}.{os.getpid()}.{secrets.token_hex(4)}.part"
        self._part = self.path.with_name(name)
        self._end, self._old_bytes = End(0, 0, 0, 0), 0
        self._waiting: list[np.ndarray] = []  # codes of less than a block
        self._written = 0  # frames

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
                    self._file.write(self.header.to_bytes())
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
        self._end = End(end.frames + frames, total, original, end.previous)
        self._waiting.append(np.array(codes, np.int64))
        self._write(self.header.block_frames)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._abort()
            return
        try:
            with explained(self.path, "write"):
                self._write(1)
                self._file.write(self._end.to_bytes())
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
        if waiting < least:
            return
        codes = np.concatenate(self._waiting, axis=1)
        step = self.header.block_frames
        whole = waiting if least == 1 else waiting - waiting % step
        batch = max(1, BATCH // (self.header.rows * step)) * step
        with explained(self.path, "write"):
            for a in range(0, whole, batch):
                part = codes[:, a : min(a + batch, whole)]
                self._file.write(block_bytes(self.header, self._written + a, part))
        self._waiting = [codes[:, whole:].copy()]
        self._written += whole

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
