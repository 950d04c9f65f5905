"""Contracts of our own codecs, which know the quantizers here; those for everybody's parts are in
`audiotok.testing`.

assert_groups  assert_latents  assert_live  near_ties
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from audiotok.audio.audio import Audio
from audiotok.codecs.models.base import Codec
from audiotok.nn.quantizers.agrvq import PairedCodebook
from audiotok.nn.quantizers.base import Quantizer, SideBySide
from audiotok.nn.quantizers.multi_scale_rvq import MultiScaleRvq
from audiotok.nn.quantizers.projected_rvq import Projected
from audiotok.nn.quantizers.rvq import Factorised, Rvq
from audiotok.nn.quantizers.segment_rvq import HEAD, SegmentRvq
from audiotok.nn.quantizers.shared_vq import SharedVq
from audiotok.nn.quantizers.split_rvq import SplitRvq
from audiotok.runtime.stream import Stream
from audiotok.testing import *  # noqa: F403
from audiotok.testing import assert_close, latents
from audiotok.testing.checks import Sizes, for_all, pieces


def assert_groups(codec: Codec, audios: Sequence[Audio], group: int) -> int:
    """Assert that codes of a padded group differ from those alone only at near-ties.

    Rounding depends on the shape of a matrix product. The first code of a frame that differs must
    be a near-tie: a change of the latent by 1e-4 of its length would change it.

    Returns:
        The number of frames that differ.
    """
    alone, beside = codec.encode_batch(audios), codec.encode_batch(audios, group=group)
    differ = 0
    for audio, one, other in zip(audios, alone, beside, strict=True):
        assert (one.samples, one.codes.shape) == (other.samples, other.codes.shape)
        differ += near_ties(codec, audio, one.codes, other.codes)
    total = sum(tokens.frames for tokens in alone)
    assert differ <= total / 1000, f"{differ} of {total} frames differ"
    return differ


def near_ties(codec: Codec, audio: Audio, one: np.ndarray, other: np.ndarray) -> int:
    """Return how many frames of codes `[k f]` differ, asserting that each is a near-tie."""
    differ = np.flatnonzero((one != other).any(0))
    if not len(differ):
        return 0
    latent = latents(codec, audio)
    for f in differ:
        k = int(np.flatnonzero(one[:, f] != other[:, f])[0])
        margin = _margin(codec, latent[:, f], one[: k + 1, f], other[: k + 1, f])
        assert margin < 1e-4, f"frame {f}, codebook {k}: margin {margin:.1e} is no near-tie"
    return len(differ)


@torch.no_grad()
def _margin(codec: Codec, latent: Tensor, one: np.ndarray, other: np.ndarray) -> float:
    """Return the distance of `latent [d]` to the boundary between two codes, over its length.

    The codes `[k]` of one and other differ in the last codebook.
    """
    stage, rest, latent = _searched(codec.quantizer, latent, torch.tensor(one[:-1]))
    if isinstance(stage, Projected):
        latent = rest = stage.down(rest)
        stage = stage.book
    if isinstance(stage, PairedCodebook):
        pairs = [np.divmod(codes[-1:], stage.size) for codes in (one, other)]
        half = int(pairs[0][0][0] == pairs[1][0][0])
        stage, (one, other) = stage.halves[half], (pair[half] for pair in pairs)
    entries = torch.as_tensor(stage.entries)
    if isinstance(stage, Factorised):
        latent = rest = F.normalize(stage.down(rest), dim=0)
        entries = F.normalize(entries)
    a, b = entries[int(one[-1])], entries[int(other[-1])]
    apart = (rest - a).square().sum() - (rest - b).square().sum()
    return (apart.abs() / (2 * (a - b).norm() * latent.norm())).item()


def _searched(quantizer: Quantizer, latent: Tensor, codes: Tensor) -> tuple[Any, Tensor, Tensor]:
    """Return the codebook after codes `[k]`, the vector it quantizes, and that vector's latent."""
    k = len(codes)
    if isinstance(quantizer, SideBySide):
        first, left = 0, 0
        for part, width in zip(quantizer.quantizers(), quantizer.widths, strict=True):
            if k < first + part.codebooks:
                return _searched(part, latent[left : left + width], codes[first:])
            first += part.codebooks
            left += width
    if isinstance(quantizer, SharedVq):
        part = F.normalize(latent.chunk(quantizer.codebooks)[k], dim=0)
        return quantizer.book, part, part
    if isinstance(quantizer, SplitRvq):
        first = quantizer.semantic.rvq.codebooks
        part = quantizer.semantic if k < first else quantizer.acoustic
        return _searched(part.rvq, part.down(latent), codes[first if k >= first else 0 :])
    if isinstance(quantizer, MultiScaleRvq):
        stage, span, first = [level for level in quantizer.levels() if level[2] <= k][-1]
        if first:
            latent = latent - quantizer.decode(codes[None, :first, None])[0, :, 0]
        mean = latent.view(-1, span, latent.shape[0] // quantizer.steps).mean(1)[k - first]
        return stage, mean, latent
    if isinstance(quantizer, SegmentRvq):
        book, step = divmod(k - HEAD, quantizer.latents)
        latent = latent[2:].view(quantizer.latents, -1)[step]
        return _searched(
            quantizer.rvq, latent, codes[HEAD:].view(-1, 1)[step :: quantizer.latents, 0][:book]
        )
    assert isinstance(quantizer, Rvq)
    stages: Any = list(quantizer.stages)
    rest = latent - sum(stage.look_up(code) for stage, code in zip(stages, codes, strict=False))
    return stages[k], rest, latent


def assert_live(codec: Codec, audio: Audio, *, examples: int = 10) -> None:
    """Assert that a stream gives the offline result, up to near-ties and rounding."""
    tokens = codec.encode(audio)
    whole = torch.from_numpy(tokens.codes.copy())
    decoded = codec.decode(tokens).samples
    frame = codec.frame_size

    def check(sizes: list[int]) -> None:
        stream = Stream(codec)
        made = [stream.encode(piece[0]) for piece in pieces(audio.samples[None], sizes)]
        codes = torch.cat([*made, stream.finish_encode()], 1).numpy()
        assert codes.shape == tokens.codes.shape
        assert near_ties(codec, audio, tokens.codes, codes) <= max(1, tokens.frames / 1000)
        heard = [
            stream.decode(piece[0]) for piece in pieces(whole[None], [n // frame for n in sizes])
        ]
        wave = torch.cat([*heard, stream.finish_decode()], 1)
        assert wave.shape[1] == tokens.frames * codec.decoded_frame_size
        assert_close(wave[:, : codec.decoded_samples(tokens.samples)], decoded)

    for_all(check, Sizes(most=5 * frame, longest=20), examples=examples)


@torch.no_grad()
def assert_latents(
    codec: Codec,
    samples: int,
    encode: Callable[[Tensor], Tensor],
    decode: Callable[[Tensor], Tensor],
) -> None:
    """Assert that a codec's latents and waves of noise are within 1e-5 of another program's.

    Args:
        codec: a codec of latents.
        samples: length of the noise.
        encode: the program's, of waves `[1 1 t]` of whole frames to latents `[1 f d]`.
        decode: the program's, of those to waves `[1 1 t]`.
    """
    generator = torch.Generator().manual_seed(samples)
    wave = 0.1 * torch.randn(1, samples, generator=generator)
    given: Any = codec.encode(wave, codec.sample_rate)
    wanted = encode(F.pad(wave, (0, -samples % codec.frame_size))[None])
    assert wanted.std() > 0.1
    assert_close(torch.from_numpy(given.values.copy()), wanted[0].T, 1e-5)
    if codec.decodes:
        decoded = decode(wanted)[0][:, :samples]
        assert decoded.abs().max() > 0.01
        latents = wanted[0].T.numpy()
        assert_close(codec.decode(latents, samples=samples).samples, decoded, 1e-5)
