"""Latents: the second kind of tokens, in the files, streams and pieces that codes have."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from audiotok._platform.errors import InputError
from audiotok.tokens import (
    Header,
    Latents,
    TokenFileDamagedError,
    TokenFileError,
    TokenReader,
    Tokens,
    TokenSink,
    TokenSource,
    TokenWriter,
    verify,
)
from audiotok.tokens import reader as reader_module
from audiotok.tokens.kinds import load_tokens
from audiotok.tokens.tokenizer import Tokenizer, WrongTokensError

FACTS: dict[str, Any] = {"codec": "vae", "fingerprint": "ab" * 8, "sample_rate": 24_000}
FACTS |= {"frame_size": 1920, "original_rate": 48_000}


def latents(frames: int, width: int = 5, dtype: str = "float32", **more: Any) -> Latents:
    """Return latents of so many frames, the last of which holds 7 samples."""
    values = np.random.default_rng(frames).standard_normal((width, frames)).astype(dtype)
    samples = max(0, frames * 1920 - 1913)
    return Latents(
        values=values, samples=samples, original_samples=2 * samples, **{**FACTS, **more}
    )


def test_a_file_is_opened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    latents(9).save(tmp_path / "x.tok")
    opened: list[Path] = []
    usual = reader_module.open_file
    monkeypatch.setattr(reader_module, "open_file", lambda p: opened.append(p) or usual(p))
    assert load_tokens(tmp_path / "x.tok") == latents(9)
    assert opened == [tmp_path / "x.tok"]


def test_vectors_of_an_older_audiotok_say_what_to_do(tmp_path: Path):
    save_file({"vectors": np.zeros((3, 4), np.float32)}, tmp_path / "x.safetensors")
    with pytest.raises(TokenFileDamagedError, match=r"\.tok files, .*`audiotok units vectors`\)$"):
        Latents.load(tmp_path / "x.safetensors")


@settings(deadline=None, max_examples=60)
@given(
    frames=st.integers(0, 300),
    width=st.integers(1, 70),
    dtype=st.sampled_from(["float32", "float16"]),
    streams=st.integers(1, 3),
)
def test_files_give_back_every_bit(
    tmp_path_factory: pytest.TempPathFactory, frames: int, width: int, dtype: str, streams: int
) -> None:
    path = tmp_path_factory.mktemp("x") / "x.tok"
    one = latents(frames, width * streams, dtype, streams=streams, channels=streams)
    one.save(path)
    again = load_tokens(path)
    assert isinstance(again, Latents)
    assert again == one
    assert again.values.dtype == dtype
    assert (again.width, again.streams, again.samples) == (width, streams, one.samples)
    assert Latents.stack([one.channel(i) for i in range(streams)]) == one
    assert verify(path).ok
    data = path.read_bytes()
    one.save(path, force=True)
    assert path.read_bytes() == data  # a function of the latents alone


def test_bytes_on_the_disk_are_those_described(tmp_path: Path) -> None:
    one = latents(20, dtype="float16")
    one.save(tmp_path / "x.tok")
    data = (tmp_path / "x.tok").read_bytes()
    magic, major, _, length, crc = struct.unpack_from("<6sBBII", data)
    assert (magic, major) == (b"\x93ATOK\n", 3)
    text = data[16 : 16 + length]
    assert zlib.crc32(data[:12] + text) == crc
    assert b'"sizes":[]' in text
    assert b'"width":5,"dtype":"float16"' in text
    block = data[16 + length + 3 :]
    assert block[:4] == b"BLK:"
    stored = np.frombuffer(block[16 : 16 + 20 * 5 * 2], "<f2").reshape(20, 5)
    assert np.array_equal(stored, one.values.T)


def test_a_stretch_is_read_without_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "x.tok"
    one = latents(500, 32)
    one.save(path)
    assert Latents.load(path, start=8, end=9.0) == one.cut(8, 9.0)
    assert one.cut(8, 9.0).values.tolist() == one.values[:, 100:113].tolist()
    with TokenReader(path) as reader:
        size = reader.header.block_bytes(reader.header.block_frames)
        data = bytearray(path.read_bytes())
        data[reader.runs[0].offset + 20 * size + 30] ^= 1  # a block that the stretch is not in
    path.write_bytes(data)
    assert Latents.load(path, start=8, end=9.0) == one.cut(8, 9.0)
    with pytest.raises(TokenFileDamagedError, match=r"the block at byte .* is damaged"):
        Latents.load(path)
    recovery = Latents.recover(path)
    assert [piece.frames for _, piece in recovery.pieces] == [160, 332]
    assert np.array_equal(recovery.pieces[1][1].values, one.values[:, 168:])
    with pytest.raises(TokenFileError, match="holds latents of vae, not codes"):
        Tokens.recover(path)


def test_writers_streams_and_appending_give_the_same_frames(tmp_path: Path) -> None:
    one = latents(100, 7)
    path, pipe = tmp_path / "x.tok", io.BytesIO()
    sink = TokenSink(pipe, one.header, block=3)
    with TokenWriter(path, one.header) as writer:
        for first in range(0, 100, 9):
            part = one.values[:, first : first + 9]
            rest = {"samples": one.samples - first * 1920} if first == 99 else {}
            writer.append(part, **rest)
            sink.append(part)
    sink.finish(one.samples)
    assert Latents.load(path) == one
    pipe.seek(0)
    source = TokenSource(pipe)
    assert np.array_equal(np.concatenate(list(source.blocks()), 1), one.values)
    assert (source.header.kind, source.samples) == ("latents", one.samples)
    whole = replace(one, samples=192_000, original_samples=384_000)
    whole.save(tmp_path / "y.tok")
    with pytest.raises(InputError, match=r"cannot append .*dtype differs"):
        one.half().append(tmp_path / "y.tok")
    one.append(tmp_path / "y.tok")
    assert Latents.load(tmp_path / "y.tok") == whole.cat(one)


def test_half_precision_rounds_to_the_nearest(tmp_path: Path) -> None:
    one = latents(50)
    half = one.half()
    assert (half.precision, half.single().precision, half.kbps) == ("half", "single", one.kbps / 2)
    step = np.abs(np.nextafter(half.values, np.float16(np.inf)) - half.values).astype(np.float32)
    assert (np.abs(half.values - one.values) <= step / 2).all()
    assert (np.abs(half.single().values / one.values - 1) <= 2**-11).all()
    header = replace(one.header, dtype="float16")
    with TokenWriter(tmp_path / "x.tok", header) as writer:  # which rounds by itself
        writer.append(one.values, samples=one.samples)
    assert Latents.load(tmp_path / "x.tok") == half
    big = replace(one, values=one.values * 0 + np.float32(65_519))
    assert big.half().values.max() == 65_504
    over = replace(one, values=one.values + np.float32(70_000))
    with pytest.raises(InputError, match=r"a latent of 7000.*half precision holds up to 65504"):
        over.half()


def test_what_are_no_latents_is_refused_in_one_line(tmp_path: Path) -> None:
    one = latents(3)
    for values, message in [
        (one.values.astype(np.float64), "latents are float16 or float32"),
        (one.values.astype(np.int64), "latents are float16 or float32"),
        (one.values[0], r"latents are an array \[d f\], not \(3,\)"),
        (one.values * np.float32(np.nan), "NaN or infinite"),
        (one.values[:, :2], "samples is 3847, which 2 frames of 1920 do not stand for"),
    ]:
        with pytest.raises(InputError, match=message):
            replace(one, values=values)
    with pytest.raises(InputError, match="5 rows of latents do not divide into 2 streams"):
        replace(one, streams=2, channels=2)
    for wrong in ({"width": 3}, {"dtype": "float16"}, {"width": 0, "dtype": "float32"}):
        with pytest.raises(InputError, match=r"latents are|width 0: there can be"):
            Header(sizes=(), **{**FACTS, **wrong})
    with pytest.raises(InputError, match="have no codebooks"):
        Header(sizes=(4,), width=3, dtype="float32", **FACTS)
    tokens = Tokens(codes=np.zeros((2, 3), int), size=4, samples=5760, original_samples=1, **FACTS)
    tokens.save(tmp_path / "codes.tok")
    one.save(tmp_path / "latents.tok")
    with pytest.raises(TokenFileError, match=r"latents\.tok: holds latents of vae, not codes; `L"):
        Tokens.load(tmp_path / "latents.tok")
    with pytest.raises(TokenFileError, match=r"codes\.tok: holds codes of vae, not latents; `Tok"):
        Latents.load(tmp_path / "codes.tok")
    assert one != tokens
    with pytest.raises(InputError, match=r"cannot append to .*: sizes differs"):
        one.append(tmp_path / "codes.tok")


def test_a_damaged_file_names_the_class_that_recovers_it(tmp_path: Path) -> None:
    one, path = latents(3), tmp_path / "one.tok"
    one.save(path)
    damaged = bytearray(path.read_bytes())
    damaged[-60] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(TokenFileError, match=r"`Latents\.recover\(path\)` reads what is left"):
        Latents.load(path)


def test_zeros_of_either_sign_are_equal_and_hash_alike() -> None:
    one = replace(latents(3), values=np.zeros((5, 3), np.float32))
    other = replace(one, values=-one.values)
    assert one == other
    assert hash(one) == hash(other)


class Vae(Tokenizer):
    """A codec of latents, as far as tokens depend on it."""

    name, sample_rate, frame_size, channels = "vae", 24_000, 1920, 1

    @property
    def sizes(self) -> tuple[int, ...]:
        return ()

    @property
    def fingerprint(self) -> str:
        return "ab" * 8

    @property
    def width(self) -> int:
        return 5


def test_a_tokenizer_of_latents_takes_those_alone() -> None:
    vae, one = Vae(), latents(3)
    assert (vae.kind, vae.codebooks, vae.kbps) == ("latents", 0, one.kbps)
    assert "latents of 5" in vae.facts()
    assert vae.to_tokens(one) is one
    given = vae.to_tokens(one.values, samples=one.samples)
    assert isinstance(given, Latents)
    assert np.array_equal(given.values, one.values)
    assert vae.kept(None) == vae.kept(0) == 0
    with pytest.raises(InputError, match="latents have no codebooks to choose from"):
        vae.kept(2)
    for wrong, message in [
        (np.zeros((5, 3), int), "latents must be float32 or float16"),
        (one.values[:4], r"latents must be \[5 frames\], not of shape \[4, 3\]"),
        ([[1.0]], "give Latents, or latents"),
        (torch.zeros(5, 3, dtype=torch.bfloat16), "must be float32 or float16"),
    ]:
        with pytest.raises((InputError, TypeError), match=message):
            vae.to_tokens(wrong)  # pyright: ignore[reportArgumentType]
    codes = Tokens(codes=np.zeros((1, 3), int), size=4, samples=3847, original_samples=1, **FACTS)
    with pytest.raises(WrongTokensError, match="codes of 'vae', which decodes latents"):
        vae.to_tokens(codes)
    narrow = replace(one, values=one.values[:4])
    with pytest.raises(WrongTokensError, match=r"^tokens that say width 4, where 'vae' has 5: "):
        vae.to_tokens(narrow)
