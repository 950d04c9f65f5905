"""Files of the ids of one recording: .npy of numbers, or .txt of their names in a tokenizer."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from audiotok._platform.atomic import atomic_file
from audiotok._platform.errors import InputError
from audiotok.codecs.models.base import Codec
from audiotok.lm.dialects.base import Dialect
from audiotok.lm.layout import Layout, find_layout
from audiotok.lm.layout.base import LayoutError
from audiotok.tokens.tokens import Tokens

SUFFIXES = (".npy", ".txt")


def layout_for(name_or_path: str | Path, codec: Codec) -> Layout:
    """Return the layout of a file or a published language model, for the codes of a codec.

    Raises:
        InputError: it is for another codec or other weights.
        LayoutError: there is no such layout, or its model speaks the codes of other codecs.
        NoCodesError: the codec gives latents.
    """
    codec.needs_codes("a layout of ids")
    none = codec.to_tokens(np.zeros((codec.codebooks, 0), np.int64))
    layout = find_layout(name_or_path, none)
    if isinstance(layout, Dialect) and not layout.codec:  # a file of one that is for any weights
        layout = type(layout).of(none, offset=layout.offset)
    layout.check_tokenizer(codec)
    return layout


def write_ids(layout: Layout, tokens: Tokens, path: Path) -> None:
    """Write the ids of a recording, completely or not at all.

    Args:
        layout: their layout.
        tokens: tokens of the recording.
        path: a .txt for the names of ids; else a .npy.

    Raises:
        LayoutError: the tokens do not fit the layout, or its ids have no names.
    """
    text = layout.text(tokens).encode() if path.suffix == ".txt" else None
    with atomic_file(path) as part, part.open("wb") as file:
        if text is None:
            np.save(file, layout.encode(tokens))
        else:
            file.write(text)


def read_ids(layout: Layout, path: Path) -> Tokens:
    """Return the tokens whose ids are in a file of `write_ids`, or that a model wrote.

    Raises:
        InputError: the file cannot be read, or its ids have no length in time.
        LayoutError: the ids are not of this layout, cut short or damaged.
    """
    if not layout.exact:
        raise InputError(f"{path}: a layout that drops runs, so its ids have no length in time")
    try:
        text = path.read_text("utf-8").strip() if path.suffix == ".txt" else None
        ids = np.load(path, allow_pickle=False) if text is None else None
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: no ids that can be read ({error})") from None
    try:
        codes = layout.decode(ids) if ids is not None else layout.parse(text or "")
    except LayoutError as error:
        raise LayoutError(f"{path}: {error}") from None
    return layout.tokens(codes)
