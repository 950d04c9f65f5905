"""`audiotok codecs`: a list of the codecs."""

from __future__ import annotations

from audiotok.cli import console as show
from audiotok.cli.commands.base import Json

PANEL = "Codecs and files"


def codecs(as_json: Json = False) -> None:
    """List the codecs: rates, codebooks, size, and whether their weights are on this machine.

    \b
    Examples:
      audiotok codecs
      audiotok codecs --json
    """
    from audiotok._platform.registry import presets
    from audiotok.codecs.checkpoint import describe

    rows = [describe(name, read=False) for name in presets("codecs")]
    if as_json:
        show.as_json(rows)
    else:
        show.codecs(rows)
