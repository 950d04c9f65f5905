"""Runs the blocks of code of a page as a reader would: in order, in the present folder.

    python tests/docs/page.py PAGE [--slow]

A block that begins with ```python or ```bash runs; what cannot (a microphone, a server) stands in
```console or ```text. All Python blocks of a page share a process, but no names, unless the line
before a block says that it is `continued`. A block is left out without --slow where the line before
it says `slow`. Such a line is a comment: `% slow` in MyST, `<!-- slow -->` in README.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any, NamedTuple

BLOCK = re.compile(
    r"(?:^(?:%|<!--) (?P<marks>(?:slow|continued)(?: (?:slow|continued))*)(?: -->)?\n)?"
    r"^```(?P<kind>python|bash)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
    """Block of code of a page."""

    kind: str  # "python" or "bash"
    code: str
    line: int  # number of its first line in the page
    slow: bool
    continued: bool  # goes on with the names of the block before


def blocks(text: str) -> list[Block]:
    """Return the blocks of a page that run.

    Blocks of `make` alone are left out: they set up the environment that this runs in.
    """
    found = []
    for match in BLOCK.finditer(text):
        marks = (match["marks"] or "").split()
        if not all(line.startswith("make ") for line in match["code"].splitlines()):
            line = text.count("\n", 0, match.start("code")) + 1
            kind, code = match["kind"], match["code"]
            found.append(Block(kind, code, line, "slow" in marks, "continued" in marks))
    return found


def run(page: Path, *, slow: bool) -> None:
    """Run the blocks of a page, and exit at the first that fails, which is named.

    Args:
        page: a Markdown file.
        slow: whether to run slow blocks too.
    """
    folder = Path.cwd()
    names: dict[str, Any] = {}
    for block in blocks(page.read_text("utf-8")):
        if block.slow and not slow:
            continue
        os.chdir(folder)
        try:
            if block.kind == "bash":
                subprocess.run(["bash", "-euo", "pipefail", "-c", block.code], check=True)
            else:
                names = names if block.continued else {"__name__": "__main__"}
                # Empty lines before it, so that a traceback has the lines of the page.
                code = "\n" * (block.line - 1) + block.code
                exec(compile(code, str(page), "exec"), names)
                sys.stdout.flush()  # in order with what the shell's blocks print
        except (Exception, SystemExit):
            traceback.print_exc()
            sys.exit(f"{page}:{block.line}: this {block.kind} block failed")


if __name__ == "__main__":
    run(Path(sys.argv[1]), slow="--slow" in sys.argv)
