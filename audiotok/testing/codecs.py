"""Contracts of codecs: lengths, cutting, batches, prefixes, latency, receptive field, training.

`codec` is in eval mode and on the CPU; its weights may be random. Of a tokenizer without a decoder
they hold for the codes. Of a codec of latents they hold for those, which are to be equal to the bit
where codes are, and near where rounding may decide between two codes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from audiotok.audio.audio import Audio
from audiotok.codecs.models.base import Codec
from audiotok.runtime.base import RunnableCodec
from audiotok.runtime.sessions import Decoding, Encoding
from audiotok.runtime.stream import Stream, StreamBatch
from audiotok.testing.checks import Sizes, for_all, pieces


def assert_lengths_exact(codec: RunnableCodec[Any], lengths: Sequence[int]) -> None:
    """Assert that incomplete frames count, and that decoding restores the length in samples.

    A codec that decodes to another rate gives as many as make that length at it.
    """
    for n in lengths:
        tokens = codec.encode(noise(codec, n))
        counts = (tokens.samples, len(tokens.numbers), tokens.frames)
        expected = (n, codec.width or codec.codebooks, -(-n // codec.frame_size))
        assert counts == expected, f"samples, rows and frames are {counts}, not {expected}"
        if not codec.decodes:
            continue
        audio = codec.decode(tokens)
        counts = (len(audio), audio.channels, audio.rate)
        expected = (codec.decoded_samples(n), codec.channels, codec.decoded_rate)
        assert counts == expected, f"samples, channels and rate are {counts}, not {expected}"


def assert_cuttable(codec: RunnableCodec[Any], audio: Audio, *, examples: int = 10) -> None:
    """Assert that codes and samples are bit-identical for any division of the input.

    Args:
        codec: codec in torch or exported; without steps, all comes at the end.
        audio: recording at the codec's rate.
        examples: number of divisions to try.
    """
    assert getattr(codec, "exact_chunks", True), "the codec says that chunks give other codes"
    executor, tokens = codec.executor, codec.encode(audio)
    codes = tokens.numbers[None]
    wave = codec.decode(tokens).samples.numpy()[None] if codec.decodes else None
    frame, block = codec.frame_size, executor.plan.block * codec.frame_size
    common = [0, 1, frame - 1, frame, frame + 1, block - 1, block, block + 1]
    sizes = Sizes(most=len(audio), longest=30, common=tuple(common))
    given = executor.array(audio.samples[None]), executor.array(codes)

    def check(waves: list[int], frames: list[int]) -> None:
        encoding = Encoding(executor)
        encoded = [encoding.push(piece) for piece in pieces(given[0], waves)]
        encoded = executor.numpy(executor.join([*encoded, encoding.finish()], 2))
        assert np.array_equal(encoded, codes), f"pieces of {waves} samples give other codes"
        if wave is None:
            return
        decoding = Decoding(executor, samples=codec.decoded_samples(len(audio)))
        cut = pieces(given[1], [n // frame for n in frames])
        decoded = [decoding.push(piece) for piece in cut]
        decoded = executor.numpy(executor.join([*decoded, decoding.finish()], 2))
        assert np.array_equal(decoded, wave), f"pieces of {frames} samples of codes sound different"

    for_all(check, sizes, sizes, examples=examples)


def assert_conversations(
    codec: RunnableCodec[Any], audio: Audio, *, most: int = 1, tolerance: float = 1e-4
) -> None:
    """Assert that streams give a recording's codes: alone, side by side, restored in the middle.

    A frame at a time may round otherwise than blocks, so that near-ties may differ; but streams
    that are stepped alike give the same bits.

    Args:
        codec: codec whose `latency` is finite, in torch or exported.
        audio: recording at the codec's rate, of two frames at least.
        most: number of frames that may differ from those of the recording.
        tolerance: largest difference of decoded samples, over the largest sample.
    """
    tokens, executor = codec.encode(audio), codec.executor
    frame, half = codec.frame_size, len(audio) // 2
    alone, batch = Stream(codec), StreamBatch(codec)
    one, other = batch.open(), batch.open()
    parts: list[Any] = [alone.encode(audio.samples[:, :half])]
    alone = Stream.restore(codec, alone.snapshot())
    parts += [alone.encode(audio.samples[:, half:]), alone.finish_encode()]
    codes = executor.numpy(executor.join(parts, 1))
    assert _differ(codes, tokens.numbers).sum() <= most, "a stream gives other codes"
    coded: dict[Stream[Any], list[Any]] = {one: [], other: []}
    for begin in range(0, len(audio), frame):  # the other one begins later
        sent = {one: begin, other: begin - 3 * frame}
        piece = {s: audio.samples[:, at : at + frame] for s, at in sent.items() if at >= 0}
        for stream, codes_now in batch.encode(piece).items():
            coded[stream].append(codes_now)
    for begin in range(max(0, -(-len(audio) // frame) - 3) * frame, len(audio), frame):
        coded[other].append(other.encode(audio.samples[:, begin : begin + frame]))
    for stream, codes_now in coded.items():
        side = executor.numpy(executor.join([*codes_now, stream.finish_encode()], 1))
        assert _differ(side, tokens.numbers).sum() <= most, "side by side, a stream differs"
    if not codec.decodes:
        return
    decoded = executor.numpy(executor.join([one.decode(tokens), one.finish_decode()], 1))
    wave = codec.decode(tokens).samples.numpy()
    assert decoded.shape[1] == tokens.frames * frame, "a stream gives other lengths"
    far, peak = (float(np.abs(x).max()) for x in (decoded[:, : len(audio)] - wave, wave))
    assert far <= tolerance * max(1.0, peak), f"a stream sounds {far:.1e} different"


def assert_batches(codec: RunnableCodec[Any], audios: Sequence[Audio]) -> None:
    """Assert that on a CPU a batch gives each recording the tokens and audio that it gets alone."""
    alone = [codec.encode(audio) for audio in audios]
    for i, (one, other) in enumerate(zip(codec.encode_batch(audios), alone, strict=True)):
        assert one == other, f"recording {i} has other tokens in the batch"
    if codec.decodes:
        decoded = zip(codec.decode_batch(alone), map(codec.decode, alone), strict=True)
        for i, (one, other) in enumerate(decoded):
            assert torch.equal(one.samples, other.samples), f"recording {i} decodes differently"
    if codec.codebooks:
        few = codec.encode_batch(audios, codebooks=1)
        assert few == [tokens.first(1) for tokens in alone], "one codebook is not the first of all"
    assert codec.encode_batch([]) == [], "a batch of nothing gives something"


def assert_prefixes(codec: Codec, audio: Audio) -> None:
    """Assert that fewer codebooks are the first of all codebooks, and that they decode."""
    tokens = codec.encode(audio)
    decoded = []
    for n in range(1, codec.codebooks + 1):
        first = codec.encode(audio, codebooks=n)
        assert first == tokens.first(n), f"{n} codebooks are not the first {n} of all"
        decoded.append(codec.decode(first).samples)
        assert decoded[-1].isfinite().all(), f"{n} codebooks decode to NaN or infinity"
    for coarse, fine in pairwise(decoded):
        assert not torch.equal(coarse, fine), "a codebook that decodes to nothing"


def assert_no_future(codec: Codec) -> None:
    """Assert that codes and decoded samples depend on no more than `codec.look_ahead`.

    Codes of a frame must not depend on samples from `look_ahead` samples after its end on, and
    decoded samples not on frames that start `look_ahead` samples or more after them. Later codes
    and samples must change. Frames that a codec mirrors before the start are excluded, since they
    depend on later ones.
    """
    block = codec.block
    frames = block + 20
    audio = noise(codec, frames * codec.frame_size)
    tokens = codec.encode(audio)
    wave = codec.decode(tokens).samples
    mirrored = codec.first_frames - 1
    for i in (mirrored, mirrored + 1, block - 2, block - 1, block, frames - 2):
        end = (i + 1) * codec.frame_size + codec.look_ahead
        samples = audio.samples.clone()
        samples[:, end:] = 0.5 * torch.randn(samples[:, end:].shape)
        codes = codec.encode(Audio(samples, audio.rate)).numbers
        known = np.array_equal(codes[:, : i + 1], tokens.numbers[:, : i + 1])
        assert known, f"frame {i} or earlier changes with samples from {end} on"
        after = slice(i + 1, i + 4)  # a single frame may have the same codes by chance
        same = np.array_equal(codes[:, after], tokens.numbers[:, after])
        assert not same, f"the frames after {i} do not change with their samples"

        if i == mirrored > 0:
            continue
        codes = tokens.numbers.copy()
        codes[:, i:] += 1
        if codec.sizes:
            codes[:, i:] %= np.array(codec.sizes)[:, None]
        start = max(0, i * codec.frame_size - codec.look_ahead)
        other = codec.decode(tokens.holding(codes)).samples
        same = torch.equal(other[:, :start], wave[:, :start])
        assert same, f"samples before {start} change with codes from frame {i} on"
        end = start + codec.frame_size
        same = torch.equal(other[:, :end], wave[:, :end])
        assert not same, f"samples before {end} do not change with codes from frame {i} on"


def assert_latency(codec: Codec) -> None:
    """Assert that the declared latency is the longest delay of a decoded sample.

    The delay is measured by streaming one sample at a time.
    """
    latency = round(codec.latency * codec.sample_rate)
    # A codec of segments lags most near the end of one, where the next begins to matter.
    audio = noise(codec, latency + (codec.period + 3) * codec.frame_size)
    stream, decoded, waits = Stream(codec), 0, []
    for arrived, sample in enumerate(audio.samples.split(1, 1), 1):
        samples = stream.decode(stream.encode(sample)).shape[1]
        if samples:
            waits.append(arrived - decoded)  # the first of these samples has the longest delay
        decoded += samples
    assert len(waits) > 2, "the stream gives nothing before its end"
    assert max(waits) == latency, f"a sample waits for {max(waits)}, not {latency} samples"


def assert_receptive_field(codec: Codec, *, more: int = 0) -> None:
    """Assert that the declared receptive field is that of the gradient of a latent.

    A codec of blocks declares the largest; that of the frame is what its encoder says.

    Args:
        codec: the codec.
        more: samples past the last frame without which its frames do not see all of it.
    """
    before, after = codec.receptive_field
    frame, unbounded = codec.frame_size, 5  # frames to test where the receptive field is unbounded
    i = unbounded if before == math.inf else math.ceil(before / frame) + 1
    past = unbounded if after == math.inf else math.ceil(after / frame) + 2
    wave = noise(codec, (i + 1 + past) * frame + more).samples.requires_grad_()
    latent = _latents(codec, wave)[:, i]
    (slope,) = torch.autograd.grad((latent * torch.randn(latent.shape)).sum(), wave)
    seen = slope.abs().sum(0).nonzero().flatten()
    measured = (i * frame - int(seen.min()), int(seen.max()) - (i + 1) * frame + 1)
    first, last = codec.ends()[0].input_span(i, i)
    own = i * frame - first - codec.look_ahead, last - (i + 1) * frame + 1 + codec.look_ahead
    declared = (min(own[0], i * frame), min(own[1], past * frame + more))
    assert measured == declared, f"a frame sees {measured} samples around it, not {declared}"
    assert own[0] <= before, f"frame {i} sees {own[0]} samples before it, not {before}"
    assert own[1] <= after, f"frame {i} sees {own[1]} samples after it, not {after}"


def assert_trains(codec: Codec) -> None:
    """Assert that training gives every parameter a gradient, with and without split weights.

    The codec is left in training mode, with split weights where it has such.
    """
    codec.train().requires_grad_()
    wave = torch.stack([noise(codec, 30 * codec.frame_size, seed=i).samples for i in range(2)])
    for split in (False, True):
        if split:
            codec.split_weights()
        output, quantized = codec(wave, torch.tensor([codec.codebooks, min(1, codec.codebooks)]))
        expected = (*wave.shape[:2], codec.decoded_samples(wave.shape[2]))
        assert output.shape == expected, f"{[*wave.shape]} comes back as {[*output.shape]}"
        loss = (output * torch.randn_like(output)).sum() + sum(quantized.losses.values())
        if codec.teacher_width:
            for part in quantized.stages:
                loss = loss + codec.distilled(part).square().sum()
        codec.zero_grad()
        loss.backward()
        for key, parameter in codec.named_parameters():
            assert parameter.grad is not None, f"{key} has no gradient"
            assert parameter.grad.isfinite().all(), f"{key} has a gradient of NaN or infinity"
            assert parameter.grad.any(), f"{key} has a gradient of zeros"


def _differ(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return for each frame `[f]` whether a code differs, or a latent by more than rounding."""
    if one.dtype.kind == "i":
        return (one != other).any(0)
    return (np.abs(one - other) > 1e-4 * np.abs(other).max(initial=1e-3)).any(0)


def noise(codec: RunnableCodec[Any], samples: int, seed: int = 0) -> Audio:
    """Return noise of a slowly varying level, at the codec's sample rate."""
    random = torch.Generator().manual_seed(seed + samples)
    x = torch.randn(codec.channels, samples, generator=random)
    swell = 0.1 + 0.1 * torch.sin(torch.arange(samples) / 3000 + seed)
    return Audio(x * swell, codec.sample_rate)


@torch.no_grad()
def latents(codec: Codec, audio: Audio) -> Tensor:
    """Return the latents `[d f]` of a recording, encoded in one step as in training."""
    return _latents(codec, audio.samples)


def _latents(codec: Codec, wave: Tensor) -> Tensor:
    """Return the latents `[d f]` of samples `[c t]`, with gradients."""
    if not codec.fills_up:
        return codec.finish_latent(wave[None], None)[0]
    short = -wave.shape[1] % codec.frame_size
    wave = F.pad(
        wave,
        (codec.frame_size - codec.look_ahead if codec.look_ahead else 0, short + codec.look_ahead),
    )
    latent = codec.step_latent(wave[None], codec.start_latent(1))[0][0]
    return latent[:, 1:] if codec.look_ahead else latent
