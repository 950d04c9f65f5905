"""The table of systems names what there is, leaves no cell empty, and forgets no codec."""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import cli_reference
import pytest
from repository import LINK

from audiotok._platform.registry import names, presets
from audiotok.training.step import KNOWN

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/reference/systems.md"
HEAD = ["system", "what stands here", "held against", "what came out, what is missing"]
OURS = {"speech", "music"}  # codecs of no paper
FAMILIES = {
    **{f"{kind}s": names(f"{kind}s") for kind in ("layer", "metric", "pattern", "quantizer")},
    "decoders": [*names("decoders"), *presets("decoders")],
    "layouts": names("dialects"),
    "losses": KNOWN,
    "presets": presets("codecs"),
    "recipes": [path.stem for path in ROOT.glob("recipes/*.toml")],
    "scripts": [
        str(path.relative_to(ROOT))
        for folder in ("egs", "tests/bench")
        for path in (ROOT / folder).glob("*.*")
    ],
    "tasks": names("tasks"),
    "teachers": names("teachers"),
}
"""Word before names -> names that it may stand before; besides, there are commands and Python."""


def _rows(text: str) -> list[list[str]]:
    """Return the cells of all rows of tables, without their heads and rules."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in rows if row != HEAD and not set("".join(row)) <= set(":-")]


TEXT = PAGE.read_text("utf-8")
ROWS = _rows(TEXT)


def _named(cell: str) -> Iterator[tuple[str, str]]:
    """Yield the names of a cell `presets `a`, `b`; task `c``, each after its word in the plural."""
    for part in cell.split("; "):
        match = re.fullmatch(r"(\w+) ((?:`[^`]+`(?:, )?)+)", part)
        assert match, f"{part!r}: write it as a word and names"
        found = re.findall(r"`([^`]+)`", match[2])
        word = match[1]
        if word != "Python" and len(found) == 1:
            word += "es" if word.endswith("s") else "s"
        yield from ((word, name) for name in found)


def _commands() -> list[str]:
    return re.findall(r"^##+ `audiotok (.*)`$", cli_reference.cli(), re.MULTILINE)


def _anchors(file: Path) -> set[str]:
    """Return the anchors of a Markdown file's headings, as GitHub and MyST make them."""
    heads = re.findall(r"^#+ (.*)$", file.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def test_there_are_as_many_rows_as_systems():
    assert len(ROWS) >= 42
    systems = [row[0] for row in ROWS]
    assert len(set(systems)) == len(systems)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].partition(" (")[0])
def test_no_cell_is_empty(row: list[str]):
    assert len(row) == len(HEAD)
    assert all(re.search(r"\w", cell) for cell in row)


def test_every_name_is_there():
    families: dict[str, Iterable[str]] = {**FAMILIES, "commands": _commands()}
    for row in ROWS:
        for word, name in _named(row[1]):
            if word == "Python":
                pkgutil.resolve_name(name)
            else:
                assert name in families[word], f"{row[0]}: {word} {name}"


def test_every_preset_has_a_row():
    listed = {name for row in ROWS for word, name in _named(row[1]) if word == "presets"}
    assert listed == {*presets("codecs")} - OURS


def test_links_lead_to_headings():
    links = [match for match in LINK.findall(TEXT) if "://" not in match[2]]
    assert len(links) > len(ROWS) / 2
    for _, _, target, anchor in links:
        file = (PAGE.parent / target).resolve()
        assert file.is_file(), target
        assert not anchor or anchor[1:] in _anchors(file), f"{target}{anchor}"
