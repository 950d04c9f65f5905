"""Paired comparison of codecs by speaker: information in codebook 1, and quality of all codebooks.

SpeechTokenizer claims for distillation (Zhang et al. 2023, arXiv:2308.16692) that codebook 1 then
holds more information on the phones and less on the speaker, and that all codebooks decode as well.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from audiotok._platform.errors import InputError
from audiotok.audio.audio import Audio
from audiotok.codecs.models.base import Codec
from audiotok.data.alignment import TimedSpan, frame_labels
from audiotok.evaluation.metrics.base import Metric
from audiotok.evaluation.probes.probe import cross_validate
from audiotok.evaluation.probes.statistics import paired
from audiotok.evaluation.probes.voices import Voices, code_histogram, compare_speakers
from audiotok.evaluation.speaker.base import speaker_encoder
from audiotok.evaluation.tasks.information import integer_labels

Sums = dict[str, tuple[np.ndarray, np.ndarray]]  # measure -> totals and counts of each speaker

# Weight decay of a probe on single codes: most codes are rare, and their weights are shrunk.
RARE = 0.03
FOLDS = 4

COUNTS = "counts of codes"
WORDS = {"own": "own", "others": "others", "closer": "closer than others", "identified": "found"}


@dataclass(frozen=True)
class LabelledRecording:
    """Recording with its speaker, and its phones if they are known."""

    audio: Audio
    speaker: str
    phones: list[TimedSpan]


def measure_codec(
    codec: Codec,
    spoken: Iterable[LabelledRecording],
    *,
    embedders: Sequence[str] = (),
    metrics: dict[str, Metric] | None = None,
) -> Sums:
    """Return measures of a codec's codes and decoded audio, as sums for each speaker by name.

    Phones are probed (`probe.cross_validate`) from codes one by one and from the vectors of their
    entries, in frames whose middle lies in a phone.

    Voices are those of each speaker's first recording. The test recording is the second half of the
    audio decoded from codebook 1, and first halves are enrolled, of the originals and then of the
    audio decoded from codebook 1. `voices.compare_speakers` gives the cosine with one's own voice
    and with others', the share of others who are less similar, and whether one's own voice is
    identified among all. The same with counts of codes in place of vectors measures the codes
    themselves.

    Metrics are computed on first recordings too, decoded from all codebooks.

    Args:
        codec: one with a codebook 1.
        spoken: recordings, with phones for at least four speakers.
        embedders: speaker encoders as `evaluation.speaker.base.speaker_encoder` takes them.
        metrics: metrics by the name that they are to have in the table.

    Returns:
        Totals and counts of each speaker `[n]`, by measure.

    Raises:
        ValueError: there are too few speakers, or a recording cannot be scored or has no voice.
    """
    spoken = sorted(spoken, key=lambda one: one.speaker)
    names = sorted({span.label for one in spoken for span in one.phones})
    codes, labels, who = [], [], []
    sums: Sums = {}
    for one, speaker in zip(spoken, integer_labels([one.speaker for one in spoken]), strict=True):
        tokens = codec.encode(one.audio, codebooks=1)
        row = torch.tensor(tokens.codes[0])
        label = torch.from_numpy(frame_labels(one.phones, names, len(row), tokens.frame_rate))
        codes.append(row[label >= 0])
        labels.append(label[label >= 0])
        who.append(torch.full_like(labels[-1], int(speaker)))
    if len({int(of[0]) for of in who if len(of)}) < FOLDS:
        raise InputError(f"phones are known of fewer than {FOLDS} speakers: too few to probe")
    code, phone, group = torch.cat(codes), torch.cat(labels), torch.cat(who)
    kinds, index = code.unique(return_inverse=True)
    entries = codec.quantizer.decode(kinds[None, None])[0].T
    probes = {
        "code": cross_validate(
            torch.eye(len(kinds)), phone, group, index=index, folds=FOLDS, decay=RARE
        ),
        "entry": cross_validate(entries, phone, group, index=index, folds=FOLDS),
    }
    for of, result in probes.items():
        sums[f"phones right, from the {of}"] = result.right.numpy(), result.frames.numpy()
        sums[f"bits on the phone, from the {of}"] = result.bits.numpy(), result.frames.numpy()
    firsts = first_of_each(spoken)
    return sums | _voices(codec, firsts, embedders) | _scores(codec, firsts, metrics or {})


def measure_originals(spoken: Sequence[LabelledRecording], embedders: Sequence[str]) -> Sums:
    """Return the measures of voices by `measure_codec` on uncoded audio, as an upper bound.

    Args:
        spoken: recordings; the first of each speaker is used.
        embedders: speaker encoders as `evaluation.speaker.base.speaker_encoder` takes them.
    """
    sums: Sums = {}
    for name in embedders:
        encoder = speaker_encoder(name)
        halves = []
        for one in first_of_each(spoken):
            half = len(one.audio) // 2
            halves.append([encoder.vector(part) for part in (one.audio[:half], one.audio[half:])])
        enrolled, tested = (torch.stack(part) for part in zip(*halves, strict=True))
        sums |= _named(name, "originals", compare_speakers(tested, enrolled))
    return sums


def first_of_each(spoken: Sequence[LabelledRecording]) -> list[LabelledRecording]:
    """Return the first recording of each speaker, in the order of their names."""
    firsts: dict[str, LabelledRecording] = {}
    for one in spoken:
        firsts.setdefault(one.speaker, one)
    return [firsts[speaker] for speaker in sorted(firsts)]


def _voices(codec: Codec, spoken: Sequence[LabelledRecording], embedders: Sequence[str]) -> Sums:
    """Return the measures of voices in the audio and in the codes of codebook 1."""
    vectors_by_name = defaultdict[str, list[list[Tensor]]](list)
    for one in spoken:
        tokens = codec.encode(one.audio, codebooks=1)
        decoded = codec.decode(tokens, original_rate=True)
        half = len(one.audio) // 2
        for name in embedders:
            parts = (one.audio[:half], decoded[:half], decoded[half:])
            vectors_by_name[name].append([speaker_encoder(name).vector(part) for part in parts])
        parts = torch.tensor(tokens.codes[0]).chunk(2)
        vectors_by_name[COUNTS].append([code_histogram(part, tokens.sizes[0]) for part in parts])
    sums: Sums = {}
    for name, vectors in vectors_by_name.items():
        *enrolled, last = (torch.stack(part) for part in zip(*vectors, strict=True))
        kinds = ("originals", "codebook 1") if len(enrolled) > 1 else ("codebook 1",)
        for kind, first in zip(kinds, enrolled, strict=True):
            sums |= _named(name, kind, compare_speakers(last, first))
    return sums


def _named(name: str, kind: str, result: Voices) -> Sums:
    """Return measures of voices under their names in the table."""
    return {
        f"{name.partition(':')[0]}, {WORDS[what]}, among {kind}": (
            values.numpy(),
            np.ones(len(values)),
        )
        for what, values in vars(result).items()
    }


def _scores(codec: Codec, spoken: Sequence[LabelledRecording], metrics: dict[str, Metric]) -> Sums:
    """Return scores of first recordings decoded from all codebooks."""
    sums: Sums = {}
    coded = [codec.encode(one.audio) for one in spoken] if metrics else []
    decoded = [codec.decode(tokens, original_rate=True) for tokens in coded]
    for name, metric in metrics.items():
        scores = [metric.score(out, one.audio) for out, one in zip(decoded, spoken, strict=True)]
        totals, number = zip(*((score.total, score.count) for score in scores), strict=True)
        sums[f"{name}, all codebooks"] = np.array(totals), np.array(number, float)
    return sums


def comparison_table(pairs: Sequence[tuple[Sums, Sums]], names: tuple[str, str]) -> list[str]:
    """Return both codecs' values and their difference, by pair and pooled, as lines of Markdown.

    Each pair is of one seed. Intervals are 95 % by `statistics.paired` over speakers. The pooled
    column sums each speaker over all pairs: its interval is over speakers, for these seeds; two or
    three seeds are too few to draw from, so check whether they agree.

    Args:
        pairs: the same measures of the same speakers in each.
        names: names of the two codecs.

    Raises:
        ValueError: there are no pairs, or their measures or speakers differ.
    """
    if not pairs:
        raise InputError("nothing to hold against each other: give at least one pair")
    measures = list(pairs[0][0])
    if any(list(one) != measures for pair in pairs for one in pair):
        raise InputError("the codecs were measured by unlike measures")
    heads = [f"{of}, pair {i + 1}" for i in range(len(pairs)) for of in (*names, "difference")]
    lines = [f"| | {' | '.join(heads)} | difference, pooled |", "|---" * (len(heads) + 2) + "|"]
    for measure in measures:
        cells = [measure]
        for pair in pairs:
            cells += [f"{one[measure][0].sum() / one[measure][1].sum():.3f}" for one in pair]
            cells.append(_difference(*(one[measure] for one in pair)))
        one, other = ([pair[i][measure] for pair in pairs] for i in (0, 1))
        cells.append(_difference(list(np.sum(one, 0)), list(np.sum(other, 0))))
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _difference(one: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> str:
    """Return a paired difference and its interval as text."""
    difference, low, high = paired((one[0], one[1]), (other[0], other[1]))
    return f"{difference:+.3f} ({low:+.3f} to {high:+.3f})"
