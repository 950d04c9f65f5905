"""Codecs that everyone knows, to score beside ours: `python egs/score.py DATA --beside opus:6 ...`

Each is a function from audio to what it comes back as, at a rate it names:

    opus:KBPS     opusenc and opusdec (Debian opus-tools), hard CBR
    codec2:MODE   c2enc and c2dec (Debian codec2), at 8 kHz; MODE 3200, 2400, 1200 ...
    lyra:BPS      google/lyra's tflite models, in the folder $LYRA; 3200, 6000 or 9200
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import torch

from audiotok import Audio


def _run(*command: object) -> None:
    subprocess.run([str(word) for word in command], check=True, capture_output=True)


def opus(audio: Audio, kbps: str) -> tuple[Audio, int]:
    """Output at the input's rate and length, and the bytes of its packets and container."""
    with tempfile.TemporaryDirectory() as folder:
        a, b, c = (Path(folder) / name for name in ("a.wav", "b.opus", "c.wav"))
        audio.save(a)
        _run("opusenc", "--quiet", "--hard-cbr", "--bitrate", kbps, a, b)
        _run("opusdec", "--quiet", "--rate", audio.rate, b, c)
        return Audio.load(c), b.stat().st_size


def codec2(audio: Audio, mode: str) -> tuple[Audio, int]:
    """The same of Codec2, which hears 8 kHz: nothing above 4 kHz comes back."""
    with tempfile.TemporaryDirectory() as folder:
        a, b, c = (Path(folder) / name for name in ("a.raw", "b.c2", "c.raw"))
        narrow = audio.resample(8000).samples[0].clamp(-1, 1)
        a.write_bytes((narrow * 32767).short().numpy().tobytes())
        _run("c2enc", mode, a, b)
        _run("c2dec", mode, b, c)
        made = np.frombuffer(c.read_bytes(), np.int16).astype(np.float32) / 32768
        return Audio(torch.from_numpy(made.copy())[None], 8000).resample(audio.rate), len(
            b.read_bytes()
        )


def lyra(audio: Audio, bps: str) -> tuple[Audio, int]:
    """The same of Lyra v2 (16 kHz, 20 ms frames), without its comfort noise and packet loss."""
    from ai_edge_litert.interpreter import Interpreter  # pyright: ignore[reportMissingImports]

    stages = {"3200": 16, "6000": 30, "9200": 46}[bps]
    folder = Path(os.environ["LYRA"])
    nets = [
        Interpreter(model_path=str(folder / f"{n}.tflite"))
        for n in ("soundstream_encoder", "quantizer", "lyragan")
    ]
    encoder, quantizer, decoder = nets
    code, back = (quantizer.get_signature_runner(name) for name in ("encode", "decode"))
    for net in (encoder, decoder):
        net.allocate_tensors()
    wave, made = audio.samples[0].numpy(), []
    for frame in np.pad(wave, (0, -len(wave) % 320)).reshape(-1, 320):
        latent = _through(encoder, frame[None])
        found = code(input_frames=latent.reshape(1, 1, -1), num_quantizers=np.int32(stages))
        kept = back(encoding_indices=found["output_0"])["output_0"]
        made.append(_through(decoder, kept.reshape(1, 1, -1)).ravel())
    return Audio(torch.from_numpy(np.concatenate(made))[None], 16000), len(made) * stages * 4 // 8


def _through(net: object, x: np.ndarray) -> np.ndarray:
    into, out = net.get_input_details()[0], net.get_output_details()[0]  # type: ignore[attr-defined]
    net.set_tensor(into["index"], x.reshape(into["shape"]).astype(np.float32))  # type: ignore[attr-defined]
    net.invoke()  # type: ignore[attr-defined]
    return net.get_tensor(out["index"])  # type: ignore[attr-defined]
