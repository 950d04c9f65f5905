"""Writes one of each kind of file that audiotok keeps on disk; `kept/` is what it wrote.

    python tests/golden/kept.py tests/golden/kept

It was run at commit 402a94d, before the package was laid out in rooms. `tests/test_golden.py` holds
later commits to reading these files: no file may name a module, so none may depend on where one is.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import soundfile

import audiotok

RECIPE = """
codec = "speech"
[data]
manifest = "recordings/list.tsv"
cache = "cache"
seconds = 0.2
batch = 2
[loss]
mel = 1.0
spectrum = 1.0
commitment = 0.25
[train]
steps = 2
rate = 5e-3
warmup = 1
cooldown = 0
every = 1
clips = 1
[config]
sample_rate = 8000
frame_size = 160
encoder = 8
encoder_blocks = 2
decoder = 8
decoder_blocks = 2
window = 3
heads = 2
latent = 8
codebooks = 2
size = 16
semantic = 4
"""
LM_RECIPE = """
[data]
corpus = "corpus"
frames = 10
batch = 2
[layout]
codebooks = 2
pattern = "delay"
[model]
width = 16
depth = 1
heads = 2
[train]
steps = 2
rate = 2e-3
warmup = 1
cooldown = 0
every = 1
"""
CODEC = "run/best.safetensors"
COMMANDS = (
    "train recipe.toml -o run",
    f"encode recordings/b.wav -o b.tok --codec {CODEC}",
    f"corpus build recordings/list.tsv -o corpus --codec {CODEC}",
    f"export {CODEC} exported",
    f"bench --codec {CODEC} --data recordings --metrics stft -o bench",
    "lm train lm_recipe.toml -o lm",
    "export-corpus corpus -o rows --to jsonl",
)


def main(folder: Path) -> None:
    """Write every file into a folder."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "recordings").mkdir(parents=True)
    rows = ["path\tsplit"]
    for i, (name, split) in enumerate((("a", "train"), ("b", "train"), ("c", "dev"))):
        t = np.arange(8000 + 1234 * i) / 16000
        tones = sum(np.sin(2 * np.pi * f * (i + 2) * t) / 8 for f in (110, 330, 770))
        soundfile.write(folder / "recordings" / f"{name}.wav", tones * np.sin(9 * t), 16000)
        rows.append(f"{name}.wav\t{split}")
    (folder / "recordings" / "list.tsv").write_text("\n".join(rows) + "\n")
    (folder / "recipe.toml").write_text(RECIPE.lstrip())
    (folder / "lm_recipe.toml").write_text(LM_RECIPE.lstrip())
    for command in COMMANDS:
        print(command)
        subprocess.run([sys.executable, "-m", "audiotok", *command.split()], cwd=folder, check=True)
    codec = audiotok.load(str(folder / CODEC))
    stream = audiotok.Stream(codec)
    audio = audiotok.Audio.load(folder / "recordings" / "b.wav")
    stream.encode(audio.samples[:, :5000])
    (folder / "stream.snapshot").write_bytes(stream.snapshot())
    codec.decode(audiotok.Tokens.load(folder / "b.tok")).save(folder / "b_decoded.wav")
    for regrown in ("cache", "run/tensorboard", "lm/tensorboard", "bench/audio"):
        shutil.rmtree(folder / regrown, ignore_errors=True)
    for redrawn in ("report.html", "report.md", "scores.parquet", "scores.csv", "means.csv"):
        (folder / "bench" / redrawn).unlink()
    for lock in folder.rglob(".lock"):
        lock.unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
