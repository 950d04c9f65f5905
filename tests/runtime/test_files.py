"""One file to another: the codes and samples of the whole, in constant memory, or nothing."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import soundfile
import torch
from commandline import files, recording, small
from hypothesis import HealthCheck, given, settings

from audiotok import load
from audiotok.audio.audio import Audio, AudioFileError
from audiotok.audio.writer import Sink
from audiotok.codecs.models.base import Codec, WrongTokensError
from audiotok.runtime.describe import describe_audio, describe_tokens
from audiotok.runtime.files import (
    decode_file,
    encode_file,
    is_decoded,
    is_encoded,
)
from audiotok.runtime.sessions import Decoding, Encoding
from audiotok.tokens.tokens import Tokens

SOURCES = {  # rate, channels, split
    "a.wav": (16000, 1, False),
    "mixed.wav": (16000, 2, False),
    "split.wav": (16000, 2, True),
    "cd.flac": (44100, 2, False),
    "cd split.flac": (44100, 2, True),
    "phone.wav": (8000, 1, False),
    "studio.wav": (48000, 3, True),
}


@pytest.fixture(scope="module")
def codec() -> Codec:
    return load(small())


@pytest.fixture
def tokens(codec: Codec, tmp_path: Path) -> Path:
    encode_file(codec, recording(tmp_path / "a.wav", rate=44100, channels=2), tmp_path / "a.tok")
    return tmp_path / "a.tok"


@pytest.mark.parametrize("name", SOURCES)
def test_encodes_to_the_codes_of_the_whole(codec: Codec, tmp_path: Path, name: str):
    rate, channels, split = SOURCES[name]
    source = recording(tmp_path / name, 3.217, rate, channels)
    made = encode_file(codec, source, tmp_path / "x.tok", split=split)
    whole = codec.encode(Audio.load(source), split=split)
    assert Tokens.load(tmp_path / "x.tok") == whole
    assert (made.frames, made.streams, made.codebooks) == (whole.frames, whole.streams, 4)
    assert (made.seconds, made.nominal_kbps) == (whole.seconds, round(whole.kbps, 4))
    size = (tmp_path / "x.tok").stat().st_size
    assert made.file_kbps == round(size * 8 / 1000 / whole.seconds, 4)
    assert made.row()["speed"] > 0


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    samples=st.one_of(
        st.integers(1, 2000),
        st.builds(lambda n, d: max(1, n * 320 + d), st.integers(0, 260), st.integers(-1, 1)),
        st.integers(16300, 16500),
    ),
    codebooks=st.integers(1, 4),
    rate=st.sampled_from([16000, 22050]),
)
def test_any_length_there_and_back(
    codec: Codec, tmp_path: Path, samples: int, codebooks: int, rate: int
):
    audio = Audio(0.1 * torch.randn(1, samples), rate)
    audio.save(tmp_path / "a.wav", subtype="FLOAT", force=True)
    encode_file(codec, tmp_path / "a.wav", tmp_path / "a.tok", codebooks=codebooks, force=True)
    tokens = Tokens.load(tmp_path / "a.tok")
    assert tokens == codec.encode(audio, codebooks=codebooks)
    for back in (False, True):
        decode_file(codec, tmp_path / "a.tok", tmp_path / "b.wav", original_rate=back, force=True)
        got, expected = Audio.load(tmp_path / "b.wav"), codec.decode(tokens, original_rate=back)
        assert (len(got), got.rate) == (len(expected), expected.rate)
        assert torch.equal(got.samples, on_disk(expected))
    assert len(got) == samples


def on_disk(audio: Audio) -> torch.Tensor:
    """Samples as 16 bits hold them."""
    return (audio.samples.clamp(-1, 1) * 32768).round().clamp(max=32767) / 32768


@pytest.mark.parametrize("back", [False, True])
@pytest.mark.parametrize("name", ["split.wav", "cd.flac", "cd split.flac", "phone.wav"])
def test_decodes_to_the_samples_of_the_whole(
    codec: Codec, tmp_path: Path, name: str, back: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("audiotok.runtime.files.SECONDS", 1)  # so that there are pieces to join
    rate, channels, split = SOURCES[name]
    source = recording(tmp_path / name, 3.217, rate, channels)
    encode_file(codec, source, tmp_path / "x.tok", split=split)
    made = decode_file(codec, tmp_path / "x.tok", tmp_path / "x.wav", original_rate=back)
    whole = codec.decode(Tokens.load(tmp_path / "x.tok"), original_rate=back)
    got = Audio.load(tmp_path / "x.wav")
    assert got.rate == whole.rate == (rate if back else 16000)
    assert torch.equal(got.samples, on_disk(whole))
    if back:
        assert len(got) == soundfile.info(source).frames
    assert made.target == str(tmp_path / "x.wav")


def test_two_minutes_of_noise_have_the_codes_of_the_whole(codec: Codec, tmp_path: Path):
    source = recording(tmp_path / "long.wav", 120, 16000)
    encode_file(codec, source, tmp_path / "long.tok")
    whole = codec.encode(Audio.load(source))
    assert np.array_equal(Tokens.load(tmp_path / "long.tok").codes, whole.codes)


def test_decoding_never_holds_the_whole(
    codec: Codec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """What comes of the network is written before the next piece is read."""
    monkeypatch.setattr("audiotok.runtime.files.SECONDS", 2)
    held: list[int] = []

    class Counted(Decoding):
        def push(self, x: torch.Tensor, /) -> torch.Tensor:
            held.append(x.shape[2])
            return super().push(x)

    monkeypatch.setattr("audiotok.runtime.files.Decoding", Counted)
    codec.encode(Audio(torch.zeros(1, 16000 * 11), 16000)).save(tmp_path / "a.tok")
    wrote: list[int] = []
    write = Sink.write

    def counted(self: Sink, samples: torch.Tensor) -> None:
        wrote.append(len(held))
        write(self, samples)

    monkeypatch.setattr(Sink, "write", counted)
    decode_file(codec, tmp_path / "a.tok", tmp_path / "a.wav")
    assert held == [100, 100, 100, 100, 100, 50]
    assert wrote[:6] == [1, 2, 3, 4, 5, 6]


def test_stdin_is_a_source(codec: Codec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = recording(tmp_path / "a.wav")
    with source.open("rb") as file, open(file.fileno(), closefd=False) as text:
        monkeypatch.setattr("sys.stdin", text)
        made = encode_file(codec, "-", tmp_path / "a.tok")
    assert made.source == "-"
    assert Tokens.load(tmp_path / "a.tok") == codec.encode(Audio.load(source))


def test_folders_above_a_target_are_made_only_for_a_source_that_is_there(
    codec: Codec, tmp_path: Path
):
    with pytest.raises(AudioFileError):
        encode_file(codec, tmp_path / "no.wav", tmp_path / "x/y/a.tok")
    with pytest.raises(ValueError, match=r"no\.tok"):
        decode_file(codec, tmp_path / "no.tok", tmp_path / "x/y/a.wav")
    assert not (tmp_path / "x").exists()
    encode_file(codec, recording(tmp_path / "a.wav"), tmp_path / "x/y/a.tok")
    decode_file(codec, tmp_path / "x/y/a.tok", tmp_path / "z/a.wav")
    assert files(tmp_path) == ["a.wav", "x/y/a.tok", "z/a.wav"]


def test_nothing_is_overwritten_unless_forced(codec: Codec, tokens: Path):
    before = tokens.read_bytes()
    source, wav = tokens.with_suffix(".wav"), tokens.with_name("b.wav")
    with pytest.raises(FileExistsError, match="exists already"):
        encode_file(codec, source, tokens, codebooks=1)
    assert tokens.read_bytes() == before
    decode_file(codec, tokens, wav)
    with pytest.raises(AudioFileError, match="exists already"):
        decode_file(codec, tokens, wav, codebooks=1)
    first = wav.read_bytes()
    decode_file(codec, tokens, wav, codebooks=1, force=True)
    assert wav.read_bytes() != first


def test_what_cannot_be_asked_for(codec: Codec, tokens: Path):
    with pytest.raises(ValueError, match="5"):
        encode_file(codec, tokens.with_suffix(".wav"), tokens.with_name("x.tok"), codebooks=5)
    with pytest.raises(WrongTokensError, match="other weights"):
        decode_file(load(small(1)), tokens, tokens.with_name("x.wav"))
    with pytest.raises(AudioFileError, match="unknown format"):
        decode_file(codec, tokens, tokens.with_name("x.doc"))
    assert files(tokens.parent) == ["a.tok", "a.wav"]


def test_an_interrupt_leaves_nothing(codec: Codec, tokens: Path, monkeypatch: pytest.MonkeyPatch):
    source = recording(tokens.with_name("long.wav"), 5)
    pushes = iter(range(3))

    def push(whole: Any) -> Any:
        def counted(self: Any, x: torch.Tensor) -> torch.Tensor:
            if next(pushes, None) is None:
                raise KeyboardInterrupt
            return whole(self, x)

        return counted

    monkeypatch.setattr(Encoding, "push", push(Encoding.push))
    monkeypatch.setattr(Decoding, "push", push(Decoding.push))
    with pytest.raises(KeyboardInterrupt):
        encode_file(codec, source, tokens.with_name("x.tok"))
    with pytest.raises(KeyboardInterrupt):
        decode_file(codec, tokens, tokens.with_name("x.wav"))
    assert files(tokens.parent) == ["a.tok", "a.wav", "long.wav"]


# ---- what is there already


def test_encoded_already(codec: Codec, tmp_path: Path):
    source, target = recording(tmp_path / "a.wav", channels=2), tmp_path / "a.tok"
    assert not is_encoded(codec, source, target)
    encode_file(codec, source, target)
    assert is_encoded(codec, source, target)
    assert is_encoded(codec, source, target, codebooks=4)
    others: list[dict[str, Any]] = [{"codebooks": 2}, {"split": True}]
    for other in others:
        with pytest.raises(FileExistsError, match=r"exists already, .*force=True"):
            is_encoded(codec, source, target, **other)
    with pytest.raises(FileExistsError, match=r"made by speech .*force=True"):
        is_encoded(load(small(1)), source, target)
    target.write_bytes(target.read_bytes()[:-1])
    with pytest.raises(FileExistsError, match="force=True overwrites it"):
        is_encoded(codec, source, target)


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg"])
def test_decoded_already(codec: Codec, tokens: Path, kind: str):
    target = tokens.with_name(f"b.{kind}")
    assert not is_decoded(codec, tokens, target)
    decode_file(codec, tokens, target, codebooks=2)
    assert is_decoded(codec, tokens, target, codebooks=2)
    others: list[dict[str, Any]] = [{}, {"codebooks": 1}, {"codebooks": 2, "original_rate": True}]
    for other in others:
        with pytest.raises(AudioFileError, match="exists already; force=True"):
            is_decoded(codec, tokens, target, **other)
    encode_file(load(small(1)), tokens.with_suffix(".wav"), tokens, force=True)
    with pytest.raises(AudioFileError, match="exists already; force=True"):
        is_decoded(codec, tokens, target, codebooks=2)


def test_another_decoder_of_the_same_codes_makes_another_file(codec: Codec, tokens: Path):
    target = tokens.with_name("b.flac")
    decode_file(codec, tokens, target)
    better = copy.deepcopy(codec)
    next(better.decoder.parameters()).data.mul_(1.5)
    assert is_encoded(better, tokens.with_suffix(".wav"), tokens)
    with pytest.raises(AudioFileError, match="exists already; force=True"):
        is_decoded(better, tokens, target)
    decode_file(better, tokens, target, force=True)
    assert is_decoded(better, tokens, target)


def test_descriptions(tokens: Path):
    facts, whole = describe_tokens(tokens), Tokens.load(tokens)
    assert facts["file"] == str(tokens)
    assert (facts["frames"], facts["samples"]) == (whole.frames, whole.samples)
    assert (facts["original_rate"], facts["original_samples"]) == (44100, 22050)
    assert facts["nominal_kbps"] == pytest.approx(whole.kbps)
    Tokens.load(tokens, start=0, end=0).save(empty := tokens.with_name("empty.tok"))
    assert (describe_tokens(empty)["seconds"], describe_tokens(empty)["file_kbps"]) == (0, None)
    facts = describe_audio(tokens.with_suffix(".wav"))
    assert facts == {
        "file": str(tokens.with_suffix(".wav")),
        "rate": 44100,
        "channels": 2,
        "samples": 22050,
        "seconds": 0.5,
    }
