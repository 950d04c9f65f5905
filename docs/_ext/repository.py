"""Files of the repository on the site: its Markdown as pages, others to be downloaded.

Pages link to files of the repository by their relative paths, so that the links hold where the
repository is read. On the site they are turned to where the file is.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "project/changelog.md",
    "CODE_OF_CONDUCT.md": "project/conduct.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "RELEASE.md": "project/releasing.md",
    "SECURITY.md": "project/security.md",
    "egs/browser/README.md": "project/browser.md",
    "findings/README.md": "project/findings.md",
    "recipes/README.md": "project/recipes.md",
    "recipes/scale.md": "project/scale.md",
}
"""File of the repository -> page of the site that shows it."""
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s:#]+)(#[^)\s]*)?\)")


def page(name: str) -> str:
    """Return a Markdown file of the repository, with its links as they are on its page."""
    file = ROOT / name
    return relinked(file.read_text("utf-8").rstrip(), file.parent, DOCS / PAGES[name])


def relinked(text: str, folder: Path, shown: Path) -> str:
    """Return Markdown with its links to files turned to where the site has them.

    Args:
        text: Markdown.
        folder: folder that its links are relative to.
        shown: file of the site that shows the text.
    """

    def link(match: re.Match[str]) -> str:
        image, label, target, anchor = match.groups(default="")
        file = (folder / target).resolve()
        if not file.is_relative_to(ROOT) or not file.exists():
            return match[0]
        if file.is_dir():
            return label
        name = str(file.relative_to(ROOT))
        place = DOCS / PAGES[name] if name in PAGES else file
        path = os.path.relpath(place, shown.parent)
        if place == DOCS / "index.md":
            anchor = ""  # which has other headings than README
        scheme = "" if image or place.is_relative_to(DOCS) else "path:"
        return f"{image}[{label}]({scheme}{path}{anchor if not scheme else ''})"

    return LINK.sub(link, text)
