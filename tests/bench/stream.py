"""Streams of `speech`, one after the other and side by side: what a 20 ms frame takes, both ways.

    python tests/bench/stream.py [--streams 1 10 40] [--seconds 4] [--threads 1 2] [--cpu]
        [--exported FOLDER]

Every stream gets its own stretch of a real recording, a frame at a time, encodes and decodes it.
Side by side all are stepped at once (`StreamBatch`): in torch, and by onnxruntime where that is
installed. One after the other, each `Stream` by itself. Frames of the codes that are other than
those of the whole recording are counted (near-ties).
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audiotok import Audio, Codec, Stream, StreamBatch, load
from audiotok.runtime.base import RunnableCodec
from audiotok.runtime.exported import Exported

RECORDING = Path(__file__).parents[2] / "egs" / "data" / "reading.flac"
WARM = 60  # frames: attention's window is full


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--streams", type=int, nargs="+", default=[1, 10, 40])
    options.add_argument("--seconds", type=float, default=4)
    options.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    options.add_argument("--cpu", action="store_true", help="processor time, on a busy machine")
    options.add_argument("--exported", default="speech", help="codec that onnxruntime runs")
    chosen = options.parse_args()
    clock = time.process_time if chosen.cpu else time.perf_counter
    torch.set_flush_denormal(True)
    codec = load("speech")
    audio = Audio.load(RECORDING).mono().resample(codec.sample_rate)
    frames = WARM + round(chosen.seconds * codec.sample_rate / codec.frame_size)
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}")
    print("threads streams             | ms a step: p50    p99 | frames that differ")
    for threads in chosen.threads:
        torch.set_num_threads(threads)
        exported = _exported(chosen.exported, threads)
        for count in chosen.streams:
            waves = [_from(audio, i, frames * codec.frame_size) for i in range(count)]
            wholes = [codec.encode(Audio(wave, codec.sample_rate)).codes for wave in waves]
            sides = [("torch", _abreast(codec, waves, clock))]
            if exported is not None:
                sides.append(("onnx", _abreast(exported, waves, clock)))
            for name, (took, codes) in sides:
                p50, p99 = (1000 * q for q in np.quantile(took, [0.5, 0.99]))
                pairs = zip(wholes, codes, strict=True)
                differ = sum(int((one != other).any(0).sum()) for one, other in pairs)
                total = sum(whole.shape[1] for whole in wholes)
                said = f"{p50:6.1f} {p99:6.1f} | {differ} of {total}"
                print(f"{threads:7} {count:7} {name:11} |          {said}", flush=True)
            alone = 1000 * float(np.median(_alone(codec, waves[0], clock)))
            print(
                f"{threads:7} {count:7} Stream      | {alone:.2f} x {count} = {alone * count:.1f}"
            )


def _exported(name: str, threads: int) -> Exported | None:
    """The codec as onnxruntime runs it, if it can here."""
    try:
        return load(name, backend="onnx", threads=threads)
    except ImportError as missing:
        print(f"onnx: left out, {missing}")
        return None


def _from(audio: Audio, i: int, samples: int) -> Tensor:
    """A stretch of the recording, over and over, that begins elsewhere for each."""
    x = audio.samples.roll(-7919 * i, 1)
    return x.repeat(1, -(-samples // x.shape[1]))[:, :samples]


def _abreast(
    codec: RunnableCodec[Any], waves: list[Tensor], clock: Callable[[], float]
) -> tuple[list[float], list[np.ndarray]]:
    batch, numpy = StreamBatch(codec), codec.executor.numpy
    streams = [batch.open() for _ in waves]
    made: list[list[np.ndarray]] = [[] for _ in waves]
    took = []
    for pieces in zip(*(wave.split(codec.frame_size, 1) for wave in waves), strict=True):
        given = {stream: piece.numpy() for stream, piece in zip(streams, pieces, strict=True)}
        began = clock()
        codes = batch.encode(given)
        batch.decode(codes)
        took.append(clock() - began)
        for parts, stream in zip(made, streams, strict=True):
            parts.append(numpy(codes[stream]))
    for parts, stream in zip(made, streams, strict=True):
        parts.append(numpy(stream.finish_encode()))
    return took[WARM:], [np.concatenate(parts, 1) for parts in made]


def _alone(codec: Codec, wave: Tensor, clock: Callable[[], float]) -> list[float]:
    stream, took = Stream(codec), []
    for piece in wave.split(codec.frame_size, 1):
        began = clock()
        stream.decode(stream.encode(piece))
        took.append(clock() - began)
    return took[WARM:]


if __name__ == "__main__":
    main()
