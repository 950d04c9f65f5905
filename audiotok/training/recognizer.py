"""A small recogniser of characters that learns beside a codec, for the loss `ctc`.

    wave -> log-mel, 100 steps/s -> two steps as one -> ConvNeXt blocks -> BiLSTM -> characters

It reads what the codec decodes, so the codec learns to leave words as they can be read; and it
reads the recordings themselves, so that it stays a reader of speech and not of a code that the two
agree on. It is no part of the codec, and is not saved with it.

Source: Li et al. 2025, "Continuous Speech Tokenizer in Text To Speech" (arXiv:2410.17081), whose
tokenizer learns by reconstruction and by recognition of what is reconstructed. Widths are new.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from audiotok._platform.errors import InputError
from audiotok._platform.shapes import Wave
from audiotok.data.batches import Batch
from audiotok.data.recording import Recording
from audiotok.evaluation.probes.readout import BiLstm, characters, fits, log_likelihood
from audiotok.nn.layers.chain import Chain
from audiotok.nn.layers.convnext import Convnext
from audiotok.nn.spectrogram import hann, magnitude, mel_bank, padded, stft
from audiotok.training.recipe import Ctc

log = logging.getLogger("audiotok")

BANDS = 80  # of the log-mel spectrum
FLOOR = 1e-5  # least magnitude of a band


class Recognizer(nn.Module):
    """Network from waves to log probabilities of characters, 50 steps a second.

    Args:
        rate: sample rate of the waves in Hz.
        alphabet: its characters; CTC's blank comes before them.
        options: table `ctc` of the recipe.
    """

    def __init__(self, rate: int, alphabet: str, options: Ctc) -> None:
        super().__init__()
        self.rate = rate
        self.alphabet = alphabet
        width = options.width
        self.into = nn.Sequential(nn.LayerNorm(2 * BANDS), nn.Linear(2 * BANDS, width))
        self.body = Chain(Convnext(width, causal=False) for _ in range(options.blocks))
        self.context = BiLstm(width, width // 2)
        self.out = nn.Linear(2 * (width // 2), 1 + len(alphabet))

    def steps(self, samples: int) -> int:
        """Return the number of steps of a wave of so many samples."""
        return (samples // (self.rate // 100) + 1) // 2

    def forward(self, wave: Wave) -> Tensor:
        """Return log probabilities `[b f v]` of waves `[b c t]`, whose channels are averaged."""
        size, hop = 2 * (self.rate // 80), self.rate // 100
        bins = stft(padded(wave.mean(1), size // 2, "constant"), hann(size, wave.device), hop)
        bank = mel_bank(self.rate, size, BANDS, wave.device, norm=None, scale="htk")
        logs = (magnitude(bins) @ bank).clamp(min=FLOOR).log()
        count = self.steps(wave.shape[2])
        x = self.into(logs[:, : 2 * count].reshape(len(wave), count, -1))
        x = self.body(x.transpose(1, 2)).transpose(1, 2)
        lengths = torch.full((len(wave),), count, device=wave.device)
        return self.out(self.context(x, lengths)).log_softmax(2)

    def losses(self, wave: Wave, texts: Sequence[Sequence[int]]) -> Tensor:
        """Return the CTC loss of each wave, `[b]` in nats a character.

        Args:
            wave: waves `[b c t]`, one at least.
            texts: texts that fit in `steps`, as numbers of characters from 1.
        """
        log_probs = self(wave).float()
        lengths = torch.full((len(wave),), log_probs.shape[1])
        sizes = torch.tensor([len(text) for text in texts], device=wave.device)
        return -log_likelihood(log_probs, lengths, texts) / sizes

    def get_extra_state(self) -> Any:
        """Return the alphabet, which a checkpoint keeps."""
        return self.alphabet

    def set_extra_state(self, state: Any) -> None:
        """Raise unless a checkpoint is of the same alphabet.

        Raises:
            ValueError: it is of another.
        """
        if state != self.alphabet:
            raise InputError(f"the texts have the characters {self.alphabet!r}, and had {state!r}")


class Transcripts:
    """Texts of recordings, as numbers of characters from 1; none where a recording does not count.

    A recording counts that has a text and is no longer than a crop: of a part of a recording the
    text is not known.

    Args:
        texts: a text for each recording, empty where it does not count.
    """

    def __init__(self, texts: Sequence[Sequence[int]]) -> None:
        self.texts = texts

    @classmethod
    def of(
        cls,
        recordings: Sequence[Recording],
        lengths: Sequence[int],
        samples: int,
        recognizer: Recognizer,
    ) -> Transcripts:
        """Return the texts of recordings, and log how many count.

        Args:
            recordings: the recordings.
            lengths: their lengths in samples.
            samples: length of a crop in samples.
            recognizer: what reads them.

        Raises:
            ValueError: not one of them counts.
        """
        numbers = {character: i for i, character in enumerate(recognizer.alphabet, 1)}
        most = recognizer.steps(samples)
        texts = []
        for recording, length in zip(recordings, lengths, strict=True):
            text = [numbers[character] for character in characters(recording.text)]
            texts.append(text if length <= samples and fits(text, most) else [])
        counted, seconds = sum(map(bool, texts)), samples / recognizer.rate
        if not counted:
            raise InputError(
                f"[loss] ctc: none of {len(texts)} recordings has a text and fits whole into a "
                f"crop of {seconds:g} s: set data.seconds to more"
            )
        log.info(
            "[loss] ctc counts for %d of %d recordings: those with a text that fit whole into a "
            "crop of %g s",
            *(counted, len(texts), seconds),
        )
        return cls(texts)

    def of_batch(self, batch: Batch) -> tuple[list[int], list[Sequence[int]]]:
        """Return the rows of a batch that count, and their texts."""
        rows = [row for row, i in enumerate(batch.recordings) if self.texts[i]]
        return rows, [self.texts[batch.recordings[row]] for row in rows]


def alphabet_of(recordings: Sequence[Recording], source: str) -> str:
    """Return the characters of the texts of recordings, in order.

    Args:
        recordings: the recordings.
        source: the manifest that they are of, for the message.

    Raises:
        ValueError: no recording has a text, or no text has a letter.
    """
    alphabet = "".join(sorted(set().union(*(characters(r.text) for r in recordings))))
    if not alphabet:
        texts = any(r.text for r in recordings)
        there = any("text" in r.columns() for r in recordings)
        way = "its column `text` is empty" if there else "it needs a column `text`"
        why = "has a letter in its text" if texts else f"has a text: {way}"
        raise InputError(
            f"{source}: [loss] ctc: none of {len(recordings)} recordings to train on {why}"
        )
    return alphabet
