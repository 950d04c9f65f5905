"""Sequences of speech and text in the vocabulary of a text model, and their separation again.

    tts           text <begin> codes <end> eos            the loss is on speech
    asr           <begin> codes <end> text eos            the loss is on text
    interleaved   text <begin> codes <end> text ...       spans of words, as speech or as text
    alternating   13 of text, 26 of speech, 13 ...        fixed numbers of ids, for streaming

Spans of words are as in Spirit LM (arXiv:2402.05755) and Ichigo (arXiv:2410.15316), fixed numbers
as in GLM-4-Voice (arXiv:2412.02612). The layout's ids follow those of the text: see
`audiotok.lm.bpe.extend_tokenizer`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

import numpy as np

from audiotok._platform.errors import InputError
from audiotok.lm.layout import Layout, LayoutError

T = TypeVar("T")
Write = Callable[[str], Sequence[int]]  # tokenizes a text to ids, without special tokens


class TrainingExample(NamedTuple):
    """Training sequence, and which of its ids the loss is on.

    Attributes:
        ids: ids `[n]`.
        learned: whether the loss is on each id, bool `[n]`.
    """

    ids: np.ndarray
    learned: np.ndarray

    @property
    def labels(self) -> np.ndarray:
        """Labels for models of transformers, which shift them: -100 where there is no loss."""
        return np.where(self.learned, self.ids, -100)


@dataclass(frozen=True)
class TimedWord:
    """Word, and the frames in which it is spoken, from `first` to before `last`."""

    text: str
    first: int
    last: int


def _joined(parts: Sequence[tuple[Sequence[int] | np.ndarray, bool]]) -> TrainingExample:
    """Concatenate parts, each with whether the loss is on it."""
    ids = [np.asarray(part, np.int64) for part, _ in parts]
    learned = [np.full(len(part), with_loss) for part, with_loss in parts]
    none = np.zeros(0, np.int64)
    return TrainingExample(
        np.concatenate([none, *ids]), np.concatenate([none.astype(bool), *learned])
    )


def tts(layout: Layout, write: Write, text: str, codes: np.ndarray, *, eos: int) -> TrainingExample:
    """Return a text-to-speech example: text, then its speech, which the loss is on.

    Args:
        layout: a layout with an offset, so that its ids follow those of the text.
        write: `lambda text: tokenizer.encode(text, add_special_tokens=False)`.
        text: the text of the recording.
        codes: codes `[k f]` of the recording.
        eos: the text model's end-of-sequence id.
    """
    return _joined([(write(text), False), (layout.encode(codes), True), ([eos], True)])


def asr(layout: Layout, write: Write, text: str, codes: np.ndarray, *, eos: int) -> TrainingExample:
    """Return a speech recognition example: speech, then its text, which the loss is on.

    The arguments are those of `tts`.
    """
    return _joined([(layout.encode(codes), False), (write(text), True), ([eos], True)])


def interleaved(
    layout: Layout,
    write: Write,
    words: Sequence[TimedWord],
    codes: np.ndarray,
    *,
    eos: int,
    spoken: float = 0.5,
    span: tuple[int, int] = (1, 6),
    seed: int = 0,
) -> TrainingExample:
    """Return an example of spans of words, alternately text and speech; the loss is on all.

    Frames between two words belong to the first of the two, and frames before the first word to
    that word, so that spans together cover all frames of the recording.

    Args:
        layout: a layout with an offset, so that its ids follow those of the text.
        write: tokenizes a text to ids, without special tokens.
        words: the words in order; for spans of sentences, pass sentences and `span = (1, 1)`.
        codes: codes `[k f]` of the recording.
        eos: the text model's end-of-sequence id.
        spoken: probability that the first span is speech.
        span: minimum and maximum number of words of a span.
        seed: random seed for drawing the spans.

    Raises:
        LayoutError: words overlap, or are outside the recording.
    """
    edges = [0, *(word.first for word in words[1:]), codes.shape[1]]
    if any(a > b for a, b in pairwise(edges)) or not words:
        raise LayoutError(f"words at frames {edges[:8]} of a recording of {codes.shape[1]}")
    random = np.random.default_rng(seed)
    is_speech, i = bool(random.random() < spoken), 0
    parts: list[tuple[Sequence[int] | np.ndarray, bool]] = []
    while i < len(words):
        j = min(len(words), i + int(random.integers(span[0], span[1] + 1)))
        if is_speech:
            parts.append((layout.encode(codes[:, edges[i] : edges[j]]), True))
        else:
            parts.append((write(" ".join(word.text for word in words[i:j])), True))
        is_speech, i = not is_speech, j
    return _joined([*parts, ([eos], True)])


def alternating(
    text: Sequence[int], speech: Sequence[int] | np.ndarray, *, texts: int = 13, codes: int = 26
) -> np.ndarray:
    """Return text ids and speech ids alternately, in chunks, and then the rest of the longer one.

    Args:
        text: ids of the text.
        speech: ids of a layout that streams, `begin` and `end` included.
        texts: number of text ids in a chunk.
        codes: number of speech ids in a chunk.
    """
    parts: list[np.ndarray] = [np.zeros(0, np.int64)]
    text_ids, speech_ids = np.asarray(text, np.int64), np.asarray(speech, np.int64)
    while len(text_ids) or len(speech_ids):
        parts += [text_ids[:texts], speech_ids[:codes]]
        text_ids, speech_ids = text_ids[texts:], speech_ids[codes:]
    return np.concatenate(parts)


def split_joined(layout: Layout, ids: np.ndarray) -> list[np.ndarray]:
    """Split a sequence of `tts`, `asr` or `interleaved` into its parts, in order.

    Args:
        layout: the layout of the speech.
        ids: ids `[n]`.

    Returns:
        For each part, the ids `[n]` of text or the codes `[k f]` of speech.

    Raises:
        LayoutError: speech is cut short or damaged.
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


def split_alternating(layout: Layout, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Split a sequence of `alternating` into the ids of text `[n]` and the codes of speech `[k f]`.

    Args:
        layout: the layout of the speech.
        ids: ids `[n]`.

    Raises:
        LayoutError: the speech is cut short or damaged.
    """
    ids = np.asarray(ids)
    own = (ids >= layout.offset) & (ids < layout.vocabulary[0])
    return ids[~own], layout.decode(ids[own])


def codes_as_text(layout: Layout, codes: np.ndarray) -> str:
    """Return the names of the ids of codes, which an extended tokenizer turns into those ids.

    The text can be the content of a message in a chat template of Llama or Qwen:

    >>> messages = [{"role": "user", "content": codes_as_text(layout, codes) + " Really?"}]
    >>> ids = tokenizer.apply_chat_template(messages)
    """
    return layout.text(codes)


class Mixture(Iterator[T]):
    """Iterator over items of several sources in given shares, exact to an item or two at any point.

    Args:
        sources: iterator of items by name; the mixture ends with the first one that ends.
        shares: share by name; they need not sum to 1.

    Raises:
        ValueError: the names of shares and sources differ, or a share is not above 0.
    """

    def __init__(self, sources: Mapping[str, Iterator[T]], shares: Mapping[str, float]) -> None:
        if set(sources) != set(shares) or min(shares.values(), default=0) <= 0:
            raise InputError(f"shares of {sorted(shares)}, each above 0, for {sorted(sources)}")
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
        """Return the number of items taken from each source; sources keep their own states."""
        return {"given": dict(self.given)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from the counts of a `state_dict`."""
        self.given = dict(state["given"])
