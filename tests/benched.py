"""Synthetic results of a bench, with every kind of row that a report shows, and audio files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from audiotok.evaluation.results import (
    Clip,
    Finding,
    Mean,
    MetricInfo,
    Pair,
    Results,
    ScoreRow,
    Subject,
)

HOSTILE = (
    "</script><script>document.title='owned'</script><img src=x onerror=alert(1)> \"q\" 'a' & |"
)
RATE = 8000


def benched(folder: Path, *, codecs: int = 5, clips: int = 12, kept: int = 4) -> Results:
    """Return results of codecs, the original and noise, with two failures and a skipped metric.

    The pesq score of recording i by codec c is 1 + c + i / 100, so that the last codec is best and
    recording 0 is worst.

    Args:
        folder: folder to write audio to, tones of 1 second.
        codecs: number of codecs.
        clips: number of recordings.
        kept: number of recordings with audio, from the first.
    """
    draw = np.random.default_rng(0)
    ours = [f"speech@{i + 1}" for i in range(codecs - 1)] + ["opus:6"]
    subjects = [
        Subject("original", "anchor", None, None),
        *(
            Subject(
                name,
                "anchor" if name == "opus:6" else "codec",
                0.5 * (i + 1),
                0.5 * (i + 1) + 0.1,
                {"fingerprint": f"f{i}"},
                [] if name == "opus:6" else [[90, 9, 1], [5, 5, 5, 5]],
                [] if name == "opus:6" else [8, 4],
            )
            for i, name in enumerate(ours)
        ),
        Subject("noise", "anchor", None, None),
    ]
    listed = [
        Clip(f"clip-{i}", f"clip-{i}.flac", 1.0, f"spk{i % 3}", "en", HOSTILE if i == 0 else "well")
        for i in range(clips)
    ]
    metrics = [
        MetricInfo("pesq", "higher", "", "pesq package, wide band"),
        MetricInfo("wer", "lower", "%", "whisper-base, its normaliser"),
        MetricInfo("stoi", "higher", "", "pystoi package"),
        MetricInfo("utmos", "higher", "MOS", "UTMOS22 strong", "weights are not here <b>"),
    ]
    scores, means = [], []
    for s, subject in enumerate(subjects):
        for about in metrics[:3]:
            values, failed = [], {}
            for i, clip in enumerate(listed):
                error = ""
                if (subject.name, about.name, i) == ("speech@1", "pesq", 2):
                    error = "PESQ: <no> utterance"
                if (subject.name, about.name) == ("noise", "stoi"):
                    error = "STOI: planted"
                value = {"pesq": 1 + s + i / 100, "wer": 50 - 5 * s + i, "stoi": 0.5 + s / 20}
                if error:
                    failed[error] = failed.get(error, 0) + 1
                    scores.append(ScoreRow(subject.name, clip.name, about.name, None, None, error))
                else:
                    values.append(value[about.name])
                    scores.append(ScoreRow(subject.name, clip.name, about.name, values[-1], 1.0))
            mean = float(np.mean(values)) if values else None
            span = (None, None) if mean is None else (mean - 0.1, mean + 0.1)
            means.append(Mean(subject.name, about.name, mean, *span, len(values), failed))
    pairs = [
        Pair("pesq", ours[0], ours[1], -1.0, -1.2, -0.8, clips),
        Pair("pesq", ours[-2], ours[-1], -1.0, -2.2, 0.2, clips),
        Pair("wer", ours[0], ours[1], 5.0, 4.0, 6.0, clips),
    ]
    findings = [
        Finding("phones", "phones right", 61.25, "%", "higher", 60, 62, 400, "a probe", ours[0]),
        Finding("phones", "phones right", 71.5, "%", "higher", 70, 73, 400, "a probe", ours[1]),
        Finding("phones", "leak", None, "%", "lower", note="one speaker only", subject=ours[0]),
    ]
    audio: dict[str, dict[str, str]] = {}
    time = np.arange(RATE) / RATE
    for s, subject in enumerate(subjects):
        for i, clip in enumerate(listed[:kept]):
            path = Path("audio", f"{s}", f"{clip.name}.{'wav' if s == 1 else 'flac'}")
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            wave = 0.3 * np.sin(2 * np.pi * (300 + 100 * i) * time) + s * draw.normal(0, 0.01, RATE)
            soundfile.write(folder / path, wave, RATE)
            audio.setdefault(subject.name, {})[clip.name] = str(path)
    if kept > 1:  # listed in the results, but missing on disk
        (folder / audio["speech@2"]["clip-1"]).unlink()
    about = {"when": "2026-01-02", "command": "audiotok bench <x>", "machine": "m", "commit": "c0"}
    return Results(about, listed, metrics, subjects, scores, means, pairs, findings, audio)
