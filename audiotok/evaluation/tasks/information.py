"""Information in codes on phones and on the speaker: mutual information, and linear probes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from audiotok._platform.errors import InputError
from audiotok.audio.delimited import read_rows
from audiotok.data.alignment import PROTOCOL, TimedSpan, frame_labels
from audiotok.data.recording import Recording
from audiotok.evaluation.probes.probe import ProbeResult, probe
from audiotok.evaluation.results import Finding
from audiotok.evaluation.tasks.base import Bench, Task
from audiotok.tokens.statistics import code_counts, entropy, mutual_information

DRAWS = 20  # random orders of the labels, whose mean is the chance level
SECOND = 1.0  # seconds of codes that the speaker is predicted from


@dataclass(frozen=True)
class _Labelled:
    """Frames whose phone is known, in order: codes `[k n]`, phones `[n]` and speakers `[n]`."""

    codes: np.ndarray
    phones: np.ndarray
    speakers: np.ndarray


class Information(Task):
    """Mutual information of each codebook with phones and with speakers, minus its value by chance.

    Args:
        option: the path of a TSV from a forced aligner: path (as in the manifest), speaker, phone,
            start, end (s). Without it pocketsphinx aligns English recordings that have text.
    """

    def __init__(self, option: str = "") -> None:
        self.option = option
        source = f"from {Path(option).name}" if option else PROTOCOL
        self.protocol = (
            f"phones: {source}, of the frame's middle; "
            "mutual information: plug-in estimate less its mean when labels are out of place "
            f"({DRAWS} draws: phones rotated along the corpus, speakers dealt anew to recordings), "
            "which takes off too much where codes are many and frames few, "
            "each codebook by itself; probes: multinomial logistic regression, of phones on the "
            "code of codebook 1 and on other speakers than it learnt from, of the speaker on how "
            f"often each code of codebook 1 comes in {SECOND:g} s, on other recordings"
        )

    def run(self, bench: Bench) -> list[Finding]:
        """Return mutual information and probe accuracies; see `Task.run`."""
        findings = []
        all_codes = bench.codes()
        try:
            spans, left_out = self._spans(bench)
            findings += self._phones(bench, all_codes, spans, left_out)
        except ImportError as error:  # findings on speakers need no phones
            findings.append(self.absent("information on phones", f"not run: {error}"))
        return [*findings, *self._speakers(bench, all_codes)]

    # -- phones -----------------------------------------------------------------------------------

    def _spans(self, bench: Bench) -> tuple[list[list[TimedSpan]], str]:
        """Return the phones of every recording, and a note on recordings that were left out."""
        if self.option:
            table = _phones_of(Path(self.option))
            spans = [
                next((table[name] for name in _names(r) if name in table), [])
                for r in bench.recordings
            ]
            missing = sum(not mine for mine in spans)
            return spans, f"{missing} recordings are not in {self.option}" if missing else ""
        spans, reasons = [], Counter[str]()
        for recording in bench.over(bench.recordings, "align phones"):
            try:
                if not (recording.language or "en").startswith("en"):
                    raise InputError("not English")
                spans.append(bench.align(recording).phones)
            except ValueError as error:
                reasons[str(error).partition(":")[0]] += 1
                spans.append([])
        return spans, "; ".join(f"{n} recordings left out: {why}" for why, n in reasons.items())

    def _phones(
        self, bench: Bench, all_codes: list[np.ndarray], spans: list[list[TimedSpan]], note: str
    ) -> list[Finding]:
        """Return the findings on phones."""
        if not any(spans):
            return [self.absent("information on phones", f"no phones; {note}")]
        rate = float(bench.codec.frame_rate)
        names = sorted({span.label for mine in spans for span in mine})
        codes, labels, who = [], [], []
        speakers = integer_labels([r.speaker for r in bench.recordings])
        for mine, of, speaker in zip(all_codes, spans, speakers, strict=True):
            label = frame_labels(of, names, mine.shape[1], rate)
            codes.append(mine[:, label >= 0])
            labels.append(label[label >= 0])
            who.append(np.full(len(labels[-1]), speaker))
        data = _Labelled(np.concatenate(codes, 1), np.concatenate(labels), np.concatenate(who))
        if not len(data.phones):
            return [self.absent("information on phones", f"no frame lies in a phone; {note}")]
        random = np.random.default_rng(bench.seed)
        n = len(data.phones)
        turned = [np.roll(data.phones, t) for t in random.integers(n // 8, n - n // 8, DRAWS)]
        findings = [
            self._information("phones", k, row, data.phones, turned, note)
            for k, row in enumerate(data.codes)
        ]
        return [*findings, self._phone_probe(data, bench.seed)]

    def _information(
        self,
        what: str,
        k: int,
        codes: np.ndarray,
        labels: np.ndarray,
        others: Sequence[np.ndarray],
        note: str,
    ) -> Finding:
        """Return the information of one codebook on a label, minus that on permuted labels."""
        plain = mutual_information(codes, labels)
        chance = float(np.mean([mutual_information(codes, other) for other in others]))
        most = entropy(code_counts(labels))
        share = 100 * (plain - chance) / most if most else 0.0
        above = 100 * (plain - chance) / (most - chance) if most > chance else 0.0
        details = (
            f"{plain:.3f} less {chance:.3f} by chance; {share:.1f} % of the label's {most:.3f} "
            f"bits, {above:.1f} % of what chance leaves of them{'; ' if note else ''}{note}"
        )
        name = f"information of codebook {k + 1} on {what}"
        better = "higher" if what == "phones" else ""
        return self.finding(
            name, plain - chance, unit="bits", better=better, n=len(labels), note=details
        )

    def _phone_probe(self, data: _Labelled, seed: int) -> Finding:
        """Return the accuracy of a probe of the phone on the code of codebook 1."""
        name = "phones right, from the code of codebook 1"
        if len(np.unique(data.speakers)) < 2:
            return self.absent(name, "frames of a single speaker, who cannot be held out")
        _, kinds = np.unique(data.codes[0], return_inverse=True)
        features = torch.nn.functional.one_hot(torch.from_numpy(kinds)).float()
        result = probe(
            features, torch.from_numpy(data.phones), torch.from_numpy(data.speakers), seed=seed
        )
        return self._probed(name, result, "speakers", "higher")

    def _probed(self, name: str, result: ProbeResult, groups: str, better: str) -> Finding:
        """Return the finding of a probe's accuracy."""
        note = f"chance {100 * result.chance:.1f} %; {result.groups} {groups} held out"
        fields = {
            "unit": "%",
            "low": 100 * result.low,
            "high": 100 * result.high,
            "n": result.tested,
        }
        return self.finding(name, 100 * result.accuracy, better=better, note=note, **fields)

    # -- speakers ---------------------------------------------------------------------------------

    def _speakers(self, bench: Bench, all_codes: list[np.ndarray]) -> list[Finding]:
        """Return the findings on speakers."""
        many = Counter(r.speaker for r in bench.recordings if r.speaker)
        chosen = [i for i, r in enumerate(bench.recordings) if many[r.speaker] > 1]
        if len({bench.recordings[i].speaker for i in chosen}) < 2:
            why = "no two speakers with two recordings each in the manifest's `speaker`"
            return [self.absent("information on the speaker", why)]
        who = integer_labels([bench.recordings[i].speaker for i in chosen])
        frames = [all_codes[i].shape[1] for i in chosen]
        codes = np.concatenate([all_codes[i] for i in chosen], 1)
        random = np.random.default_rng(bench.seed)
        labels = np.repeat(who, frames)
        permuted = [np.repeat(random.permutation(who), frames) for _ in range(DRAWS)]
        findings = [
            self._information("the speaker", k, row, labels, permuted, "")
            for k, row in enumerate(codes)
        ]
        return [*findings, self._speaker_probe([all_codes[i][0] for i in chosen], who, bench)]

    def _speaker_probe(self, rows: list[np.ndarray], who: np.ndarray, bench: Bench) -> Finding:
        """Return the accuracy of a probe of the speaker on counts of codes in a second."""
        span = max(1, round(SECOND * float(bench.codec.frame_rate)))
        kinds, index = np.unique(np.concatenate(rows), return_inverse=True)
        features, labels, groups, at = [], [], [], 0
        for i, row in enumerate(rows):
            mine, at = index[at : at + len(row)], at + len(row)
            for first in range(0, len(mine) - span + 1, span):
                features.append(np.bincount(mine[first : first + span], minlength=len(kinds)))
                labels.append(who[i])
                groups.append(i)
        name = "speakers right, from a second of codebook 1"
        if len(set(groups)) < 2:
            return self.absent(name, f"fewer than two recordings of {SECOND:g} s")
        result = probe(
            torch.from_numpy(np.stack(features)).float(),
            torch.tensor(np.asarray(labels)),
            torch.tensor(groups),
            seed=bench.seed,
        )
        return self._probed(name, result, "recordings", "")


def _names(recording: Recording) -> Iterator[str]:
    """Yield the names that a recording may have in an aligner's table: paths of a file, or its id.

    A stretch of a file is known by its id only, since its times begin at its start.
    """
    if recording.locator.stretch is None:
        yield recording.columns().get("path", "")
        yield recording.locator.path
    yield recording.id


def integer_labels(names: Sequence[str]) -> np.ndarray:
    """Return names as integers 0, 1, ... in their sorted order."""
    return np.unique(np.asarray(names), return_inverse=True)[1].astype(np.int64)


def _phones_of(path: Path) -> dict[str, list[TimedSpan]]:
    """Return the phones of each recording in an aligner's TSV.

    Raises:
        ValueError: the file cannot be read, or lacks a column, or a time is no number.
    """
    spans: dict[str, list[TimedSpan]] = defaultdict(list)
    try:
        with path.open(encoding="utf-8-sig") as lines:
            for _, row in read_rows(lines, str(path)):
                spans[row["path"]].append(
                    TimedSpan(row["phone"], float(row["start"]), float(row["end"]))
                )
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except (KeyError, ValueError, TypeError) as error:
        columns = "path, phone, start and end, separated by tabs"
        raise InputError(f"{path}: not a table of {columns} ({error})") from None
    return dict(spans)
