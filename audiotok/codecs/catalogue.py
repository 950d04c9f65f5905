"""Catalogue of codecs: what is known of them by name without their code, so that torch can wait.

Facts about our own are in models/presets.json, which tests hold against the classes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from audiotok._platform.errors import Error
from audiotok._platform.registry import find, names, stored
from audiotok.nn.pretrained import hub
from audiotok.nn.pretrained.hub import PublishedWeights
from audiotok.tokens.tokenizer import Tokenizer

WEIGHTS = Path(__file__).parent / "weights"
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")  # as in "kyutai/mimi"


class CheckpointError(Error, ValueError):
    """A file that is no checkpoint or holds another codec, or weights that are missing."""


def facts(name: str) -> dict[str, Any] | None:
    """Return the properties of a codec of ours as plain data; None if its code has to be asked.

    They are those of `checkpoint.describe(name, read=False)`.
    """
    known = stored("codecs").get(name)
    if known is None:
        return None
    source = known["source"]
    path = local_weights(_file(known), PublishedWeights(**source) if source else None)
    weights = "its own" if known.get("own") else str(path) if path else None
    unread = {"fingerprint": None, "decoder_fingerprint": None, "card": None}
    return {**known["facts"], "weights": weights, **unread}


class ShippedCodec(Tokenizer):
    """A codec whose weights ship, as far as tokens depend on it: without the network."""

    def __init__(self, known: dict[str, Any]) -> None:
        facts, shipped = known["facts"], known["shipped"]
        self.name = facts["name"]
        self.sample_rate = facts["sample_rate"]
        self.frame_size = facts["frame_size"]
        self.channels = facts["channels"]
        self.former_fingerprints = tuple(shipped["former_fingerprints"])
        self.semantic_codebooks = shipped["semantic_codebooks"]
        self._sizes = tuple(facts["sizes"])
        self._fingerprints = shipped["fingerprint"], shipped["decoder_fingerprint"]
        self._decodes = facts["decodes"]
        self._decoders = tuple(shipped["decoders"])

    @property
    def sizes(self) -> tuple[int, ...]:
        """See `Tokenizer.sizes`."""
        return self._sizes

    @property
    def decodes(self) -> bool:
        """See `Tokenizer.decodes`."""
        return self._decodes

    @property
    def decoders(self) -> tuple[str, ...]:
        """See `Tokenizer.decoders`."""
        return self._decoders

    @property
    def fingerprint(self) -> str:
        """See `Tokenizer.fingerprint`."""
        return self._fingerprints[0]

    @property
    def decoder_fingerprint(self) -> str:
        """See `Tokenizer.decoder_fingerprint`."""
        return self._fingerprints[1]


def shipped_codec(name: str) -> ShippedCodec | None:
    """Return the codec of a name if its weights ship with audiotok, else None."""
    known = stored("codecs").get(name)
    there = known and known["shipped"] and (WEIGHTS / f"{_file(known)}.safetensors").is_file()
    return ShippedCodec(known) if known and there else None


def _file(known: dict[str, Any]) -> str:
    """Return the name of the file of weights, which presets of one codec may share."""
    return known.get("shared") or known["facts"]["name"]


def local_weights(
    name: str, source: PublishedWeights | None, folder: Path | None = None
) -> Path | None:
    """Return the path of a codec's weights on this machine, or None.

    Args:
        name: name of the codec.
        source: where they are published.
        folder: folder of weights that ship with the codec; audiotok's own if None.
    """
    path = (folder or WEIGHTS) / f"{name}.safetensors"
    return path if path.is_file() else hub.cached(name, source)


def hub_ids() -> dict[str, list[str]]:
    """Return the Hugging Face repositories that hold published weights of codecs, and the names."""
    ids: dict[str, list[str]] = {}
    for name, source in sorted(_sources()):
        for repo in filter(None, (source.repo, source.copy)):
            ids.setdefault(repo, []).append(name)
    return ids


def _sources() -> Iterator[tuple[str, PublishedWeights]]:
    """Yield the names of codecs whose weights are published, and where."""
    known = stored("codecs")
    for name, row in known.items():
        if row["source"]:
            yield name, PublishedWeights(**row["source"])
    for part in {*names("codecs")} - {row["part"] for row in known.values()}:
        yield from getattr(find("codecs", part), "sources", {}).items()


def name_at_hub(name_or_path: str | Path) -> str | None:
    """Return the name of the codec that the id of a Hugging Face repository stands for, or None.

    Raises:
        CheckpointError: there are several codecs in that repository.
    """
    if not looks_like_id(name_or_path):
        return None
    codecs = hub_ids().get(str(name_or_path), [])
    if len(codecs) > 1:
        ways = " or ".join(codecs)
        raise CheckpointError(f"{name_or_path}: holds several codecs: load {ways} by name")
    return codecs[0] if codecs else None


def looks_like_id(name_or_path: str | Path) -> bool:
    """Return whether this may be the id of a Hugging Face repository, and is no path."""
    path = Path(name_or_path)
    if isinstance(name_or_path, Path) or not HUB_ID.fullmatch(name_or_path):
        return False
    return not (path.exists() or path.parent.is_dir() or path.suffix in hub.SUFFIXES)
