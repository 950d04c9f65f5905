"""The generated parts of pages: in `<!-- results: bench -->` ... `<!-- end -->` stands what
`result_tables.results("bench")` returns.

The site fills them in as it reads a page (`setup` makes this a Sphinx extension), so that its pages
hold the two markers only. README, which is read without Sphinx, keeps what is between them:

    python docs/_ext/generate.py README.md            # writes it anew, as `make results` does
    python docs/_ext/generate.py --check README.md    # fails if it is not as the sources say
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from api_reference import api
from cli_reference import cli
from codec_table import codecs
from dialect_table import dialects
from module_tree import docstring, modules, parts, rooms
from recipe_reference import recipe
from repository import page, relinked
from result_tables import results

if TYPE_CHECKING:
    from sphinx.application import Sphinx

KINDS: dict[str, Callable[[str], str]] = {
    "api": api,
    "cli": cli,
    "codecs": codecs,
    "dialects": dialects,
    "docstring": docstring,
    "modules": modules,
    "page": page,
    "parts": parts,
    "recipe": recipe,
    "results": results,
    "rooms": rooms,
}
"""Kind of a marker -> function that returns Markdown for its argument."""
PART = re.compile(
    rf"^(<!-- ({'|'.join(KINDS)})(?:: (.*?))? -->\n)(.*?)^(<!-- end -->)$", re.MULTILINE | re.DOTALL
)


def fill(text: str) -> str:
    """Return a page with its generated parts written anew between their markers."""

    def part(match: re.Match[str]) -> str:
        begin, kind, argument, _, end = match.groups()
        return f"{begin}\n{KINDS[kind](argument or '')}\n\n{end}"

    return PART.sub(part, text)


def _read(app: Sphinx, name: str, source: list[str]) -> None:
    """Fill in a page that Sphinx has read, and turn its links to the site."""
    file = Path(app.env.doc2path(name))
    if file.suffix == ".md":
        source[0] = relinked(fill(source[0]), file.parent, file)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension with Sphinx."""
    app.connect("source-read", _read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def main(words: list[str] | None = None) -> None:
    """Write the generated parts of pages anew, or check them.

    Args:
        words: arguments; None for those of the command line.
    """
    parser = argparse.ArgumentParser(description="Write the generated parts of pages anew.")
    parser.add_argument("pages", nargs="+", type=Path, help="Markdown files.")
    parser.add_argument("--check", action="store_true", help="Write nothing; fail if they differ.")
    arguments = parser.parse_args(words)
    stale = []
    for file in arguments.pages:
        text = file.read_text("utf-8")
        filled = fill(text)
        if filled != text and arguments.check:
            stale.append(str(file))
        elif filled != text:
            file.write_text(filled, "utf-8")
    if stale:
        sys.exit(f"not as the sources say: {', '.join(stale)}; run this without --check")


if __name__ == "__main__":
    main()
