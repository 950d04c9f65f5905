"""Tokens and the .tok file: any codes round-trip, any damage is found, nothing is half-written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audiotok import tokens as tokfile
from audiotok.tokens import (
    TokenFileDamagedError,
    TokenFileError,
    TokenFileExistsError,
    TokenReader,
    TokenWriter,
    verify,
)
from audiotok.tokens import (
    format as layout,
)
from audiotok.tokens.tokens import NoSemanticCodebooksError, Tokens

SIZES = [2, 3, 255, 1000, 1024, 4096, 6561, 1 << 24, 17**6, 1 << 25]


def make(
    frames: int = 500, size: int | tuple[int, ...] = 1024, codebooks: int = 8, **given: Any
) -> Tokens:
    """Random codes of 20 ms frames; `short` samples are missing from the last frame."""
    sizes = size if isinstance(size, tuple) else (size,) * codebooks
    sizes *= max(1, given.get("streams", 1))
    random = np.random.default_rng(frames)
    samples = frames * 320 - given.pop("short", 0)
    fields: dict[str, Any] = {
        "codes": np.stack([random.integers(0, each, frames) for each in sizes]),
        "size": size,
        "codec": "speech",
        "fingerprint": "00ff",
        "sample_rate": 16000,
        "frame_size": 320,
        "samples": samples,
        "original_rate": 44100,
        "original_samples": samples * 441 // 160,
    }
    return Tokens(**fields | given)


@st.composite
def arguments(draw: st.DrawFn) -> dict[str, Any]:
    """For `make`, in the test itself: beartype draws random numbers, which a strategy may not."""
    size = draw(
        st.sampled_from(SIZES) | st.lists(st.sampled_from(SIZES), min_size=1, max_size=5).map(tuple)
    )
    frames = draw(st.integers(0, 40) | st.integers(0, 2000))
    streams = draw(st.integers(1, 3))
    return {
        "frames": frames,
        "size": size,
        "codebooks": draw(st.integers(1, 9)),
        "short": draw(st.integers(0, 319)) if frames else 0,
        "streams": streams,
        "channels": streams * draw(st.integers(1, 2)),
        "codec": draw(st.sampled_from(["speech", "日本 codec", ""])),
    }


@pytest.fixture(scope="module")
def folder() -> Any:
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


# ---- the type


def test_numbers_of_a_recording() -> None:
    tokens = make(500, short=7)
    assert (tokens.frames, tokens.codebooks, tokens.sizes) == (500, 8, (1024,) * 8)
    assert (tokens.frame_rate, tokens.kbps, tokens.seconds) == (50.0, 4.0, (160000 - 7) / 16000)
    assert make(10, (1000, 8)).kbps == pytest.approx(50 * (np.log2(1000) + 3) / 1000)
    assert make(10, streams=2, channels=2).kbps == 8.0
    assert "500 frames" in repr(tokens)


def test_codes_are_kept_apart_from_the_callers_array() -> None:
    codes = np.zeros((8, 4), np.int64)
    tokens = make(4, codes=codes)
    codes[:] = 1
    assert tokens.codes.max() == 0
    assert tokens.codes.dtype == np.int64
    assert not tokens.codes.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        tokens.codes[0, 0] = 1


def test_equality_is_by_value() -> None:
    assert make(9) == make(9) == make(9, (1024,) * 8)
    assert hash(make(9)) == hash(make(9, (1024,) * 8))
    assert make(9) != make(9, short=1)
    assert make(9) != make(9, fingerprint="00fe")
    assert make(9) != make(9, codes=np.zeros((8, 9), np.uint16))
    assert make(9) != 9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"codes": np.full((8, 5), 1024)}, "code 1024 in codebook 0: codes there are 0 to 1023"),
        ({"codes": np.full((8, 5), -1)}, "code -1 in codebook 0"),
        ({"codes": np.full((8, 5), 1 << 63, np.uint64)}, "code 9223372036854775808"),
        ({"codes": np.zeros((8, 5))}, "integers, not float64"),
        ({"codes": np.zeros((8, 5), bool)}, "integers, not bool"),
        ({"codes": np.zeros(5, int), "size": (9,)}, "expected \\[1 frames\\]"),
        ({"codes": np.zeros((8, 4), int)}, "samples is 1600, which 4 frames"),
        ({"samples": 1601}, "samples is 1601, which 5 frames"),
        ({"samples": 1280}, "samples is 1280"),
        ({"original_samples": -1}, "original_samples is -1"),
        ({"size": 1}, "2 to 33554432 entries"),
        ({"size": (9,) * 7, "codes": np.zeros((8, 5), int)}, "shape"),
        ({"streams": 3, "channels": 3, "codes": np.zeros((8, 5), int)}, "do not divide into 3"),
        ({"streams": 2, "channels": 3}, "do not divide into 2"),
        ({"streams": 0, "codes": np.zeros((8, 5), int)}, "streams is 0"),
        ({"frame_size": 0}, "frame_size is 0"),
        ({"sample_rate": 10**8}, "sample_rate is 100000000"),
        ({"codec": "a\nb"}, "codec must be printable"),
        ({"fingerprint": "f" * 201}, "fingerprint must be printable"),
    ],
)
def test_what_cannot_be_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(5, **change)


def test_first_keeps_the_first_codebooks_of_every_stream() -> None:
    tokens = make(6, (16, 32, 64), streams=2, channels=2)
    first = tokens.first(2)
    assert (first.codebooks, first.sizes, first.samples) == (2, (16, 32), tokens.samples)
    assert np.array_equal(first.codes, tokens.codes[[0, 1, 3, 4]])
    with pytest.raises(ValueError, match="cannot take 4 codebooks of 3"):
        tokens.first(4)


def test_stacked_channels_come_out_again() -> None:
    left, right = make(6), make(6, codes=np.ones((8, 6), int))
    both = Tokens.stack([left, right])
    assert (both.channels, both.streams, both.codebooks) == (2, 2, 8)
    assert [both.channel(0), both.channel(1)] == [left, right]
    with pytest.raises(ValueError, match="no stream 2"):
        both.channel(2)
    with pytest.raises(ValueError, match="cannot stack 1919 samples on 1920"):
        Tokens.stack([left, make(6, short=1)])


def test_cut_takes_whole_frames_and_exact_samples() -> None:
    tokens = make(50, short=100)
    assert tokens.cut() == tokens
    part = tokens.cut(0.99, 1.0)  # the last frame, 220 samples long
    assert (part.frames, part.samples) == (1, 220)
    assert tokens.cut(0.02, 0.04).codes.tolist() == tokens.codes[:, 1:2].tolist()
    assert tokens.cut(0.0199, 0.0401).frames == 3
    assert [tokens.cut(*at).frames for at in [(5.0, 6.0), (0.1, 0.1), (0.99, 0.999)]] == [0, 0, 1]
    for bad in [(-1.0, 1.0), (1.0, 0.5), (float("nan"), 1.0)]:
        with pytest.raises(ValueError, match="0 <= start <= end"):
            tokens.cut(*bad)


@given(arguments(), st.lists(st.integers(0, 2000), max_size=4))
@settings(max_examples=40, deadline=None)
def test_cat_undoes_cut(given: dict[str, Any], places: list[int]) -> None:
    tokens = make(**given)
    marks = sorted(min(place, tokens.frames) for place in [0, *places, tokens.frames])
    times = [mark * tokens.frame_size / tokens.sample_rate for mark in marks]
    pieces = [tokens.cut(a, b) for a, b in pairwise(times)]
    assert sum(piece.original_samples for piece in pieces) == tokens.original_samples
    whole = [piece for piece in pieces if piece.frames] or pieces[:1]
    assert whole[0].cat(*whole[1:]) == tokens


def test_what_cannot_be_joined_is_refused() -> None:
    with pytest.raises(ValueError, match="within a frame of 320"):
        make(5, short=1).cat(make(5))
    with pytest.raises(ValueError, match="fingerprint differs \\('00ff' and 'aa'\\)"):
        make(5).cat(make(5, fingerprint="aa"))


# ---- the file


@given(arguments())
@settings(max_examples=80, deadline=None)
def test_any_codes_round_trip(folder: Path, given: dict[str, Any]) -> None:
    tokens = make(**given)
    path = folder / "round.tok"
    tokens.save(path, force=True)
    assert Tokens.load(path) == tokens
    report = verify(path)
    assert report.ok
    assert report.damage == ()
    assert report.recoverable_seconds == tokens.seconds
    assert Tokens.recover(path).pieces == [(0.0, tokens)]


@given(st.lists(st.integers(1, 24), min_size=1, max_size=12), st.integers(0, 50), st.integers(0))
@settings(max_examples=100, deadline=None)
def test_packing_is_what_the_format_says(widths: list[int], frames: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    codes = np.stack([random.integers(0, 1 << width, frames) for width in widths])
    packed = tokfile.pack(codes, widths)
    number, bits = 0, 0  # the format in words: each code on top of what came before
    for frame in codes.T.tolist():
        for code, width in zip(frame, widths, strict=True):
            number |= code << bits
            bits += width
    assert packed == number.to_bytes((bits + 7) // 8, "little")
    assert np.array_equal(tokfile.unpack(packed, widths, frames), codes)


@given(arguments(), st.floats(0, 50), st.floats(0, 50))
@settings(max_examples=40, deadline=None)
def test_seeking_equals_cutting(
    folder: Path, given: dict[str, Any], one: float, two: float
) -> None:
    tokens = make(**given)
    path = folder / "seek.tok"
    tokens.save(path, force=True)
    start, end = min(one, two), max(one, two)
    assert Tokens.load(path, start=start, end=end) == tokens.cut(start, end)


def test_seeking_reads_only_the_blocks_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = make(50_000)
    tokens.save(tmp_path / "long.tok")
    read: list[int] = []
    plain = TokenReader._bytes

    def counted(self: TokenReader, offset: int, count: int) -> bytes:
        read.append(count)
        return plain(self, offset, count)

    monkeypatch.setattr(TokenReader, "_bytes", counted)
    assert Tokens.load(tmp_path / "long.tok", start=600, end=601) == tokens.cut(600, 601)
    assert sum(read) <= 2 * (1280 + 16) + 40
    data = bytearray((tmp_path / "long.tok").read_bytes())
    data[1000] ^= 1
    (tmp_path / "long.tok").write_bytes(data)
    assert Tokens.load(tmp_path / "long.tok", start=600, end=601) == tokens.cut(600, 601)


@given(st.lists(st.integers(0, 400), min_size=1, max_size=6), st.integers(0, 319))
@settings(max_examples=40, deadline=None)
def test_appending_equals_writing_at_once(folder: Path, lengths: list[int], short: int) -> None:
    lengths[-1] += 1
    tokens = make(sum(lengths), (1024, 1000), short=short)
    marks = np.cumsum([0, *lengths]) * 0.02
    pieces = [tokens.cut(a, b) for a, b in pairwise(marks.tolist())]
    path, stream = folder / "append.tok", folder / "stream.tok"
    pieces[0].save(path, force=True)
    for piece in pieces[1:]:
        piece.append(path)
    with TokenWriter(stream, tokens.header, force=True) as writer:
        for piece in pieces:
            writer.append(
                piece.codes, samples=piece.samples, original_samples=piece.original_samples
            )
    assert Tokens.load(path) == Tokens.load(stream) == tokens
    assert verify(path).ok
    assert Tokens.load(path, start=1.3, end=3.1) == tokens.cut(1.3, 3.1)
    tokens.save(folder / "once.tok", force=True)
    assert stream.read_bytes() == (folder / "once.tok").read_bytes()


def test_lengths_follow_when_a_writer_is_given_codes_only(tmp_path: Path) -> None:
    tokens = make(300)
    with TokenWriter(tmp_path / "a.tok", tokens.header) as writer:
        for first in range(0, 300, 7):
            writer.append(tokens.codes[:, first : first + 7])
    loaded = Tokens.load(tmp_path / "a.tok")
    assert (loaded.samples, loaded.original_samples) == (96000, 264600)
    assert loaded == tokens


def test_writing_takes_constant_memory(tmp_path: Path) -> None:
    piece = make(1000)
    tracemalloc.start()
    try:
        with TokenWriter(tmp_path / "a.tok", piece.header) as writer:
            for _ in range(200):  # 64 MB of codes
                writer.append(piece.codes)
        assert verify(tmp_path / "a.tok").ok
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 24 << 20


def append_until(writer: TokenWriter, stop: Callable[[TokenWriter], None]) -> None:
    with writer:
        writer.append(make(500).codes)
        stop(writer)


def interrupt(_: TokenWriter) -> None:
    raise KeyboardInterrupt


def test_what_cannot_be_appended_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tok"
    make(5, short=1).save(path)
    with pytest.raises(ValueError, match=r"a\.tok: nothing can follow"):
        make(5).append(path)
    make(5).save(path, force=True)
    with pytest.raises(ValueError, match=r"append to .*a\.tok: codec differs"):
        make(5, codec="other").append(path)
    with pytest.raises(ValueError, match="code 5000"):
        append_until(TokenWriter.reopen(path), lambda one: one.append(np.full((8, 1), 5000)))
    assert Tokens.load(path) == make(5)


@pytest.mark.parametrize("frames", [*range(500, 1300, 7), 513, 769, 50_000])
def test_4_kbps_cost_at_most_4_1_on_disk(tmp_path: Path, frames: int) -> None:
    tokens = make(frames)
    tokens.save(tmp_path / "a.tok")
    past_header = (tmp_path / "a.tok").stat().st_size - len(tokens.header.to_bytes())
    assert tokens.kbps == 4.0
    assert past_header * 8 / tokens.seconds <= 4100


def test_short_recordings_cost_what_the_docstring_says(tmp_path: Path) -> None:
    for frames, most in [(50, 4500), (150, 4200)]:
        tokens = make(frames)
        tokens.save(tmp_path / "a.tok", force=True)
        past_header = (tmp_path / "a.tok").stat().st_size - len(tokens.header.to_bytes())
        assert past_header * 8 / tokens.seconds <= most


# ---- damage


def small_file(path: Path) -> Tokens:
    """A file with everything in it: two runs, full and short blocks, padding bits."""
    header = replace(make(1, (5, 3, 9)).header, block_frames=8)
    tokens = make(29, (5, 3, 9), short=3)
    with TokenWriter(path, header) as writer:
        writer.append(tokens.codes[:, :13])
    with TokenWriter.reopen(path) as writer:
        writer.append(
            tokens.codes[:, 13:],
            samples=tokens.samples - 13 * 320,
            original_samples=tokens.original_samples - 13 * 882,
        )
    assert Tokens.load(path) == tokens
    return tokens


def assert_found(path: Path, tokens: Tokens) -> None:
    with pytest.raises(TokenFileError) as caught:
        Tokens.load(path)
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert "\n" not in line
    try:
        report = verify(path)
        assert not report.ok
        assert report.damage
        pieces = Tokens.recover(path).pieces
        assert sum(piece.seconds for _, piece in pieces) == pytest.approx(
            report.recoverable_seconds
        )
    except TokenFileError:
        return
    for start, piece in pieces:  # what is given back is true and in its place
        first = round(start * tokens.frame_rate)
        assert np.array_equal(piece.codes, tokens.codes[:, first : first + piece.frames])


def test_any_byte_flipped_is_found(tmp_path: Path) -> None:
    tokens = small_file(tmp_path / "good.tok")
    good, path = (tmp_path / "good.tok").read_bytes(), tmp_path / "bad.tok"
    for at in range(len(good)):
        for mask in (1 << at % 8, 0xFF):
            path.write_bytes(good[:at] + bytes([good[at] ^ mask]) + good[at + 1 :])
            assert_found(path, tokens)


def test_any_truncation_is_found(tmp_path: Path) -> None:
    tokens = small_file(tmp_path / "good.tok")
    good, path = (tmp_path / "good.tok").read_bytes(), tmp_path / "bad.tok"
    for length in range(len(good)):
        path.write_bytes(good[:length])
        assert_found(path, tokens)


def test_anything_added_taken_out_or_repeated_is_found(tmp_path: Path) -> None:
    tokens = small_file(tmp_path / "good.tok")
    good, path = (tmp_path / "good.tok").read_bytes(), tmp_path / "bad.tok"
    for junk in (b"\0", b"junk" * 50, good[-40:], good):
        path.write_bytes(good + junk)
        assert_found(path, tokens)
    for at in range(0, len(good), 5):
        for changed in (good[:at] + b"x" + good[at:], good[:at] + good[at + 9 :]):
            path.write_bytes(changed)
            assert_found(path, tokens)


def test_recovery_gives_every_undamaged_run(tmp_path: Path) -> None:
    tokens, path = make(1000, short=5), tmp_path / "a.tok"
    tokens.save(path)
    data = bytearray(path.read_bytes())
    start, size = len(tokens.header.to_bytes()) + 3, 1280 + 16  # past the identity
    data[start + 2 * size + 100] ^= 1  # block 2: frames 256 to 384
    data[start + 5 * size + 3] ^= 1  # the tag of block 5: frames 640 to 768
    path.write_bytes(data)
    recovery = Tokens.recover(path)
    assert [
        (at, piece.codes.tolist(), piece.samples, piece.original_samples)
        for at, piece in recovery.pieces
    ] == [
        (a * 0.02, tokens.codes[:, a:b].tolist(), samples, samples * 441 // 160)
        for a, b, samples in [(0, 256, 81920), (384, 640, 81920), (768, 1000, 74235)]
    ]
    assert [text.split(": ")[1] for text in recovery.report.damage] == [
        "5.12 s to 7.68 s is lost",
        "12.80 s to 15.36 s is lost",
    ]
    with pytest.raises(TokenFileDamagedError, match=r"5.12 s to 7.68 s.*Tokens.recover"):
        Tokens.load(path)


def test_other_files_are_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.tok"
    for data, message in [
        (b"", "an empty file"),
        (b"RIFF....WAVE", "not a .tok file"),
        (layout.MAGIC + bytes([4, 0]) + bytes(99), "written in format 4, .* upgrade"),
        (layout.MAGIC + bytes([1, 0]) + b"\xff" * 99, "the header is damaged"),
    ]:
        path.write_bytes(data)
        with pytest.raises(TokenFileError, match=f"a.tok: {message}"):
            Tokens.load(path)
    with pytest.raises(TokenFileError, match=r"none\.tok: cannot read: No such file"):
        Tokens.load(tmp_path / "none.tok")
    with pytest.raises(TokenFileError, match="not a regular file"):
        Tokens.load(tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.tok")
        with pytest.raises(TokenFileError, match="not a regular file"):
            verify(tmp_path / "pipe.tok")


# ---- writing is all or nothing


def test_nothing_is_overwritten_unless_forced(tmp_path: Path) -> None:
    path = tmp_path / "a.tok"
    make(5).save(path)
    with pytest.raises(TokenFileExistsError, match=r"a\.tok: exists already"):
        make(6).save(path)
    with pytest.raises(FileExistsError), TokenWriter(tmp_path / "b.tok", make(5).header):
        make(7).save(tmp_path / "b.tok")  # it appears while another writes
    make(6).save(path, force=True)
    assert Tokens.load(path) == make(6)
    assert Tokens.load(tmp_path / "b.tok") == make(7)
    for folder in (tmp_path, tmp_path / "none" / "a.tok"):
        with pytest.raises(TokenFileError, match="cannot write"):
            make(5).save(folder, force=True)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.tok", "b.tok"]


def test_a_file_system_without_links_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_link(*_: object) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", no_link)
    make(5).save(tmp_path / "a.tok")
    with pytest.raises(TokenFileExistsError):
        make(5).save(tmp_path / "a.tok")
    assert [each.name for each in tmp_path.iterdir()] == ["a.tok"]


def test_an_exception_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "a.tok"
    with pytest.raises(KeyboardInterrupt):
        append_until(TokenWriter(path, make(5).header), interrupt)
    assert list(tmp_path.iterdir()) == []
    make(5).save(path)
    before = path.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        append_until(TokenWriter.reopen(path), interrupt)
    assert path.read_bytes() == before


WRITE_UNTIL_KILLED = """
import sys, numpy as np
from audiotok.tokens import Header, TokenWriter
path, how = sys.argv[1:]
header = Header(codec="speech", fingerprint="00ff", sizes=(1024,) * 8, sample_rate=16000,
                frame_size=320, original_rate=44100)
with (TokenWriter(path, header) if how == "new" else TokenWriter.reopen(path)) as writer:
    for n in range(10**9):
        writer.append(np.full((8, 500), 7))
        if n == 100:
            print("going", flush=True)
"""


@pytest.mark.parametrize("how", ["new", "append"])
def test_kill_9_in_mid_write_loses_nothing_old(tmp_path: Path, how: str) -> None:
    path, old = tmp_path / "a.tok", make(300)
    if how == "append":
        old.save(path)
    command = [sys.executable, "-c", WRITE_UNTIL_KILLED, str(path), how]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"going\n"
        child.send_signal(signal.SIGKILL)
    if how == "new":
        assert not path.exists()
        assert [each.suffix for each in tmp_path.iterdir()] == [".part"]
        return
    with pytest.raises(TokenFileDamagedError, match=r"append was interrupted; `Tokens.recover"):
        Tokens.load(path)
    (start, piece), *_ = Tokens.recover(path).pieces
    assert start == 0.0
    assert piece.frames > 300 + 100 * 400
    assert np.array_equal(piece.codes[:, :300], old.codes)
    assert (piece.codes[:, 300:] == 7).all()


FILL_THE_DISK = """
import sys, numpy as np
from audiotok.tokens import Header, TokenFileError, TokenWriter
path, how, limit = sys.argv[1:]
if int(limit):
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
header = Header(codec="speech", fingerprint="00ff", sizes=(1024,) * 8, sample_rate=16000,
                frame_size=320, original_rate=44100)
try:
    with (TokenWriter(path, header) if how == "new" else TokenWriter.reopen(path)) as writer:
        for _ in range(1000):
            writer.append(np.full((8, 500), 7))
except TokenFileError as error:
    print(error)
"""


def assert_full_disk_is_explained(folder: Path, limit: int) -> None:
    path = folder / "a.tok"
    for how in ("new", "append"):
        if how == "append":
            make(300).save(path)
        command = [sys.executable, "-c", FILL_THE_DISK, str(path), how, str(limit)]
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=True
        )
        assert done.stdout.startswith(f"{path}: no space left on the device for this file")
        assert done.stdout.count("\n") == 1
        assert [each.name for each in folder.iterdir()] == ["a.tok"] * (how == "append")
    assert Tokens.load(path) == make(300)


def test_a_full_disk_is_explained(tmp_path: Path) -> None:
    assert_full_disk_is_explained(tmp_path, 100_000)


def test_a_full_tmpfs_is_explained(tmp_path: Path) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)]
    try:
        subprocess.run(mount, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no right to mount (the test above stands in): {error}")
    try:
        assert_full_disk_is_explained(tmp_path, 0)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_reading_tokens_needs_no_torch(tmp_path: Path) -> None:
    make(5).save(tmp_path / "a.tok")
    code = (
        "import sys; from audiotok.tokens.tokens import Tokens; Tokens.load(sys.argv[1]);"
        "heavy = {'torch', 'torchaudio', 'soundfile', 'jaxtyping'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a.tok")]
    subprocess.run(command, cwd=Path(__file__).parents[2], check=True)


# -- semantic and acoustic codebooks --------------------------------------------------------------


def test_semantic_and_acoustic_codes_by_name(folder: Path) -> None:
    codes = np.arange(2 * 3 * 4).reshape(6, 4)
    tokens = make(4, codec="mimi", codes=codes, size=64, streams=2, channels=2)
    tokens.save(folder / "a.tok", force=True)
    for each in (tokens, Tokens.load(folder / "a.tok"), replace(tokens, samples=tokens.samples)):
        assert each.semantic_codebooks == 1
        assert np.array_equal(each.semantic, codes[[0, 3]])
        assert np.array_equal(each.acoustic, codes[[1, 2, 4, 5]])
    assert tokens.first(1).acoustic.shape == (0, 4)


def test_other_codecs_have_no_semantic_codes() -> None:
    tokens = make(codec="encodec_24khz")
    assert tokens.semantic_codebooks == 0
    for name in ("semantic", "acoustic"):
        with pytest.raises(NoSemanticCodebooksError, match=r"^tokens of 'encodec_24khz', none of"):
            getattr(tokens, name)


def test_the_number_goes_with_the_file_where_the_name_does_not_tell_it(folder: Path) -> None:
    codes = np.arange(12).reshape(3, 4)
    for codec, count in (("mimi", 2), ("mimi", 0), ("a_codec_of_others", 1)):
        tokens = make(4, codec=codec, codes=codes, size=64, semantic_codebooks=count)
        tokens.save(folder / "b.tok", force=True)
        again = Tokens.load(folder / "b.tok")
        assert (again, again.semantic_codebooks) == (tokens, count)
        if count:
            assert np.array_equal(again.semantic, codes[:count])
        assert tokens != make(4, codec=codec, codes=codes, size=64)
    told = make(4, codec="mimi", codes=codes, size=64, semantic_codebooks=1)
    assert told == make(4, codec="mimi", codes=codes, size=64)
    assert b"semantic" not in told.header.to_bytes(), "files are as they were before"
    for wrong in (-1, 5000):
        with pytest.raises(ValueError, match=f"^{wrong} semantic codebooks: 0 to 4096$"):
            make(semantic_codebooks=wrong)
