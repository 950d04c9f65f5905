"""Whether training waits for its data: speed of reading beside that of a training step, in one run.

    python tests/bench/reading.py [--minutes 20] [--batch 16] [--workers 0 1 2] [--device cpu]

A corpus of noise is written (16-bit WAV at 16 kHz, FLAC at 44.1 kHz in stereo, half each), and read
from the Pool and straight from the files, as it is and augmented. Then `speech` trains on it for
some steps, with a loss that costs next to nothing, so that it takes data faster than a real run
does; how long it waited for batches is what counts.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import soundfile
import torch

from audiotok._platform.registry import find
from audiotok.data.augment import Augment
from audiotok.data.batches import BatchConfig, Batches
from audiotok.data.cache import SampleCache
from audiotok.data.direct import FileSamples
from audiotok.data.loader import PREFETCH, loader
from audiotok.data.recording import Recording

AUGMENTS = {
    "as it is": None,
    "default": Augment(),
    "everything": Augment(gain=0.5, flip=0.5, band=0.5, noise=0.5),
}
SECONDS = 10  # length of a recording


def corpus(folder: Path, minutes: int) -> list[Recording]:
    """Recordings of noise."""
    random, found = np.random.default_rng(0), []
    for i in range(minutes * 60 // SECONDS):
        rate, channels, suffix = ((16000, 1, "wav"), (44100, 2, "flac"))[i % 2]
        path = folder / f"{i}.{suffix}"
        soundfile.write(path, 0.1 * random.standard_normal((rate * SECONDS, channels)), rate)
        found.append(Recording.of_file(path))
    return found


def speed(batches: Batches, workers: int, seconds: float) -> float:
    """Seconds of audio a second, once what was read ahead at leisure is used up."""
    with closing(loader(batches, first=0, last=10**9, workers=workers)) as loading:
        for _ in range(max(1, (PREFETCH + 2) * workers)):
            next(loading)
        began, count = time.perf_counter(), 0
        while time.perf_counter() - began < seconds or count < 4:
            next(loading)
            count += 1
        took = time.perf_counter() - began
    return count * batches.config.batch * batches.length / batches.source.rate / took


def training(batches: Batches, workers: int, device: str, seconds: float) -> tuple[float, float]:
    """Seconds of audio a second that `speech` trains on, and the share of time it waits for it."""
    torch.manual_seed(0)
    codec = find("codecs", "speech")().to(device).train()
    optimizer = torch.optim.AdamW(codec.parameters())
    waited, count, began = 0.0, 0, 0.0
    with closing(loader(batches, first=0, last=10**9, workers=workers)) as loading:
        while count < 4 or time.perf_counter() - began < seconds:
            if count == 2:  # warm
                waited, began = 0.0, time.perf_counter()
            before = time.perf_counter()
            wave = next(loading).wave.to(device)
            waited += time.perf_counter() - before
            made, quantized = codec(wave)
            loss = (made - wave).abs().mean() + quantized.losses["commitment"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()  # waits for the device
            count += 1
        took = time.perf_counter() - began
    audio = (count - 2) * batches.config.batch * batches.length / batches.source.rate
    return audio / took, waited / took


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--minutes", type=int, default=20)
    options.add_argument("--batch", type=int, default=16)
    options.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    options.add_argument("--device", default="cpu")
    options.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    chosen = options.parse_args()
    torch.set_flush_denormal(True)

    codec = find("codecs", "speech")()
    config = BatchConfig(chosen.batch, round(codec.frame_rate), codec.frame_size)  # crops of 1 s
    rate = codec.sample_rate
    with tempfile.TemporaryDirectory() as name:
        recordings = corpus(Path(name), chosen.minutes)
        began = time.perf_counter()
        pool = SampleCache.build(recordings, rate, Path(name))
        took = time.perf_counter() - began
        files = FileSamples.open(recordings, rate, Path(name))
        print(
            f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__} "
            f"on {chosen.device}; {chosen.minutes} min of audio, batches of {chosen.batch} x 1 s"
        )
        print(f"the pool was built at {chosen.minutes * 60 / took:.0f}x real time")
        print("\nreading alone, x real time")
        print("| from | augmented | " + " | ".join(f"{w} processes" for w in chosen.workers) + " |")
        print("|---|---|" + "---|" * len(chosen.workers))
        sources: dict[str, SampleCache | FileSamples] = {"pool": pool, "files": files}
        for source, samples in sources.items():
            for how, augment in AUGMENTS.items():
                batches = Batches(samples, config, augment=augment)
                row = [f"{speed(batches, w, chosen.seconds):.0f}" for w in chosen.workers]
                print(f"| {source} | {how} | " + " | ".join(row) + " |", flush=True)
        print("\ntraining, every augmentation")
        print("| from | processes | x real time | of the time waiting for data |")
        print("|---|---|---|---|")
        for source, samples in sources.items():
            batches = Batches(samples, config, augment=AUGMENTS["everything"])
            for workers in chosen.workers:
                fast, share = training(batches, workers, chosen.device, chosen.seconds)
                print(f"| {source} | {workers} | {fast:.1f} | {share:.1%} |", flush=True)


if __name__ == "__main__":
    main()
