"""Vocabularies of pieces of units: BPE and Unigram by the `tokenizers` library, and text's own.

Acoustic BPE (Shen et al. 2024, arXiv:2310.14580) and codec-bpe: frequent strings of units become
one id each, as in text. What is learned goes into the `Layout`, and is a tokenizer.json.
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

from audiotok._platform.atomic import complete
from audiotok._platform.optional import needed
from audiotok.lm.layout import Layout, LayoutError
from audiotok.lm.layout.base import SPECIALS
from audiotok.lm.layout.units import MOST, written
from audiotok.lm.patterns.base import Serial
from audiotok.tokens.tokens import Tokens

CHUNK = 256  # units that a trainer sees together: one long recording is as many short ones


def learn_pieces(
    layout: Layout,
    codes: Iterable[Tokens | np.ndarray],
    *,
    size: int,
    kind: Literal["bpe", "unigram"] = "bpe",
    longest: int = 16,
    progress: bool = False,
) -> Layout:
    """The layout with pieces learned from recordings.

    `flat` learns pieces across codebooks, `ar_nar` pieces within each of them; `runs = "drop"`
    or one codebook gives the units of HuBERT's tradition.

    Args:
        layout: of one row, without pieces.
        codes: recordings; read once, a recording at a time.
        size: ids in all, the marks and every single unit included.
        kind: the model.
        longest: units of one piece at most.
        progress: whether the library shows how far it is.

    Raises:
        LayoutError: a layout in rows or with pieces, or a size below that of single units.
        ImportError: `tokenizers` is not installed.
    """
    if not layout.serial or layout.learned is not None:
        raise LayoutError("pieces are learned for a layout of one row that has none yet")
    units = int(layout.firsts[-1])
    marks = [f"<|audio_{name}|>" for name in SPECIALS]
    if size < units + len(marks) or units > MOST:
        raise LayoutError(f"{size} ids: {units} units and {len(marks)} marks need one each")
    library = needed("tokenizers", extra="lm")
    shared: dict[str, Any] = {
        "vocab_size": size,
        "special_tokens": marks,
        "initial_alphabet": list(written(np.arange(units))),
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
    order = layout.order
    assert isinstance(order, Serial)
    for each in codes:
        rows = layout.ordered(layout.checked(each))
        units = (rows + layout.firsts[:-1, None]).ravel()[order.cells(rows.shape[1])[0]]
        for start in range(0, len(units), CHUNK):
            yield written(units[start : start + CHUNK])


def _complete(table: dict[str, Any], units: int, marks: int) -> None:
    """Every unit as a piece of its own: Unigram leaves out those that it never saw."""
    vocab = table["model"]["vocab"]
    if isinstance(vocab, dict):
        return
    least = min(score for _, score in vocab[marks:]) if len(vocab) > marks else 0.0
    there = {text for text, _ in vocab}
    vocab += [[unit, least - 10.0] for unit in written(np.arange(units)) if unit not in there]


def save_tokenizer(layout: Layout, path: str | Path) -> None:
    """Writes the pieces as a tokenizer.json, which the `tokenizers` library and transformers read.

    Raises:
        LayoutError: the layout has none.
    """
    if layout.pieces is None:
        raise LayoutError("this layout has no pieces")
    with complete(Path(path)) as part:
        part.write_text(json.dumps(layout.pieces, ensure_ascii=True), "utf-8")


def extend_tokenizer(tokenizer: Any, layout: Layout) -> Layout:
    """Adds a layout's ids to a text tokenizer, in place, under their names `<|a0_0123|>`.

    Args:
        tokenizer: of the `tokenizers` library, or a fast one of transformers.
        layout: of one row.

    Returns:
        The layout with the offset at which its ids now are.

    Raises:
        LayoutError: ids are in rows, or some of the names were there already.
        ImportError: `tokenizers` is not installed.
    """
    library = needed("tokenizers", extra="lm")
    names = layout.names()
    inner = getattr(tokenizer, "backend_tokenizer", tokenizer)
    there = inner.get_vocab(with_added_tokens=True)
    known = [name for name in names if name in there]
    if known:
        raise LayoutError(f"the tokenizer has {known[0]!r} already, of {len(known)} names")
    first = max(there.values(), default=-1) + 1
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
    """Makes room for `size` ids in a model's embedding and output, in place.

    New rows lie near the mean of the old ones (Hewitt 2021; a tenth of their deviation from it),
    so that a new id is at first as likely as an average one.

    Args:
        model: of transformers (its own `resize_token_embeddings` is then used), or any module with
            `get_input_embeddings` and `get_output_embeddings`.
        size: at least what there is.
        seed: of what is drawn.

    Raises:
        ValueError: the model has no such methods, or more ids already.
    """
    find: Any = getattr(model, "get_input_embeddings", None)
    if find is None:
        raise ValueError(f"{type(model).__name__} does not say where its embeddings are")
    old = find().weight
    if size < len(old):
        raise ValueError(f"{size} ids, and the model has {len(old)}: none is taken away")
    before = len(old)
    model.resize_token_embeddings(size)  # pyright: ignore
    random = torch.Generator().manual_seed(seed)
    seen: set[int] = set()
    for part in (find(), model.get_output_embeddings()):  # pyright: ignore
        if part is not None and id(part.weight) not in seen:
            seen.add(id(part.weight))
            _draw(part.weight, before, random)


def _draw(weight: Tensor, before: int, random: torch.Generator) -> None:
    old = weight[:before].float()
    drawn = torch.randn(len(weight) - before, weight.shape[1], generator=random).to(weight.device)
    weight[before:] = (old.mean(0) + 0.1 * old.std(0) * drawn).to(weight.dtype)
