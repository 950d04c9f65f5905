"""Pictures of tokens, a row a codebook and a column a frame: for matplotlib and for notebooks."""

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


def draw(
    axes: Any,
    tokens: Tokens,
    *,
    embeddings: Iterable[Any] | None = None,
    start: float = 0.0,
) -> None:
    """Draw tokens into matplotlib axes, with seconds below and codebooks at the side.

    Args:
        axes: where to draw.
        tokens: the tokens.
        embeddings: see `tables_of`.
        start: time of the first frame in seconds.
    """
    tables, meaning = tables_of(tokens, embeddings)
    every = max(1, -(-tokens.frames // COLUMNS))
    image = coloured(tokens.codes[:, ::every], tables)
    rows = len(tokens.codes)
    end = start + tokens.frames / tokens.frame_rate
    if tokens.frames:
        extent = (start, end, rows + 0.5, 0.5)
        axes.imshow(image, extent=extent, aspect="auto", interpolation="nearest")
    step = -(-rows // LABELS)
    ticks = range(1, rows + 1, step)
    axes.set_yticks(ticks, [str((i - 1) % tokens.codebooks + 1) for i in ticks])
    if rows <= LABELS:
        for row in range(1, rows):
            axes.axhline(row + 0.5, color="white", linewidth=0.8)
    axes.set(
        xlim=(start, max(end, start + 1e-3)),
        ylim=(rows + 0.5, 0.5),
        xlabel="seconds",
        ylabel="codebook" if tokens.streams == 1 else f"codebook, {tokens.streams} streams",
    )
    thinned = f", one in {every} drawn" if every > 1 else ""
    axes.set_title(f"{_shape(tokens)} frames{thinned}: {meaning}", loc="left", fontsize="small")


def html(tokens: Tokens) -> str:
    """Return a self-contained picture of tokens for a notebook: an image and a line of facts."""
    shown = tokens.codes[:SHOWN_ROWS, :SHOWN]
    facts = [
        f"of {tokens.codec} ({tokens.fingerprint})",
        f"{tokens.seconds:.2f} s",
        f"{_shape(tokens)} frames",
        f"{tokens.kbps:.2f} kbps",
    ]
    line = f"<div><b>Tokens</b> {escape(' · '.join(facts))}</div>"
    if not shown.size:
        return f"<div>{line}</div>"
    rows, frames = shown.shape
    url = png_url(coloured(shown, [code_colours()]))
    style = f"width:100%;max-width:{max(80, 2 * frames)}px;height:{min(16, 512 // rows) * rows}px"
    picture = f'<img src="{url}" alt="tokens" style="{style};image-rendering:pixelated">'
    cut = [] if frames == tokens.frames else [f"the first {frames} of {tokens.frames} frames"]
    if rows < len(tokens.codes):
        cut.append(f"the first {rows} of {len(tokens.codes)} rows")
    note = "; ".join([*cut, f"a row a codebook, a column a frame, {BY_CODE}"])
    return f'<div>{line}{picture}<div style="font-size:85%;opacity:.7">{escape(note)}</div></div>'


def _shape(tokens: Tokens) -> str:
    """Return streams, codebooks and frames as text."""
    streams = f"{tokens.streams} streams x " if tokens.streams > 1 else ""
    return f"{streams}{tokens.codebooks} codebooks x {tokens.frames}"
