"""Parity of an exported codec with torch: codes or latents, and samples.

They are compared over lengths, batches and pieces.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from audiotok.audio.audio import Audio
from audiotok.codecs.models.base import Codec
from audiotok.runtime.exported import Exported
from audiotok.runtime.sessions import Decoding, Encoding

NEAR = 1e-4  # largest difference of samples that is allowed, and of latents relative to their size
TIES = 1e-3  # share of frames, or 1, that may differ: two entries are equally near but for rounding
NUDGE = 1e-4  # noise in each feature that changes the code of a near-tie, per length of the latent
DRAWS = 64  # number of random draws of that noise
LOOKED_AT = 20  # differing frames of a recording to test; with more the export is refused anyway


@dataclass(frozen=True)
class Parity:
    """The differences between an exported codec and the torch codec it comes from.

    Attributes:
        frames: frames compared.
        frames_equal: frames with all codes equal, or with latents that are near enough.
        codes: codes compared; 0 of latents.
        codes_equal: codes that are equal.
        apart: the largest difference of two samples, decoded from the same codes.
        noise_db: power of the difference of all samples relative to the audio's, dB.
        frames_wrong: frames that differ by more than rounding explains: no near-ties. It is 0 in
            8 bits, where differences are expected.
        latents_apart: the largest difference of two numbers of latents over the root mean square of
            all of them; 0 of codes.
    """

    frames: int
    frames_equal: int
    codes: int
    codes_equal: int
    apart: float
    noise_db: float
    frames_wrong: int = 0
    latents_apart: float = 0.0

    @property
    def drift(self) -> float:
        """Share of codes that differ."""
        return 1 - self.codes_equal / self.codes if self.codes else 0.0

    @property
    def holds(self) -> bool:
        """True if codes and samples are equal except for rounding."""
        few = self.frames - self.frames_equal <= max(1, TIES * self.frames)
        near = max(self.apart, self.latents_apart) <= NEAR
        return few and not self.frames_wrong and near

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain data, with the share of differing codes in percent."""
        return {**asdict(self), "token_drift_percent": round(100 * self.drift, 4)}

    def __str__(self) -> str:
        summary = f"latents within {self.latents_apart:.1e} of their size"
        if self.codes:
            same = f"{self.codes_equal:,} of {self.codes:,} codes the same"
            summary = f"{same} ({100 * self.drift:.2f} % drift)"
        summary += f", samples within {self.apart:.1e} ({-self.noise_db:.0f} dB below the audio)"
        wrong = f"; {self.frames_wrong:,} frames differ by more than rounding"
        return summary + (wrong if self.frames_wrong else "")


def compare(
    codec: Codec, exported: Exported, audio: Audio | None = None, *, rounding: bool = True
) -> Parity:
    """Compare both codecs on the same audio: as it is, cut short, in a batch, and in pieces.

    Args:
        codec: the codec in torch.
        exported: its export.
        audio: recording to compare on; synthetic speech if None.
        rounding: whether to test for each frame that differs if rounding alone explains it.
    """
    rate, frame = codec.sample_rate, codec.frame_size
    audio = speechlike(rate, codec.channels) if audio is None else audio.resample(rate)
    wave = audio.samples.numpy()[: codec.channels]
    block = max(codec.block + codec.first_frames, codec.period) * frame
    wave = np.tile(wave, max(1, -(-(2 * block + frame) // wave.shape[1])))
    lengths = [1, frame - 1, frame, (codec.first_frames + 1) * frame + 3, rate, wave.shape[1]]
    tally = _Tally(codec if rounding else None)
    for length in lengths:
        piece = wave[:, :length]
        codes, samples = _torch(codec, exported, piece)
        tally.add_codes(codes, _encoded(exported, piece[None], [length]), piece)
        tally.add_waves(samples, _decoded(exported, codes[None], [length * frame]))
    batch = np.stack([np.roll(wave, i * frame // 2 + i, 1)[:, : 2 * rate] for i in range(3)])
    pairs = [_torch(codec, exported, one) for one in batch]
    run = Encoding(exported.executor, len(batch))
    codes = np.concatenate([run.push(batch), run.finish()], 2)
    for i, (right, _) in enumerate(pairs):
        tally.add_codes(right, codes[i, :, : right.shape[1]], batch[i])
    if codec.decodes:
        run = Decoding(exported.executor, len(batch))
        waves = np.concatenate([run.push(np.stack([c for c, _ in pairs])), run.finish()], 2)
        for (_, samples), decoded in zip(pairs, waves, strict=True):
            tally.add_waves(samples, decoded)
    if exported.plan.steps:
        wave = wave[:, : 3 * rate]
        codes, samples = _torch(codec, exported, wave)
        cuts = [1, frame, 3 * frame + 1, rate]
        tally.add_codes(codes, _encoded(exported, wave[None], cuts, block=3), wave)
        tally.add_waves(samples, _decoded(exported, codes[None], cuts, block=3))
    return tally.result()


def _torch(codec: Codec, exported: Exported, wave: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return codes or latents, and decoded samples, of a wave in torch; none without a decoder."""
    audio = Audio(torch.from_numpy(wave.copy()), codec.sample_rate)
    tokens = codec.encode(audio, codebooks=exported.codebooks)
    if not codec.decodes:
        return tokens.numbers, np.zeros((codec.channels, 0), np.float32)
    return tokens.numbers, codec.decode(tokens).samples.numpy()


def _encoded(
    exported: Exported, wave: np.ndarray, cuts: list[int], block: int | None = None
) -> np.ndarray:
    """Return the codes that the exported codec gives for a wave in pieces."""
    run = Encoding(exported.executor, block=block)
    ends = [0, *np.cumsum(cuts), wave.shape[2]]
    pieces = [run.push(wave[:, :, a:b]) for a, b in pairwise(ends)]
    return np.concatenate([*pieces, run.finish()], 2)[0]


def _decoded(
    exported: Exported, codes: np.ndarray, cuts: list[int], block: int | None = None
) -> np.ndarray:
    """Return the samples that the exported codec gives for codes in pieces."""
    if not exported.decodes:
        return np.zeros((exported.channels, 0), np.float32)
    run = Decoding(exported.executor, block=block)
    ends = [0, *(n // exported.frame_size for n in np.cumsum(cuts)), codes.shape[2]]
    pieces = [run.push(codes[:, :, a:b]) for a, b in pairwise(ends)]
    return np.concatenate([*pieces, run.finish()], 2)[0]


class _Tally:
    """A running sum of all comparisons."""

    def __init__(self, codec: Codec | None) -> None:
        self.codec = codec
        self.wrong_frames = 0
        self.counts = np.zeros(4, np.int64)
        self.latents: list[tuple[np.ndarray, np.ndarray]] = []
        self.apart = 0.0
        self.wrong = 0.0
        self.power = 0.0

    def add_codes(self, right: np.ndarray, codes: np.ndarray, wave: np.ndarray) -> None:
        """Add the codes `[k f]`, or latents `[d f]`, of a wave `[c t]` to the sum."""
        if right.dtype == np.float32:
            self.latents.append((right, codes - right))
            return
        same = right == codes
        self.counts += same.shape[1], same.all(0).sum(), same.size, same.sum()
        if self.codec is not None:
            self.wrong_frames += unexplained(self.codec, wave, right, codes)

    def add_waves(self, right: np.ndarray, wave: np.ndarray) -> None:
        """Add decoded samples `[c t]` to the sum."""
        if not right.size:
            return
        right = right.astype(np.float64)
        apart = wave[:, : right.shape[1]] - right
        self.apart = max(self.apart, float(np.abs(apart).max()))
        self.wrong += float(np.square(apart).sum())
        self.power += float(np.square(right).sum())

    def result(self) -> Parity:
        """Return the sum of all comparisons."""
        noise = 10 * np.log10(max(self.wrong, 1e-30) / max(self.power, 1e-30))
        frames, equal, codes, codes_equal = (int(count) for count in self.counts)
        parity = Parity(
            frames, equal, codes, codes_equal, self.apart, float(noise), self.wrong_frames
        )
        return self._with_latents(parity) if self.latents else parity

    def _with_latents(self, parity: Parity) -> Parity:
        """Return the comparison with what was compared of latents."""
        right, apart = (np.concatenate(parts, 1) for parts in zip(*self.latents, strict=True))
        size = max(float(np.sqrt(np.square(right.astype(np.float64)).mean())), 1e-30)
        largest = np.abs(apart).max(0) / size
        return replace(
            parity,
            frames=len(largest),
            frames_equal=int((largest <= NEAR).sum()),
            latents_apart=float(largest.max()),
        )


@torch.no_grad()
def unexplained(codec: Codec, wave: np.ndarray, right: np.ndarray, codes: np.ndarray) -> int:
    """Return how many frames of a wave have codes that differ by more than rounding explains.

    A differing code is a near-tie if noise of `NUDGE` on the latent can bring about the first wrong
    code. Of the frames that differ only the first `LOOKED_AT` are tested.

    Args:
        codec: the codec in torch.
        wave: samples `[c t]`.
        right: codes `[k f]` in torch.
        codes: codes `[k f]` of the export.
    """
    differ = np.flatnonzero((right != codes).any(0))
    if not len(differ):
        return 0
    fill = -wave.shape[1] % codec.frame_size if codec.fills_up else 0
    padded = torch.from_numpy(np.pad(wave, ((0, 0), (0, fill)))[None])
    latent = codec.latents(padded.to(codec.device))[0]
    random = torch.Generator().manual_seed(0)
    wrong = 0
    for f in differ[:LOOKED_AT]:
        k = int(np.flatnonzero(right[:, f] != codes[:, f])[0]) + 1
        noise = torch.randn(DRAWS, len(latent), 1, generator=random).to(latent)
        near = latent[:, f, None] + NUDGE * latent[:, f].norm() * noise
        nearby = codec.quantizer.encode(near, k)[:, :, 0].cpu().numpy()
        wrong += not (nearby == codes[:k, f]).all(1).any()
    return wrong


def speechlike(rate: int, channels: int = 1, seconds: float = 6.0) -> Audio:
    """Return synthetic speech: a voice of gliding pitch and formants, noise, and silence.

    Args:
        rate: Hz.
        channels: number of channels.
        seconds: duration.
    """
    random = np.random.default_rng(0)
    t = np.arange(int(seconds * rate)) / rate
    pitch = 120 + 40 * np.sin(1.7 * t) + 15 * np.sin(9 * t)
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    formants = (500 + 200 * np.sin(3 * t), 1500 + 500 * np.sin(2.1 * t + 1), 2600 + 0 * t)
    voice = np.zeros_like(t)
    for n in range(1, int(min(rate / 2, 8000) / 180)):
        gain = sum(1 / (1 + ((n * pitch - f) / 150) ** 2) for f in formants)
        voice += gain * np.sin(n * phase) / n**0.5
    voice += 0.3 * random.standard_normal(len(t)) * (np.sin(5 * t) > 0.6)
    voice *= np.clip(np.sin(2.3 * t) + 0.4, 0, 1)
    wave = 0.5 * voice / np.abs(voice).max() + 1e-4 * random.standard_normal(len(t))
    waves = np.stack([np.roll(wave, i * 100) for i in range(channels)])
    return Audio(torch.from_numpy(waves.astype(np.float32)), rate)
