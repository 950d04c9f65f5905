"""Sizes of the blocks that a recording runs in: a function of its length alone."""

from __future__ import annotations

import pytest
import torch
from contracts import noise
from sizes import SMALL, made, ready
from torch import Tensor

from audiotok.codecs.models.base import Codec
from audiotok.runtime.session import last_block
from audiotok.runtime.sessions import Decoding, Encoding


@pytest.mark.parametrize("block", [1, 2, 7, 16, 50, 128])
def test_a_last_block_holds_what_is_left_in_one_of_few_sizes(block: int):
    sizes = [last_block(left, block) for left in range(1, block + 1)]
    assert all(left <= size <= block for left, size in enumerate(sizes, 1))
    assert sizes == sorted(sizes)
    assert sizes[-1] == block
    assert len(set(sizes)) <= 9 or block < 8
    assert max(size - left for left, size in enumerate(sizes, 1)) <= block // 8


def codec_with_sizes() -> tuple[Codec, list[int], list[int]]:
    """A codec, and the frames of each step that it encodes and decodes."""
    codec, encoded, decoded = ready(made("speech", SMALL)), [], []
    latent, wave = codec.step_latent, codec.step_wave

    def step_latent(x: Tensor, state: object) -> tuple[Tensor, object]:
        encoded.append(x.shape[2] // codec.frame_size)
        return latent(x, state)

    def step_wave(x: Tensor, state: object, frames: int) -> tuple[Tensor, object]:
        decoded.append(x.shape[2])
        return wave(x, state, frames)

    vars(codec).update(step_latent=step_latent, step_wave=step_wave)
    return codec, encoded, decoded


@pytest.mark.parametrize("frames", [1, 15, 16, 50, 127, 128, 300])
def test_blocks_are_the_same_however_a_recording_is_cut(frames: int):
    codec, encoded, decoded = codec_with_sizes()
    audio = noise(codec, frames * codec.frame_size - 5)
    codes, seen = [], []
    for piece in (1, 7, 1000):
        encoded.clear()
        decoded.clear()
        encoding, decoding = Encoding(codec.executor), Decoding(codec.executor)
        pieces = audio.samples[None].split(piece * codec.frame_size + 3, 2)
        codes.append(torch.cat([*map(encoding.push, pieces), encoding.finish()], 2))
        for part in codes[-1].split(piece, 2):
            decoding.push(part)
        decoding.finish()
        seen.append((list(encoded), list(decoded)))
    assert seen[0] == seen[1] == seen[2]
    assert all(torch.equal(codes[0], other) for other in codes[1:])
    # A frame more is encoded than there are: of the zeros before the start.
    assert frames + 1 <= sum(encoded) < frames + 1 + 16
    assert frames <= sum(decoded) < frames + 16
    assert set(encoded[:-1]) <= {128}
