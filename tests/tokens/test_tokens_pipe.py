"""A .tok file through a pipe: written and read as it comes, and still a .tok file."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audiotok.tokens import (
    Header,
    TokenFileDamagedError,
    TokenReader,
    TokenSink,
    TokenSource,
    verify,
)
from audiotok.tokens.tokens import Tokens


def header(sizes: tuple[int, ...] = (1024,) * 8, frame: int = 320) -> Header:
    return Header(
        codec="speech",
        fingerprint="f",
        sizes=sizes,
        sample_rate=16000,
        frame_size=frame,
        original_rate=16000,
    )


def drawn(sizes: tuple[int, ...], frames: int) -> np.ndarray:
    draw = np.random.default_rng(frames)
    return np.stack([draw.integers(0, size, frames) for size in sizes])


def piped(codes: np.ndarray, about: Header, block: int, cuts: list[int], lacking: int = 0) -> bytes:
    out = io.BytesIO()
    sink = TokenSink(out, about, block=block)
    at = 0
    for cut in cuts:
        sink.append(codes[:, at : at + cut])
        at += cut
    sink.append(codes[:, at:])
    sink.finish(max(0, codes.shape[1] * about.frame_size - lacking))
    assert sink.bytes == len(out.getvalue())
    return out.getvalue()


def heard(data: bytes) -> tuple[np.ndarray, TokenSource]:
    source = TokenSource(io.BytesIO(data))
    none = np.zeros((source.header.rows, 0), np.int64)
    return np.concatenate([none, *source.blocks()], 1), source


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(2, 5000), min_size=1, max_size=5),
    st.integers(0, 60),
    st.integers(1, 20),
    st.lists(st.integers(0, 9), max_size=9),
    st.integers(0, 319),
)
def test_any_stream_is_a_file(
    tmp_path_factory: pytest.TempPathFactory,
    sizes: list[int],
    frames: int,
    block: int,
    cuts: list[int],
    lacking: int,
):
    about = header(tuple(sizes))
    codes = drawn(tuple(sizes), frames)
    data = piped(codes, about, min(block, about.block_frames), cuts, lacking)
    came, source = heard(data)
    assert np.array_equal(came, codes)
    assert source.samples == max(0, frames * 320 - lacking)
    assert source.bytes == len(data)
    path = tmp_path_factory.getbasetemp() / "stream.tok"
    path.write_bytes(data)
    assert verify(path).ok
    tokens = Tokens.load(path)
    assert np.array_equal(tokens.codes, codes)
    assert tokens.samples == source.samples
    with TokenReader(path) as reader:
        for first in {0, frames // 3, max(0, frames - 1)}:
            for last in {first, min(frames, first + 2), frames}:
                assert np.array_equal(reader.read(first, last), codes[:, first:last])


def test_a_file_of_the_writer_can_be_read_from_a_pipe_and_appended_to(tmp_path: Path):
    codes = drawn((1024,) * 8, 300)
    tokens = Tokens(
        codes=codes,
        size=1024,
        codec="speech",
        fingerprint="f",
        sample_rate=16000,
        frame_size=320,
        samples=300 * 320,
        original_rate=16000,
        original_samples=300 * 320,
    )
    tokens.save(tmp_path / "a.tok")
    tokens.append(tmp_path / "a.tok")  # its first end becomes one that something follows
    came, source = heard((tmp_path / "a.tok").read_bytes())
    assert np.array_equal(came, np.hstack([codes, codes]))
    assert source.samples == 600 * 320
    (tmp_path / "b.tok").write_bytes(piped(codes, tokens.header, 1, []))
    tokens.append(tmp_path / "b.tok")
    assert Tokens.load(tmp_path / "b.tok") == tokens.cat(tokens)


def test_cut_anywhere_it_says_so_and_keeps_what_came(tmp_path: Path):
    codes = drawn((1024,) * 8, 7)
    data = piped(codes, header(), 2, [])
    start = len(header().to_bytes()) + 3  # past the identity
    for end in range(start, len(data)):
        source, came = TokenSource(io.BytesIO(data[:end])), []
        with pytest.raises(TokenFileDamagedError, match="is cut short after") as caught:
            came.extend(source.blocks())
        assert "\n" not in str(caught.value)
        whole = np.concatenate([np.zeros((8, 0), np.int64), *came], 1)
        assert np.array_equal(whole, codes[:, : whole.shape[1]])
        assert whole.shape[1] == min(6, (end - start) // 36 * 2) + (end >= len(data) - 40)
    for end in range(start - 3):
        with pytest.raises(TokenFileDamagedError):
            TokenSource(io.BytesIO(data[:end]))


def test_any_changed_byte_is_found():
    data = piped(drawn((1024,) * 8, 5), header(), 1, [])
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 0x41
        with pytest.raises(ValueError, match=r"damaged|not a \.tok|cut short|format"):
            heard(bytes(changed))


def test_what_cannot_be_written():
    sink = TokenSink(io.BytesIO(), header())
    with pytest.raises(ValueError, match="code 1024 in codebook 0"):
        sink.append(np.full((8, 1), 1024))
    with pytest.raises(ValueError, match="do not stand for"):
        sink.finish(321)
    with pytest.raises(ValueError, match="a block has 1 to"):
        TokenSink(io.BytesIO(), header(), block=0)
