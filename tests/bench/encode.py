"""Speed of `speech` beside EnCodec 24 kHz (its own package), encode and decode, in one run.

    python tests/bench/encode.py [--seconds 60] [--threads 2] [--rounds 5]

Both get the same real recording, repeated to length and resampled to their rate beforehand; both
use 8 codebooks (4 and 6 kbps). EnCodec has random weights: speed does not depend on them. The two
take turns, and the fastest round of each counts, for a shared machine only ever slows down.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch

from audiotok import Audio, load
from audiotok.audio import _torchaudio

RECORDING = Path(__file__).parents[2] / "egs" / "data" / "reading.flac"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=int, default=60)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--rounds", type=int, default=5)
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    torch.set_flush_denormal(True)

    _torchaudio.load()  # encodec imports torchaudio
    from encodec.model import EncodecModel

    speech = load("speech")
    encodec = EncodecModel.encodec_model_24khz(pretrained=False).eval()
    encodec.set_target_bandwidth(6.0)
    for name, buffer in encodec.named_buffers():
        if name.endswith("inited"):
            buffer.fill_(1)  # else it runs k-means on the recording

    one = Audio.load(RECORDING).mono()
    repeats = int(-(-chosen.seconds // one.seconds))
    audio = Audio.cat([one] * repeats)[: chosen.seconds * one.rate]
    ours, theirs = audio.resample(speech.sample_rate), audio.resample(24000).samples[None]
    with torch.inference_mode():
        tokens, frames = speech.encode(ours), encodec.encode(theirs)
        tasks: dict[str, Callable[[], object]] = {
            "speech encode": lambda: speech.encode(ours),
            "encodec encode": lambda: encodec.encode(theirs),
            "speech decode": lambda: speech.decode(tokens),
            "encodec decode": lambda: encodec.decode(frames),
        }
        best = dict.fromkeys(tasks, float("inf"))
        for _ in range(chosen.rounds):
            for name, task in tasks.items():
                began = time.perf_counter()
                task()
                best[name] = min(best[name], time.perf_counter() - began)

    machine = platform.processor() or platform.machine()
    print(f"{chosen.seconds} s of audio, {chosen.threads} threads, fastest of {chosen.rounds}")
    print(f"torch {torch.__version__}, {machine}")
    for name, took in best.items():
        print(f"{name:15} {took:7.3f} s  real-time factor {took / chosen.seconds:.4f}  ", end="")
        print(f"{chosen.seconds / took:6.1f}x real time")
    for way in ("encode", "decode"):
        print(f"{way}: speech is {best[f'encodec {way}'] / best[f'speech {way}']:.1f}x as fast")


if __name__ == "__main__":
    main()
