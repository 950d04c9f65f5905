"""A recipe is read strictly: what is not known is an error that names the nearest known key."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from commandline import audiotok

from audiotok._platform.config import range_of, read_toml
from audiotok._platform.registry import find, presets
from audiotok.evaluation.bench.recipe import BenchRecipe
from audiotok.lm.layout import Layout
from audiotok.lm.model import Transformer
from audiotok.lm.recipe import LmRecipe
from audiotok.training.recipe import Band, Data, Recipe, TeacherOptions, Train, read_recipe

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.toml"))
WHOLE = """
codec = "speech"
[data]
manifest = "a.tsv"
seconds = 2
[config]
heads = 2
[loss]
mel = 1
commitment = 0.25
[train]
steps = 7
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "r.toml").write_text(WHOLE)
    return tmp_path / "r.toml"


def refusal(path: Path, text: str | None = None, settings: list[str] | None = None) -> str:
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        read_recipe(path, settings)
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(str(path), "PATH")


def test_a_recipe_is_what_it_says_and_defaults_elsewhere(path: Path):
    assert read_recipe(path) == Recipe(
        codec="speech",
        data=Data("a.tsv", seconds=2.0),
        config={"heads": 2},
        loss={"mel": 1.0, "commitment": 0.25},
        train=Train(steps=7),
    )
    assert isinstance(read_recipe(path).data.seconds, float)


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_recipes_of_the_package_are_valid(path: Path):
    if path.stem.startswith("lm_"):
        recipe = read_toml(LmRecipe, path)
        layout = Layout(sizes=(1024,) * recipe.layout.codebooks, pattern=recipe.layout.pattern)
        assert Transformer(layout.vocabulary, 0, recipe.model)
        return
    if not path.stem.startswith("bench_"):
        assert read_recipe(path).loss
        return
    recipe = read_toml(BenchRecipe, path)
    assert recipe.codecs
    assert recipe.metrics or recipe.tasks
    for name in recipe.metrics:
        metric, _, option = name.partition(":")
        assert find("metrics", metric)(option, models=recipe.models)
    for name in recipe.tasks:
        task, _, option = name.partition(":")
        assert find("tasks", task)(option)
    for name in recipe.codecs:
        head, _, option = name.partition(":")
        assert head.split("@")[0] in presets("codecs") or find("baselines", head)


def test_settings_go_over_the_file(path: Path):
    given = ["train.steps=9", "data.manifest=b c.tsv", "config.size = 64", "loss.spectrum=1e1"]
    recipe = read_recipe(path, [*given, "codec='other'"])
    assert (recipe.train.steps, recipe.data.manifest, recipe.codec) == (9, "b c.tsv", "other")
    assert recipe.config == {"heads": 2, "size": 64}
    assert recipe.loss == {"mel": 1.0, "commitment": 0.25, "spectrum": 10.0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("codex = 1\n" + WHOLE, "PATH: unknown key 'codex'; did you mean 'codec'?"),
        (
            "x = 1\n" + WHOLE,
            "PATH: unknown key 'x'; known: codec, data, tokenizer, config, loss, loss_from, "
            "loss_start, distillation, "
            "discriminators, adversary, train, models, bands, ctc",
        ),
        (WHOLE + "step = 1", "PATH [train]: unknown key 'step'; did you mean 'steps'?"),
        ("[data]\nmanifest = 'a'", "PATH: key 'codec' is missing"),
        ("codec = 'speech'", "PATH: key 'data' is missing"),
        ("codec = 'speech'\n[data]", "PATH [data]: key 'manifest' is missing"),
        (WHOLE + "rate = '1e-3'", "PATH [train]: 'rate' must be float, not '1e-3'"),
        (WHOLE + "seed = 1.5", "PATH [train]: 'seed' must be int, not 1.5"),
        (WHOLE + "seed = true", "PATH [train]: 'seed' must be int, not True"),
        ("codec = 3\n[data]\nmanifest = 'a'", "PATH: 'codec' must be str, not 3"),
        ("codec = 's'\ndata = 'a.tsv'", "PATH: 'data' must be a table, not 'a.tsv'"),
        (
            "codec = 's'\nconfig = 1\n[data]\nmanifest = 'a'",
            "PATH: 'config' must be a table, not 1",
        ),
        (
            "codec = 's'\n[data]\nmanifest = 'a'\n[loss]\nmel = 'much'",
            "PATH [loss]: 'mel' must be float, not 'much'",
        ),
    ],
)
def test_what_is_wrong_is_named(path: Path, text: str, message: str):
    assert refusal(path, text) == message


FULL = (
    WHOLE
    + """
betas = [0.5, 0.9]
schedule = "cosine"
[discriminators.mpd]
periods = [2, 3]
[distillation]
axis = "labels"
[distillation.teachers.hubert]
layer = 9
codebooks = [1, 2]
[distillation.teachers.text]
layer = "mean"
[data.augment]
noise = 0.5
[[bands]]
step = 3
key = "mel"
low = 1
high = 2
"""
)


def test_every_kind_of_value(path: Path):
    path.write_text(FULL)
    recipe = read_recipe(path)
    assert (recipe.train.betas, recipe.train.schedule) == ((0.5, 0.9), "cosine")
    assert recipe.discriminators == {"mpd": {"periods": [2, 3]}}
    assert recipe.distillation.axis == "labels"
    assert recipe.distillation.teachers == {
        "hubert": TeacherOptions(layer=9, codebooks=(1, 2)),
        "text": TeacherOptions(layer="mean"),
    }
    assert recipe.data.augment.noise == 0.5
    assert recipe.bands == (Band(3, "mel", 1.0, 2.0),)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[0.5, 0.9]", "[0.5]", "PATH [train]: 'betas' must be a list of 2, not [0.5]"),
        ("[0.5, 0.9]", "0.5", "PATH [train]: 'betas' must be a list of 2, not 0.5"),
        ("[0.5, 0.9]", "['a', 1]", "PATH [train]: 'betas' must be float, not 'a'"),
        (
            '"cosine"',
            '"cosinus"',
            "PATH [train]: 'schedule' must be 'linear' or 'cosine' or 'exponential', not 'cosinus'",
        ),
        ("layer = 9", "layer = 'all'", "'layer' must be int or 'mean', not 'all'"),
        ("layer = 9", "layer = 1.5", "'layer' must be int or 'mean', not 1.5"),
        ("noise = 0.5", "nois = 0.5", "unknown key 'nois'; did you mean 'noise'?"),
        ("[1, 2]", "[1, '2']", "'codebooks' must be int, not '2'"),
        ("high = 2", "", "key 'high' is missing"),
        ("[[bands]]", "[bands]", "'bands' must be a list"),
        ("periods = [2, 3]", "", ""),
    ],
)
def test_what_is_wrong_inside_is_named(path: Path, old: str, new: str, message: str):
    assert old in FULL
    if message:
        assert message in refusal(path, FULL.replace(old, new))
    else:
        path.write_text(FULL.replace(old, new))
        assert read_recipe(path).discriminators == {"mpd": {}}


def test_a_recipe_extends_another(path: Path):
    over = path.with_name("over.toml")
    over.write_text(
        f'extends = "{path.name}"\nconfig = false\n[loss]\nmel = 3\ncommitment = false\n'
        "[train]\nrate = 0.5\nbalance = false\n"
    )
    assert read_recipe(over) == Recipe(
        codec="speech",
        data=Data("a.tsv", seconds=2.0),
        loss={"mel": 3.0},
        train=Train(steps=7, rate=0.5),
    )
    assert read_recipe(over, ["loss.mel=4"]).loss == {"mel": 4.0}
    again = path.with_name("again.toml")
    again.write_text('extends = "over.toml"\n[train]\nsteps = 8')
    assert read_recipe(again).train == Train(steps=8, rate=0.5)


def test_what_cannot_be_extended(path: Path):
    assert refusal(path, 'extends = "r.toml"') == "PATH: extends itself"
    none = path.with_name("none.toml")
    assert refusal(path, 'extends = "none.toml"') == f"{none}: no such recipe"
    assert refusal(path, "extends = 3") == "PATH: 'extends' must be str, not 3"


def test_not_toml(path: Path):
    assert refusal(path, "codec: speech").startswith("PATH: not TOML: ")
    path.write_bytes(b"codec = '\xff'")
    assert refusal(path).startswith("PATH: not TOML: ")


def test_no_such_file(tmp_path: Path):
    assert refusal(tmp_path / "none.toml") == "PATH: no such recipe"
    assert refusal(tmp_path) == "PATH: cannot be read: Is a directory"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("train.steps", "train.steps: write it as section.key=value"),
        ("codec.x=1", "codec.x=1: 'codec' is a value, not a table"),
        ("train.stepps=1", "PATH [train]: unknown key 'stepps'; did you mean 'steps'?"),
        ("train.steps=many", "PATH [train]: 'steps' must be int, not 'many'"),
    ],
)
def test_wrong_settings(path: Path, setting: str, message: str):
    assert refusal(path, settings=[setting]) == message


# -- ranges -----------------------------------------------------------------------------------


def numeric(hint: Any) -> bool:
    return hint in (int, float) or any(map(numeric, get_args(hint)))


def tables(kind: Any) -> set[Any]:
    """The dataclass of a recipe, and those in it."""
    inside: set[Any] = {kind}
    for hint in get_type_hints(kind).values():
        for part in (hint, *get_args(hint)):
            if dataclasses.is_dataclass(part):
                inside |= tables(part)
    return inside


KINDS = sorted({t for k in (Recipe, BenchRecipe, LmRecipe) for t in tables(k)}, key=str)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_number_has_its_range(kind: Any):
    hints = get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        assert range_of(hints[field.name]) or not numeric(hints[field.name]), field.name


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("train.steps=-1", "'steps' must be at least 1, not -1"),
        ("train.steps=0", "'steps' must be at least 1, not 0"),
        ("train.rate=nan", "'rate' must be above 0, not nan"),
        ("train.rate=1e400", "'rate' must be above 0, not inf"),
        ("train.rate=-1e-3", "'rate' must be above 0, not -0.001"),
        ("train.betas=[0.9,1.0]", "'betas' must be at least 0 and at most 1, not 1.0"),
        ("train.ema=1.5", "'ema' must be at least 0 and at most 1, not 1.5"),
        ("train.seed=-3", "'seed' must be at least 0 and at most 9.22337e+18, not -3"),
        ("train.keep=[1,-1]", "'keep' must be at least 0, not -1.0"),
        ("data.batch=0", "'batch' must be at least 1, not 0"),
        ("data.seconds=0", "'seconds' must be above 0, not 0.0"),
        ("loss.mel=-1", "'loss.mel' must be at least 0, not -1.0"),
        ("loss.mel=inf", "'loss.mel' must be at least 0, not inf"),
        ("adversary.every=0", "'every' must be at least 1, not 0"),
        ("loss.mel=1" + 400 * "0", "'mel' is a number of 401 digits"),
    ],
)
def test_a_number_out_of_its_range_is_refused_on_reading(path: Path, setting: str, said: str):
    with pytest.raises(ValueError, match=re.escape(said)):
        read_recipe(path, [setting])


def test_a_dry_run_refuses_it_too(path: Path):
    done = audiotok("train", path, "--dry-run", "--set", "train.steps=-1")
    assert done.code == 1
    assert done.lines[0].endswith("[train]: 'steps' must be at least 1, not -1")


@pytest.mark.parametrize(
    "text",
    [
        "x = " + "[" * 5000 + "]" * 5000,
        "x = " + "{a=" * 3000 + "1" + "}" * 3000,
        ".".join("a" * 3000) + " = 1",
        "x = " + "9" * 5000,
    ],
    ids=["lists", "tables", "dots", "digits"],
)
def test_toml_that_python_chokes_on_is_one_line(path: Path, text: str):
    path.write_text(text + "\n" + path.read_text())
    with pytest.raises(ValueError, match=re.escape(f"{path}: ")) as caught:
        read_recipe(path)
    assert len(str(caught.value)) < len(str(path)) + 200
    over = path.with_name("over.toml")
    over.write_text(f'extends = "{path.name}"\n{text}')
    with pytest.raises(ValueError, match=re.escape(f"{over}: ")):
        read_recipe(over)
    setting = text.replace(" = ", "=", 1)
    with pytest.raises(ValueError, match=r"^settings: "):
        read_recipe(None, [setting])
