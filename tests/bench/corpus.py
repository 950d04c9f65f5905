"""Hours of audio an hour, from files to a corpus on the disk, beside plain loops of other packages.

    python tests/bench/corpus.py [--data FOLDER] [--seconds 240] [--rounds 2]
    python tests/bench/corpus.py --reading           # tokens a second, read

Reading and decoding of audio included. EnCodec 24 kHz, 8 codebooks, the same random weights (speed
does not depend on them) in all three: (a) a loop over the `encodec` package, (b) transformers'
EncodecModel in padded batches of 8, (c) `audiotok corpus build`; then `speech`, of ten times as
much audio, so that starting its processes does not hide what it does. The programs take turns; each
is a process of its own, timed whole (start and imports too) and without its start. The fastest
round of each counts, for a shared machine only ever slows down. Hours a core-hour are by CPU time,
starts included, which what else runs on the machine changes little; --threads 1 keeps the loops
from spending CPU on waiting for their own threads.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from audiotok import Audio, load
from audiotok.audio import _torchaudio
from audiotok.audio.decoders import AUDIO
from audiotok.corpus import Corpus

ROOT = Path(__file__).parents[2]
READING = ROOT / "egs" / "data" / "reading.flac"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--data", type=Path, help="recordings; else pieces of reading.flac")
    options.add_argument("--seconds", type=float, default=240)
    options.add_argument("--rounds", type=int, default=2)
    options.add_argument("--threads", type=int, help="of the loops (default: torch's)")
    options.add_argument("--reading", action="store_true")
    options.add_argument("--loop", choices=["encodec", "transformers"], help=argparse.SUPPRESS)
    options.add_argument("--weights", type=Path, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.loop:
        if chosen.threads:
            torch.set_num_threads(chosen.threads)
        loop(chosen.loop, chosen.data, chosen.weights)
        return
    print(f"torch {torch.__version__}, {platform.processor() or platform.machine()}", end=", ")
    print(f"{os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as folder:
        if chosen.reading:
            reading(Path(folder))
        else:
            speed(Path(folder), chosen)


def recordings(folder: Path, data: Path | None, seconds: float) -> float:
    """Links to, or makes, recordings of so many seconds in all; how many there are."""
    folder.mkdir()
    total = 0.0
    if data:
        for number, path in enumerate(sorted(p for p in data.rglob("*") if p.suffix in AUDIO)):
            if total < seconds:
                (folder / f"{number:05d}{path.suffix}").symlink_to(path)
                total += soundfile.info(path).duration
        return total
    audio = Audio.load(READING)
    draw = np.random.default_rng(0)
    while total < seconds:
        a, b = np.sort(draw.integers(0, len(audio), 2))
        if b - a > 3 * audio.rate:
            audio[int(a) : int(b)].save(folder / f"{int(total):05d}.flac")
            total += (b - a) / audio.rate
    return total


def encodec(path: Path | None = None) -> torch.nn.Module:
    """EnCodec's own model with random weights, or those of a file."""
    _torchaudio.load()  # encodec imports torchaudio
    warnings.simplefilter("ignore")
    from encodec.model import EncodecModel

    torch.manual_seed(0)
    model = EncodecModel.encodec_model_24khz(pretrained=False).eval()
    model.set_target_bandwidth(6.0)
    for name, buffer in model.named_buffers():
        if name.endswith("inited"):
            buffer.fill_(1)  # else it runs k-means on the recording
        elif name.endswith("embed"):
            buffer.normal_()
    if path:
        model.load_state_dict(torch.load(path, weights_only=True))
    return model


@torch.inference_mode()
def loop(kind: str, data: Path, weights: Path) -> None:
    """What a user would write without us: prints seconds of work, and saves the codes."""
    files = sorted(data.iterdir())
    model = encodec(weights)
    from encodec.utils import convert_audio

    made: dict[str, np.ndarray] = {}

    def wave(path: Path) -> torch.Tensor:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        return convert_audio(torch.from_numpy(samples.T.copy()), rate, 24000, 1)

    if kind == "encodec":
        began = time.perf_counter()
        for path in files:
            made[path.name] = model.encode(wave(path)[None])[0][0][0].numpy()  # pyright: ignore
    else:
        from transformers import EncodecConfig, EncodecModel  # pyright: ignore

        theirs = EncodecModel(EncodecConfig()).eval()  # of random weights: only its time counts
        began = time.perf_counter()
        for first in range(0, len(files), 8):
            waves = [wave(path)[0] for path in files[first : first + 8]]
            longest = max(map(len, waves))
            batch = torch.stack([torch.nn.functional.pad(w, (0, longest - len(w))) for w in waves])
            mask = torch.stack([torch.arange(longest) < len(w) for w in waves])
            coded: Any = theirs.encode(batch[:, None], mask, bandwidth=6.0)
            codes = coded.audio_codes[0]
            for i, (path, w) in enumerate(zip(files[first : first + 8], waves, strict=True)):
                made[path.name] = codes[i, :, : -(-len(w) // 320)].numpy()
    took = time.perf_counter() - began
    np.savez(weights.with_suffix(".npz"), allow_pickle=False, **made)  # pyright: ignore
    print(json.dumps(took))


def ours(codec: str, data: Path, out: Path) -> tuple[float, float, float]:
    """Seconds of the whole process, seconds from the first task on, and how busy it was."""
    command = [sys.executable, "-m", "audiotok", "corpus", "build", str(data), "-o", str(out)]
    began = time.perf_counter()
    command += ["--codec", codec, "--codebooks", "8", "--force", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    facts = json.loads(done.stdout)
    return time.perf_counter() - began, facts["took"], facts["busy"]


def spent() -> float:
    """CPU seconds of all processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def speed(folder: Path, chosen: argparse.Namespace) -> None:
    rounds, threads = chosen.rounds, ["--threads", str(chosen.threads or 0)]
    total = recordings(folder / "in", chosen.data, chosen.seconds)
    totals = {"corpus build, speech": recordings(folder / "more", chosen.data, 10 * chosen.seconds)}
    count = len(list((folder / "in").iterdir()))
    print(f"{count} recordings, {total:.0f} s of audio, fastest of {rounds} rounds", end=", ")
    loops = chosen.threads or torch.get_num_threads()
    print(f"loops with {loops} threads, load {os.getloadavg()[0]:.1f}")
    torch.save(encodec().state_dict(), folder / "encodec.th")
    codec = str(folder / "encodec.th")
    best: dict[str, tuple[float, float]] = {}
    busy: dict[str, float] = {}
    cpu: dict[str, float] = {}
    theirs: dict[str, np.ndarray] = {}
    exact, same = 0.0, np.zeros(1)
    for _ in range(rounds):
        for name in ("encodec", "transformers"):
            command = [sys.executable, __file__, "--loop", name, "--data", str(folder / "in")]
            command += threads
            before, began = spent(), time.perf_counter()
            done = subprocess.run(
                [*command, "--weights", codec], capture_output=True, text=True, check=False
            )
            if done.returncode:
                print(f"{name}: not run ({done.stderr.strip().splitlines()[-1][:90]})")
                continue
            took = (time.perf_counter() - began, float(done.stdout.splitlines()[-1]))
            cpu[name] = min(cpu.get(name, 1e9), spent() - before)
            best[name] = min(best.get(name, took), took)
            if name == "encodec":
                theirs = dict(np.load(folder / "encodec.npz"))
        for name, which in (("corpus build, EnCodec", codec), ("corpus build, speech", "speech")):
            before = spent()
            source = folder / ("more" if which == "speech" else "in")
            whole, took, share = ours(which, source, folder / "out")
            best[name] = min(best.get(name, (whole, took)), (whole, took))
            cpu[name] = min(cpu.get(name, 1e9), spent() - before)
            busy[name] = share
            if name == "corpus build, EnCodec":
                corpus = Corpus(folder / "out")
                same = np.array([(e.tokens.codes == theirs[e.id]).mean() for e in corpus])
                exact = float((same == 1).mean())
    for name, (whole, took) in best.items():
        seconds = totals.get(name, total)
        line = (
            f"{name:22} {seconds / whole:7.1f} h/h whole, {seconds / took:7.1f} without the start, "
        )
        line += f"{seconds / cpu[name]:6.1f} h a core-hour"
        print(line + (f", processes {busy[name]:.0%} busy" if name in busy else ""))
    ratio = best["encodec"][0] / best["corpus build, EnCodec"][0]
    bare = best["encodec"][1] / best["corpus build, EnCodec"][1]
    work = cpu["encodec"] / cpu["corpus build, EnCodec"]
    print(f"EnCodec's weights: {ratio:.2f}x the plain loop, {bare:.2f}x without starts,", end=" ")
    print(f"{work:.2f}x by CPU time;", end=" ")
    print(f"{exact:.1%} of recordings with equal codes, {same.mean():.4%} of codes")
    one = folder / "one"
    recordings(one, folder / "in", 1)
    print(f"a corpus of one recording, start to end: {ours('speech', one, folder / 'o')[0]:.2f} s")


def reading(folder: Path) -> None:
    """Tokens a second of a corpus of random codes, in this process."""
    from audiotok.corpus.base import CorpusInfo
    from audiotok.corpus.write import row_of, write_corpus

    tokens = load("speech").encode(Audio.load(READING))
    about = CorpusInfo(tokens.codec, tokens.fingerprint, tokens.sizes, 16000, 320, 1, ())
    entries = ((row_of(str(i), tokens, i, {}), tokens) for i in range(5000))
    write_corpus(folder / "c", about, entries)
    corpus = Corpus(folder / "c")
    count = corpus.frames * corpus.codebooks
    order = np.random.default_rng(0).permutation(len(corpus))[:2000]
    ways = {
        "whole shards": lambda: sum(shard.codes().size for shard in corpus.shards),
        "entries in order": lambda: sum(entry.tokens.codes.size for entry in corpus),
        "codes at random": lambda: sum(corpus.codes(int(i)).size for i in order),
    }
    for name, way in ways.items():
        best = float("inf")
        for _ in range(3):
            began = time.process_time()
            size = way()
            best = min(best, (time.process_time() - began) / size)
        print(f"{name:17} {1e-6 / best:6.1f} million tokens a second of CPU (of {count:,})")


if __name__ == "__main__":
    main()
