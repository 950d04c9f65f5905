"""No cell of a table is empty or a dash, in prose and in what the site generates."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import generate
import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *ROOT.glob("recipes/*.md"), *ROOT.glob("docs/**/*.md")]
RULE = re.compile(r"\|[-:| ]+\|")  # the line below the head of a table


def _empty(text: str) -> Iterator[str]:
    """Yield the rows of tables that have a cell without a word, number or piece of code."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    for line, following in pairwise([*text.splitlines(), ""]):
        is_row = line.startswith("|") and not RULE.fullmatch(line)
        if is_row and not RULE.fullmatch(following):  # a head may leave its first cell empty
            cells = re.split(r"(?<!\\)\|", line.strip("|"))
            if not all(re.search(r"\w|`.+`", cell) for cell in cells):
                yield line


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_cell_is_empty(page: Path):
    assert not [*_empty(generate.fill(page.read_text("utf-8")))]


def test_what_an_empty_cell_is():
    table = "| | b |\n|---|:--:|\n| 1 | `x\\|y` |\n| 2 | - |\n| 3 |  |\n| `[]` | n/a |"
    assert [*_empty(table)] == ["| 2 | - |", "| 3 |  |"]
    assert not [*_empty(f"```text\n{table}\n```")]
