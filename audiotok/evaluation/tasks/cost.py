"""Cost of coding: real-time factors, peak memory, parameters, operations."""

from __future__ import annotations

import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from audiotok._platform.errors import InputError
from audiotok.audio.audio import Audio
from audiotok.codecs.checkpoint import save
from audiotok.codecs.functions import FunctionCodec
from audiotok.codecs.models.base import Codec
from audiotok.evaluation.probes.statistics import bootstrap
from audiotok.evaluation.results import Finding
from audiotok.evaluation.tasks.base import Bench, Task
from audiotok.nn.flops import flops

RUNS = 3  # timed runs of each recording; their median is used
AT_MOST = 20  # recordings, evenly spaced in the corpus

# Linux reports a process's peak as VmHWM (`ru_maxrss` may be its parent's). Writing 5 to clear_refs
# resets it, so that the memory for loading the weights is not counted.
_CHILD = """
import sys, torch
from pathlib import Path
from audiotok.audio.audio import Audio
from audiotok.codecs.checkpoint import load
def memory(of):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(of))
torch.set_num_threads(int(sys.argv[3]))
codec = load(Path(sys.argv[1]))
audio = Audio.load(sys.argv[2])
Path("/proc/self/clear_refs").write_text("5")
print(memory("VmRSS"))
codec.decode(codec.encode(audio, codebooks=int(sys.argv[4])))
print(memory("VmHWM"))
"""


class Cost(Task):
    """Time, memory and size of a codec on this machine."""

    of_latents = True

    def __init__(self, option: str = "") -> None:
        super().__init__(option)
        self.protocol = (
            f"real-time factor: seconds of work over seconds of audio, one recording at a time, "
            f"median of {RUNS} runs after one that is not counted, up to {AT_MOST} recordings, "
            f"reading and resampling left out; {_processor()}, {torch.get_num_threads()} threads; "
            "peak memory: resident, of a process of its own that codes the longest of them on the "
            "CPU; operations: matrix products and convolutions as torch counts them (no FFTs, no "
            "LSTMs), of all codebooks"
        )

    def run(self, bench: Bench) -> list[Finding]:
        """Return the costs; see `Task.run`."""
        codec = bench.codec
        chosen = np.linspace(0, len(bench.recordings) - 1, AT_MOST).round().astype(int)
        audios = [bench.audio(bench.recordings[i]) for i in sorted(set(chosen.tolist()))]
        audios = [audio for audio in audios if len(audio)]
        if not audios:
            raise InputError("no samples to measure on: give recordings that are not empty")
        tokens = [codec.encode(audio, codebooks=bench.codebooks) for audio in audios]
        seconds = [audio.seconds for audio in audios]
        coding = [partial(codec.encode, audio, codebooks=bench.codebooks) for audio in audios]
        findings = [
            self._factor("encode", bench, coding, seconds),
            self._factor("decode", bench, [partial(codec.decode, t) for t in tokens], seconds),
            *self._memory(bench, max(audios, key=len)),
            *self._parameters(codec),
        ]
        return [*findings, *self._operations(codec)]

    def _factor(
        self, what: str, bench: Bench, calls: Sequence[Callable[[], object]], seconds: list[float]
    ) -> Finding:
        """Return the real-time factor of calls on recordings of the given seconds."""
        calls[0]()
        took = [_median(call, bench.codec.device) for call in bench.over(calls, what)]
        name, n = f"real-time factor of {what}", len(took)
        low, high = bootstrap(np.asarray(took), np.asarray(seconds))
        value = sum(took) / sum(seconds)
        note = f"{1 / value:.1f} times faster than real time; {bench.codec.device}"
        return self.finding(name, value, better="lower", low=low, high=high, n=n, note=note)

    def _memory(self, bench: Bench, audio: Audio) -> list[Finding]:
        """Return the peak memory of a process that encodes and decodes one recording."""
        name = "peak memory"
        if not hasattr(bench.codec, "config"):
            return [self.absent(name, "not run: another process cannot load this codec")]
        if not Path("/proc/self/status").exists():
            return [self.absent(name, "not run: counted on Linux only")]
        with tempfile.TemporaryDirectory(prefix="audiotok-cost-") as folder:
            weights, wave = Path(folder) / "codec.safetensors", Path(folder) / "audio.wav"
            save(bench.codec, weights, dtype=torch.float32)
            audio.save(wave, subtype="FLOAT")
            threads = str(torch.get_num_threads())
            words = [str(weights), str(wave), threads, str(bench.codebooks)]
            done = subprocess.run(
                [sys.executable, "-c", _CHILD, *words], capture_output=True, text=True, check=False
            )
        if done.returncode:
            why = done.stderr.strip().splitlines()[-1:] or [f"signal {-done.returncode}"]
            return [self.absent(name, f"not run: {why[0][:200]}")]
        before, after = (int(line) / 1024 for line in done.stdout.split())
        fields = {"unit": "MiB", "better": "lower"}
        note = f"encode and decode {audio.seconds:.1f} s; {before:.0f} with the codec loaded"
        return [
            self.finding(name, after, note=note, **fields),
            self.finding(f"{name} above the loaded codec", after - before, **fields),
        ]

    def _parameters(self, codec: Codec) -> list[Finding]:
        """Return the number of parameters; nothing for a codec that shows none."""
        total = codec.parameters_total
        return [self.finding("parameters", total, better="lower")] if total else []

    def _operations(self, codec: Codec) -> list[Finding]:
        """Return the operations of the whole codec and of its encoder."""
        if isinstance(codec, FunctionCodec):
            return [self.absent("operations", "not run: the codec is made of functions")]
        frames = max(1, round(2 * float(codec.frame_rate)))
        frames += -frames % 16  # multi-scale codecs need a multiple of their longest frame
        samples = frames * codec.frame_size
        random = torch.Generator().manual_seed(0)
        wave = 0.1 * torch.randn(1, codec.channels, samples, generator=random)
        wave = wave.to(codec.device)
        scale = codec.sample_rate / samples / 2e6  # a multiply and an add are two FLOPs
        whole = scale * flops(lambda: codec(wave))
        encoder = scale * flops(lambda: codec.latents(wave))
        fields = {"unit": "MMAC/s", "better": "lower"}
        note = "multiply-adds, in millions, for a second of audio"
        return [
            self.finding("operations", whole, note=note, **fields),
            self.finding("operations of the encoder", encoder, note=note, **fields),
        ]


def _median(call: Callable[[], object], device: torch.device) -> float:
    """Return the median duration of a call in seconds."""
    took = []
    for _ in range(RUNS):
        began = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        took.append(time.perf_counter() - began)
    return float(np.median(took))


def _processor() -> str:
    """Return the processor's name from the operating system."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        return next(x.split(":", 1)[1].strip() for x in lines if x.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
