"""Writes what is known of our codecs without their code: `audiotok/codecs/models/presets.json`.

    python tests/golden/presets.py

tests/codecs/test_catalogue.py compares it with the classes.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from audiotok._platform.registry import find, shipped
from audiotok.codecs.catalogue import WEIGHTS
from audiotok.codecs.checkpoint import describe, load, weights_of

ROOT = Path(__file__).parents[2]
STORED = ROOT / "audiotok" / "codecs" / "models" / "presets.json"
OF_A_MACHINE = {"weights", "fingerprint", "decoder_fingerprint", "card"}
MEMBERS = ("fingerprint", "decoder_fingerprint", "former_fingerprints")


def rows() -> dict[str, dict[str, Any]]:
    """Return the presets of each of our codecs: their part, their facts, and their weights."""
    return {part: {name: _row(part, name) for name in _names(part)} for part in shipped("codecs")}


def _names(part: str) -> list[str]:
    return [*(find("codecs", part).presets or (part,))]


def _row(part: str, name: str) -> dict[str, Any]:
    facts = {key: v for key, v in describe(name, read=False).items() if key not in OF_A_MACHINE}
    source = find("codecs", part).sources.get(name)
    published = asdict(source) if source else None
    own, shared = find("codecs", part).own_weights, find("codecs", part).shared_weights
    row = {"part": part, "facts": facts, "source": published, "shipped": _shipped(name)}
    return row | ({"own": True} if own else {}) | ({"shared": shared} if shared else {})


def _shipped(name: str) -> dict[str, Any] | None:
    """Return what the weights that ship add to the facts; None where none do."""
    path = weights_of(name)
    if path is None or path.parent != WEIGHTS:
        return None
    codec = load(name)
    members = (*MEMBERS, "semantic_codebooks", "decoders")
    return {member: getattr(codec, member) for member in members}


def text() -> str:
    """Return the content of the file, a line a preset."""
    parts = []
    for part, presets in rows().items():
        lines = (f"  {json.dumps(name)}: {json.dumps(row)}" for name, row in presets.items())
        parts.append(f" {json.dumps(part)}: {{\n" + ",\n".join(lines) + "\n }")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def announce() -> None:
    """Add the names of new presets to the file, since only those in it can be asked for."""
    known = json.loads(STORED.read_text("utf-8"))
    for part in shipped("codecs"):
        known[part] = {n: known.get(part, {}).get(n, {"part": part}) for n in _names(part)}
    STORED.write_text(json.dumps(known), "utf-8")


if __name__ == "__main__":
    announce()
    STORED.write_text(text(), "utf-8")
