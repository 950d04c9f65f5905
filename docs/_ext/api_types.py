"""Docstrings and links in the reference of the API.

Types of this package are linked to their pages. The site is built without a network, so names of
other packages (torch, numpy) cannot be looked up, and what is private has no page. Both are left as
text. Any other reference that leads nowhere is a warning, and so an error.
"""

from __future__ import annotations

import builtins
import re
from typing import TYPE_CHECKING, Any

from docutils.nodes import document
from sphinx.addnodes import pending_xref
from sphinx.ext.napoleon import _process_docstring

if TYPE_CHECKING:
    from docutils.nodes import Element
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

SECTION = re.compile(r"(Args|Attributes|Raises|Returns|Yields):\n")
CODE = re.compile(r"(`+[^`]+`+)")


def restructured(docstring: str) -> str:
    """Return a docstring, whose prose is Markdown, as reStructuredText.

    A paragraph that is indented by four spaces is preformatted, as in Markdown, and a bar or an
    asterisk is one. Sections of arguments, and examples, stay as they are.
    """
    output: list[str] = []
    section = preformatted = False
    for paragraph in docstring.split("\n\n"):
        if not paragraph.startswith(" "):
            section = bool(SECTION.match(paragraph))
        before, preformatted = preformatted, paragraph.startswith("    ") and not section
        if preformatted and not before:
            output.append("::")
        example = paragraph.lstrip().startswith(">>> ")
        output.append(paragraph if preformatted or example else _prose(paragraph))
    return "\n\n".join(output)


def _prose(paragraph: str) -> str:
    """Return a paragraph with its code marked as code, and nothing else marked up by chance."""
    pieces = CODE.split(paragraph)
    pieces[::2] = [re.sub(r"(?<!\\)([|*])", r"\\\1", text) for text in pieces[::2]]
    # A letter may follow `code`s, as in Markdown.
    pieces[1::2] = [f"``{code.strip('`')}``\\ " for code in pieces[1::2]]
    return re.sub(r"\\ (?!\w)", "", "".join(pieces))


def _docstring(
    app: Sphinx, what: Any, name: str, value: Any, options: Any, lines: list[str]
) -> None:
    """Have napoleon read a docstring; that of a property is prose, not `TYPE: meaning`."""
    lines[:] = restructured("\n".join(lines)).split("\n")
    _process_docstring(app, "method" if what == "property" else what, name, value, options, lines)


def _builtins(app: Sphinx, page: document) -> None:
    """Leave Python's own types as text: `bytes` is not some class's attribute of that name."""
    for node in list(page.findall(pending_xref)):
        if node.get("refdomain") == "py" and hasattr(builtins, node["reftarget"]):
            node.replace_self(node.children)


def _resolve(app: Sphinx, env: BuildEnvironment, node: Any, text: Element) -> Element | None:
    """Return the link of a type to the public class of its name, or else its text alone."""
    if node.get("refdomain") != "py" or node.get("reftype") not in ("class", "obj", "exc"):
        return None
    domain: Any = env.get_domain("py")
    last = node["reftarget"].rpartition(".")[2]
    classes = [
        name
        for name, entry in domain.objects.items()
        if name.rpartition(".")[2] == last and entry.objtype in ("class", "exception")
    ]
    if len(classes) != 1:
        return text
    return domain.resolve_xref(env, node["refdoc"], app.builder, "class", classes[0], node, text)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension with Sphinx."""
    app.setup_extension("sphinx.ext.napoleon")
    for listener in list(app.events.listeners["autodoc-process-docstring"]):
        if listener.handler is _process_docstring:
            app.disconnect(listener.id)
    app.connect("autodoc-process-docstring", _docstring)
    app.connect("doctree-read", _builtins)
    app.connect("missing-reference", _resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
