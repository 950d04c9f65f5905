"""Contracts of tensors in and out of codecs: ragged batches, gradients, tables of embeddings."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from audiotok.codecs.models.base import Codec
from audiotok.testing.checks import assert_close
from audiotok.testing.codecs import noise
from audiotok.testing.layers import NAN
from audiotok.testing.quantizers import assert_tables


def _ragged(codec: Codec, clips: int) -> tuple[Tensor, list[int]]:
    """Return a batch of up to 16 recordings `[b c t]`, NaN after their ends, and their lengths."""
    f = codec.frame_size
    lengths = [3 * f, 3 * f, 0, 1, f // 3, 2 * f - 1, 4 * f + 5, 7 * f + f // 2]
    lengths += [f - 1, f, f + 1, 2 * f, 3 * f + 1, 4 * f, 5 * f // 2, 1]
    lengths = lengths[:clips]
    waves = torch.full((len(lengths), codec.channels, max(lengths) + 7), NAN)
    for i, n in enumerate(lengths):
        waves[i, :, :n] = noise(codec, n, seed=i).samples
    return waves, lengths


def assert_tensors(codec: Codec, clips: int = 8) -> None:
    """Assert that a batch of ragged recordings is coded, on a CPU, as each of them is alone."""
    waves, lengths = _ragged(codec, clips)
    alone = [
        codec.encode(wave[:, :n], rate=codec.sample_rate)
        for wave, n in zip(waves, lengths, strict=True)
    ]
    encoded = codec.encode_tensors(waves, lengths)
    assert encoded.codes.dtype == (torch.float32 if codec.width else torch.int64)
    assert encoded.lengths.dtype == torch.int64
    assert encoded.lengths.tolist() == [tokens.frames for tokens in alone]
    assert torch.equal(encoded.mask.sum(1), encoded.lengths)
    assert not encoded.codes[~encoded.mask[:, None].expand_as(encoded.codes)].any()
    for codes, tokens in zip(encoded.codes, alone, strict=True):
        assert np.array_equal(codes[:, : tokens.frames].numpy(), tokens.numbers)
    if codec.codebooks:
        few = codec.encode_tensors(waves[4:6], torch.tensor(lengths[4:6]), codebooks=1)
        assert torch.equal(few.codes, encoded.codes[4:6, :1, : few.codes.shape[2]])

    codes = encoded.codes.masked_fill(~encoded.mask[:, None], -100)  # as labels are padded
    decoded = codec.decode_tensors(codes, samples=lengths)
    ends = [codec.decoded_samples(n) for n in lengths]
    assert decoded.lengths.tolist() == ends
    for wave, tokens, end in zip(decoded.waves, alone, ends, strict=True):
        assert torch.equal(wave[:, :end], codec.decode(tokens).samples)
        assert not wave[:, end:].any()
    whole = codec.decode_tensors(codes[-2:], encoded.lengths[-2:])
    counts = [tokens.frames * codec.decoded_frame_size for tokens in alone[-2:]]
    assert whole.lengths.tolist() == counts
    same = codec.decode(alone[-1].numbers, samples=lengths[-1]).samples
    for wave in (whole.waves, decoded.waves):
        assert torch.equal(wave[-1, :, : ends[-1]], same)
    none = codec.encode_tensors(waves[:0])
    assert none.codes.shape == (0, codec.width or codec.codebooks, 0)
    assert codec.decode_tensors(none.codes).waves.shape == (0, codec.channels, 0)


def assert_differentiable(codec: Codec, clips: int = 8) -> None:
    """Assert that a ragged batch has the output and the gradient of each recording alone.

    On a CPU they are equal to the bit.
    """
    waves, lengths = _ragged(codec, clips)
    asked = waves.clone().requires_grad_()
    rebuilt = codec.reconstruct_tensors(asked, lengths)
    slopes = torch.randn(rebuilt.waves.shape)
    (gradient,) = torch.autograd.grad((rebuilt.waves * slopes).sum(), asked)
    for slope, n in zip(gradient, lengths, strict=True):
        assert not slope[:, n:].any()
    assert rebuilt.frames.tolist() == [codec.frames(n) for n in lengths]
    again = codec.decode_latents(rebuilt.latents, rebuilt.frames)
    loss = torch.zeros(())
    for i, n in enumerate(lengths):
        if not n:
            assert not rebuilt.waves[i].any()
            continue
        wave = waves[i : i + 1, :, :n].contiguous().requires_grad_()
        output, quantized = codec(wave)
        last = output.shape[2]
        (alone,) = torch.autograd.grad((output * slopes[i, :, :last]).sum(), wave)
        assert alone.any()
        assert torch.equal(gradient[i, :, :n], alone[0])
        assert torch.equal(rebuilt.waves[i, :, :last], output[0])
        assert torch.equal(rebuilt.codes[i, :, : codec.frames(n)], quantized.codes[0])
        assert_close(again.waves[i, :, :last], output[0])
        latents = rebuilt.latents[i : i + 1, :, : codec.frames(n)]
        end = codec.frames(n) * codec.decoded_frame_size
        assert torch.equal(again.waves[i, :, :end], codec.decode_latents(latents).waves[0])
        loss = loss + sum(quantized.losses.values()) / len(lengths)
    assert_close(sum(rebuilt.losses.values(), torch.zeros(())), loss)

    pair = waves[:2, :, : lengths[0]].contiguous()  # two of one length
    beside = codec.reconstruct_tensors(pair, group=2)
    assert torch.equal(beside.waves, codec(pair)[0])
    latents = codec.quantizer.decode(beside.codes).detach().requires_grad_()
    sound = codec.decode_latents(latents).waves
    (slope,) = torch.autograd.grad(sound.square().sum(), latents)
    assert (slope.abs().amax(1) > 0).all(), "a frame of latents has no gradient"


def assert_embeddings(codec: Codec) -> None:
    """Assert that sums of embeddings are the latents of codes, and decode to their audio."""
    wave = noise(codec, 12 * codec.frame_size).samples[None]
    codes = codec.encode_tensors(wave).codes
    assert_tables(codec.quantizer, codes)
    tables = codec.codebook_embeddings()
    summed = torch.stack([table[rows] for table, rows in zip(tables, codes[0], strict=True)]).sum(0)
    decoded = codec.decode_latents(summed.T[None]).waves
    assert_close(decoded, codec.decode_tensors(codes).waves, 1e-4)
