"""Speech and text in one sequence of a text model's ids, and apart again.

    tts           text <begin> codes <end> eos            speech is learned, text is given
    asr           <begin> codes <end> text eos            the other way round
    interleaved   text <begin> codes <end> text ...       spans of words, said or written
    alternating   13 of text, 26 of speech, 13 ...        as they would stream

Word by word as in Spirit LM (arXiv:2402.05755) and Ichigo (arXiv:2410.15316), by fixed numbers as
in GLM-4-Voice (arXiv:2412.02612). The layout's ids come after the text's: `extend_tokenizer`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

import numpy as np

from audiotok.lm.layout import Layout, LayoutError

T = TypeVar("T")
Write = Callable[[str], Sequence[int]]  # a text to its ids, without marks


class Example(NamedTuple):
    """Ids of one sequence and which of them a model learns to say."""

    ids: np.ndarray  # [n]
    learned: np.ndarray  # bool [n]

    @property
    def labels(self) -> np.ndarray:
        """For transformers' models, which shift them: -100 where nothing is learned."""
        return np.where(self.learned, self.ids, -100)


@dataclass(frozen=True)
class Word:
    """A word and the frames, `first` to `last` (not included), in which it is said."""

    text: str
    first: int
    last: int


def _joined(parts: Sequence[tuple[Sequence[int] | np.ndarray, bool]]) -> Example:
    ids = [np.asarray(part, np.int64) for part, _ in parts]
    learned = [np.full(len(part), said) for part, said in parts]
    none = np.zeros(0, np.int64)
    return Example(np.concatenate([none, *ids]), np.concatenate([none.astype(bool), *learned]))


def tts(layout: Layout, write: Write, text: str, codes: np.ndarray, *, eos: int) -> Example:
    """Text, then speech that says it.

    Args:
        layout: whose ids come after the text's.
        write: `lambda text: tokenizer.encode(text, add_special_tokens=False)`.
        text: what is said.
        codes: `[k f]`.
        eos: the text model's id for the end.
    """
    return _joined([(write(text), False), (layout.encode(codes), True), ([eos], True)])


def asr(layout: Layout, write: Write, text: str, codes: np.ndarray, *, eos: int) -> Example:
    """Speech, then what was said; arguments as for `tts`."""
    return _joined([(layout.encode(codes), False), (write(text), True), ([eos], True)])


def interleaved(
    layout: Layout,
    write: Write,
    words: Sequence[Word],
    codes: np.ndarray,
    *,
    eos: int,
    spoken: float = 0.5,
    span: tuple[int, int] = (1, 6),
    seed: int = 0,
) -> Example:
    """Spans of words, each written or said, in turn; all is learned.

    Frames between words go with the word before, those before the first with the first, so that
    all of a recording of spoken spans alone is its codes.

    Args:
        layout: whose ids come after the text's.
        write: a text to its ids.
        words: in order; for spans of sentences give sentences, and `span = (1, 1)`.
        codes: `[k f]` of the recording.
        eos: the text model's id for the end.
        spoken: how likely a recording begins with speech.
        span: fewest and most words of a span.
        seed: of what is drawn.

    Raises:
        LayoutError: words that overlap, or are not within the recording.
    """
    edges = [0, *(word.first for word in words[1:]), codes.shape[1]]
    if any(a > b for a, b in pairwise(edges)) or not words:
        raise LayoutError(f"words at frames {edges[:8]} of a recording of {codes.shape[1]}")
    random = np.random.default_rng(seed)
    loud, i = bool(random.random() < spoken), 0
    parts: list[tuple[Sequence[int] | np.ndarray, bool]] = []
    while i < len(words):
        j = min(len(words), i + int(random.integers(span[0], span[1] + 1)))
        if loud:
            parts.append((layout.encode(codes[:, edges[i] : edges[j]]), True))
        else:
            parts.append((write(" ".join(word.text for word in words[i:j])), True))
        loud, i = not loud, j
    return _joined([*parts, ([eos], True)])


def alternating(
    text: Sequence[int], speech: Sequence[int] | np.ndarray, *, texts: int = 13, codes: int = 26
) -> np.ndarray:
    """So many ids of text, so many of speech, in turn; what is left of the longer one at the end.

    Args:
        text: ids.
        speech: ids, of a layout that streams, `begin` and `end` included.
        texts: of text at a time.
        codes: of speech at a time.
    """
    made: list[np.ndarray] = [np.zeros(0, np.int64)]
    written, said = np.asarray(text, np.int64), np.asarray(speech, np.int64)
    while len(written) or len(said):
        made += [written[:texts], said[:codes]]
        written, said = written[texts:], said[codes:]
    return np.concatenate(made)


def apart(layout: Layout, ids: np.ndarray) -> list[np.ndarray]:
    """What `tts`, `asr` or `interleaved` joined: text ids `[n]` and codes `[k f]`, in order.

    Raises:
        LayoutError: speech that is cut short or damaged.
    """
    ids = np.asarray(ids)
    first = layout.special("begin")
    parts: list[np.ndarray] = []
    at = 0
    while at < len(ids):
        begins = np.flatnonzero(ids[at:] == first)
        start = at + int(begins[0]) if len(begins) else len(ids)
        if start > at:
            own = ids[at:start]
            if ((own >= layout.offset) & (own < layout.vocabulary[0])).any():
                raise LayoutError(f"codes outside `begin` and `end`, after id {at}")
            parts.append(own)
        ends = np.flatnonzero(ids[start:] == layout.special("end"))
        stop = start + int(ends[0]) + 1 if len(ends) else len(ids)
        if stop > start:
            parts.append(layout.decode(ids[start:stop]))
        at = stop
    return parts


def untangled(layout: Layout, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What `alternating` mixed: ids of text, and codes `[k f]`.

    Raises:
        LayoutError: speech that is cut short or damaged.
    """
    ids = np.asarray(ids)
    own = (ids >= layout.offset) & (ids < layout.vocabulary[0])
    return ids[~own], layout.decode(ids[own])


def said(layout: Layout, codes: np.ndarray) -> str:
    """Codes as a text of their names, which an extended tokenizer reads as their ids.

    This is what a chat template of Llama or Qwen takes as a message's content:

    >>> messages = [{"role": "user", "content": said(layout, codes) + " What was that?"}]
    >>> ids = tokenizer.apply_chat_template(messages)
    """
    names = layout.names()
    return "".join(names[i - layout.offset] for i in layout.encode(codes))


class Mixture(Iterator[T]):
    """Items of several sources in given shares, which hold at any point to an item or two.

    Args:
        sources: name -> items; one that ends ends the mixture.
        shares: name -> share, of any sum.

    Raises:
        ValueError: shares of other names, or none above 0.
    """

    def __init__(self, sources: Mapping[str, Iterator[T]], shares: Mapping[str, float]) -> None:
        if set(sources) != set(shares) or min(shares.values(), default=0) <= 0:
            raise ValueError(f"shares of {sorted(shares)}, each above 0, for {sorted(sources)}")
        total = sum(shares.values())
        self.shares = {name: share / total for name, share in shares.items()}
        self.sources = dict(sources)
        self.given = dict.fromkeys(self.sources, 0)

    def __next__(self) -> T:
        count = sum(self.given.values()) + 1
        name = max(self.shares, key=lambda each: self.shares[each] * count - self.given[each])
        item = next(self.sources[name])
        self.given[name] += 1
        return item

    def state_dict(self) -> dict[str, Any]:
        """How many of each were given; sources keep their own states."""
        return {"given": dict(self.given)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on with those shares."""
        self.given = dict(state["given"])
