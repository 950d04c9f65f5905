"""`audiotok codecs`: which codecs there are."""

from __future__ import annotations

from audiotok import show
from audiotok.commands.base import Json

PANEL = "Looking"


def codecs(as_json: Json = False) -> None:
    """List the codecs: rates, codebooks, size, and whether their weights are here.

    \b
    Examples:
      audiotok codecs
      audiotok codecs --json
    """
    from audiotok.checkpoint import describe
    from audiotok.registry import presets

    rows = [describe(name, read=False) for name in presets("codecs")]
    if as_json:
        show.as_json(rows)
    else:
        show.codecs(rows)
