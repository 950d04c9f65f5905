"""`audiotok codecs`: a list of the codecs."""

from __future__ import annotations

from typing import Any

from audiotok.cli import console as show
from audiotok.cli.commands.base import Json

PANEL = "Codecs and files"


def codecs(as_json: Json = False) -> None:
    """List the codecs: rates, codebooks, size, kind, and the licence of published weights.

    Those of other packages that cannot be used are reported on stderr.

    \b
    Examples:
      audiotok codecs
      audiotok codecs --json
    """
    from audiotok._platform.errors import Error
    from audiotok._platform.registry import presets
    from audiotok.codecs.catalogue import facts

    rows = []
    for name in presets("codecs"):
        try:
            rows.append(facts(name) or _described(name))
        except Error as error:  # the others are listed all the same
            show.error(error)
    if as_json:
        show.as_json(rows)
    else:
        show.codecs(rows)


def _described(name: str) -> dict[str, Any]:
    """Return the facts about a codec of which only its code knows them."""
    from audiotok.codecs.checkpoint import describe  # imports torch

    return describe(name, read=False)
