"""The catalogue of codecs, from what the package knows of them without their code."""

from __future__ import annotations

from typing import Any

from markup import cell, code, table

from audiotok._platform.registry import stored
from audiotok.codecs.catalogue import facts


def codecs(_: str = "") -> str:
    """Return two tables with a row for each codec of ours: its sizes, and its kind and weights."""
    rows = [known for name in stored("codecs") if (known := facts(name))]
    sizes = ["name", "Hz", "frames/s", "codebooks", "kbps", "parameters, M", "with codebooks, M"]
    kinds = ["name", "encoder", "decoder", "quantizer", "training", "teacher", "domain", "causal"]
    weights = ["name", "licence of the weights", "published"]
    return "\n\n".join(
        (
            table(sizes, map(_sizes, rows), left=1),
            table(kinds, map(_kind, rows)),
            table(weights, (_weights(row) for row in rows if row["licence"])),
        )
    )


def _sizes(row: dict[str, Any]) -> list[str]:
    """Return the cells of a codec's sizes."""
    return [
        code(row["name"]),
        f"{row['sample_rate']:,}",
        f"{row['frame_rate']:.4g}",
        f"{row['codebooks']:,}" if row["codebooks"] else f"latents of {row['width']}",
        f"{row['kbps']:.3g}",
        f"{row['parameters'] / 1e6:.1f}",
        f"{row['parameters_with_codebooks'] / 1e6:.1f}",
    ]


def _kind(row: dict[str, Any]) -> list[str]:
    """Return the cells of a codec's kind."""
    words = (row[key] for key in ("encoder", "decoder", "quantizer", "training", "teacher"))
    causal = "yes" if row["causal"] else "no"
    return [code(row["name"]), *(cell(word) or "none" for word in words), row["domain"], causal]


def _weights(row: dict[str, Any]) -> list[str]:
    """Return the cells of a codec's weights."""
    where = row["published"]
    return [code(row["name"]), cell(row["licence"]), f"<{where}>" if "://" in where else where]
