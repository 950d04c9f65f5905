"""Interface of a task: findings on the codes of one codec for one corpus."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import numpy as np
import torch

from audiotok._platform.errors import InputError
from audiotok._platform.registry import name_of
from audiotok.audio.audio import Audio
from audiotok.codecs.models.base import Codec
from audiotok.data.alignment import Alignment, align
from audiotok.data.augment import add_noise
from audiotok.data.recording import Recording
from audiotok.evaluation.probes.statistics import bootstrap
from audiotok.evaluation.results import Finding
from audiotok.tokens.kinds import AnyTokens

T = TypeVar("T")


@dataclass(frozen=True)
class Bench:
    """Codec, corpus and settings that a task works on.

    Attributes:
        codec: codec in eval mode, on its device.
        codebooks: number of codebooks to evaluate, from the first.
        recordings: recordings of the corpus, with the fields of their source.
        encode: returns a recording's tokens, computed once for all tasks.
        models: model to use for each part: "recognizer", "embedder" ... (see `metrics.base`).
        seed: random seed for drawing and training.
        progress: wraps a sequence to show the progress of a task; call it on every long loop.
        alignments: what `align` found, by the recording's `id`; benches of several codecs share it.
    """

    codec: Codec
    codebooks: int
    recordings: Sequence[Recording]
    encode: Callable[[Recording], AnyTokens]
    models: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0
    progress: Callable[[Sequence[object], str], Sequence[object]] = lambda items, _: items
    alignments: dict[int, Alignment] = field(default_factory=dict)

    def over(self, items: Sequence[T], what: str) -> Iterable[T]:
        """Return the items, wrapped to show progress under the label `what`."""
        return cast("Iterable[T]", self.progress(items, what))

    def codes(self) -> list[np.ndarray]:
        """Return the codes `[k f]` of every recording, in order.

        Raises:
            ValueError: there is not a single frame.
        """
        codes_by_recording = [self.encode(r).codes for r in self.over(self.recordings, "encode")]
        if not sum(codes.shape[1] for codes in codes_by_recording):
            raise InputError("no frames: give recordings that are not empty")
        return codes_by_recording

    def original(self, recording: Recording) -> Audio:
        """Return a recording at its own rate, cut to the length that was encoded."""
        tokens = self.encode(recording)
        return recording.load()[: tokens.original_samples]

    def align(self, recording: Recording) -> Alignment:
        """Return the words and phones of a recording, aligned once for all tasks and codecs.

        Raises:
            ValueError: as `data.alignment.align` does.
            ImportError: pocketsphinx is not installed.
        """
        if id(recording) not in self.alignments:
            alignment = align(self.original(recording), recording.text)
            self.alignments[id(recording)] = alignment
        return self.alignments[id(recording)]

    def audio(self, recording: Recording) -> Audio:
        """Return a recording `[c t]` in the codec's format: at its rate, mono if the codec is."""
        audio = self.original(recording)
        mixed = audio if audio.channels == self.codec.channels else audio.mono()
        return mixed.resample(self.codec.sample_rate)

    def encode_audio(self, audio: Audio) -> np.ndarray:
        """Return the codes `[k f]` of any audio."""
        return self.codec.encode(audio, codebooks=self.codebooks).codes


class Task:
    """Evaluation of one codec on one corpus.

    Attributes:
        protocol: conditions that its numbers depend on, printed beside them.
        of_latents: whether it runs on a codec of latents too, which has no codes.
    """

    protocol: str
    of_latents: bool = False

    def __init__(self, option: str = "") -> None:
        if option:
            raise InputError(f"{type(self).__name__} takes no option, and {option!r} is one")

    def run(self, bench: Bench) -> list[Finding]:
        """Return the findings of the task.

        Raises:
            ValueError: the corpus lacks data that the task needs (texts, speakers); the message
                says which.
            ImportError: a library it needs is not installed.
        """
        raise NotImplementedError

    @property
    def name(self) -> str:
        """Name of the task, as a recipe gives it."""
        return name_of(type(self))

    def finding(self, name: str, value: float | None, **fields: Any) -> Finding:
        """Return a finding of this task.

        Args:
            name: name of the quantity.
            value: its value; None if it was not measured.
            **fields: other fields of `Finding`.
        """
        return Finding(self.name, name, None if value is None else float(value), **fields)

    def absent(self, name: str, why: str) -> Finding:
        """Return a finding without a value, with the reason in its note."""
        return self.finding(name, None, note=why)

    def mean(
        self, name: str, totals: Sequence[float], counts: Sequence[float], **fields: Any
    ) -> Finding:
        """Return a mean pooled over recordings (or pairs, or groups), with its 95 % interval.

        Args:
            name: name of the finding.
            totals: total of each recording.
            counts: count that each total is over; recordings with a count of zero are left out.
            **fields: other fields of `Finding`; a `scale` multiplies mean and interval.
        """
        scale = fields.pop("scale", 1.0)
        over = np.asarray(counts, float)
        counted = over > 0
        if not counted.any():
            return self.absent(name, "nothing to measure it on")
        sums, over = np.asarray(totals, float)[counted], over[counted]
        low, high = bootstrap(sums, over)
        value = scale * sums.sum() / over.sum()
        fields = {"n": int(counted.sum()), **fields}
        return self.finding(name, value, low=scale * low, high=scale * high, **fields)


def add_white_noise(audio: Audio, snr: float, seed: Sequence[int]) -> Audio:
    """Return the audio with white noise, `snr` dB below the mean power of the whole recording."""
    drawn = np.random.default_rng(seed).standard_normal(audio.samples.shape)
    noise = torch.from_numpy(drawn.astype(np.float32))
    return Audio(add_noise(audio.samples[None], noise[None], snr)[0], audio.rate)


def split_by_group(
    groups: Sequence[str], seed: int, *, held_out: float = 0.25
) -> tuple[list[int], list[int]]:
    """Return indices to train and to test on, which share no group (speaker).

    Args:
        groups: group of each recording.
        seed: random seed of the split.
        held_out: share of the groups to test on; at least one is tested, and at least one is not.

    Raises:
        ValueError: there are fewer than two groups.
    """
    names = sorted(set(groups))
    if len(names) < 2:
        raise InputError(
            f"a readout is tested on speakers that it was not trained on, and here is "
            f"{len(names)}: give a manifest with at least two in `speaker`"
        )
    order = np.random.default_rng(seed).permutation(len(names))
    test = {names[i] for i in order[: min(len(names) - 1, max(1, round(held_out * len(names))))]}
    split: tuple[list[int], list[int]] = ([], [])
    for i, group in enumerate(groups):
        split[group in test].append(i)
    return split
