"""Pictures of tokens, a row a codebook and a column a frame: for matplotlib and for notebooks.

Of latents a row is a feature.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from audiotok._platform.errors import InputError
from audiotok.tokens.colours import (
    BY_CODE,
    BY_SIMILARITY,
    code_colours,
    coloured,
    similarity_colours,
)
from audiotok.tokens.png import png_url

if TYPE_CHECKING:
    from audiotok.tokens.kinds import AnyTokens
    from audiotok.tokens.tokens import Tokens

COLUMNS = 1500  # frames that a plot has room for; of more, every n-th is drawn
SHOWN = 600  # frames of a notebook's picture; more are cut off
SHOWN_ROWS = 64  # its rows
LABELS = 16  # rows with a number each, and lines between them


def tables_of(
    tokens: Tokens, embeddings: Iterable[Any] | None
) -> tuple[Sequence[NDArray[np.uint8]], str]:
    """Return colours of the codebooks, and what they mean, as text.

    Args:
        tokens: the tokens.
        embeddings: entries of each codebook, `[entries d]`, of at least the tokens' codebooks;
            None where they are not known.

    Raises:
        ValueError: the entries do not fit the codebooks.
    """
    if embeddings is None:
        return [code_colours()], BY_CODE
    entries = list(embeddings)[: tokens.codebooks]
    given = tuple(len(codebook) for codebook in entries)
    if given != tokens.sizes:
        raise InputError(f"embeddings of codebooks of sizes {given}, not {tokens.sizes}")
    return similarity_colours(entries), BY_SIMILARITY


def image_of(
    tokens: AnyTokens, shown: NDArray[Any], embeddings: Iterable[Any] | None = None
) -> tuple[NDArray[np.uint8], str]:
    """Return an image `[rows f 3]` of frames, and what its colours mean, as text.

    Args:
        tokens: the tokens, or latents.
        shown: the rows and frames of them that are drawn.
        embeddings: see `tables_of`; not used of latents.
    """
    if tokens.kind == "codes":
        tables, meaning = tables_of(tokens, embeddings)
        return coloured(shown, tables), meaning
    scale = 3 * float(np.std(shown, dtype=np.float64)) if shown.size else 1.0
    x = np.clip(shown.astype(np.float32) / max(scale, 1e-9), -1, 1)
    # White is 0, red above it and blue below.
    light = np.stack([1 - np.maximum(-x, 0), 1 - np.abs(x), 1 - np.maximum(x, 0)], 2)
    return np.round(255 * light).astype(np.uint8), f"red to {scale:.2g}, blue to {-scale:.2g}"


def draw(
    axes: Any,
    tokens: AnyTokens,
    *,
    embeddings: Iterable[Any] | None = None,
    start: float = 0.0,
) -> None:
    """Draw tokens into matplotlib axes, with seconds below and codebooks at the side.

    Args:
        axes: where to draw.
        tokens: the tokens, or latents.
        embeddings: see `tables_of`.
        start: time of the first frame in seconds.
    """
    every = max(1, -(-tokens.frames // COLUMNS))
    image, meaning = image_of(tokens, tokens.numbers[:, ::every], embeddings)
    rows, own = len(image), tokens.header.stream_rows
    row_name = "codebook" if tokens.kind == "codes" else "feature"
    end = start + tokens.frames / tokens.frame_rate
    if tokens.frames:
        extent = (start, end, rows + 0.5, 0.5)
        axes.imshow(image, extent=extent, aspect="auto", interpolation="nearest")
    step = -(-rows // LABELS)
    ticks = range(1, rows + 1, step)
    axes.set_yticks(ticks, [str((i - 1) % own + 1) for i in ticks])
    if rows <= LABELS:
        for row in range(1, rows):
            axes.axhline(row + 0.5, color="white", linewidth=0.8)
    axes.set(
        xlim=(start, max(end, start + 1e-3)),
        ylim=(rows + 0.5, 0.5),
        xlabel="seconds",
        ylabel=row_name if tokens.streams == 1 else f"{row_name}, {tokens.streams} streams",
    )
    thinned = f", one in {every} drawn" if every > 1 else ""
    axes.set_title(f"{_shape(tokens)} frames{thinned}: {meaning}", loc="left", fontsize="small")


def html(tokens: AnyTokens) -> str:
    """Return a self-contained picture of tokens for a notebook: an image and a line of facts."""
    shown = tokens.numbers[:SHOWN_ROWS, :SHOWN]
    facts = [
        f"of {tokens.codec} ({tokens.fingerprint})",
        f"{tokens.seconds:.2f} s",
        f"{_shape(tokens)} frames",
        f"{tokens.kbps:.2f} kbps",
    ]
    line = f"<div><b>{type(tokens).__name__}</b> {escape(' · '.join(facts))}</div>"
    if not shown.size:
        return f"<div>{line}</div>"
    rows, frames = shown.shape
    image, meaning = image_of(tokens, shown)
    url = png_url(image)
    style = f"width:100%;max-width:{max(80, 2 * frames)}px;height:{min(16, 512 // rows) * rows}px"
    picture = f'<img src="{url}" alt="tokens" style="{style};image-rendering:pixelated">'
    cut = [] if frames == tokens.frames else [f"the first {frames} of {tokens.frames} frames"]
    if rows < len(tokens.numbers):
        cut.append(f"the first {rows} of {len(tokens.numbers)} rows")
    row_name = "codebook" if tokens.kind == "codes" else "feature"
    note = "; ".join([*cut, f"a row a {row_name}, a column a frame, {meaning}"])
    return f'<div>{line}{picture}<div style="font-size:85%;opacity:.7">{escape(note)}</div></div>'


def _shape(tokens: AnyTokens) -> str:
    """Return streams, codebooks or features, and frames as text."""
    streams = f"{tokens.streams} streams x " if tokens.streams > 1 else ""
    rows = "codebooks" if tokens.kind == "codes" else "features"
    return f"{streams}{tokens.header.stream_rows} {rows} x {tokens.frames}"
