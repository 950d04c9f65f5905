"""Packages with parts of audiotok, written as pip installs them, without pip and a network."""

from __future__ import annotations

from pathlib import Path

CODE = '''
import torch

from audiotok.audio.audio import Audio
from audiotok.codecs.functions import FunctionCodec
from audiotok.evaluation.metrics.base import Metric, Score
from audiotok.nn.quantizers.rvq import Rvq

FRAME = 160


def encode(wave):
    """The mean of each frame, and the sign of its first sample."""
    frames = wave[0].view(-1, FRAME)
    means = ((frames.mean(1).clamp(-1, 1) + 1) * 127.5).round().long()
    return torch.stack([means, (frames[:, 0] > 0).long()])


def decode(codes):
    """The means, held for a frame, and a click where a sign says so."""
    wave = (codes[:1] / 127.5 - 1).repeat_interleave(FRAME, 1)
    if len(codes) > 1:
        wave[:, ::FRAME] += 0.01 * codes[1]
    return wave


class Hold(FunctionCodec):
    """Samples that are held for a frame."""

    def __init__(self):
        super().__init__(
            name="hold",
            sample_rate=16000,
            frame_size=FRAME,
            sizes=(256, 2),
            encode=encode,
            decode=decode,
            weights="hold, version 1",
            decodes_fewer=True,
        )


def codec():
    """The same, by another name."""
    codec = Hold()
    codec.name = "held"
    return codec


class Loudness(Metric):
    """Mean square of the output over that of the reference."""

    better = "higher"
    protocol = "mean squares"

    def score(self, output: Audio, reference: Audio, text=None):
        return Score(float(output.samples.square().mean()), 1.0)


class Plain(Rvq):
    """Residual quantizer of another package."""
'''


def install(site: Path, name: str, entries: dict[str, str], code: str = CODE) -> Path:
    """Write a package of one module into a folder as pip would, and return the folder.

    Args:
        site: folder that is, or will be, on the Python path.
        name: name of the package, and of its module.
        entries: "FAMILY.NAME" -> "module:Class"; the families as in `audiotok.FAMILY`.
        code: content of the module.
    """
    information = site / f"{name}-1.0.dist-info"
    information.mkdir(parents=True)
    (site / f"{name}.py").write_text(code, "utf-8")
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    groups: dict[str, list[str]] = {}
    for entry, value in entries.items():
        family, _, part = entry.partition(".")
        groups.setdefault(f"[audiotok.{family}]", []).append(f"{part} = {value}")
    text = "".join("\n".join([group, *lines, ""]) for group, lines in groups.items())
    (information / "entry_points.txt").write_text(text, "utf-8")
    return site
