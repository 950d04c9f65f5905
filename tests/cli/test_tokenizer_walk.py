"""From a folder of recordings to a language model and every export, by tokenizers of each kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from commandline import Done, audiotok, files
from commandline import recording as write
from sizes import TOKENIZERS, made

from audiotok._platform.registry import shipped
from audiotok.audio.audio import Audio
from audiotok.codecs.centroids import save_units
from audiotok.codecs.checkpoint import save
from audiotok.codecs.load import load, names
from audiotok.codecs.models.s3 import S3
from audiotok.corpus import Corpus
from audiotok.tokens.tokens import Tokens

SECONDS = (0.4, 1.3, 2.1, 0.7)
RECIPE = """
[data]
corpus = "corpus"
frames = 40
batch = 2
train = ""
validate = ""
[layout]
pattern = "{pattern}"
runs = "{runs}"
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
SMALL = {name: config for name, config in reversed(TOKENIZERS) if name != "dmel"}
SHIPPED = [name for name in ("dmel_40hz", "units", "units_12hz") if name in names()]


DECODING = (
    "decode ./tokens/0.tok -o ./heard.wav",
    "roundtrip ./talks/0.wav -o ./heard.wav",
    "corpus sample ./corpus -o ./heard",
    "lm generate ./lm/best.safetensors -o ./heard.wav --seconds 1",
)


@pytest.fixture(
    params=[*SHIPPED, *SMALL, pytest.param("s3_v2_25hz", marks=pytest.mark.slow)],
)
def codec(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The name of a tokenizer that ships, or the path of one of random weights."""
    name, path = request.param, tmp_path / f"{request.param}.safetensors"
    if name == "kmeans":
        save_units(made(name, SMALL[name]), path)  # type: ignore[arg-type]
    elif name in SMALL:
        save(made(name, SMALL[name]), path)
    elif name in S3.presets:  # as large as it is published
        save(made("s3", S3.presets[name]), path)
    else:
        return name
    return str(path)


def test_a_folder_becomes_a_language_model(codec: str, tmp_path: Path):
    """Every command gives what it says, and each export the codes of the whole."""
    for i, seconds in enumerate(SECONDS):
        write(tmp_path / f"talks/{i}.wav", seconds, seed=i)
    talks, corpus, run = tmp_path / "talks", tmp_path / "corpus", tmp_path / "lm"
    ok(audiotok("encode", talks, "--codec", codec, "-o", tmp_path / "tokens"))
    assert files(tmp_path / "tokens") == [f"{i}.tok" for i in range(len(SECONDS))]
    ok(audiotok("corpus", "build", talks, "-o", corpus, "--codec", codec, "-j", "1"))
    ok(audiotok("corpus", "verify", corpus))
    built = {entry.row["id"]: entry.tokens.codes for entry in Corpus(corpus)}
    for i in range(len(SECONDS)):
        tokens = Tokens.load(tmp_path / f"tokens/{i}.tok")
        whole = load(codec).encode(Audio.load(talks / f"{i}.wav"))
        assert tokens == whole
        assert np.array_equal(built[f"{i}.wav"], tokens.codes)

    alone = load(codec).codebooks == 1
    recipe = RECIPE.format(
        pattern="flat" if alone else "parallel", runs="drop" if alone else "keep"
    )
    (tmp_path / "lm.toml").write_text(recipe.replace('"corpus"', f'"{corpus}"'))
    ok(audiotok("lm", "train", tmp_path / "lm.toml", "-o", run))
    scored = ok(audiotok("lm", "score", run / "best.safetensors", corpus, "--json")).json
    assert scored["recordings"] == len(SECONDS)
    assert 0 < scored["held_bits_a_second"] < 20_000
    for name in shipped("exporters"):
        out = tmp_path / name
        done = audiotok("export-corpus", corpus, "--to", name, "-o", out, "--pattern", "flat")
        assert done.code == 0, f"{name}: {done.err}"
        assert files(out)

    for command in DECODING:
        words = [tmp_path / word if word.startswith("./") else word for word in command.split()]
        refused = audiotok(*words, "--codec", codec)
        assert (refused.code, len(refused.lines)) == (1, 1), f"{command}: {refused.err}"
        assert "without a decoder; name one that takes its tokens" in refused.err, command
        assert not list(tmp_path.glob("heard*")), command
    if codec == "dmel_40hz":
        speak = ("lm", "generate", tmp_path / "lm" / "best.safetensors", "--seconds", "1")
        ok(audiotok(*speak, "-o", tmp_path / "heard.wav", "--decoder", "griffin_lim"))
        assert 0 < Audio.load(tmp_path / "heard.wav").seconds <= 1


def ok(done: Done) -> Done:
    assert done.code == 0, done.err
    return done
