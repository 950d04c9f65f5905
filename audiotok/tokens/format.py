"""The records of a .tok file: header, packed frames, blocks and ends; see the package."""

from __future__ import annotations

import json
import math
import struct
import zlib
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from audiotok._platform.errors import InputError
from audiotok.tokens.bits import pack, unpack
from audiotok.tokens.codebooks import check_latents, check_range, semantic_codebooks_of

MAGIC, MAJOR, MINOR = b"\x93ATOK\n", 3, 0
MAJORS = {"codes": 2, "latents": MAJOR}  # the oldest format that has frames of a kind
BLOCK_TAG, END_TAG, NEXT_TAG = b"BLK:", b"END.", b"NEXT"
PREFIX, BLOCK, END = struct.Struct("<6sBBII"), struct.Struct("<4sIII"), struct.Struct("<4sIIIQQQ")
NO_IDENTITY = bytes(3)  # placeholder for the identity of a run whose codes are not known yet
MAX_HEADER = 1 << 16  # bytes of JSON
MAX_FRAMES = (1 << 32) - 1
MAX_ROWS = 4096  # codebooks x streams
MAX_WIDTH = 1 << 16  # features of latents x streams
MAX_SIZE = 1 << 25  # so that a code and its shift within a byte fit in 32 bits
DTYPES = ("float16", "float32")  # in which latents are stored
BATCH = 1 << 18  # codes packed or unpacked at a time: bounds memory, and fits the CPU cache
LIMITS = {
    "sample_rate": (1, 10_000_000),
    "original_rate": (1, 10_000_000),
    "frame_size": (1, 1 << 24),
    "channels": (1, MAX_ROWS),
    "streams": (1, MAX_ROWS),
    "block_frames": (0, 1 << 20),
}


@dataclass(frozen=True, kw_only=True)
class Header:
    """Facts about a recording's frames: all that a file stores but the frames and their length.

    A frame holds codes, one of each codebook, or latents, `width` numbers that no codebook has
    replaced.

    Attributes:
        codec: name of the codec.
        fingerprint: of the codec's weights.
        sizes: entries in each codebook of one stream; () of latents.
        sample_rate: of the codec, in Hz.
        frame_size: samples a frame, at `sample_rate`.
        original_rate: sample rate of the recording before it was resampled, in Hz.
        channels: channels of the decoded audio.
        streams: independently coded sets of codebooks.
        semantic_codebooks: number of semantic codebooks where it is not what `SEMANTIC` tells of
            the codec's name, else None, which is not stored; None of latents.
        width: features in a frame of latents of one stream; 0 of codes.
        dtype: type of the numbers in memory: "int64" of codes; of latents that in which they are
            stored too, "float32" or "float16".
        block_frames: frames a block, a multiple of 8; 0 is replaced by the smallest power of 2
            for which a block has at least 1 KiB of frames.

    Raises:
        ValueError: a field is of the wrong type or out of its range (`LIMITS`).
    """

    codec: str
    fingerprint: str
    sizes: tuple[int, ...]
    sample_rate: int
    frame_size: int
    original_rate: int
    channels: int = 1
    streams: int = 1
    semantic_codebooks: int | None = None
    width: int = 0
    dtype: str = "int64"
    block_frames: int = field(default=0, compare=False)

    def __post_init__(self) -> None:
        for name in ("codec", "fingerprint"):
            text = getattr(self, name)
            if not isinstance(text, str) or len(text) > 200 or not text.isprintable():
                raise InputError(f"{name} must be printable text of at most 200 characters")
        for size in self.sizes:
            if type(size) is not int or not 2 <= size <= MAX_SIZE:
                raise InputError(f"size {size!r}: a codebook has 2 to {MAX_SIZE} entries")
        for name, (low, high) in LIMITS.items():
            value = getattr(self, name)
            if type(value) is not int or not low <= value <= high:
                raise InputError(f"{name} is {value!r}; it must be an integer in {low} to {high}")
        if self.semantic_codebooks == (0 if self.width else semantic_codebooks_of(self.codec)):
            object.__setattr__(self, "semantic_codebooks", None)
        if not 0 <= (self.semantic_codebooks or 0) <= MAX_ROWS:
            raise InputError(f"{self.semantic_codebooks} semantic codebooks: 0 to {MAX_ROWS}")
        if self.width or self.dtype != "int64":
            self._check_latents()
        elif not 1 <= self.rows <= MAX_ROWS:
            raise InputError(f"{self.rows} codebooks in all; there can be 1 to {MAX_ROWS}")
        if self.channels % self.streams:
            raise InputError(f"{self.channels} channels do not divide into {self.streams} streams")
        if self.block_frames == 0:
            wanted = 8 * 1024 / self.frame_bits  # frames in 1 KiB
            frames = 1 << max(3, math.ceil(math.log2(wanted)))
            object.__setattr__(self, "block_frames", frames)
        if self.block_frames % 8:  # so that full blocks end on a whole byte
            raise InputError(f"block_frames {self.block_frames} is not a multiple of 8")

    def _check_latents(self) -> None:
        """Raise ValueError unless these can be facts about latents."""
        if self.dtype not in DTYPES or self.sizes or self.semantic_codebooks:
            raise InputError(f"latents are {' or '.join(DTYPES)} and have no codebooks")
        if type(self.width) is not int or not 1 <= self.rows <= MAX_WIDTH:
            raise InputError(f"width {self.width!r}: there can be 1 to {MAX_WIDTH} features in all")

    @property
    def kind(self) -> str:
        """Kind of the frames: "codes" or "latents"."""
        return "latents" if self.width else "codes"

    @property
    def stream_rows(self) -> int:
        """Numbers in a frame of one stream: codebooks, or features of latents."""
        return self.width or len(self.sizes)

    @property
    def rows(self) -> int:
        """Numbers in a frame of all streams."""
        return self.stream_rows * self.streams

    @cached_property
    def widths(self) -> list[int]:
        """Bits of a number in each row of one frame."""
        if self.width:
            return [8 * np.dtype(self.dtype).itemsize] * self.rows
        return [(size - 1).bit_length() for size in self.sizes] * self.streams

    @cached_property
    def frame_bits(self) -> int:
        """Bits of a frame as it is stored, all streams (a block is padded to bytes)."""
        return sum(self.widths)

    @property
    def kbps(self) -> float:
        """Nominal bit rate of all streams in kbit/s: frames per second x bits a frame.

        A code counts log2 of its codebook's entries, a number of latents the bits it is stored in.
        """
        bits = self.frame_bits if self.width else self.streams * sum(map(math.log2, self.sizes))
        return self.sample_rate / self.frame_size * bits / 1000

    def block_bytes(self, frames: int) -> int:
        """Return the size in bytes of a block of so many frames."""
        return BLOCK.size + (frames * self.frame_bits + 7) // 8

    def seconds(self, frames: int) -> float:
        """Return the duration in seconds of so many frames, at which the next one begins."""
        return frames * self.frame_size / self.sample_rate

    def to_original(self, samples: int) -> int:
        """Convert a number of samples at `sample_rate` to the original rate, rounded."""
        return (samples * self.original_rate + self.sample_rate // 2) // self.sample_rate

    def check_length(self, frames: int, samples: int, original_samples: int) -> None:
        """Raise unless a length in frames and a length in samples fit together.

        Args:
            frames: number of frames.
            samples: length at `sample_rate`.
            original_samples: length at `original_rate`.

        Raises:
            ValueError: so many samples do not take so many frames, or a length is negative.
        """
        if type(samples) is not int or samples < 0 or -(-samples // self.frame_size) != frames:
            need = f"{frames} frames of {self.frame_size}"
            raise InputError(f"samples is {samples}, which {need} do not stand for")
        if type(original_samples) is not int or not 0 <= original_samples < 1 << 63:
            raise InputError(f"original_samples is {original_samples}; it must be 0 or more")

    def check(self, codes: np.ndarray) -> None:
        """Raise ValueError unless an array holds frames of this recording.

        Args:
            codes: integers `[k f]` within the codebooks; or latents `[d f]` as floats, finite
                numbers also as they are stored.
        """
        if self.width:
            check_latents(codes, self.rows, dtype=self.dtype)
            return
        if not isinstance(codes, np.ndarray) or not np.issubdtype(codes.dtype, np.integer):
            kind = codes.dtype if isinstance(codes, np.ndarray) else type(codes).__name__
            raise InputError(f"codes must be a numpy array of integers, not {kind}")
        if codes.ndim != 2 or codes.shape[0] != self.rows:
            raise InputError(f"codes have shape {codes.shape}; expected [{self.rows} frames]")
        check_range(codes, self.sizes * self.streams)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON, those that not every header has only where it has them."""
        facts = asdict(self)
        if self.semantic_codebooks is None:
            del facts["semantic_codebooks"]
        if not self.width:
            del facts["width"], facts["dtype"]
        return facts

    def pack(self, frames: np.ndarray) -> bytes:
        """Return frames as the bytes in which blocks hold them, frame after frame.

        Latents are rounded to the nearest number of their type, to the even one of two.

        Args:
            frames: `[rows f]`, as `check` wants them.
        """
        if not self.width:
            return pack(frames, self.widths)
        return self.raw(frames.T)

    def unpack(self, data: bytes, frames: int) -> np.ndarray:
        """Return the frames `[rows f]` that `pack` packed, of the type `dtype`.

        Args:
            data: the packed frames.
            frames: number of frames in the data.
        """
        if not self.width:
            return unpack(data, self.widths, frames)
        return np.frombuffer(data, self._stored).reshape(frames, self.rows).T.astype(self.dtype)

    def raw(self, numbers: np.ndarray) -> bytes:
        """Return numbers of frames as bytes: codes as 32-bit integers, latents as stored."""
        return numbers.astype(self._stored if self.width else "<i4").tobytes()

    @property
    def _stored(self) -> np.dtype[Any]:
        return np.dtype(self.dtype).newbyteorder("<")

    def to_bytes(self) -> bytes:
        """Return the header as the bytes at the start of a file."""
        text = json.dumps(self.to_json(), separators=(",", ":")).encode()
        start = PREFIX.pack(MAGIC, MAJORS[self.kind], MINOR, len(text), 0)[:-4]
        return start + struct.pack("<I", zlib.crc32(start + text)) + text

    @classmethod
    def from_json(cls, text: bytes) -> Header:
        """Read the JSON that `to_bytes` wrote; unknown keys (of a newer minor version) are ignored.

        Raises:
            ValueError: not JSON, or a field is missing, mistyped or out of its range.
        """
        values: Any = json.loads(text)
        if not isinstance(values, dict):
            raise InputError("it is not an object")
        kinds = {"codec": str, "fingerprint": str, "sizes": list, **dict.fromkeys(LIMITS, int)}
        for name, kind in kinds.items():
            if type(values.get(name)) is not kind:
                raise InputError(f"{name} is not of type {kind.__name__}")
        if any(type(size) is not int for size in values["sizes"]) or not values["block_frames"]:
            raise InputError("sizes are not integers, or block_frames is 0")
        semantic = values.get("semantic_codebooks")
        if type(semantic) not in (int, type(None)):
            raise InputError("semantic_codebooks is not of type int")
        known: dict[str, Any] = {name: values[name] for name in kinds}
        known["semantic_codebooks"] = semantic
        known |= {name: values[name] for name in ("width", "dtype") if name in values}
        known["sizes"] = tuple(known["sizes"])
        return cls(**known)


class FileStart(NamedTuple):
    """The header of a file, and the values from which the later checksums continue."""

    header: Header
    bytes: int  # size of the header with its prefix
    runs: bool  # whether each run begins with its identity (from format 2 on)
    seed: int  # from which the checksums of ends and the key of the first run continue


class End(NamedTuple):
    """An end record: the length of everything before it."""

    frames: int
    samples: int
    original_samples: int
    previous: int  # offset of the previous end record; 0 if there is none
    key: int = 0  # key of the run that it ends; 0 in format 1

    def to_bytes(self, seed: int) -> bytes:
        """Return the record as bytes, for a file whose `FileStart` has this seed."""
        lengths = (self.samples, self.original_samples, self.previous)
        fields = END.pack(END_TAG, 0, self.frames, self.key, *lengths)[8:]
        return END_TAG + struct.pack("<I", zlib.crc32(fields, seed)) + fields


def seed_of(header: bytes) -> int:
    """Return the seed for the records after a header (of `Header.to_bytes`): its checksum."""
    return PREFIX.unpack_from(header)[4]


def identity_of(content: bytes) -> bytes:
    """Return the identity of a run, computed from its content."""
    return zlib.crc32(content).to_bytes(4, "little")[: len(NO_IDENTITY)]


def key_of(identity: bytes, before: int) -> int:
    """Return the key of a run, from which the checksums of its blocks continue.

    Args:
        identity: of the run.
        before: the key of the previous run, or the seed of the file's `FileStart`.
    """
    return zlib.crc32(identity, before)


def block_bytes(header: Header, first: int, codes: np.ndarray, key: int) -> list[bytes]:
    """Return frames as the bytes of one block or more.

    Args:
        header: of the file.
        first: number of frames in the recording before these.
        codes: the frames `[rows f]`.
        key: of the run.
    """
    packed, frames, step = header.pack(codes), codes.shape[1], header.block_frames
    size = header.block_bytes(step) - BLOCK.size
    out = []
    for i, start in enumerate(range(0, frames, step)):
        rest = struct.pack("<II", first + start, min(step, frames - start))
        rest += packed[i * size : (i + 1) * size]
        out.append(BLOCK_TAG + struct.pack("<I", zlib.crc32(rest, key)) + rest)
    return out


def block_at(header: Header, data: Any, offset: int, key: int) -> tuple[int, int] | None:
    """Return first frame and number of frames of the block at an offset; None if none is intact.

    Args:
        header: of the file.
        data: a buffer.
        offset: byte in the buffer.
        key: of the run.
    """
    if offset + BLOCK.size > len(data):
        return None
    tag, crc, first, frames = BLOCK.unpack_from(data, offset)
    stop = offset + header.block_bytes(frames)
    if tag != BLOCK_TAG or not 1 <= frames <= header.block_frames or stop > len(data):
        return None
    return (first, frames) if zlib.crc32(data[offset + 8 : stop], key) == crc else None


def end_at(
    start: FileStart, data: Any, offset: int = 0, tags: Any = (END_TAG, NEXT_TAG)
) -> End | None:
    """Return the end record at an offset of a buffer; None if there is no intact one.

    Args:
        start: header and seed of the file.
        data: a buffer.
        offset: byte in the buffer.
        tags: the tags that are accepted.
    """
    if offset + END.size > len(data):
        return None
    tag, crc, frames, key, samples, original, previous = END.unpack_from(data, offset)
    end = End(frames, samples, original, previous, key)
    if tag not in tags or zlib.crc32(data[offset + 8 : offset + END.size], start.seed) != crc:
        return None
    valid = -(-end.samples // start.header.frame_size) == end.frames and (start.runs or not key)
    return end if valid and end.original_samples < 1 << 63 else None
