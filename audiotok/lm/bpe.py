"""Subword vocabularies over codec units, and codec ids as additions to a text tokenizer.

BPE and Unigram models are trained by the `tokenizers` library. As in acoustic BPE (Shen et al.
2024, arXiv:2310.14580) and codec-bpe, a frequent sequence of units becomes a single id, called a
piece. The trained model is kept in the `Layout`, in the format of a tokenizer.json.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from audiotok._platform.atomic import atomic_file
from audiotok._platform.errors import InputError
from audiotok._platform.optional import optional_import
from audiotok.lm.layout import Layout, LayoutError
from audiotok.lm.layout.base import SPECIALS
from audiotok.lm.layout.units import MAX_UNITS, units_to_text
from audiotok.lm.patterns.base import Serial
from audiotok.tokens.tokens import Tokens

ADDED = 1e-4  # by which each unit that `tokenizers` adds to a Unigram model is likelier
CHUNK = 256  # units of one training text; longer recordings are split, which bounds memory


def learn_pieces(
    layout: Layout,
    codes: Iterable[Tokens | np.ndarray],
    *,
    size: int,
    kind: Literal["bpe", "unigram"] = "bpe",
    longest: int = 16,
    progress: bool = False,
) -> Layout:
    """Return the layout with pieces learned from recordings.

    With the pattern `flat` pieces may span codebooks; with `ar_nar` each piece lies within one
    codebook. `runs = "drop"` or a single codebook gives deduplicated units as used with HuBERT.

    Args:
        layout: a layout of one row, without pieces.
        codes: the recordings, as `Tokens` or codes `[k f]`; read once, one at a time.
        size: size of the vocabulary, including the marks and every single unit.
        kind: the subword model.
        longest: maximum number of units in a piece.
        progress: whether the library shows a progress bar.

    Returns:
        A copy of the layout with its `pieces`.

    Raises:
        LayoutError: the layout has several rows or has pieces already, or `size` is smaller than
            the number of marks and single units.
        ImportError: `tokenizers` is not installed.
    """
    if not layout.serial or layout.learned is not None:
        raise LayoutError("pieces are learned for a layout of one row that has none yet")
    units = int(layout.firsts[-1])
    marks = [f"<|audio_{name}|>" for name in SPECIALS]
    if size < units + len(marks) or units > MAX_UNITS:
        raise LayoutError(f"{size} ids: {units} units and {len(marks)} marks need one each")
    library = optional_import("tokenizers", extra="lm")
    shared: dict[str, Any] = {
        "vocab_size": size,
        "special_tokens": marks,
        "initial_alphabet": list(units_to_text(np.arange(units))),
        "show_progress": progress,
    }
    if kind == "bpe":
        model = library.Tokenizer(library.models.BPE())
        trainer = library.trainers.BpeTrainer(max_token_length=longest, **shared)
    else:
        model = library.Tokenizer(library.models.Unigram())
        trainer = library.trainers.UnigramTrainer(max_piece_length=longest, **shared)
    model.train_from_iterator(_texts(layout, codes), trainer)
    table = json.loads(model.to_str())
    _complete(table, units, len(marks))
    return replace(layout, pieces=table)


def _texts(layout: Layout, codes: Iterable[Tokens | np.ndarray]) -> Iterator[str]:
    """Yield the units of each recording as text, `CHUNK` units at a time."""
    order = layout.order
    assert isinstance(order, Serial)
    for each in codes:
        rows = layout.ordered(layout.checked(each))
        units = (rows + layout.firsts[:-1, None]).ravel()[order.cells(rows.shape[1])[0]]
        for start in range(0, len(units), CHUNK):
            yield units_to_text(units[start : start + CHUNK])


def _complete(table: dict[str, Any], units: int, marks: int) -> None:
    """Give a Unigram model every single unit as a piece, and an order that never differs.

    The library adds single units that training did not keep in an order of chance, each 0.0001 more
    likely than the one before, and sums in parallel, which rounds differently each time.
    """
    model = table["model"]
    if isinstance(model["vocab"], dict):
        return
    pieces: dict[str, float] = dict(map(tuple, model["vocab"][marks:]))
    least = round(min(pieces.values(), default=0.0), 9)
    forced = least + ADDED * units
    for unit in units_to_text(np.arange(units)):
        if pieces.get(unit, least) <= forced:
            pieces[unit] = least
    ordered = sorted((-round(score, 9), text) for text, score in pieces.items())
    model["vocab"][marks:] = [[text, -score] for score, text in ordered]


def save_tokenizer(layout: Layout, path: str | Path) -> None:
    """Write the pieces as a tokenizer.json, which the `tokenizers` library and transformers read.

    Raises:
        LayoutError: the layout has no pieces.
    """
    if layout.pieces is None:
        raise LayoutError("this layout has no pieces")
    with atomic_file(Path(path)) as part:
        part.write_text(json.dumps(layout.pieces, ensure_ascii=True), "utf-8")


def extend_tokenizer(tokenizer: Any, layout: Layout) -> Layout:
    """Add a layout's ids to a text tokenizer, in place, under their names `<|a0_0123|>`.

    Args:
        tokenizer: a tokenizer of the `tokenizers` library, or a fast tokenizer of transformers.
        layout: a layout of one row.

    Returns:
        The layout with its `offset` set to the tokenizer's first new id.

    Raises:
        LayoutError: the layout has several rows, or the tokenizer has some of the names already.
        ImportError: `tokenizers` is not installed.
    """
    library = optional_import("tokenizers", extra="lm")
    names = layout.names()
    inner = getattr(tokenizer, "backend_tokenizer", tokenizer)
    vocabulary = inner.get_vocab(with_added_tokens=True)
    known = [name for name in names if name in vocabulary]
    if known:
        raise LayoutError(f"the tokenizer has {known[0]!r} already, of {len(known)} names")
    first = max(vocabulary.values(), default=-1) + 1
    tokens = [library.AddedToken(name, special=True, normalized=False) for name in names]
    tokenizer.add_tokens(tokens)
    if [inner.token_to_id(name) for name in (names[0], names[-1])] != [
        first,
        first + len(names) - 1,
    ]:
        raise LayoutError("the tokenizer gave ids that do not follow one another")
    return replace(layout, offset=first)


@torch.no_grad()
def resize_embeddings(model: nn.Module, size: int, *, seed: int = 0) -> None:
    """Resize a model's input and output embeddings to `size` ids, in place.

    New rows are drawn around the mean of the old ones, with a tenth of their standard deviation
    (Hewitt 2021), so that a new id is at first as likely as an average id.

    Args:
        model: a model of transformers, or any module with `resize_token_embeddings`,
            `get_input_embeddings` and `get_output_embeddings`.
        size: the new number of ids, not below the present one.
        seed: random seed for drawing the new rows.

    Raises:
        ValueError: the model has no such methods, or more than `size` ids.
    """
    find: Any = getattr(model, "get_input_embeddings", None)
    if find is None:
        raise InputError(f"{type(model).__name__} does not say where its embeddings are")
    old = find().weight
    if size < len(old):
        raise InputError(f"{size} ids, and the model has {len(old)}: none is taken away")
    before = len(old)
    model.resize_token_embeddings(size)  # pyright: ignore
    random = torch.Generator().manual_seed(seed)
    seen: set[int] = set()
    for part in (find(), model.get_output_embeddings()):  # pyright: ignore
        if part is not None and id(part.weight) not in seen:
            seen.add(id(part.weight))
            _draw(part.weight, before, random)


def _draw(weight: Tensor, before: int, random: torch.Generator) -> None:
    """Draw the rows of an embedding from `before` on around the mean of those before."""
    old = weight[:before].float()
    drawn = torch.randn(len(weight) - before, weight.shape[1], generator=random).to(weight.device)
    weight[before:] = (old.mean(0) + 0.1 * old.std(0) * drawn).to(weight.dtype)
