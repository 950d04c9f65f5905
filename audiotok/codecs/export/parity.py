"""Does an exported codec do what torch does? Codes and samples, over lengths, batches, cuttings."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from audiotok.audio.audio import Audio
from audiotok.codecs.models.base import Codec
from audiotok.runtime.exported import Exported

NEAR = 1e-4  # samples may be apart by so much
TIES = 1e-3  # of all frames may differ, where two entries are equally near but for rounding
NUDGE = 1e-4  # of a latent's length, in each of its features: what changes the code of a near-tie
DRAWS = 64  # of such noise
LOOKED_AT = 20  # frames of a recording that differ; where more do, the export is refused anyway


@dataclass(frozen=True)
class Parity:
    """How far an exported codec is from the one it was made of, in torch.

    Attributes:
        frames: compared.
        frames_equal: of them, with all codes the same.
        codes: compared.
        codes_equal: the same.
        apart: the largest difference of two samples, decoded from the same codes.
        noise_db: the power of that difference below the audio's, of all samples.
        frames_wrong: with other codes that rounding cannot explain: no near-ties. 0 in 8 bits,
            where nobody expects that.
    """

    frames: int
    frames_equal: int
    codes: int
    codes_equal: int
    apart: float
    noise_db: float
    frames_wrong: int = 0

    @property
    def drift(self) -> float:
        """Share of codes that are others."""
        return 1 - self.codes_equal / self.codes

    @property
    def holds(self) -> bool:
        """Whether it is the same but for rounding."""
        few = self.frames - self.frames_equal <= TIES * self.frames
        return few and not self.frames_wrong and self.apart <= NEAR

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "token_drift_percent": round(100 * self.drift, 4)}

    def __str__(self) -> str:
        said = (
            f"{self.codes_equal:,} of {self.codes:,} codes the same ({100 * self.drift:.2f} %"
            f" drift), samples within {self.apart:.1e} ({-self.noise_db:.0f} dB below the audio)"
        )
        wrong = f"; {self.frames_wrong:,} frames differ by more than rounding"
        return said + (wrong if self.frames_wrong else "")


def compare(
    codec: Codec, exported: Exported, audio: Audio | None = None, *, rounding: bool = True
) -> Parity:
    """Both on the same audio: as it comes, cut short, side by side, and in pieces.

    Args:
        codec: in torch.
        exported: what was made of it.
        audio: to compare on; something like speech if None.
        rounding: look at each frame that differs, whether rounding alone can do that.
    """
    rate, frame = codec.sample_rate, codec.frame_size
    audio = speechlike(rate, codec.channels) if audio is None else audio.resample(rate)
    wave = audio.samples.numpy()[: codec.channels]
    block = (codec.block + codec.first_frames) * frame
    wave = np.tile(wave, max(1, -(-(2 * block + frame) // wave.shape[1])))
    lengths = [1, frame - 1, frame, (codec.first_frames + 1) * frame + 3, rate, wave.shape[1]]
    tally = _Tally(codec if rounding else None)
    for length in lengths:
        piece = wave[:, :length]
        codes, made = _torch(codec, exported.codebooks, piece)
        tally.add_codes(codes, _encoded(exported, piece[None], [length]), piece)
        tally.add_waves(made, _decoded(exported, codes[None], [length * frame]))
    beside = np.stack([np.roll(wave, i * frame // 2 + i, 1)[:, : 2 * rate] for i in range(3)])
    pairs = [_torch(codec, exported.codebooks, one) for one in beside]
    codes = exported.graphs.run("encoder", {"audio": beside})["codes"]
    made = exported.graphs.run("decoder", {"codes": np.stack([c for c, _ in pairs])})["audio"]
    for i, (right, heard) in enumerate(pairs):
        tally.add_codes(right, codes[i, :, : right.shape[1]], beside[i])
        tally.add_waves(heard, made[i])
    if exported.plan.steps:
        wave = wave[:, : 3 * rate]
        codes, made = _torch(codec, exported.codebooks, wave)
        cuts = [1, frame, 3 * frame + 1, rate]
        tally.add_codes(codes, _encoded(exported, wave[None], cuts, block=3), wave)
        tally.add_waves(made, _decoded(exported, codes[None], cuts, block=3))
    return tally.result()


def _torch(codec: Codec, codebooks: int, wave: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    audio = Audio(torch.from_numpy(wave.copy()), codec.sample_rate)
    tokens = codec.encode(audio, codebooks=codebooks)
    return tokens.codes, codec.decode(tokens).samples.numpy()


def _encoded(
    exported: Exported, wave: np.ndarray, cuts: list[int], block: int | None = None
) -> np.ndarray:
    run = exported.encoding(block=block)
    ends = [0, *np.cumsum(cuts), wave.shape[2]]
    made = [run.push(wave[:, :, a:b]) for a, b in pairwise(ends)]
    return np.concatenate([*made, run.finish()], 2)[0]


def _decoded(
    exported: Exported, codes: np.ndarray, cuts: list[int], block: int | None = None
) -> np.ndarray:
    run = exported.decoding(block=block)
    ends = [0, *(n // exported.frame_size for n in np.cumsum(cuts)), codes.shape[2]]
    made = [run.push(codes[:, :, a:b]) for a, b in pairwise(ends)]
    return np.concatenate([*made, run.finish()], 2)[0]


class _Tally:
    """Adds up what was compared."""

    def __init__(self, codec: Codec | None) -> None:
        self.codec, self.wrong_frames = codec, 0
        self.counts = np.zeros(4, np.int64)
        self.apart, self.wrong, self.power = 0.0, 0.0, 0.0

    def add_codes(self, right: np.ndarray, codes: np.ndarray, wave: np.ndarray) -> None:
        same = right == codes
        self.counts += same.shape[1], same.all(0).sum(), same.size, same.sum()
        if self.codec is not None:
            self.wrong_frames += unexplained(self.codec, wave, right, codes)

    def add_waves(self, right: np.ndarray, wave: np.ndarray) -> None:
        right = right.astype(np.float64)
        apart = wave[:, : right.shape[1]] - right
        self.apart = max(self.apart, float(np.abs(apart).max()))
        self.wrong += float(np.square(apart).sum())
        self.power += float(np.square(right).sum())

    def result(self) -> Parity:
        noise = 10 * np.log10(max(self.wrong, 1e-30) / max(self.power, 1e-30))
        frames, equal, codes, codes_equal = (int(count) for count in self.counts)
        apart, wrong = self.apart, self.wrong_frames
        return Parity(frames, equal, codes, codes_equal, apart, float(noise), wrong)


@torch.no_grad()
def unexplained(codec: Codec, wave: np.ndarray, right: np.ndarray, codes: np.ndarray) -> int:
    """Frames, of the first that differ, whose codes `[k f]` are not the right ones of `wave [c t]`
    though no two entries are equally near: noise of `NUDGE` on the latent does not bring about the
    first wrong code.
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
        found = codec.quantizer.encode(near, k)[:, :, 0].cpu().numpy()
        wrong += not (found == codes[:k, f]).all(1).any()
    return wrong


def speechlike(rate: int, channels: int = 1, seconds: float = 6.0) -> Audio:
    """Something like speech: a voice of gliding pitch and formants, noise, silence between."""
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
