"""Ids from a language model, none of which can leave the layout, and audio as they come."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from audiotok.lm.data import Said, Stretch, sequence, stroke_batch
from audiotok.lm.layout import DecodeStream, EncodeStream, Grammar, Layout
from audiotok.lm.layout.base import END, NONE, PAD
from audiotok.lm.model import Cache, Transformer
from audiotok.lm.patterns.base import Rows
from audiotok.lm.phonetic import Reader, Timed
from audiotok.runtime.stream import Stream


@dataclass(frozen=True)
class Sampling:
    """How the next id is drawn."""

    temperature: float = 1.0  # 0 takes the likeliest
    top_k: int = 0  # of the likeliest so many; 0 of all
    top_p: float = 1.0  # of the likeliest that together have this probability
    seed: int = 0

    def __post_init__(self) -> None:
        if self.temperature < 0 or self.top_k < 0 or not 0 < self.top_p <= 1:
            raise ValueError("temperature and top_k are 0 or more, top_p above 0 and at most 1")


@torch.no_grad()
def generate(
    model: Transformer,
    layout: Layout,
    *,
    text: str = "",
    reader: Reader | None = None,
    prompt: np.ndarray | None = None,
    longest: int = 500,
    shortest: int = 1,
    sampling: Sampling = Sampling(),
) -> Iterator[np.ndarray]:
    """Ids one after another, from `begin` to `end`: what `Layout.decode` takes.

    Args:
        model: causal.
        layout: that it was trained on.
        text: what is to be said, the prompt's text first, if the model reads text.
        reader: of the phones that are to be said, if the model is told of phones; after those of
            the prompt, if there is one.
        prompt: codes `[k f]` that it goes on from.
        longest: frames after which it is made to end, as the pattern counts them.
        shortest: frames before which it may not.
        sampling: how ids are drawn.

    Yields:
        `[1]`, or a column `[rows 1]`; the prompt's own first, all at once.

    Raises:
        ValueError: text without a model that reads it, a prompt that this layout cannot begin, or
            one that a reader does not know the phones of.
    """
    if not model.config.causal:
        raise ValueError("this model fills up codebooks; it does not go on from codes")
    if bool(text) != bool(model.text):
        raise ValueError(
            "this model reads text: give some" if model.text else "this model reads no text"
        )
    if (reader is not None) != model.config.phones:
        raise ValueError("a reader of phones is for a model that is told of them, and needed there")
    heard = 0 if prompt is None else prompt.shape[1]
    if reader is not None and reader.frames != heard:
        raise ValueError(
            f"a prompt of {heard} frames, and phones of {reader.frames}: Reader.of(text, before="
            "what is said in the prompt)"
        )
    begin, grammar = _begun(layout, prompt), Grammar(layout)
    for column in begin.T:
        grammar.push(column)
    yield begin
    front = sequence(layout, np.zeros((len(layout.sizes), 0), np.int64), text)
    ids = np.concatenate([front[0][:, : front[1]], np.atleast_2d(begin)], 1)
    device = next(model.parameters()).device
    random = torch.Generator(device).manual_seed(sampling.seed)
    cache: Cache | None = None
    while not grammar.done:
        told = None
        if reader is not None:
            told = torch.from_numpy(reader.now(ids.shape[1]))[None].to(device)
        hidden, cache = model.hidden(torch.from_numpy(ids)[None].to(device), told=told, cache=cache)
        if reader is not None and reader.done:
            longest = 0
        legal = np.atleast_2d(grammar.legal())
        _bounded(legal, layout, grammar.codes, longest, shortest)
        drawn = [
            _draw(model.logits(hidden[:, -1:], row)[0, 0], legal[row], sampling, random)
            for row in range(len(legal))
        ]
        column = np.array(drawn)
        if layout.serial:
            grammar.push(int(column[0]))
        else:
            column = grammar.settle(_known(layout, prompt, grammar.codes, column))
            grammar.push(column)
        ids = column[:, None]
        if reader is not None and model.turn is not None:
            chances = model.turn(hidden[0, -1]).float().softmax(-1)
            reader.said(bool(torch.multinomial(chances, 1, generator=random)))
        yield column if layout.serial else ids


def _begun(layout: Layout, prompt: np.ndarray | None) -> np.ndarray:
    """`begin`, and the ids that a prompt is sure to have."""
    stream = EncodeStream(layout)
    codes = np.zeros((len(layout.sizes), 0), np.int64) if prompt is None else prompt
    if prompt is not None and not layout.order.streams:
        raise ValueError(
            f"{layout.pattern} takes all of a recording: it cannot go on from a prompt"
        )
    if prompt is not None and layout.learned is not None:
        return layout.encode(codes)[:-1]
    return stream.push(codes)


def _known(layout: Layout, prompt: np.ndarray | None, step: int, column: np.ndarray) -> np.ndarray:
    """A column with the codes of the prompt that rows which are late have still to say."""
    order = layout.order
    if prompt is None or not isinstance(order, Rows) or layout.runs != "keep":
        return column
    frames = step - order.delays
    late = (frames >= 0) & (frames < prompt.shape[1])
    said = prompt[np.arange(len(prompt)), np.clip(frames, 0, prompt.shape[1] - 1)] + NONE
    return np.where(late, said, column)


def _bounded(legal: np.ndarray, layout: Layout, made: int, longest: int, shortest: int) -> None:
    """Ends what is long enough as soon as may be, and nothing that is too short."""
    end = layout.special("end") if layout.serial else END
    if not legal[0, end]:
        return
    frames = made // len(layout.books) if layout.order.streams and layout.serial else made
    if frames >= longest:
        legal[0] = False
        legal[0, end] = True
    elif frames < shortest and legal[0].sum() > 1:
        legal[0, end] = False


def _draw(logits: Tensor, legal: np.ndarray, sampling: Sampling, random: torch.Generator) -> int:
    if legal[PAD] and legal.sum() == 1:
        return PAD
    allowed = torch.from_numpy(legal[: len(logits)]).to(logits.device)
    logits = logits.float().masked_fill(~allowed, -torch.inf)
    if sampling.temperature == 0:
        return int(logits.argmax())
    logits = logits / sampling.temperature
    if sampling.top_k:
        least = logits.topk(min(sampling.top_k, len(logits))).values[-1]
        logits = logits.masked_fill(logits < least, -torch.inf)
    chances, order = logits.softmax(-1).sort(descending=True)
    if sampling.top_p < 1:
        chances = chances.masked_fill(chances.cumsum(-1) - chances >= sampling.top_p, 0.0)
    return int(order[torch.multinomial(chances, 1, generator=random)])


@torch.no_grad()
def fill_up(
    model: Transformer,
    layout: Layout,
    codes: np.ndarray,
    *,
    text: Said = None,
    prompt: np.ndarray | None = None,
) -> np.ndarray:
    """All codebooks from the first: VALL-E's second model, the likeliest code of each.

    Args:
        model: not causal.
        layout: parallel, of all codebooks.
        codes: `[n f]`, of the first n codebooks, the prompt's frames first, if there is one.
        text: what is said in them; `Reader.timed` for a model that is told of phones.
        prompt: codes `[k p]` of the first p frames.

    Returns:
        `[k f]`.

    Raises:
        ValueError: a causal model, or codes that do not fit.
    """
    if model.config.causal or not 0 < len(codes) <= len(layout.sizes):
        raise ValueError(
            f"a model with causal = false fills up {len(layout.sizes)} codebooks, not {len(codes)}"
        )
    if isinstance(text, Timed) != model.config.phones:
        raise ValueError("phones are for a model that is told of them, and needed there")
    known = 0 if prompt is None else prompt.shape[1]
    made = np.zeros((len(layout.sizes), codes.shape[1]), np.int64)
    made[: len(codes)] = codes
    if prompt is not None:
        made[:, :known] = prompt
    device = next(model.parameters()).device
    for q in range(len(codes), len(made) if codes.shape[1] > known else 0):
        random = np.random.default_rng(0)
        batch = stroke_batch(layout, [Stretch(made, text or None)], random, stage=q, prompt=known)
        batch = batch.to(device)
        hidden, _ = model.hidden(batch.ids, told=batch.told, lengths=batch.lengths)
        logits = model.logits(hidden[0, -(codes.shape[1] - known) :], q)[:, NONE:]
        made[q, known:] = logits.argmax(-1).cpu().numpy()
    return made


def spoken(columns: Iterable[np.ndarray], layout: Layout, stream: Stream) -> Iterator[Tensor]:
    """Samples `[c t]` as ids come: audio starts before the sequence ends.

    Args:
        columns: what `generate` yields.
        layout: of the ids.
        stream: of the codec that decodes them.
    """
    codes = DecodeStream(layout)
    for column in columns:
        frames = codes.push(column)
        if frames.shape[1]:
            yield stream.decode(torch.from_numpy(frames))
    frames = codes.finish()
    if frames.shape[1]:
        yield stream.decode(torch.from_numpy(frames))
    yield stream.finish_decode()
