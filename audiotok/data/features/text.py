"""A text encoder: BERT (Devlin et al. 2019, arXiv:1810.04805) or another model of its kind.

Its features of a transcript have no time. They are laid beside the frames in one of two ways:

    slots (DM-Codec's)    [CLS] the  cat  [SEP] [PAD] [PAD] ... [PAD]    one token a frame
    words                 [CLS] [CLS] the the the cat cat cat cat [CLS]   each word for its duration

Source of the first: Ahasan et al. 2024, arXiv:2410.15017, and its extract_rep.py: the tokenizer
pads to as many tokens as there are frames. The only trace of time is where the text ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from audiotok._platform.errors import InputError, MissingLibraryError
from audiotok.audio import _torchaudio
from audiotok.audio.audio import Audio
from audiotok.data.features.base import Choice, FeatureFrames, Teacher, TeacherError, local_weights
from audiotok.nn.finite import check_finite


class Word(NamedTuple):
    """A word with the start and end of its utterance, in seconds."""

    text: str
    start: float  # seconds
    end: float


Aligner = Callable[[Audio, str], Sequence[Word]]
"""A function that returns the words of a text, in order, with their times in a recording."""


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
        """Wrap a model; most users call `load` instead.

        Args:
            model: a model of transformers, such as `BertModel`.
            tokenizer: a fast tokenizer of transformers.
            aligner: function that returns the times of words; DM-Codec's slots if None.
            frame_rate: frames per second, those of the codec.
        """
        super().__init__()
        self.name = "text-words" if aligner else "text-slots"
        self.model = model
        self.tokenizer = tokenizer
        self.aligner = aligner
        config: Any = model.config
        self.width = config.hidden_size
        self.layers = config.num_hidden_layers
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
        """Load a pretrained text encoder.

        Args:
            weights: a folder of transformers with model and tokenizer, or its name on the hub
                ("google-bert/bert-base-uncased").
            aligner: function that returns the times of words; DM-Codec's slots if None.
            frame_rate: frames per second, those of the codec.

        Raises:
            ImportError: transformers is not installed; the message tells how to install it.
            TeacherError: no such weights.
        """
        path = local_weights(weights, needs="the folder of a BERT checkpoint with its tokenizer")
        _torchaudio.load()  # transformers imports torchaudio, which may not load by itself
        try:
            from transformers import (  # pyright: ignore[reportMissingImports] - an extra
                AutoModel,
                AutoTokenizer,
            )
        except ImportError as error:
            raise MissingLibraryError(
                f"the transformers package cannot be imported ({error}):"
                " pip install transformers, or 'audiotok[teachers]'"
            ) from None
        try:
            # Code that the folder may hold must not run.
            options = {"local_files_only": True, "trust_remote_code": False}
            tokenizer = AutoTokenizer.from_pretrained(path, **options)
            model = AutoModel.from_pretrained(path, **options)
        except (OSError, ValueError, KeyError) as error:
            why = " ".join(str(error).split())[:300]
            raise TeacherError(f"{path}: not a text encoder of transformers: {why}") from None
        check_finite(dict(model.named_parameters()), path)
        return cls(model, tokenizer, aligner=aligner, frame_rate=frame_rate)

    @torch.no_grad()
    def features(self, audio: Audio, *, layer: Choice, text: str | None = None) -> FeatureFrames:
        """See `Teacher.features`; there are `ceil(seconds * frame_rate)` frames.

        Raises:
            ValueError: no text, more of it than the model has positions, or no samples.
        """
        self.check_layer(layer)
        if not text or not text.strip():
            raise InputError(f"teacher {self.name!r} reads what is said, and was given no text")
        frames = -(-len(audio) * self.frame_rate // audio.rate)
        if not frames:
            raise InputError(f"teacher {self.name!r} was given no samples")
        if self.aligner is None:
            return self._in_slots(text, int(frames), layer)
        return self._in_words(self.aligner(audio, text), int(frames), layer)

    def _in_slots(self, text: str, frames: int, layer: Choice) -> Tensor:
        """Return a token's state for each frame, padded or cut to the number of frames."""
        # Where a recording is longer than the model's positions, the last position's padding is
        # repeated; where it is shorter than its text, the text is cut off. DM-Codec, which cuts
        # recordings to 3 s, does the same.
        slots = min(frames, self.positions)
        inputs = self.tokenizer(
            text, padding="max_length", truncation=True, max_length=slots, return_tensors="pt"
        )
        states = self._states(inputs, layer)
        return states[torch.arange(frames).clamp(max=slots - 1)]

    def _in_words(self, words: Sequence[Word], frames: int, layer: Choice) -> Tensor:
        """Return for each frame the mean state of the word spoken then, else that of [CLS]."""
        inputs = self.tokenizer(
            [word.text for word in words], is_split_into_words=True, return_tensors="pt"
        )
        tokens = inputs["input_ids"].shape[1]
        if tokens > self.positions:
            raise InputError(
                f"{tokens} tokens of text, but the model reads {self.positions}: cut it"
            )
        owner = inputs.word_ids(0)
        states = self._states(inputs, layer)
        features = states[:1].repeat(frames, 1)
        for i, word in enumerate(words):
            pieces = [j for j, of in enumerate(owner) if of == i]
            first, last = (round(seconds * self.frame_rate) for seconds in (word.start, word.end))
            if pieces:
                features[first:last] = states[pieces].mean(0)
        return features

    def _states(self, inputs: Any, layer: Choice) -> Tensor:
        """Return the chosen hidden state of each token, `[tokens d]`."""
        device = next(self.parameters()).device
        output = self.model(**inputs.to(device), output_hidden_states=True)
        return self.choose(output.hidden_states, [layer])[0, 0]
