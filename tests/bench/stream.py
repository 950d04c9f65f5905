"""Streams of `speech`, one after the other and side by side: what a 20 ms frame takes, both ways.

    python tests/bench/stream.py [--streams 1 10 40] [--seconds 4] [--threads 1 2] [--cpu]

Every stream gets its own stretch of a real recording, a frame at a time, encodes and decodes it.
Side by side (`StreamBatch`) all are stepped at once; one after the other each `Stream` by itself.
Frames of the codes that are other than those of the whole recording are counted (near-ties).
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from audiotok import Audio, Codec, Stream, StreamBatch, load

RECORDING = Path(__file__).parents[2] / "egs" / "data" / "reading.flac"
WARM = 60  # frames: attention's window is full


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--streams", type=int, nargs="+", default=[1, 10, 40])
    options.add_argument("--seconds", type=float, default=4)
    options.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    options.add_argument("--cpu", action="store_true", help="processor time, on a busy machine")
    chosen = options.parse_args()
    clock = time.process_time if chosen.cpu else time.perf_counter
    torch.set_flush_denormal(True)
    codec = load("speech")
    audio = Audio.load(RECORDING).mono().resample(codec.sample_rate)
    frames = WARM + round(chosen.seconds * codec.sample_rate / codec.frame_size)
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}")
    print("threads streams | side by side, ms a step: p50 p99 | alone, ms a frame | frames differ")
    for threads in chosen.threads:
        torch.set_num_threads(threads)
        for count in chosen.streams:
            waves = [_from(audio, i, frames * codec.frame_size) for i in range(count)]
            took, codes = _abreast(codec, waves, clock)
            alone = _alone(codec, waves[0], clock)
            p50, p99 = (1000 * q for q in np.quantile(took, [0.5, 0.99]))
            differ = sum(_differing(codec, *pair) for pair in zip(waves, codes, strict=True))
            print(
                f"{threads:7} {count:7} | {p50:6.1f} {p99:6.1f} | {1000 * np.median(alone):5.2f} "
                f"(x {count} = {1000 * count * np.median(alone):.1f}) | "
                f"{differ} of {sum(c.shape[1] for c in codes)}"
            )


def _from(audio: Audio, i: int, samples: int) -> Tensor:
    """A stretch of the recording, over and over, that begins elsewhere for each."""
    x = audio.samples.roll(-7919 * i, 1)
    return x.repeat(1, -(-samples // x.shape[1]))[:, :samples]


def _abreast(
    codec: Codec, waves: list[Tensor], clock: Callable[[], float]
) -> tuple[list[float], list[Tensor]]:
    batch = StreamBatch(codec)
    streams = [batch.open() for _ in waves]
    made: list[list[Tensor]] = [[] for _ in waves]
    took = []
    for pieces in zip(*(wave.split(codec.frame_size, 1) for wave in waves), strict=True):
        began = clock()
        codes = batch.encode(dict(zip(streams, pieces, strict=True)))
        batch.decode(codes)
        took.append(clock() - began)
        for parts, stream in zip(made, streams, strict=True):
            parts.append(codes[stream])
    return took[WARM:], [
        torch.cat([*parts, s.finish_encode()], 1) for parts, s in zip(made, streams, strict=True)
    ]


def _alone(codec: Codec, wave: Tensor, clock: Callable[[], float]) -> list[float]:
    stream, took = Stream(codec), []
    for piece in wave.split(codec.frame_size, 1):
        began = clock()
        stream.decode(stream.encode(piece))
        took.append(clock() - began)
    return took[WARM:]


def _differing(codec: Codec, wave: Tensor, codes: Tensor) -> int:
    whole = codec.encode(Audio(wave, codec.sample_rate)).codes
    return int((whole != codes.numpy()).any(0).sum())


if __name__ == "__main__":
    main()
