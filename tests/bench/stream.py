"""Streams of `speech`, one after the other and side by side: what a 20 ms frame takes, both ways.

    python tests/bench/stream.py [--streams 1 10 40] [--seconds 4] [--threads 1 2] [--cpu]
        [--exported FOLDER] [--json FILE]

Every stream gets its own stretch of a real recording, a frame at a time, encodes and decodes it.
Side by side all are stepped at once (`StreamBatch`): in torch, and by onnxruntime where that is
installed. One after the other, each `Stream` by itself. Frames of the codes that are other than
those of the whole recording are counted (near-ties).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch
from clips import ROOT, commit, machine, shown
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
    options.add_argument("--json", type=Path, help="file to write the results to")
    chosen = options.parse_args()
    clock = time.process_time if chosen.cpu else time.perf_counter
    torch.set_flush_denormal(True)
    codec = load("speech")
    audio = Audio.load(RECORDING).mono().resample(codec.sample_rate)
    frames = WARM + round(chosen.seconds * codec.sample_rate / codec.frame_size)
    about = {
        "command": f"python tests/bench/stream.py {shown(sys.argv[1:])}",
        "machine": f"{machine()}, shared with other work",
        "date": datetime.now(timezone.utc).date().isoformat(),
        "commit": commit(ROOT),
        "unit": f"ms for 20 ms both ways, {'processor time' if chosen.cpu else 'by the clock'}",
    }
    scores: dict[str, dict[str, float]] = {}
    for threads in chosen.threads:
        torch.set_num_threads(threads)
        exported = _exported(chosen.exported, threads)
        for count in chosen.streams:
            waves = [_from(audio, i, frames * codec.frame_size) for i in range(count)]
            wholes = [codec.encode(Audio(wave, codec.sample_rate)).codes for wave in waves]
            sides = [("torch", _abreast(codec, waves, clock))]
            if exported is not None:
                sides.append(("onnx", _abreast(exported, waves, clock)))
            alone = 1000 * float(np.median(_alone(codec, waves[0], clock)))
            title = f"{count} stream{'s' * (count > 1)}, {threads} thread{'s' * (threads > 1)}"
            scores[f"{title}: torch, one after the other"] = {"median": alone * count}
            for name, (took, codes) in sides:
                p50, p99 = (1000 * float(q) for q in np.quantile(took, [0.5, 0.99]))
                pairs = zip(wholes, codes, strict=True)
                differ = sum(int((one != other).any(0).sum()) for one, other in pairs)
                scores[f"{title}: {name}, side by side"] = {
                    "median": p50,
                    "p99": p99,
                    "frames": sum(whole.shape[1] for whole in wholes),
                    "frames that differ": differ,
                }
            for row in [row for row in scores if row.startswith(title)]:
                print(row, {k: round(v, 2) for k, v in scores[row].items()}, flush=True)
    if chosen.json:
        content = json.dumps(about | {"scores": scores}, indent=1)
        chosen.json.write_text(content + "\n", "utf-8")


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
