"""The site builds without a warning, and its generated pages leave out nothing."""

from __future__ import annotations

import dataclasses
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, get_type_hints

import api_reference
import cli_reference
import module_tree
import pytest
import recipe_reference
from commandline import audiotok, environment
from test_architecture import LINE

from audiotok._platform.config import range_of
from audiotok._platform.registry import FAMILIES, names
from audiotok.evaluation.bench.recipe import BenchRecipe
from audiotok.lm.recipe import LmRecipe
from audiotok.training.recipe import Recipe, Train

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` does."""
    for name in ("myst_nb", "sphinx_gallery", "furo"):
        pytest.importorskip(name, reason="the site needs audiotok[docs]")
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-E", "-q", "-b", "html"]
    done = subprocess.run(
        [*command, "-d", str(out / "doctrees"), str(DOCS), str(out / "html")],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return out / "html"


def test_every_public_name_has_an_entry(site: Path):
    from sphinx.util.inventory import InventoryFile

    file: Any
    with (site / "objects.inv").open("rb") as file:
        inventory = InventoryFile.load(file, "", lambda base, uri: uri)
    entries = {
        name for kind, found in inventory.items() if kind.startswith("py:") for name in found
    }
    owners = {".".join(owner) for owner in api_reference.owners().values()}
    assert owners
    assert owners <= entries


def test_the_notebook_was_run(site: Path):
    page = (site / "notebooks/tokens.html").read_text("utf-8")
    assert page.count("<audio") == 4
    assert page.count("<img") >= 2
    assert "Traceback" not in page


def test_the_examples_were_run(site: Path):
    for name in DOCS.glob("examples/plot_*.py"):
        page = (site / f"gallery/{name.stem}.html").read_text("utf-8")
        assert "<audio" in page
        assert "sphx-glr-single-img" in page


def test_notebooks_are_kept_without_outputs():
    files = list(DOCS.glob("notebooks/*.ipynb"))
    assert files
    for file in files:
        for cell in json.loads(file.read_text("utf-8"))["cells"]:
            assert not cell.get("outputs")
            assert cell.get("execution_count") is None


def _commands() -> list[str]:
    return re.findall(r"^##+ `audiotok (.*)`$", cli_reference.cli(), re.MULTILINE)


@pytest.mark.parametrize("command", _commands())
def test_the_reference_has_what_help_has(command: str):
    shown = audiotok(*command.split(), "--help").out
    pattern = rf"^##+ `audiotok {command}`$(.*?)(?=^\(audiotok|\Z)"
    section = re.search(pattern, cli_reference.cli(), re.MULTILINE | re.DOTALL)
    assert section
    if "```text\naudiotok " not in section[1]:  # a group, whose help names its commands
        return
    flags = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", shown)) - {"--help"}
    assert flags <= set(re.findall(r"--[a-z][\w-]*", section[1]))
    declared = re.findall(r"^\| `(--[\w-]+)", section[1], re.MULTILINE)
    assert set(declared) <= flags


def test_the_reference_has_every_command():
    listed = {command.split()[0] for command in _commands()}
    assert listed == {name.replace("_", "-") for name in names("commands")}


@pytest.mark.parametrize("kind", [Recipe, LmRecipe, BenchRecipe])
def test_the_reference_has_every_key_of_a_recipe(kind: type):
    text = recipe_reference.recipe(f"{kind.__module__}.{kind.__name__}")
    for field in dataclasses.fields(kind):
        assert f"| `{field.name}` |" in text
    row = re.search(r"^\| `seed` \|.*$", text, re.MULTILINE)
    assert row
    assert str(range_of(get_type_hints(Train, include_extras=True)["seed"])) in row[0]


@dataclasses.dataclass
class _Table:
    beside: int = 1  # the comment beside it
    # A comment of two lines
    # above it.
    above: int = 2
    bare: int = 3
    wrapped: tuple[int, ...] = (1,)  # the comment after it


def test_comments_are_those_of_their_keys():
    assert recipe_reference.comments(_Table) == {
        "beside": "the comment beside it",
        "above": "A comment of two lines above it.",
        "bare": "",
        "wrapped": "the comment after it",
    }


def test_the_line_of_rooms_is_the_rule():
    assert module_tree.LINE == LINE
    assert "\n" + "  ".join(LINE) + "\n" in (DOCS / "architecture.md").read_text("utf-8")


def test_the_tree_has_every_file_and_part():
    tree, parts = module_tree.modules(), module_tree.parts()
    for file in (ROOT / "audiotok").rglob("*.py"):
        if file.parent.name not in ("audiotok", "__pycache__") and file.name != "__init__.py":
            below = file.relative_to(ROOT / "audiotok").parts[1:]
            assert f"| `{'/'.join(below)}` |" in tree
    for family in FAMILIES:
        assert all(f"| `{name}` |" in parts for name in names(family))


def test_every_room_has_a_page():
    pages = {path.stem for path in (DOCS / "reference/api").glob("*.md")}
    assert pages == {"index", "audiotok", *LINE}
    for room in LINE:
        importlib.import_module(f"audiotok.{room}")
        assert f"<!-- api: audiotok.{room} -->" in (DOCS / f"reference/api/{room}.md").read_text()
