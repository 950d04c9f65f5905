"""A language model as teacher: BERT (Devlin et al. 2019, arXiv:1810.04805) or one of its kind.

What it makes of a transcript has no time. Two ways to lay it beside the frames:

    slots (DM-Codec's)    [CLS] the  cat  [SEP] [PAD] [PAD] ... [PAD]    one token a frame
    words                 [CLS] [CLS] the the the cat cat cat cat [CLS]   each word while it is said

Source of the first: Ahasan et al. 2024, arXiv:2410.15017, and its extract_rep.py: the tokenizer
pads to as many tokens as there are frames. What is left of time is where the text ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from audiotok.audio import _torchaudio
from audiotok.audio.audio import Audio
from audiotok.data.features.base import Choice, FeatureFrames, Teacher, TeacherError, fetched
from audiotok.nn.finite import check_finite


class Word(NamedTuple):
    """A word and when it is said."""

    text: str
    start: float  # seconds
    end: float


Aligner = Callable[[Audio, str], Sequence[Word]]
"""Gives the words of a text, in order, with their times in a recording."""


class Text(Teacher):
    """A text encoder of transformers, with a tokenizer that marks begin, end and padding."""

    reads_text = True

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        *,
        aligner: Aligner | None = None,
        frame_rate: Fraction | int = 50,
    ) -> None:
        """`load` is what users want.

        Args:
            model: of transformers, such as `BertModel`.
            tokenizer: a fast one of transformers.
            aligner: gives word times; DM-Codec's slots if None.
            frame_rate: frames per second, those of the codec.
        """
        super().__init__()
        self.name = "text-words" if aligner else "text-slots"
        self.model, self.tokenizer, self.aligner = model, tokenizer, aligner
        config: Any = model.config
        self.width, self.layers = config.hidden_size, config.num_hidden_layers
        self.frame_rate = Fraction(frame_rate)
        self.positions: int = config.max_position_embeddings
        self.eval().requires_grad_(False)

    @classmethod
    def load(
        cls,
        weights: str | Path,
        *,
        aligner: Aligner | None = None,
        frame_rate: Fraction | int = 50,
    ) -> Text:
        """A pretrained text encoder.

        Args:
            weights: a folder of transformers with model and tokenizer, or its name on the hub
                ("google-bert/bert-base-uncased").
            aligner: gives word times; DM-Codec's slots if None.
            frame_rate: frames per second, those of the codec.

        Raises:
            ImportError: transformers is not installed; says how to.
            TeacherError: no such weights.
        """
        path = fetched(weights, needs="the folder of a BERT checkpoint with its tokenizer")
        _torchaudio.load()  # transformers imports torchaudio, which may not load by itself
        try:
            from transformers import (  # pyright: ignore[reportMissingImports] - an extra
                AutoModel,
                AutoTokenizer,
            )
        except ImportError as error:
            raise ImportError(
                f"the transformers package cannot be imported ({error}):"
                " pip install transformers, or 'audiotok[teachers]'"
            ) from None
        try:
            given = {
                "local_files_only": True,
                "trust_remote_code": False,
            }  # no code of the folder's
            tokenizer = AutoTokenizer.from_pretrained(path, **given)
            model = AutoModel.from_pretrained(path, **given)
        except (OSError, ValueError, KeyError) as error:
            said = " ".join(str(error).split())[:300]
            raise TeacherError(f"{path}: not a text encoder of transformers: {said}") from None
        check_finite(dict(model.named_parameters()), path)
        return cls(model, tokenizer, aligner=aligner, frame_rate=frame_rate)

    @torch.no_grad()
    def features(self, audio: Audio, *, layer: Choice, text: str | None = None) -> FeatureFrames:
        """See `Teacher.features`; `ceil(seconds * frame_rate)` frames.

        Raises:
            ValueError: no text, more of it than the model has positions, or no samples.
        """
        self.check_layer(layer)
        if not text or not text.strip():
            raise ValueError(f"teacher {self.name!r} reads what is said, and was given no text")
        frames = -(-len(audio) * self.frame_rate // audio.rate)
        if not frames:
            raise ValueError(f"teacher {self.name!r} was given no samples")
        if self.aligner is None:
            return self._in_slots(text, int(frames), layer)
        return self._in_words(self.aligner(audio, text), int(frames), layer)

    def _in_slots(self, text: str, frames: int, layer: Choice) -> Tensor:
        # Of a recording longer than the model's positions, the last one's padding stands in for
        # the rest; of one shorter than its text, the text's end is cut off. So it is in DM-Codec,
        # which cuts recordings to 3 s.
        slots = min(frames, self.positions)
        given = self.tokenizer(
            text, padding="max_length", truncation=True, max_length=slots, return_tensors="pt"
        )
        states = self._states(given, layer)
        return states[torch.arange(frames).clamp(max=slots - 1)]

    def _in_words(self, words: Sequence[Word], frames: int, layer: Choice) -> Tensor:
        given = self.tokenizer(
            [word.text for word in words], is_split_into_words=True, return_tensors="pt"
        )
        tokens = given["input_ids"].shape[1]
        if tokens > self.positions:
            raise ValueError(
                f"{tokens} tokens of text, but the model reads {self.positions}: cut it"
            )
        owner = given.word_ids(0)
        states = self._states(given, layer)
        made = states[:1].repeat(frames, 1)
        for i, word in enumerate(words):
            pieces = [j for j, of in enumerate(owner) if of == i]
            first, last = (round(seconds * self.frame_rate) for seconds in (word.start, word.end))
            if pieces:
                made[first:last] = states[pieces].mean(0)
        return made

    def _states(self, given: Any, layer: Choice) -> Tensor:
        """`[tokens d]`."""
        device = next(self.parameters()).device
        made = self.model(**given.to(device), output_hidden_states=True)
        return self.choose(made.hidden_states, layer)[0]
