"""Tables of results are those of the stored files, on the site and in the pages that keep them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import generate
import pytest
import result_tables

ROOT = Path(__file__).parents[2]
OUTSIDE = [*ROOT.glob("*.md"), *ROOT.glob("recipes/*.md")]  # of the site, which fills in its pages
PAGES = [path for path in OUTSIDE if generate.PART.search(path.read_text("utf-8"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_what_a_page_keeps_is_as_the_sources_say(page: Path):
    text = page.read_text("utf-8")
    assert generate.fill(text) == text, f"python docs/_ext/generate.py {page.name}"


@pytest.mark.parametrize("page", [*OUTSIDE, *ROOT.glob("docs/**/*.md")], ids=str)
def test_every_marker_is_understood(page: Path):
    text = page.read_text("utf-8")
    markers = re.findall(r"^<!-- (?:\w+: .*|" + "|".join(generate.KINDS) + ") -->$", text, re.M)
    assert len(markers) == len(generate.PART.findall(text))


def test_numbers_are_the_stored_ones():
    stored = json.loads(result_tables.BENCH.read_text("utf-8"))
    table = result_tables.results("bench columns=wer,pesq rows=speech@8,opus:6 intervals=no")
    rows = re.findall(r"^\| `(.*?)` \| (.*?) \| (.*?) \| (.*?) \|$", table, re.MULTILINE)
    assert [row[0] for row in rows] == ["speech@8", "opus:6"]
    means = {(mean["subject"], mean["metric"]): mean["value"] for mean in stored["means"]}
    for subject, _, wer, pesq in rows:
        assert float(wer) == pytest.approx(means[subject, "wer"], abs=0.005)
        assert float(pesq) == pytest.approx(means[subject, "pesq"], abs=0.0005)


@pytest.mark.parametrize("path", [*ROOT.glob("docs/results/*.json"), result_tables.BENCH], ids=str)
def test_a_table_says_how_to_make_it_again(path: Path):
    name = "bench" if path == result_tables.BENCH else path.stem
    table, stored = result_tables.results(name), json.loads(path.read_text("utf-8"))
    about = stored.get("about", stored)
    assert about["command"] in table
    assert about["machine"] in table
    assert not re.search(r"""(^|[\s="'])/\w""", about["command"]), "a folder of one machine"


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("nothing", "no results 'nothing'; there are ablations, ablations_music, "),
        ("bench columns=mos", "no mos; there are pesq, "),
        ("bench row=speech@8", "unknown options row"),
    ],
)
def test_names_that_are_not_there(argument: str, message: str):
    with pytest.raises(ValueError, match=re.escape(message)):
        result_tables.results(argument)


def test_the_command(tmp_path: Path):
    page = tmp_path / "page.md"
    marker = "<!-- results: bench columns=pesq rows=speech@8 -->"
    page.write_text(f"before\n\n{marker}\n<!-- end -->\n\nafter\n", "utf-8")

    with pytest.raises(SystemExit, match=r"page\.md"):
        generate.main([str(page), "--check"])
    generate.main([str(page)])
    generate.main([str(page), "--check"])
    text = page.read_text("utf-8")
    assert text.startswith(f"before\n\n{marker}\n\n| ")
    assert text.endswith("\n\n<!-- end -->\n\nafter\n")
    assert "`speech@8`" in text
