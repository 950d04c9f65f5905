"""The guides name every recipe: of codecs in Training, of language models, of benches."""

from __future__ import annotations

from pathlib import Path

import pytest
from repository import LINK

ROOT = Path(__file__).parents[2]
RECIPES = [
    path.name for path in sorted(ROOT.glob("recipes/*.toml")) if not path.stem.endswith("_tiny")
]
GUIDES = {"bench": "evaluation.md", "lm": "language_models.md"}
"""First word of a recipe's name -> guide that lists it; all others are in training.md."""


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_is_linked_from_its_guide(recipe: str):
    guide = ROOT / "docs/guides" / GUIDES.get(recipe.partition("_")[0], "training.md")
    targets = {match[2] for match in LINK.findall(guide.read_text("utf-8"))}
    assert f"../../recipes/{recipe}" in targets, f"{guide.name} does not link to recipes/{recipe}"


def test_every_tiny_recipe_is_the_small_size_of_one_in_the_guides():
    tiny = {path.stem.removesuffix("_tiny") for path in ROOT.glob("recipes/*_tiny.toml")}
    assert {f"{name}.toml" for name in tiny} <= {*RECIPES}
