"""Codecs without a quantizer are trained, and the loss `ctc` reads what they decode."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from audiotok.audio.audio import Audio
from audiotok.codecs.checkpoint import load, read_card
from audiotok.data.batches import Batch
from audiotok.runtime.stream import Stream
from audiotok.testing import assert_close
from audiotok.tokens.latents import Latents
from audiotok.training.components import new_codec
from audiotok.training.estimate import estimate
from audiotok.training.loop import CodecTrainer, train
from audiotok.training.recipe import Ctc, Recipe, read_recipe
from audiotok.training.recognizer import Recognizer

RATE = 16000
RECIPE = """
codec = "speech"
[data]
manifest = "{folder}/m.tsv"
cache = "{folder}/cache"
seconds = 0.5
batch = 4
[loss]
mel = 1.0
spectrum = 1.0
[train]
steps = 6
rate = 5e-3
warmup = 1
cooldown = 0
every = 3
clips = 1
[ctc]
width = 16
blocks = 1
[config]
quantizer = "none"
encoder = 16
encoder_blocks = 2
decoder = 16
decoder_blocks = 2
window = 3
heads = 2
latent = 8
semantic = 4
"""
CTC = ["loss.ctc=1.0"]


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe of short recordings with texts, and of a long one, whose crops have none."""
    lines = ["path\tsplit\ttext"]
    for i, (split, seconds, text) in enumerate(
        [("train", 0.4, "Ab"), ("train", 0.5, "ba."), ("train", 2.0, "abc"), ("dev", 1.0, "b")]
    ):
        t = torch.arange(round(seconds * RATE)) / RATE
        tones = torch.stack([(2 * math.pi * f * (i + 2) * t).sin() / 8 for f in (110, 330)]).sum(0)
        Audio((tones * (t * 9).sin())[None], RATE).save(tmp_path / f"{split}{i}.wav")
        lines.append(f"{split}{i}.wav\t{split}\t{text}")
    (tmp_path / "m.tsv").write_text("\n".join(lines) + "\n")
    path = tmp_path / "r.toml"
    path.write_text(RECIPE.format(folder=tmp_path))
    return path


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "log.csv").open(newline="") as lines:
        return list(csv.DictReader(lines))


def weights(recipe: Recipe, out: Path) -> dict[str, Tensor]:
    train(recipe, out)
    return torch.load(out / "last.pt", weights_only=True)["players"]["codec"]


# ---- no quantizer


def test_a_codec_without_a_quantizer_learns_and_is_a_codec_of_latents(recipe: Path, tmp_path: Path):
    out = tmp_path / "run"
    path = train(read_recipe(recipe), out)
    first, last = rows(out)
    assert float(last["validation"]) < float(first["validation"])
    assert not [c for c in first if c.startswith(("usage", "commitment", "gradient_stage", "ctc"))]
    assert read_card(path)["card"]["recipe"]["config"]["quantizer"] == "none"
    codec = load(path)
    assert (codec.kind, codec.width, codec.sizes) == ("latents", 8, ())
    audio = Audio(torch.randn(1, 5555, generator=torch.Generator().manual_seed(0)) / 9, RATE)
    tokens: Any = codec.encode(audio)
    assert isinstance(tokens, Latents)
    assert len(codec.decode(tokens)) == 5555
    tokens.save(tmp_path / "t.tok")
    assert Latents.load(tmp_path / "t.tok") == tokens
    pair: list[Any] = codec.encode_batch([audio, audio[:777]])
    assert pair[0] == tokens
    assert len(codec.decode_batch(pair)[1]) == 777
    stream = Stream(codec)
    pieces = [stream.encode(piece) for piece in audio.samples.split(1000, 1)]
    values = torch.cat([*pieces, stream.finish_encode()], 1)
    assert_close(values, torch.from_numpy(tokens.values.copy()))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["loss.commitment=0.25"], "[loss] commitment: asks for codebooks, and speech gives"),
        (
            ["loss.distillation=1.0", "distillation.teachers.whisper.layer=6"],
            "[loss] distillation: asks for codebooks, and speech gives latents of 8 numbers",
        ),
        (["loss.consistency=1.0"], "[loss] consistency: asks for codebooks"),
        (["loss_from.mel=2"], "[loss_from]: asks for codebooks"),
        (["train.keep=[1]"], "[train] keep: asks for codebooks"),
        (["train.codebooks=[1]"], "[train] codebooks: asks for codebooks"),
        (["config.codebooks=4"], "codebooks=4 is of quantizer 'rvq', and 'none' is chosen"),
        (["config.quantizer_options.size=4"], "'none' keeps latents and has no options"),
    ],
)
def test_what_asks_for_codebooks_is_refused(
    recipe: Path, tmp_path: Path, settings: list[str], message: str
):
    with pytest.raises(ValueError, match=r"leave (it )?out") as raised:
        train(read_recipe(recipe, settings), tmp_path / "run")
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_codec_of_latents_learns_if_it_has_a_decoder(recipe: Path, tmp_path: Path):
    sizes = "[config]\nwidth = 4\nstrides = [4, 40]\ndepths = [1, 1, 2]\nfeatures = 6\n"
    text = recipe.read_text().partition("[config]")[0].replace('"speech"', '"vibevoice"')
    recipe.write_text(text + sizes)
    train(read_recipe(recipe), tmp_path / "run")
    assert load(tmp_path / "run/best.safetensors").width == 6
    with pytest.raises(ValueError, match="a tokenizer without a decoder"):
        new_codec(read_recipe(recipe, ["config.decodes=false"]))


# ---- the loss `ctc`


def test_ctc_falls_where_it_learns(recipe: Path, tmp_path: Path):
    settings = [*CTC, "train.steps=60", "train.every=20", "data.seconds=0.6", "ctc.rate=0.01"]
    train(read_recipe(recipe, settings), tmp_path / "run")
    first, _, last = rows(tmp_path / "run")
    for column in ("ctc", "ctc_original", "mel"):
        assert float(last[column]) < 0.8 * float(first[column]), column
    assert float(last["gradient_recognizer"]) > 0


def test_ctc_reaches_encoder_and_decoder_from_its_start_on(recipe: Path, tmp_path: Path):
    """Until then the codec is to the bit what it is without a recogniser."""
    plain = weights(read_recipe(recipe, ["train.steps=3"]), tmp_path / "plain")
    later = weights(
        read_recipe(recipe, [*CTC, "train.steps=3", "loss_start.ctc=3"]), tmp_path / "later"
    )
    read = weights(read_recipe(recipe, [*CTC, "train.steps=3"]), tmp_path / "read")
    assert all(torch.equal(plain[name], later[name]) for name in plain)
    changed = {name.partition(".")[0] for name in plain if not torch.equal(plain[name], read[name])}
    assert {"encoder", "decoder"} <= changed


@pytest.mark.parametrize("settings", [[], ["train.balance=true", "train.accumulate=2"]])
def test_resumed_with_ctc_is_uninterrupted(recipe: Path, tmp_path: Path, settings: list[str]):
    settings = [*CTC, *settings]
    whole = weights(read_recipe(recipe, settings), tmp_path / "whole")
    train(read_recipe(recipe, [*settings, "train.steps=3"]), tmp_path / "parts")
    parts = weights(read_recipe(recipe, settings), tmp_path / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_a_run_gains_a_recogniser_and_refuses_another_alphabet(recipe: Path, tmp_path: Path):
    out = tmp_path / "run"
    train(read_recipe(recipe, ["train.steps=3"]), out)
    train(read_recipe(recipe, [*CTC, "train.steps=4"]), out)
    table = tmp_path / "m.tsv"
    table.write_text(table.read_text().replace("ba.", "bx."))
    with pytest.raises(ValueError, match="characters 'abcx', and had 'abc'"):
        train(read_recipe(recipe, CTC), out)


def test_only_whole_recordings_with_a_text_count(recipe: Path, tmp_path: Path):
    run = CodecTrainer(read_recipe(recipe, CTC), tmp_path / "run", "cpu")
    assert run.transcripts is not None
    assert run.transcripts.texts == [[1, 2], [2, 1], []]
    batch: Batch = run.batches[0]
    rows, texts = run.transcripts.of_batch(batch)
    assert [run.transcripts.texts[batch.recordings[row]] for row in rows] == texts
    assert len(rows) == sum(i < 2 for i in batch.recordings)


@pytest.mark.parametrize(
    ("text", "seconds", "message"),
    [
        ("", 0.5, "m.tsv: [loss] ctc: none of 3 recordings to train on has a text: its column"),
        ("...", 0.5, "none of 3 recordings to train on has a letter in its text"),
        ("ab", 0.3, "none of 3 recordings has a text and fits whole into a crop of 0.3 s"),
        ("ab" * 60, 0.5, "none of 3 recordings has a text and fits whole into a crop of 0.5 s"),
    ],
)
def test_texts_that_are_missing_are_refused(
    recipe: Path, tmp_path: Path, text: str, seconds: float, message: str
):
    table = tmp_path / "m.tsv"
    lines = [line.rpartition("\t")[0] + f"\t{text}" for line in table.read_text().splitlines()]
    table.write_text("\n".join(["path\tsplit\ttext", *lines[1:]]) + "\n")
    with pytest.raises(ValueError, match=r"\[loss\] ctc") as raised:
        train(read_recipe(recipe, [*CTC, f"data.seconds={seconds}"]), tmp_path / "run")
    assert message in str(raised.value)
    lines = [line.rpartition("\t")[0] for line in table.read_text().splitlines()]
    table.write_text("\n".join(lines) + "\n")
    with pytest.raises(ValueError, match=r"^[^ ]*m\.tsv: .* has a text: it needs a column `text`$"):
        train(read_recipe(recipe, CTC), tmp_path / "other")


def test_the_recipes_differ_in_ctc_alone_and_run(recipe: Path, tmp_path: Path):
    folder = Path(__file__).parents[2] / "recipes"
    settings = [f"data.manifest={tmp_path}/m.tsv", f"data.cache={tmp_path}/cache"]
    settings += ["data.seconds=0.5", "data.batch=2", "train.steps=2", "train.cooldown=1"]
    read = read_recipe(folder / "cont_spt.toml", [*settings, "loss_start.ctc=1"])
    plain = read_recipe(folder / "cont_spt_plain.toml", settings)
    assert read.loss == {**plain.loss, "ctc": 0.1}
    assert replace(read, loss=plain.loss, loss_start={}) == plain
    assert load(train(read, tmp_path / "run")).kind == "latents"


def test_the_recogniser_has_as_many_steps_as_it_says():
    for rate in (16000, 22050, 24000, 44100):
        recognizer = Recognizer(rate, "ab", Ctc(width=6, blocks=1))
        for samples in (rate // 4, rate // 4 + 1, rate // 4 + rate // 100):
            log_probs = recognizer(torch.randn(1, 1, samples))
            assert log_probs.shape == (1, recognizer.steps(samples), 3)
            assert log_probs.exp().sum(2).allclose(torch.ones(()))


def test_the_cost_of_ctc_is_estimated(recipe: Path):
    chosen = [*CTC, "loss_start.ctc=2"]
    assert estimate(read_recipe(recipe, chosen), steps=1)["seconds_a_step"] > 0
