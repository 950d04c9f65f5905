"""Verification of .tok files, and recovery of the intact blocks of damaged ones."""

from __future__ import annotations

import mmap
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from audiotok.tokens.errors import TokenFileDamagedError, explained
from audiotok.tokens.format import (
    BATCH,
    BLOCK,
    BLOCK_TAG,
    END,
    END_TAG,
    NEXT_TAG,
    NO_IDENTITY,
    End,
    FileStart,
    Header,
    block_at,
    end_at,
    key_of,
)
from audiotok.tokens.reader import TokenReader, open_file, read_start


@dataclass(frozen=True)
class DamageReport:
    """Result of `verify`.

    Attributes:
        ok: whether the whole file is intact.
        damage: a sentence about each damaged part.
        recoverable_seconds: seconds of audio that can still be read.
    """

    ok: bool
    damage: tuple[str, ...]
    recoverable_seconds: float


class Piece(NamedTuple):
    """Successive intact frames of a damaged file."""

    first: int  # number of the first frame
    codes: np.ndarray  # codes [k f], or latents [d f]
    samples: int
    original_samples: int


def verify(path: str | Path) -> DamageReport:
    """Check the whole file in constant memory; if the report is `ok`, loading it succeeds.

    Raises:
        TokenFileError: the file cannot be opened, or a newer audiotok wrote it.
    """
    try:
        with TokenReader(path) as reader:
            step = max(1, BATCH // reader.header.rows)
            for first in range(0, reader.frames, step):
                reader.read(first, min(first + step, reader.frames))
            return DamageReport(True, (), reader.samples / reader.header.sample_rate)
    except TokenFileDamagedError as error:
        try:
            header, pieces, damage = salvage(path)
        except TokenFileDamagedError:  # no header
            return DamageReport(False, (str(error),), 0.0)
        samples = sum(piece.samples for piece in pieces)
        return DamageReport(False, tuple(damage) or (str(error),), samples / header.sample_rate)


def salvage(path: str | Path) -> tuple[Header, list[Piece], list[str]]:
    """Find every intact block of a file, at any offset, and describe the damage between them.

    Returns:
        The header; each gapless piece; a sentence about each damaged part.

    Raises:
        TokenFileDamagedError: the header cannot be read.
        TokenFileError: the file cannot be opened, or a newer audiotok wrote it.
    """
    path = Path(path)
    with open_file(path) as file, explained(path, "read"):
        start = read_start(path, file)
        header = start.header
        if os.fstat(file.fileno()).st_size == start.bytes:
            return header, [], [f"the file stops after its header, at byte {start.bytes}"]
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return header, *_salvage(start, data)


def _run_key(start: FileStart, data: mmap.mmap, at: int, before: int) -> tuple[int, int]:
    """Return the key of the run that begins at a byte, and the number of bytes of its identity.

    Where the identity is damaged, the key is taken from the end record of the run.

    Args:
        start: header and seed of the file.
        data: the file.
        at: the byte.
        before: the key of the previous run.
    """
    if not start.runs or at + len(NO_IDENTITY) > len(data):
        return before, 0
    key, size = key_of(data[at : at + len(NO_IDENTITY)], before), len(NO_IDENTITY)
    if block_at(start.header, data, at + size, key):
        return key, size
    for tag in re.compile(b"|".join(map(re.escape, (END_TAG, NEXT_TAG)))).finditer(data, at):
        if end := end_at(start, data, tag.start()):
            return end.key, size if end.key == key else 0
    return key, size


def _salvage(start: FileStart, data: mmap.mmap) -> tuple[list[Piece], list[str]]:
    """Return the gapless pieces of a file, and a sentence about each damaged part."""
    header = start.header
    tags = re.compile(b"|".join(map(re.escape, (BLOCK_TAG, END_TAG, NEXT_TAG))))
    pieces: list[tuple[int, list[np.ndarray], End | None]] = []
    damage: list[str] = []
    key, size = _run_key(start, data, start.bytes, start.seed)
    intact = start.bytes + size  # the byte after the last intact record
    at = intact
    expected = stop = 0  # the next frame, and the frame after the last piece
    finished = False
    # Each candidate costs a checksum; the budget, in bytes, limits the time for a file full of
    # false tags to a few times that of reading it.
    budget = 4 * len(data) + (1 << 20)
    while at < len(data) and budget > 0:
        size, first, codes = 0, expected, None
        end = end_at(start, data, at)
        end = end if end and end.key == key else None
        if end and end.frames >= expected:
            size, first, finished = END.size, end.frames, data[at : at + 4] == END_TAG
        elif (block := block_at(header, data, at, key)) and block[0] >= expected:
            first, frames = block
            size, finished = header.block_bytes(frames), False
            codes = header.unpack(data[at + BLOCK.size : at + size], frames)
            try:
                header.check(codes)
            except ValueError:
                size = 0
        if not size:
            budget -= 64 + min(header.block_bytes(header.block_frames), len(data) - at)
            tag = tags.search(data, at + 1)
            at = tag.start() if tag else len(data)
            continue
        if at > intact or first > expected:
            when = f"{header.seconds(expected):.2f} s to {header.seconds(first):.2f} s"
            lost = f"{when} is lost" if first > expected else "no audio is lost"
            damage.append(f"bytes {intact} to {at} are damaged or missing: {lost}")
        if codes is not None:
            if not pieces or first != stop:
                pieces.append((first, [], None))
            pieces[-1][1].append(codes)
            expected = stop = first + codes.shape[1]
        elif end:
            if pieces and first == stop:
                pieces[-1] = (*pieces[-1][:2], end)
            expected = first
        at = intact = at + size
        if end:  # another run may begin here; or an append was interrupted, and no codes follow
            after, size = _run_key(start, data, at, key)
            if not finished or block_at(header, data, at + size, after):
                key, at = after, at + size
                intact = at
    if intact < len(data):
        lost = f"what came after {header.seconds(expected):.2f} s, if anything, is lost"
        damage.append(f"bytes {intact} to {len(data)} are damaged or do not belong: {lost}")
    elif not finished:
        damage.append(f"the end is missing at byte {len(data)}: the file is cut short")
    return [_piece(header, *each) for each in pieces], damage


def _piece(header: Header, first: int, chunks: list[np.ndarray], end: End | None) -> Piece:
    """Return a piece, with its length from an end record if that directly follows it."""
    codes, start = np.concatenate(chunks, axis=1), first * header.frame_size
    samples = codes.shape[1] * header.frame_size
    original = header.to_original(start + samples) - header.to_original(start)
    if end and end.frames == first + codes.shape[1]:  # the exact length is known
        samples = end.samples - start
        original = max(0, end.original_samples - header.to_original(start))
    codes.flags.writeable = False
    return Piece(first, codes, samples, original)
