"""Every recipe has a tiny size, which learns in 200 steps within its own bands."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from audiotok.audio.audio import Audio
from audiotok.codecs.checkpoint import load
from audiotok.data.features.base import SpeechTeacher
from audiotok.training.loop import train
from audiotok.training.recipe import read_recipe

ROOT = Path(__file__).parents[2]
TINY = sorted((ROOT / "recipes").glob("*_tiny.toml"))


class Loud(SpeechTeacher):
    """In the place of HuBERT and BERT, whose weights are not here: 768 views of the spectrum."""

    name, width, layers = "loud", 768, 9

    def __init__(self) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(0)
        self.weight = torch.nn.Parameter(torch.randn(321, 768, generator=random), False)

    def states(self, wave: Tensor) -> Iterator[Tensor]:
        window = torch.hann_window(640)
        bins = torch.stft(wave, 640, 320, window=window, pad_mode="constant", return_complex=True)
        frames = bins.abs().clamp(min=1e-3).log().transpose(1, 2)[:, : -(-wave.shape[1] // 320)]
        for _ in range(self.layers + 1):
            yield (frames - frames.mean(1, keepdim=True)) @ self.weight / 18


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository's recording in pieces of a second."""
    folder = tmp_path_factory.mktemp("speech")
    audio = Audio.load(ROOT / "egs" / "data" / "reading.flac")
    lines = ["path\tsplit\ttext"]
    for i in range(int(audio.seconds)):
        audio[i * audio.rate : (i + 1) * audio.rate].save(folder / f"{i}.wav")
        lines.append(f"{i}.wav\t{'dev' if i % 5 == 4 else 'train'}\tspoken")
    (folder / "m.tsv").write_text("\n".join(lines))
    return folder


# No codecs, or small themselves; `speech_decoder` again, shorter; one in training; vocoders.
OTHER = (
    *("bench_", "lm_", "twins_", "speech_voice", "speech_semantic", "vocoder_", "ablation_"),
    *("cont_spt", "music"),
)
ABLATIONS = sorted(path.stem for path in (ROOT / "recipes").glob("ablation_*.toml"))
WHOLE = [p for p in sorted((ROOT / "recipes").glob("*.toml")) if not p.stem.startswith(OTHER)]


@pytest.mark.parametrize("path", WHOLE, ids=lambda p: p.stem)
def test_every_recipe_has_a_tiny_size(path: Path):
    assert path in TINY or path.with_name(f"{path.stem}_tiny.toml") in TINY
    # A tiny recipe differs in sizes and lengths, not in what is learnt.
    if path in TINY and path.stem != "speech_tiny":
        whole = read_recipe(path.with_name(path.name.replace("_tiny", "")))
        assert read_recipe(path).loss == whole.loss


def test_twins_differ_in_what_distillation_weighs_alone():
    distilled, plain = (
        read_recipe(ROOT / f"recipes/twins_{name}.toml") for name in ("distilled", "plain")
    )
    assert distilled.data.aligned, "so that both draw the same crops"
    assert distilled.loss["distillation"] > plain.loss["distillation"] == 0
    assert replace(distilled, loss=plain.loss) == plain
    assert {**distilled.loss, "distillation": 0.0} == plain.loss


@pytest.mark.parametrize("name", ABLATIONS)
def test_ablations_differ_in_one_thing(name: str, speech: Path, tmp_path: Path):
    base, other = (read_recipe(ROOT / f"recipes/{n}.toml") for n in ("ablation_rvq", name))
    changed = {
        key
        for key, value in asdict(base).items()
        if value != asdict(other)[key] and (key, name) != ("loss", "ablation_fsq")
    }
    wanted = {"rvq": set(), "svq": {"config"}, "fsq": {"config"}}
    wanted |= {"distilled": {"loss"}, "music": {"data"}}
    assert changed == wanted[name.removeprefix("ablation_")]
    settings = [f"data.manifest={speech}/m.tsv", f"data.cache={speech}/cache", "train.steps=2"]
    settings += [f"distillation.cache={speech}/features", "train.warmup=1", "train.cooldown=1"]
    settings += ["config.semantic=768"]  # the width of `Loud`
    recipe = read_recipe(ROOT / f"recipes/{name}.toml", settings)
    try:
        weights = train(recipe, tmp_path, teachers={"whisper": Loud()})
    finally:
        torch.set_flush_denormal(False)
    codec = load(weights)
    assert sum(math.log2(size) for size in codec.sizes) == 12


def test_arms_of_dm_codec_differ_in_teachers_alone():
    arms = {
        name: read_recipe(ROOT / f"recipes/dm_codec_{name}.toml") for name in ("lm", "sm", "lm_sm")
    }
    teachers = {name: {*arm.distillation.used} for name, arm in arms.items()}
    assert teachers == {"lm": {"text"}, "sm": {"hubert"}, "lm_sm": {"hubert", "text"}}
    alike = [replace(arm, distillation=arms["lm"].distillation) for arm in arms.values()]
    assert alike[0] == alike[1] == alike[2]
    sm, both = (arms[name].distillation.teachers["hubert"] for name in ("sm", "lm_sm"))
    assert replace(sm, weight=both.weight) == both


# The first four differ from speechtokenizer_tiny in the targets alone; the last is the slowest.
SLOW = (
    "dm_codec_lm_tiny",
    "dm_codec_sm_tiny",
    "dm_codec_lm_sm_tiny",
    "speechtokenizer_pseudo_label_tiny",
    "qwen3_tts_12hz_tiny",
)


@pytest.mark.parametrize(
    "path",
    [pytest.param(p, marks=[pytest.mark.slow] if p.stem in SLOW else [], id=p.stem) for p in TINY],
)
def test_a_tiny_recipe_learns_within_its_bands(
    path: Path, speech: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    settings = [f"data.manifest={speech}/m.tsv", f"data.cache={speech}/cache"]
    settings += [f"distillation.cache={speech}/features"]
    recipe = read_recipe(path, settings)
    assert recipe.bands, "a recipe says where its losses should be"
    flush = False
    try:
        train(recipe, tmp_path, teachers={"hubert": Loud(), "text": Loud(), "wavlm": Loud()})
    finally:
        torch.set_flush_denormal(flush)
    assert not [m for m in caplog.messages if "band" in m or "outside" in m]
    with (tmp_path / "log.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert rows[-1]["step"] == "200"
    assert float(rows[-1]["validation"]) < float(rows[0]["validation"])
    for key in recipe.loss:
        assert rows[-1][key], f"{key} was never computed"
