"""Links to files of the repository lead to where the site has them."""

from __future__ import annotations

import re

import pytest
import repository
from repository import DOCS, PAGES, ROOT, relinked


@pytest.mark.parametrize(
    ("link", "turned"),
    [
        ("[a](../../recipes/README.md#b)", "[a](../project/recipes.md#b)"),
        ("[a](../../README.md#the-tree)", "[a](../index.md)"),
        ("[a](../../recipes/speech.toml)", "[a](path:../../recipes/speech.toml)"),
        ("[a](../../egs/data/bench/report.md#b)", "[a](path:../../egs/data/bench/report.md)"),
        ("[a](../glossary.md#b)", "[a](../glossary.md#b)"),
        ("![a](../../egs/data/unit_bpe.png)", "![a](../../egs/data/unit_bpe.png)"),
        ("[the `recipes`](../../recipes)", "the `recipes`"),
        ("[a](no/such/file.md)", "[a](no/such/file.md)"),
        ("[a](https://example.org/b.md)", "[a](https://example.org/b.md)"),
        ("[a](#b)", "[a](#b)"),
    ],
)
def test_links(link: str, turned: str):
    page = DOCS / "guides/training.md"
    assert relinked(f"See {link}, there.", page.parent, page) == f"See {turned}, there."


@pytest.mark.parametrize("name", [name for name, page in PAGES.items() if page != "index.md"])
def test_every_file_has_its_page_and_no_link_of_it_is_dead(name: str):
    shown = DOCS / PAGES[name]
    assert f"<!-- page: {name} -->" in shown.read_text("utf-8")
    for _, _, target, _ in repository.LINK.findall(repository.page(name)):
        assert (shown.parent / target).exists(), target
    for target in re.findall(r"\]\(path:([^)]*)\)", repository.page(name)):
        assert (shown.parent / target).resolve().is_relative_to(ROOT)
        assert (shown.parent / target).is_file()
