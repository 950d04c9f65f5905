"""Generation of ids that always form a sequence of the layout, and their decoding to audio."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from audiotok._platform.errors import InputError
from audiotok.audio.audio import Audio
from audiotok.codecs.models.base import Codec
from audiotok.data.alignment import align
from audiotok.lm.data import Segment, Transcript, nar_batch, sequence
from audiotok.lm.layout import DecodeStream, EncodeStream, Grammar, Layout
from audiotok.lm.layout.base import END, NONE, PAD
from audiotok.lm.model import Cache, Transformer
from audiotok.lm.patterns.base import Rows
from audiotok.lm.phonetic import Reader, TimedPhones, timed
from audiotok.runtime.stream import Stream
from audiotok.tokens.tokens import Tokens

__all__ = [
    "Sampling",
    "codes_of_prompt",
    "generate",
    "phones_of_prompt",
    "predict_codebooks",
    "spoken",
]


@dataclass(frozen=True)
class Sampling:
    """Options for drawing the next id."""

    temperature: float = 1.0  # 0 takes the most likely id
    top_k: int = 0  # draw among the top_k most likely ids; 0 draws among all
    top_p: float = 1.0  # draw among the most likely ids that have this total probability
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf or self.top_k < 0 or not 0 < self.top_p <= 1:
            raise InputError("temperature and top_k are 0 or more, top_p above 0 and at most 1")


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
    """Yield ids step by step, from `begin` to `end`; `Layout.decode` reads them concatenated.

    Args:
        model: a causal model.
        layout: the layout of the model.
        text: the text to speak, preceded by the text of the prompt, if the model reads text.
        reader: the phones to speak, if the model is conditioned on phones; its `before` has the
            phones of the prompt.
        prompt: codes `[k f]` to continue.
        longest: number of frames after which the sequence is ended, as the pattern counts them.
        shortest: number of frames before which the sequence may not end.
        sampling: options for drawing ids.

    Yields:
        Ids `[1]`, or a column `[rows 1]`; first `begin` and the ids of the prompt, all at once.

    Raises:
        ValueError: the model is not causal, text or phones are given to a model without them or
            missing for a model with them, the layout cannot continue a prompt, or the reader does
            not have the phones of the prompt.
    """
    if not model.config.causal:
        raise InputError("this model fills up codebooks; it does not go on from codes")
    if bool(text) != bool(model.text):
        raise InputError(
            "this model reads text: give some" if model.text else "this model reads no text"
        )
    if (reader is not None) != model.config.phones:
        raise InputError(
            "a reader of phones is for a model that is conditioned on them, and needed there"
        )
    prompt_frames = 0 if prompt is None else prompt.shape[1]
    if reader is not None and reader.frames != prompt_frames:
        raise InputError(
            f"a prompt of {prompt_frames} frames, and phones of {reader.frames} frames before the "
            "text: Reader.of(text, before=the phones of the prompt)"
        )
    begin, grammar = _prompt_ids(layout, prompt), Grammar(layout)
    for column in begin.T:
        grammar.push(column)
    yield begin
    front = sequence(layout, np.zeros((len(layout.sizes), 0), np.int64), text)
    ids = np.concatenate([front[0][:, : front[1]], np.atleast_2d(begin)], 1)
    device = next(model.parameters()).device
    random = torch.Generator(device).manual_seed(sampling.seed)
    cache: Cache | None = None
    while not grammar.done:
        phones = None
        if reader is not None:
            phones = torch.from_numpy(reader.inputs(ids.shape[1]))[None].to(device)
        hidden, cache = model.hidden(
            torch.from_numpy(ids)[None].to(device), phones=phones, cache=cache
        )
        if reader is not None and reader.done:
            longest = 0
        legal = np.atleast_2d(grammar.legal())
        _bound_length(legal, layout, grammar.codes, longest, shortest)
        drawn = [
            _draw(model.logits(hidden[:, -1:], row)[0, 0], legal[row], sampling, random)
            for row in range(len(legal))
        ]
        column = np.array(drawn)
        if layout.serial:
            grammar.push(int(column[0]))
        else:
            column = grammar.settle(_with_prompt(layout, prompt, grammar.codes, column))
            grammar.push(column)
        ids = column[:, None]
        if reader is not None and model.turn is not None:
            chances = model.turn(hidden[0, -1]).float().softmax(-1)
            reader.advance(bool(torch.multinomial(chances, 1, generator=random)))
        yield column if layout.serial else ids


def _prompt_ids(layout: Layout, prompt: np.ndarray | None) -> np.ndarray:
    """Return `begin` and the ids that a prompt determines, whatever follows it."""
    stream = EncodeStream(layout)
    codes = np.zeros((len(layout.sizes), 0), np.int64) if prompt is None else prompt
    if prompt is not None and not layout.order.streams:
        raise InputError(
            f"{layout.pattern} takes all of a recording: it cannot go on from a prompt"
        )
    if prompt is not None and layout.learned is not None:
        return layout.encode(codes)[:-1]
    return stream.push(codes)


def _with_prompt(
    layout: Layout, prompt: np.ndarray | None, step: int, column: np.ndarray
) -> np.ndarray:
    """Return a column in which delayed rows still have their codes of the prompt."""
    order = layout.order
    if prompt is None or not isinstance(order, Rows) or layout.runs != "keep":
        return column
    frames = step - order.delays
    delayed = (frames >= 0) & (frames < prompt.shape[1])
    ids = prompt[np.arange(len(prompt)), np.clip(frames, 0, prompt.shape[1] - 1)] + NONE
    return np.where(delayed, ids, column)


def _bound_length(
    legal: np.ndarray, layout: Layout, codes: int, longest: int, shortest: int
) -> None:
    """Allow nothing but `end` from `longest` frames on, and no `end` before `shortest`."""
    end = layout.special("end") if layout.serial else END
    if not legal[0, end]:
        return
    frames = codes // len(layout.books) if layout.order.streams and layout.serial else codes
    if frames >= longest:
        legal[0] = False
        legal[0, end] = True
    elif frames < shortest and legal[0].sum() > 1:
        legal[0, end] = False


def _draw(logits: Tensor, legal: np.ndarray, sampling: Sampling, random: torch.Generator) -> int:
    """Draw a legal id of one row."""
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
def predict_codebooks(
    model: Transformer,
    layout: Layout,
    codes: np.ndarray,
    *,
    text: Transcript = None,
    prompt: np.ndarray | None = None,
) -> np.ndarray:
    """Predict the remaining codebooks from the first, by a non-autoregressive model (VALL-E).

    Each codebook takes the most likely codes, given those before it.

    Args:
        model: a model that is not causal.
        layout: a layout of the parallel pattern, of all codebooks.
        codes: codes `[n f]` of the first n codebooks, those of the prompt included.
        text: the text of the codes; for a model with phones the result of `Reader.timed`.
        prompt: codes `[k p]` of the first p frames.

    Returns:
        Codes `[k f]`.

    Raises:
        ValueError: the model is causal, the codes do not fit, or phones are missing or not read.
    """
    if model.sums is not None:
        raise InputError("this model predicts sums of codebooks: audiotok.lm.infill fills them in")
    if model.config.causal or not 0 < len(codes) <= len(layout.sizes):
        raise InputError(
            f"a model with causal = false fills up {len(layout.sizes)} codebooks, not {len(codes)}"
        )
    if isinstance(text, TimedPhones) != model.config.phones:
        raise InputError("phones are for a model that is conditioned on them, and needed there")
    known = 0 if prompt is None else prompt.shape[1]
    filled = np.zeros((len(layout.sizes), codes.shape[1]), np.int64)
    filled[: len(codes)] = codes
    if prompt is not None:
        filled[:, :known] = prompt
    device = next(model.parameters()).device
    for q in range(len(codes), len(filled) if codes.shape[1] > known else 0):
        random = np.random.default_rng(0)
        segment = Segment(filled, text or None)
        batch = nar_batch(layout, [segment], random, codebook=q, prompt=known).to(device)
        hidden, _ = model.hidden(batch.ids, phones=batch.phones, lengths=batch.lengths)
        logits = model.logits(hidden[0, -(codes.shape[1] - known) :], q)[:, NONE:]
        filled[q, known:] = logits.argmax(-1).cpu().numpy()
    return filled


def spoken(columns: Iterable[np.ndarray], layout: Layout, stream: Stream) -> Iterator[Tensor]:
    """Decode ids to audio while they are generated, and yield samples `[c t]`.

    Args:
        columns: ids, as `generate` yields them.
        layout: the layout of the ids.
        stream: a stream of the codec of the layout.
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


def codes_of_prompt(codec: Codec, path: Path, seconds: float) -> np.ndarray:
    """Return the codes `[k f]` of the start of a prompt, of at least one frame.

    Args:
        codec: codec of the model's codes.
        path: an audio file, or tokens of the codec.
        seconds: length of the prompt.

    Raises:
        WrongTokensError: tokens of another codec.
    """
    if path.suffix == ".tok":
        tokens = Tokens.load(path)
        codec.check_tokens(tokens)
    else:
        audio = Audio.load(path)
        tokens = codec.encode(audio[: round(seconds * audio.rate)])
    return tokens.codes[:, : max(1, round(seconds * float(codec.frame_rate)))]


def phones_of_prompt(codec: Codec, path: Path, text: str) -> TimedPhones:
    """Return the times of the phones of a prompt.

    Args:
        codec: codec of the model's codes.
        path: an audio file, or tokens of the codec.
        text: the transcript of all of it.

    Raises:
        InputError: there is no transcript.
    """
    if not text:
        raise InputError(f"{path}: this model is told of phones; give the transcript of all of it")
    audio = codec.decode(Tokens.load(path)) if path.suffix == ".tok" else Audio.load(path)
    frames = codec.frames(round(audio.seconds * codec.sample_rate))
    return timed(align(audio, text), frames, float(codec.frame_rate))
