"""`audiotok info`: facts about a file or a codec."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from audiotok._platform.errors import InputError
from audiotok.cli import console as show
from audiotok.cli.commands.base import Json

PANEL = "Codecs and files"


def info(
    what: Annotated[
        str, typer.Argument(help=".tok file, audio file, codec, checkpoint or exported folder.")
    ],
    as_json: Json = False,
) -> None:
    """Print the facts about a file or a codec, without decoding it.

    \b
    Examples:
      audiotok info talk.tok
      audiotok info speech --json
    """
    from audiotok.runtime.describe import describe_audio, describe_tokens

    path = Path(what)
    if path.suffix == ".tok":
        facts = describe_tokens(path)
    else:
        facts = _of_folder(path) or _of_codec(what) or describe_audio(what)
    if as_json:
        show.as_json(facts)
    else:
        show.facts({key: _shortened(value) for key, value in facts.items()})


def _shortened(value: Any) -> Any:
    """Return a fact to be printed: of a nested one, such as a training card, the plain values."""
    if not isinstance(value, dict) or not any(isinstance(v, dict | list) for v in value.values()):
        return value
    plain = {key: v for key, v in value.items() if not isinstance(v, dict | list)}
    rest = ", ".join(key for key in value if key not in plain)
    rest = f"{'and ' * bool(plain)}{rest} (--json shows all)"
    return ", ".join([*(f"{key} {v}" for key, v in plain.items()), rest])


def _of_folder(path: Path) -> dict[str, Any] | None:
    """Return the facts about an exported codec; None for anything else."""
    if path.is_file():
        return None
    if (path / "corpus.json").is_file():
        raise InputError(f"{path}: a corpus; `audiotok corpus info {path}` describes it")
    from audiotok.runtime.exported import is_exported, read_metadata

    return read_metadata(path) if is_exported(path) else None


def _of_codec(what: str) -> dict[str, Any] | None:
    """Return the facts about a codec or a checkpoint; None for an audio file."""
    from audiotok._platform.registry import presets
    from audiotok.codecs.catalogue import name_at_hub
    from audiotok.nn.pretrained.hub import SUFFIXES, is_folder

    path = Path(what)
    if what in presets("codecs") or name_at_hub(what) or path.suffix in SUFFIXES or is_folder(path):
        from audiotok.codecs.checkpoint import describe  # imports torch

        return describe(what)
    if not path.suffix and what != "-" and not os.path.lexists(path):
        raise InputError(f"{what}: neither a file nor a codec ({' '.join(presets('codecs'))})")
    return None
