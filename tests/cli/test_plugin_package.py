"""A package of another author, installed in a folder of its own: every command takes its parts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from commandline import COMMAND, environment, recording
from plugins import install
from sizes import SMALL

from audiotok.corpus import Corpus

# One process for all commands: importing torch takes longer than any of them.
DRIVER = """
import json, sys
from audiotok.cli.console import outcome
from audiotok.cli.program import program
if __name__ == "__main__":
    for arguments in json.loads(sys.argv[1]):
        sys.argv = ["audiotok", *arguments]
        print("#", outcome(program()), flush=True)
"""
TRAINED = """
import sys
import torch
from dataclasses import replace
from audiotok.codecs.checkpoint import save
from audiotok.codecs.models.speech import Config, Speech
torch.manual_seed(0)
options = {"codebooks": 2, "size": 16}
save(Speech(Config(**SIZES, quantizer="plain", quantizer_options=options)), "mine.safetensors")
"""


def test_a_plugin_package_through_every_command(tmp_path: Path):
    entries = {"codecs.hold": "thirdparty:Hold", "metrics.loudness": "thirdparty:Loudness"}
    site = install(
        tmp_path / "site", "thirdparty", entries | {"quantizers.plain": "thirdparty:Plain"}
    )
    for i in range(2):
        recording(tmp_path / f"in/{i}.wav", 0.5, seed=i)
    sizes = {key: value for key, value in vars(SMALL).items() if not key.startswith("quantizer")}
    root = environment()["PYTHONPATH"]
    env = {**environment(), "PYTHONPATH": os.pathsep.join([str(site), root])}
    commands = [
        ["codecs", "--json"],
        ["metrics", "--json"],
        ["conform", "hold"],
        ["conform", "mine.safetensors", "--json"],
        ["corpus", "build", "in", "-o", "corpus", "--codec", "hold", "-j", "1"],
        ["bench", "--codec", "hold,hold@1", "--data", "in", "--metrics", "loudness", "-o", "bench"],
    ]
    code = TRAINED.replace("SIZES", repr(sizes)) + DRIVER
    script = tmp_path / "driver.py"
    script.write_text(code)
    done = subprocess.run(
        [sys.executable, str(script), json.dumps(commands)],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    outputs = done.stdout.split("# 0\n")
    assert len(outputs) == len(commands) + 1, done.stdout + done.stderr
    (hold,) = [row for row in json.loads(outputs[0]) if row["name"] == "hold"]
    assert (hold["sample_rate"], hold["codebooks"], hold["causal"]) == (16000, 2, False)
    (loudness,) = [row for row in json.loads(outputs[1]) if row["name"] == "loudness"]
    assert loudness["protocol"] == "mean squares"
    assert f"hold ({hold['fingerprint']}) conforms" in outputs[2]
    assert json.loads(outputs[3])["conforms"] is True
    corpus = Corpus(tmp_path / "corpus")
    assert (corpus.codec, corpus.fingerprint) == ("hold", hold["fingerprint"])
    assert corpus[0].tokens.codes.shape == (2, 50)
    results = json.loads((tmp_path / "bench/results.json").read_text())
    scores = {mean["subject"]: mean["value"] for mean in results["means"]}
    assert scores["original"] > scores["hold"] > 0

    # Without the package, what it made is named, and the command line works.
    bare = [*COMMAND, "decode", "x.tok", "-o", "x.wav"]
    corpus[0].tokens.save(tmp_path / "x.tok")
    done = subprocess.run(
        bare, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "x.tok: tokens of codec 'hold', which is not here" in done.stderr
