"""Tensors, arrays and codes given to a codec: what does not fit is refused, with the way out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch
from contracts import noise
from sizes import SIZES, SMALL, made

from audiotok.audio.audio import Audio
from audiotok.codecs.models.base import Codec, WrongTokensError
from audiotok.runtime.stream import Stream, StreamBatch


@pytest.fixture(scope="module")
def small() -> Codec:
    return made("speech", SMALL)


@pytest.fixture(scope="module")
def stereo() -> Codec:
    return made("encodec", SIZES["encodec"][1])


def test_paths_arrays_and_tensors_give_the_codes_of_audio(small: Codec, tmp_path: Path):
    audio = Audio(noise(small, 9001).samples, 24000)
    audio.save(tmp_path / "a.wav", subtype="FLOAT")
    tokens = small.encode(audio)
    tensor, array = audio.samples, audio.samples.numpy()
    for given in (tmp_path / "a.wav", str(tmp_path / "a.wav")):
        assert small.encode(given) == tokens
    for given in (tensor, tensor[0], array, array[0], array.astype(np.float64)):
        assert small.encode(given, 24000) == small.encode(given, rate=24000) == tokens
    both = np.stack([array[0], array[0]])
    assert small.encode(both, 24000, split=True).channel(1) == tokens
    assert small.encode_batch([array, tensor[0], audio], rate=24000) == [tokens] * 3
    with pytest.raises(ValueError, match="says no sample rate"):
        small.encode_batch([audio, array])


def test_codes_decode_as_tokens_do(small: Codec):
    tokens = small.encode(noise(small, 9001))
    audio, whole = small.decode(tokens), tokens.frames * small.frame_size
    for codes in (tokens.codes, torch.from_numpy(tokens.codes.copy()), tokens.codes.astype("u2")):
        assert torch.equal(small.decode(codes, samples=9001).samples, audio.samples)
        assert len(small.decode(codes)) == whole
    assert torch.equal(
        small.decode(tokens.codes[:2]).samples[:, :9001], small.decode(tokens.first(2)).samples
    )
    one, other = small.decode_batch([tokens, tokens.codes])
    assert (len(one), len(other)) == (9001, whole)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (
            lambda codes: codes.astype(float),
            r"^codes must be integers \[codebooks frames\], not .*float64",
        ),
        (lambda codes: codes > 3, r"^codes must be integers \[codebooks frames\], not .*bool$"),
        (lambda codes: codes[0], r"not of shape \[10\]$"),
        (lambda codes: codes[None], r"not of shape \[1, 4, 10\]; decode_tensors takes 3 axes$"),
        (lambda codes: codes.T, r"^codes of 10 codebooks and 4 frames, where .* turn these over$"),
        (lambda codes: np.tile(codes, (2, 1)), r"^codes of 8 codebooks and 10 frames, where the c"),
        (lambda codes: np.tile(codes, (2, 1))[:5], r"codec has 4 codebooks: [^;]*$"),
        (lambda codes: codes[:4, :3].T.repeat(2, 0), r"; turn these over$"),
        (lambda codes: codes[:0], r"^codes of 0 codebooks"),
        (lambda codes: codes + 64, r"^code \d+ in codebook 0: codes there are 0 to 63$"),
        (lambda codes: codes - 64, r"^code -\d+ in codebook 0: codes there are 0 to 63$"),
    ],
)
def test_codes_that_cannot_be_are_refused(small: Codec, change: Any, error: str):
    codes = change(small.encode(noise(small, 3200)).codes)
    stream = Stream(small)
    for given in (codes, torch.from_numpy(codes.copy())):
        for decode in (small.decode, stream.decode):
            with pytest.raises(ValueError, match=error):
                decode(given)


def test_what_is_neither_tokens_nor_codes_is_refused(small: Codec, stereo: Codec):
    tokens = small.encode(noise(small, 3200))
    for decode in (small.decode, Stream(small).decode):
        given: Any
        for given in ([[1, 2]], None, "a.tok"):
            with pytest.raises(TypeError, match=r"^give Tokens, or codes \[codebooks frames\] as"):
                decode(given)
    with pytest.raises(ValueError, match=r"^Tokens say their length themselves"):
        small.decode(tokens, samples=3200)
    with pytest.raises(ValueError, match=r"^samples is 3201, which 10 frames of 320 do not stand"):
        small.decode(tokens.codes, samples=3201)
    for decode in (stereo.decode, Stream(made("encodec", SIZES["encodec"][0])).decode):
        with pytest.raises(WrongTokensError, match=r"^tokens of codec 'speech'"):
            decode(tokens)


# -- streams ----------------------------------------------------------------------------------


def test_a_stream_takes_audio_and_arrays(small: Codec):
    audio = noise(small, 3200)
    wave = audio.samples
    codes = Stream(small).encode(wave)
    pieces: list[Any] = [audio, wave[0], wave.numpy(), wave[0].numpy(), wave.double()]
    for piece in pieces:
        assert torch.equal(Stream(small).encode(piece), codes)
    batch = StreamBatch(small)
    streams = [batch.open() for _ in pieces]
    for mine in batch.encode(dict(zip(streams, pieces, strict=True))).values():
        assert torch.equal(mine, codes)
    tokens = small.decode(codes)
    sound = Stream(small).decode(codes)
    assert len(tokens) == codes.shape[1] * small.frame_size
    for rows in (codes.numpy(), codes.int()):
        assert torch.equal(Stream(small).decode(rows), sound)
    integers = (wave * 32768).round().to(torch.int16)
    scaled = Stream(small).encode(integers.float() / 32768)
    assert torch.equal(Stream(small).encode(integers), scaled)


@pytest.mark.parametrize(
    ("piece", "error", "text"),
    [
        (
            Audio(torch.zeros(1, 9), 8000),
            ValueError,
            r"^a piece of 8000 Hz, where 'speech' codes 1",
        ),
        (torch.zeros(2, 9), ValueError, r"^a piece of 2 channels, where 'speech' codes 1: mix"),
        (torch.zeros(1, 1, 9), ValueError, r"^samples must be \[t\] or \[channels t\]"),
        (torch.tensor([0.0, torch.nan]), ValueError, r"^1 samples are NaN or infinite"),
        (torch.zeros(9, dtype=torch.int64), ValueError, r"^samples of type int64"),
        ("a.wav", TypeError, r"^a piece is an array or tensor \[channels t\], or Audio, not str$"),
        (None, TypeError, r"^a piece is an array or tensor"),
    ],
)
def test_pieces_that_do_not_fit_are_refused(small: Codec, piece: Any, error: Any, text: str):
    with pytest.raises(error, match=text):
        Stream(small).encode(piece)
    batch = StreamBatch(small)
    with pytest.raises(error, match=text):
        batch.encode({batch.open(): piece})


# -- batches of tensors -----------------------------------------------------------------------

X = torch.zeros(2, 1, 640)


@pytest.mark.parametrize(
    ("waves", "lengths", "error"),
    [
        (X[0], None, r"^waves must be \[batch 1 samples\] at 16000 Hz, not float32 \[1, 640\]$"),
        (X.expand(2, 2, 640), None, r"not float32 \[2, 2, 640\]$"),
        (X.long(), None, r"^samples of type int64"),
        (X / 0, None, r"^640 samples are NaN or infinite"),
        (X + 1e4, None, r"^samples of up to 10000, where full scale is 1"),
        (X, [640], r"^lengths must be one integer for each of 2 recordings, not int64 \[1\]$"),
        (
            X,
            [0.5, 1.0],
            r"^lengths must be one integer for each of 2 recordings, not float32 \[2\]$",
        ),
        (X, torch.ones(2, 640, dtype=torch.bool), r"not bool \[2, 640\]$"),
        (X, torch.tensor([True, False]), r"not bool \[2\]$"),
        (X, [640, 641], r"^lengths must be 0 to 640, where the tensor ends, not 641$"),
        (X, [-1, 641], r"not -1$"),
        (X.to("meta"), None, r"^waves are on meta and the codec is on cpu: give waves\.to\(codec"),
    ],
)
def test_batches_that_do_not_fit_are_refused(small: Codec, waves: Any, lengths: Any, error: str):
    for code in (small.encode_tensors, small.reconstruct_tensors):
        with pytest.raises(ValueError, match=error):
            code(waves, lengths)


def test_codes_and_latents_that_do_not_fit_are_refused(small: Codec):
    codes = small.encode_tensors(X).codes
    refused = [
        ((codes[0],), {}, r"^codes must be \[batch codebooks frames\], .*; decode takes 2 axes$"),
        ((codes.float(),), {}, r"^codes must be integers \[batch codebooks frames\], not torch"),
        ((codes + 64,), {}, r"^code \d+ in codebook 0: codes there are 0 to 63$"),
        ((codes, [2, 3]), {}, r"^lengths must be 0 to 2, where the tensor ends, not 3$"),
        ((codes,), {"samples": [640, 641]}, r"^samples must be 0 to 640, where the tensor ends"),
        (
            (codes, [2, 2]),
            {"samples": [640, 3]},
            r"^lengths must be \[2, 1\] frames for \[640, 3\]",
        ),
        ((codes.to("meta"),), {}, r"^codes are on meta and the codec is on cpu"),
    ]
    for args, options, error in refused:
        with pytest.raises(ValueError, match=error):
            small.decode_tensors(*args, **options)
    with pytest.raises(
        ValueError, match=r"^latents must be floats \[b d f\], not float32 \[16, 2\]"
    ):
        small.decode_latents(torch.zeros(16, 2))
    with pytest.raises(ValueError, match=r"^latents must be \[b 16 f\], not float32 \[2, 5, 2\]$"):
        small.decode_latents(torch.zeros(2, 5, 2))
    with pytest.raises(ValueError, match=r"^5 codebooks asked for; there are 1 to 4"):
        small.reconstruct_tensors(X, codebooks=5)
    for counts, error in (
        (torch.tensor([1, 5]), r"^codebooks must be 0 to 4"),
        (torch.tensor([0, 4]), r"^0 codebooks asked for; there are 1 to 4"),
        (torch.tensor([1, 2, 3]), r"^codebooks must be one integer for each of 2 recordings"),
        (torch.tensor([1.0, 2.0]), r"^codebooks must be one integer for each of 2 recordings"),
        ([1, 2, 3], r"^codebooks must be one integer for each of 2 recordings"),
    ):
        with pytest.raises(ValueError, match=error):
            small.reconstruct_tensors(X, codebooks=counts)


@pytest.mark.parametrize("lengths", [[None, 640], "abc", ["a", "b"]])
def test_lengths_that_are_no_numbers_are_refused(small: Codec, lengths: Any):
    with pytest.raises(TypeError, match=r"^lengths must be integers, not "):
        small.encode_tensors(X, lengths)


@pytest.mark.parametrize("codebooks", ["2", 2.0])
def test_a_number_of_codebooks_is_a_whole_one(small: Codec, codebooks: Any, monkeypatch: Any):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as it is for users
    with pytest.raises(
        TypeError, match=rf"^codebooks is a number of codebooks, not {codebooks!r}$"
    ):
        small.encode(noise(small, 3200), codebooks=codebooks)


def test_arrays_are_no_tensors(small: Codec, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as it is for users
    array: Any = np.zeros((2, 1, 640), np.float32)
    for name in ("encode_tensors", "reconstruct_tensors"):
        with pytest.raises(TypeError, match=r"^waves must be a tensor, not ndarray$"):
            getattr(small, name)(array)


def test_a_recording_may_use_fewer_codebooks(small: Codec):
    waves = torch.stack([noise(small, 3200, seed=i).samples for i in range(2)])
    made = small.reconstruct_tensors(waves, codebooks=torch.tensor([1, 4]))
    for i, count in enumerate((1, 4)):
        alone = small.reconstruct_tensors(waves[i : i + 1], codebooks=count).waves
        assert torch.equal(made.waves[i], alone[0])
    assert not torch.equal(made.waves[0], small.reconstruct_tensors(waves[:1]).waves[0])


def test_autocast_changes_no_code_and_no_sample(small: Codec):
    waves = torch.stack([noise(small, 48000, seed=i).samples for i in range(2)])
    encoded = small.encode_tensors(waves)
    decoded = small.decode_tensors(encoded.codes)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(small.encode_tensors(waves).codes, encoded.codes)
        assert torch.equal(small.decode_tensors(encoded.codes).waves, decoded.waves)
        tokens = small.encode(waves[0], rate=small.sample_rate)
        assert np.array_equal(tokens.codes, encoded.codes[0].numpy())
        codes = Stream(small, block=small.block).encode(waves[0])
        assert torch.equal(codes, encoded.codes[0, :, : codes.shape[1]])
        half = small.reconstruct_tensors(waves.bfloat16())
    assert half.waves.isfinite().all()


def test_codes_have_no_gradient_and_training_reaches_the_weights(small: Codec):
    waves = noise(small, 3200).samples[None].requires_grad_()
    assert not small.encode_tensors(waves).codes.requires_grad
    codec = made("speech", SMALL).requires_grad_()
    rebuilt = codec.reconstruct_tensors(waves, [3000])
    (rebuilt.waves.square().mean() + rebuilt.losses["commitment"]).backward()
    for part in (codec.encoder, codec.decoder):
        assert all(p.grad is not None and p.grad.any() for p in part.parameters())
    with torch.no_grad():
        assert not codec.reconstruct_tensors(waves).waves.requires_grad


# -- what a codec says of itself --------------------------------------------------------------


def test_repr_is_one_line(small: Codec):
    assert repr(small) == (
        "<speech: 16000 Hz, 50 frames/s, 4 codebooks, 1.20 kbps, latency 40 ms, "
        f"{small.parameters_total / 1e6:.1f} M parameters, {small.fingerprint} on cpu>"
    )
    assert small.tree().startswith("Speech(\n  (encoder)")
    assert "no stream" in repr(made("speechtokenizer", SIZES["speechtokenizer"][0]))
    with torch.device("meta"):
        assert "no weights on meta" in repr(type(small)(SMALL))
    assert repr(Stream(small, codebooks=2)) == (
        "<Stream of speech: 16000 Hz, 50 frames/s, 2 codebooks, 1 frames a step, latency 40 ms>"
    )


def test_semantic_codebooks_go_with_the_tokens(small: Codec, stereo: Codec):
    assert (small.semantic_codebooks, stereo.semantic_codebooks) == (1, 0)
    tokens = small.encode(noise(small, 3200))
    assert np.array_equal(tokens.semantic, tokens.codes[:1])
    assert np.array_equal(tokens.acoustic, tokens.codes[1:])


def test_a_path_is_no_list_of_recordings(small: Codec, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as it is for users
    path: Any = "a.wav"
    with pytest.raises(TypeError, match=r"^a\.wav: one recording; encode_batch takes a list$"):
        small.encode_batch(path)
