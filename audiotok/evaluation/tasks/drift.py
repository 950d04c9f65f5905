"""Sensitivity of codes to small changes of the audio, the arithmetic or the batch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch.nn import functional as F

from audiotok.audio.audio import Audio
from audiotok.codecs.models.base import Codec
from audiotok.evaluation.results import Finding
from audiotok.evaluation.tasks.base import Bench, Task, add_white_noise

SIDE = 4  # recordings in a batch
SHIFT = 8  # frames of silence put first
Change = Callable[[Audio, Sequence[int]], Audio]


class Drift(Task):
    """Share of codes that change, of codebook 1 and of all."""

    protocol = (
        "share of codes that differ from those of the recording, frame by frame, when the audio "
        "at the codec's rate is changed as named (noise is white, silence zeros; both drawn or "
        "added in float without clipping), or coded in another precision or a batch; a shift by "
        "whole frames is compared with the codes shifted as far"
    )

    def run(self, bench: Bench) -> list[Finding]:
        """Return shares by change; see `Task.run`."""
        findings = []
        other = 44100 if bench.codec.sample_rate != 44100 else 48000
        for name, (change, shift) in changes(bench.codec.frame_size, other).items():
            rows = []
            for i, recording in enumerate(bench.over(bench.recordings, name)):
                audio = change(bench.audio(recording), (bench.seed, i))
                rows.append((bench.encode(recording).codes, bench.encode_audio(audio)[:, shift:]))
            findings += self._changed(name, rows)
        for name, dtype in (("bf16", torch.bfloat16), ("fp16", torch.float16)):
            findings += self._arithmetic(bench, name, dtype)
        return [*findings, *self._batch(bench)]

    def _changed(self, name: str, rows: list[tuple[np.ndarray, np.ndarray]]) -> list[Finding]:
        """Return the shares of codes that differ in pairs of codes `[k f]`."""
        findings = []
        for of, books in (("codebook 1", slice(0, 1)), ("all codebooks", slice(None))):
            pairs = [(a[books], b[books]) for a, b in rows]
            lengths = [min(a.shape[1], b.shape[1]) for a, b in pairs]
            changed = [
                float((a[:, :n] != b[:, :n]).sum())
                for (a, b), n in zip(pairs, lengths, strict=True)
            ]
            codes = [float(n * len(a)) for (a, _), n in zip(pairs, lengths, strict=True)]
            fields = {"unit": "%", "better": "lower", "scale": 100}
            findings.append(self.mean(f"changed by {name}, {of}", changed, codes, **fields))
        return findings

    def _arithmetic(self, bench: Bench, name: str, dtype: torch.dtype) -> list[Finding]:
        """Return the shares of codes that change with weights or arithmetic of lower precision."""
        rounded = f"weights rounded to {name}"
        findings = self._with(bench, rounded, _round_weights(bench.codec, dtype))
        cast = f"autocast to {name}"
        try:
            with torch.autocast(bench.codec.device.type, dtype):
                return findings + self._with(bench, cast, bench.codec)
        except (RuntimeError, ValueError, NotImplementedError) as error:
            line = " ".join(str(error).split())[:200]
            return [*findings, self.absent(f"changed by {cast}", f"not run: {line}")]

    def _with(self, bench: Bench, name: str, codec: Codec) -> list[Finding]:
        """Return the shares of codes that change with another codec of the same codebooks."""
        rows = []
        for recording in bench.over(bench.recordings, name):
            codes = codec.encode(bench.audio(recording), codebooks=bench.codebooks).codes
            rows.append((bench.encode(recording).codes, codes))
        return self._changed(name, rows)

    def _batch(self, bench: Bench) -> list[Finding]:
        """Return the shares of codes that change in batches: run one by one, and in groups."""
        alone = [bench.encode(recording).codes for recording in bench.recordings]
        findings = []
        for name, group in (("a batch", None), (f"{SIDE} side by side", SIDE)):
            batched = []
            for first in bench.over(range(0, len(alone), 2 * SIDE), name):
                audios = [bench.audio(r) for r in bench.recordings[first : first + 2 * SIDE]]
                batch = bench.codec.encode_batch(audios, codebooks=bench.codebooks, group=group)
                batched += [tokens.codes for tokens in batch]
            findings += self._changed(name, list(zip(alone, batched, strict=True)))
        return findings


def changes(frame: int, other: int) -> dict[str, tuple[Change, int]]:
    """Return changes of audio by name, each with the number of frames it delays the codes by."""
    half = frame // 2
    return {
        f"resampling to {other} Hz and back": (lambda a, _: _back(a, other), 0),
        "noise at 40 dB SNR": (lambda a, seed: add_white_noise(a, 40, seed), 0),
        "noise at 20 dB SNR": (lambda a, seed: add_white_noise(a, 20, seed), 0),
        "gain of +6 dB": (lambda a, _: Audio(a.samples * 10 ** (6 / 20), a.rate), 0),
        "gain of -6 dB": (lambda a, _: Audio(a.samples * 10 ** (-6 / 20), a.rate), 0),
        "opposite polarity": (lambda a, _: Audio(-a.samples, a.rate), 0),
        "a shift by half a frame": (lambda a, _: delay(a, half), 0),
        "a shift by 1 frame": (lambda a, _: delay(a, frame), 1),
        f"a shift by {SHIFT} frames": (lambda a, _: delay(a, SHIFT * frame), SHIFT),
    }


def _back(audio: Audio, other: int) -> Audio:
    """Return the audio resampled to another rate in Hz and back."""
    return audio.resample(other).resample(audio.rate)[: len(audio)]


def delay(audio: Audio, samples: int) -> Audio:
    """Return the audio after so many samples of silence."""
    return Audio(F.pad(audio.samples, (samples, 0)), audio.rate)


def _round_weights(codec: Codec, dtype: torch.dtype) -> Codec:
    """Return a copy of the codec with weights rounded to half precision, as in a file of it."""
    other = copy.deepcopy(codec)
    state = {
        key: value.to(dtype).to(value.dtype) if value.is_floating_point() else value
        for key, value in codec.state_dict().items()
    }
    other.load_state_dict(state)
    return other
