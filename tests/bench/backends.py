"""What executes a codec fastest: torch, torch.compile, onnxruntime, OpenVINO, on the same audio.

    python tests/bench/backends.py [--seconds 10] [--threads 2] [--rounds 5] [--folder KEPT]
        [--compile] [--int8] [--json FILE]

For `speech` (its weights) and EnCodec 24 kHz (random weights, 8 codebooks), beside the `encodec`
package with the weights of ours. All take turns, and the fastest round of each counts, for a shared
machine only ever slows down; on one that is never quiet, `--cpu --threads 1` counts the processor's
own time. Codes are compared with torch's: fp32 has to give the same, bfloat16
drifts, which is stated. Backends run the recording in blocks of `codec.block` frames, as
`audiotok encode --backend` does.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.extend(str(Path(__file__).parents[1] / room) for room in ("", "codecs", "nn"))

import test_codecs_oracles as oracles
import test_state_dicts as state_dicts
from clips import ROOT, commit, machine, shown

from audiotok import Audio, load
from audiotok.codecs.export.folder import export
from audiotok.codecs.export.graphs import whole
from audiotok.codecs.models import encodec as encodecs
from audiotok.codecs.models.base import Codec
from audiotok.runtime.exported import Exported, is_exported

RECORDING = Path(__file__).parents[2] / "egs" / "data" / "reading.flac"
CODEBOOKS = 8
WAYS = ("encode", "decode")
BACKENDS = (("onnx", "float32"), ("openvino", "float32"), ("openvino", "bfloat16"))
IN_8_BITS = (("onnx", "float32"), ("openvino", "float32"))  # of weights; it computes in floats

Task = Callable[[], np.ndarray]
Row = tuple[str, Task, Task]  # a name; codes `[k f]`; samples `[c t]`


def package(theirs: Any, wave: torch.Tensor, codes: np.ndarray) -> Row:
    """The `encodec` package's own encoder, quantizer and decoder."""
    given = torch.from_numpy(codes.copy())[:, None]

    def encode() -> np.ndarray:
        latent = theirs.encoder(wave[None])
        return theirs.quantizer.vq.encode(latent, n_q=CODEBOOKS)[:, 0].numpy()

    def decode() -> np.ndarray:
        return theirs.decoder(theirs.quantizer.decode(given))[0].numpy()

    return "encodec package", encode, decode


def compiled(codec: Codec, wave: torch.Tensor, codes: np.ndarray) -> Row:
    """The whole recording through what torch.compile makes of encoder and decoder."""
    encoder, decoder = (
        torch.compile(graph.run, dynamic=False) for graph in whole(codec, CODEBOOKS)
    )
    given = torch.from_numpy(codes.copy())[None]
    return (
        "torch.compile",
        lambda: encoder(wave[None])[0][0].numpy(),
        lambda: decoder(given)[0][0].numpy(),
    )


def exported(name: str, codec: Exported, audio: Audio, tokens: Any) -> Row:
    samples = audio.samples.numpy()
    return (
        name,
        lambda: codec.encode_array(samples, audio.rate, codebooks=CODEBOOKS).codes,
        lambda: codec.decode_array(tokens),
    )


def rows_of(
    codec: Codec, audio: Audio, folder: Path, threads: int, *, with_compile: bool, with_int8: bool
) -> list[Row]:
    tokens = codec.encode(audio, codebooks=CODEBOOKS)
    made: list[Row] = [
        (
            "torch",
            lambda: codec.encode(audio, codebooks=CODEBOOKS).codes,
            lambda: codec.decode(tokens).samples.numpy(),
        ),
    ]
    if with_compile:
        made.append(compiled(codec, audio.samples, tokens.codes))
    for int8, backends in ((False, BACKENDS), *([(True, IN_8_BITS)] if with_int8 else [])):
        kept = folder / f"{codec.name}{'-int8' if int8 else ''}"
        if not is_exported(kept):
            about = export(codec, kept, codebooks=CODEBOOKS, steps=True, int8=int8)
            print(f"  {kept.name}: {about['int8'] or about['parity']}", flush=True)
        for backend, precision in backends:
            try:
                run: Any = load(kept, backend=backend, threads=threads, precision=precision)  # pyright: ignore
                name = f"{backend} {'int8 weights' if int8 else precision}"
                made.append(exported(name, run, audio, tokens))
            except ImportError as missing:
                print(f"{backend}: left out, {missing}")
    return made


def timed(
    rows: list[Row], seconds: float, rounds: int, right: Row, clock: Callable[[], float]
) -> dict[str, dict[str, float]]:
    """Speeds of each row both ways, and how far its codes and samples are from the right ones."""
    codes, wave = right[1](), right[2]()
    best: dict[tuple[str, str], float] = {}
    for _, *tasks in rows:
        for task in tasks:
            task()  # warm
    for _ in range(rounds):
        for name, *tasks in rows:
            for way, task in zip(WAYS, tasks, strict=True):
                began = clock()
                task()
                took = clock() - began
                best[name, way] = min(best.get((name, way), took), took)
    first = rows[0][0]
    scores: dict[str, dict[str, float]] = {}
    for name, encode, decode in rows:
        mine, heard = encode(), decode()
        row = {way: seconds / best[name, way] for way in WAYS}
        total = sum(best[first, way] for way in WAYS)
        row[f"times {first}"] = total / sum(best[name, way] for way in WAYS)
        if mine.shape == codes.shape:  # else it is another codec
            row["codes that differ, %"] = 100 * float((mine != codes).mean())
            n = min(wave.shape[1], heard.shape[1])
            row["samples within"] = float(np.abs(heard[:, :n] - wave[:, :n]).max())
        scores[name] = row
        print(f"  {name:20}", {k: float(f"{v:.3g}") for k, v in row.items()}, flush=True)
    return scores


def installed() -> str:
    """The versions of what is compared."""
    said = []
    for package in ("torch", "onnxruntime", "openvino", "encodec"):
        try:
            said.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(said)


@torch.no_grad()
def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=int, default=10)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--folder", type=Path, help="where exports are kept for another run")
    options.add_argument("--codecs", nargs="+", default=["speech", "encodec"])
    options.add_argument("--cpu", action="store_true", help="count the processor's seconds")
    options.add_argument("--compile", action="store_true", help="torch.compile too: minutes")
    options.add_argument("--int8", action="store_true", help="weights in 8 bits too")
    options.add_argument("--json", type=Path, help="file to write the results to")
    chosen = options.parse_args()
    clock = time.process_time if chosen.cpu else time.perf_counter
    torch.set_num_threads(chosen.threads)
    torch.set_flush_denormal(True)
    one = Audio.load(RECORDING).mono()
    one = Audio.cat([one] * int(-(-chosen.seconds // one.seconds)))[: chosen.seconds * one.rate]
    counted = "processor's seconds" if chosen.cpu else "by the clock"
    about = {
        "command": f"python tests/bench/backends.py {shown(sys.argv[1:])}",
        "machine": machine(),
        "software": installed(),
        "date": datetime.now(timezone.utc).date().isoformat(),
        "commit": commit(ROOT),
        "unit": f"times real time, {chosen.seconds} s, {chosen.threads} threads, {counted}",
    }
    scores: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = chosen.folder or Path(scratch)
        theirs, _ = oracles.encodec_pair(encodecs.Config())
        ours = state_dicts.saved(theirs, Path(scratch) / "theirs.pt")
        peer_audio = one.resample(24000)
        codes = ours.encode(peer_audio, codebooks=CODEBOOKS).codes
        peer = package(theirs, peer_audio.samples, codes)
        for name in chosen.codecs:
            codec = load("speech") if name == "speech" else ours
            print(codec.name)
            audio = one.resample(codec.sample_rate)
            more = {"with_compile": chosen.compile, "with_int8": chosen.int8}
            rows = rows_of(codec, audio, folder, chosen.threads, **more)
            found = timed([peer, *rows], one.seconds, chosen.rounds, rows[0], clock)
            scores |= {f"{codec.name}: {name}": row for name, row in found.items()}
    if chosen.json:
        chosen.json.write_text(json.dumps(about | {"scores": scores}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
