"""No bytes make the .tok reader hang, crash or allocate without bound: it reads or refuses them."""

from __future__ import annotations

import json
import struct
import tempfile
import time
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audiotok.tokens import TokenFileError, verify
from audiotok.tokens import format as layout
from audiotok.tokens.tokens import Tokens

MOST_BYTES = 16 << 20  # for files of some KiB
MOST_SECONDS = 5.0

HEADER: dict[str, Any] = {
    "codec": "speech",
    "fingerprint": "00ff",
    "sizes": [5, 3, 9],
    "sample_rate": 16000,
    "frame_size": 320,
    "original_rate": 16000,
    "channels": 1,
    "streams": 1,
    "block_frames": 8,
}
numbers = st.sampled_from(
    [0, 1, 2, 7, 8, 255, 1024, 1 << 20, 1 << 24, 1 << 31, 1 << 32, (1 << 63) - 1]
) | st.integers(-2, 1 << 64)
anything = st.recursive(
    st.none() | st.booleans() | numbers | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def path() -> Any:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "fuzz.tok"


def header_bytes(text: bytes, major: int = 1, minor: int = 0) -> bytes:
    """A header around any text, with a right checksum."""
    start = struct.pack("<6sBBI", layout.MAGIC, major, minor, len(text))
    return start + struct.pack("<I", zlib.crc32(start + text)) + text


def block_bytes(first: int, frames: int, payload: bytes, key: int = 0) -> bytes:
    rest = struct.pack("<II", first % (1 << 32), frames % (1 << 32)) + payload
    return layout.BLOCK_TAG + struct.pack("<I", zlib.crc32(rest, key)) + rest


def end_bytes(
    frames: int, samples: int, original: int, previous: int, tag: bytes, seed: int = 0, key: int = 0
) -> bytes:
    frames = frames % (1 << 32) | key << 32 if key else frames
    rest = struct.pack("<QQQQ", *(n % (1 << 64) for n in (frames, samples, original, previous)))
    return tag + struct.pack("<I", zlib.crc32(rest, seed)) + rest


def verified(path: Path) -> None:
    report = verify(path)
    if not report.ok:
        raise TokenFileError(f"{path}: {report.damage}")


READERS = (
    Tokens.load,
    verified,
    Tokens.recover,
    lambda path: Tokens.load(path, start=0.1, end=0.3),
)


def outcome(read: Callable[[Path], object], path: Path) -> str | None:
    """What the reader complains of; anything but a TokenFileError fails the test."""
    try:
        read(path)
    except TokenFileError as error:
        return str(error)
    return None


def assert_safe(path: Path, data: bytes) -> None:
    """Every way of reading ends soon, in little memory, with Tokens or a TokenFileError."""
    path.write_bytes(data)
    tracemalloc.start()
    began = time.process_time()
    try:
        outcomes = [outcome(read, path) for read in READERS]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MOST_BYTES
    assert time.process_time() - began < MOST_SECONDS
    for line in outcomes:
        assert line is None or (str(path) in line and "\n" not in line)
    load, check, recover, cut = outcomes
    assert (load is None) == (check is None)
    if load is None:
        assert recover is cut is None


@given(st.binary(max_size=300), st.booleans())
@settings(max_examples=60, deadline=None)
def test_random_bytes(path: Path, data: bytes, after_magic: bool) -> None:
    assert_safe(path, layout.MAGIC + b"\x01\x00" + data if after_magic else data)


@given(st.dictionaries(st.sampled_from([*HEADER, "other"]), anything, max_size=3), st.binary())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_header_with_a_right_checksum(path: Path, change: dict[str, Any], rest: bytes) -> None:
    text = json.dumps(HEADER | change).encode()
    end = end_bytes(0, 0, 0, 0, layout.END_TAG)
    assert_safe(path, header_bytes(text) + end)
    assert_safe(path, header_bytes(text) + rest)


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 60_000,
        b'{"a":' * 12_000,
        b"9" * 60_000,
        b'{"sizes":' + b"9" * 60_000 + b"}",
        b"\xff\xfe",
        b"",
        b"null",
        json.dumps(HEADER | {"sizes": [2] * 20_000}).encode(),
        json.dumps(HEADER | {"sizes": [1 << 24] * 1024, "block_frames": 1 << 20}).encode(),
        json.dumps(HEADER | {"streams": 1 << 62}).encode(),
        json.dumps(HEADER | {"codec": "\ud800"}).encode(),
        json.dumps(HEADER | {"block_frames": 1e999}).encode(),
    ],
)
def test_hostile_headers(path: Path, text: bytes) -> None:
    for rest in (b"", end_bytes(0, 0, 0, 0, layout.END_TAG), b"BLK:" * 5000):
        assert_safe(path, header_bytes(text) + rest)


records = st.one_of(
    st.tuples(st.just("block"), st.integers(0, 30) | numbers, st.integers(0, 9) | numbers),
    st.tuples(st.just("end"), st.integers(0, 30) | numbers, numbers),
    st.tuples(st.just("junk"), st.integers(0, 50), st.just(0)),
)


@given(st.lists(records, max_size=8), st.randoms(use_true_random=False), st.booleans())
@settings(max_examples=200, deadline=None)
def test_any_records_with_right_checksums(
    path: Path, plan: list[Any], random: Any, runs: bool
) -> None:
    data = header_bytes(json.dumps(HEADER).encode(), major=1 + runs)
    seed = key = layout.seed_of(data) if runs else 0
    ends = [0]
    if runs:
        data += b"abc"
        key = zlib.crc32(b"abc", key)
    for kind, one, two in plan:
        if kind == "block":
            size = min(two, 64) * 9 // 8 + 1 + random.randrange(-1, 2)
            data += block_bytes(one, two, random.randbytes(max(0, size)), key)
        elif kind == "end":
            samples = random.choice([one * 320, one * 320 - 1, two])
            tag = random.choice([layout.END_TAG, layout.NEXT_TAG])
            previous = random.choice([*ends, two, len(data)])
            ends.append(len(data))
            data += end_bytes(one, samples, two, previous, tag, seed, key)
            if runs and random.randrange(3):
                data += b"xyz"
                key = zlib.crc32(b"xyz", key)
        else:
            data += random.randbytes(one)
    assert_safe(path, data)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_good_files_with_pieces_changed(path: Path, data: st.DataObject) -> None:
    tokens = Tokens(
        codes=np.arange(1200).reshape(3, 400) % 7,
        size=(7, 9, 1024),
        codec="speech",
        fingerprint="00ff",
        sample_rate=16000,
        frame_size=320,
        samples=400 * 320,
        original_rate=16000,
        original_samples=400 * 320,
    )
    tokens.save(path, force=True)
    tokens.append(path)
    good = path.read_bytes()
    a, b, c = (data.draw(st.integers(0, len(good))) for _ in range(3))
    middle = data.draw(st.sampled_from([b"", good[min(b, c) : max(b, c)], b"\0" * 40]))
    assert_safe(path, good[:a] + middle + good[max(a, b) :])


def test_a_file_of_false_tags_costs_a_few_readings_only(path: Path) -> None:
    text = json.dumps(HEADER | {"block_frames": 1 << 20, "sizes": [2]}).encode()
    false = struct.pack("<4sIII", layout.BLOCK_TAG, 0, 0, 1 << 20)
    assert_safe(path, header_bytes(text) + false * 60_000)  # each claims 128 KiB
    assert_safe(path, header_bytes(text) + layout.END_TAG * 240_000)


def test_a_long_chain_of_ends_is_followed_once(path: Path) -> None:
    data, previous = header_bytes(json.dumps(HEADER).encode()), 0
    for _ in range(500):
        record = end_bytes(0, 0, 0, previous, layout.NEXT_TAG)
        previous = len(data)
        data += record
    assert_safe(path, data + end_bytes(0, 0, 0, previous, layout.END_TAG))
    loop = header_bytes(json.dumps(HEADER).encode())
    assert_safe(path, loop + end_bytes(0, 0, 0, len(loop), layout.END_TAG))
