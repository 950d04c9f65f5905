"""Codecs held against each other: made-up codecs of which it is known what their codes tell."""

from __future__ import annotations

import re
import runpy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from audiotok.audio.audio import Audio
from audiotok.codecs import checkpoint
from audiotok.codecs.models.base import Codec
from audiotok.codecs.models.speech import Config, Speech
from audiotok.data.alignment import Alignment, TimedSpan
from audiotok.evaluation import disentanglement
from audiotok.evaluation.disentanglement import (
    LabelledRecording,
    comparison_table,
    measure_codec,
    measure_originals,
)
from audiotok.evaluation.metrics.base import Metric, Score

PHONES = ("AA", "B", "K", "S")
SPEAKERS = 8
EXAMPLE = Path(__file__).parents[2] / "egs/distillation_twins.py"


@pytest.fixture
def spoken() -> list[LabelledRecording]:
    """Two seconds of each speaker, their level being who they are; a phone every tenth second."""
    random = np.random.default_rng(0)
    found = []
    for speaker in range(SPEAKERS):
        said = [
            TimedSpan(str(random.choice(PHONES)), at / 10, (at + 1) / 10)
            for at in range(20)  # two seconds
        ]
        level = 0.1 + 0.1 * speaker
        noise = torch.from_numpy(random.uniform(-0.01, 0.01, (1, 32000))).float()
        found.append(LabelledRecording(Audio(level + noise, 16000), str(speaker), said))
    return found


class Made(Codec):
    """A codec whose one code a frame is what `say` makes of a frame's number and its recording."""

    def __init__(
        self,
        spoken: list[LabelledRecording],
        say: Callable[[LabelledRecording, int], int],
        size: int,
    ) -> None:
        super().__init__()
        self.spoken, self.say, self.size = spoken, say, size
        self.quantizer: Any = SimpleNamespace(decode=self._entries)

    def encode(self, recording: Any, rate: int | None = None, **_: Any) -> Any:
        one = next(one for one in self.spoken if one.audio is recording)
        codes = np.array([[self.say(one, frame) for frame in range(100)]])
        return SimpleNamespace(codes=codes, frame_rate=50.0, sizes=(self.size,), audio=recording)

    def decode(self, tokens: Any, **_: Any) -> Audio:
        return tokens.audio

    def _entries(self, codes: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.one_hot(codes[:, 0], self.size).float().transpose(1, 2)


def phone(one: LabelledRecording, frame: int) -> int:
    return PHONES.index(one.phones[frame // 5].label)


def speaker(one: LabelledRecording, frame: int) -> int:
    return int(one.speaker)


class Level:
    """An embedder that hears nothing but how loud it is."""

    def vector(self, audio: Audio) -> torch.Tensor:
        angle = audio.samples.mean()
        return torch.stack([angle.cos(), angle.sin()])


class Half(Metric):
    def score(self, output: Audio, reference: Audio, text: str | None = None) -> Score:
        return Score(0.5, 1)


def value(sums: disentanglement.Sums, measure: str) -> float:
    totals, counts = sums[measure]
    return totals.sum() / counts.sum()


def test_codes_that_are_the_phone_and_codes_that_are_the_speaker(
    spoken: list[LabelledRecording], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(disentanglement, "speaker_encoder", lambda name: Level())
    more: dict[str, Any] = {"embedders": ["level"], "metrics": {"half": Half()}}
    told = measure_codec(Made(spoken, phone, 4), spoken, **more)
    voice = measure_codec(Made(spoken, speaker, 8), spoken, **more)
    for of in ("code", "entry"):
        assert value(told, f"phones right, from the {of}") == 1
        assert value(voice, f"phones right, from the {of}") < 0.5
        assert value(told, f"bits on the phone, from the {of}") == pytest.approx(2, abs=0.15)
        assert value(voice, f"bits on the phone, from the {of}") < 0.05
    assert value(voice, "counts of codes, found, among codebook 1") == 1
    assert value(voice, "counts of codes, others, among codebook 1") == 0
    assert value(told, "counts of codes, found, among codebook 1") < 0.5
    # What is decoded here is the original, so the voice is found whatever the codes say.
    for kind in ("originals", "codebook 1"):
        assert value(told, f"level, found, among {kind}") == 1
    ceiling = measure_originals(spoken, ["level"])
    assert value(ceiling, "level, found, among originals") == 1
    assert value(told, "half, all codebooks") == 0.5
    lines = comparison_table([(told, voice), (told, voice)], ("told", "voice"))
    assert lines[0].count("|") == lines[1].count("|") == lines[2].count("|") == 9
    row = next(line for line in lines if line.startswith("| counts of codes, found"))
    one, other, difference = (cell.strip() for cell in row.split("|")[2:5])
    assert difference.startswith(f"{float(one) - float(other):+.3f} (-")
    with pytest.raises(ValueError, match="unlike measures"):
        comparison_table([(told, ceiling)], ("told", "nothing"))
    with pytest.raises(ValueError, match="at least one pair"):
        comparison_table([], ("told", "voice"))


def test_phones_of_too_few_are_refused(spoken: list[LabelledRecording]):
    mute = [LabelledRecording(one.audio, one.speaker, []) for one in spoken]
    with pytest.raises(ValueError, match="fewer than 4 speakers"):
        measure_codec(Made(mute, speaker, 8), mute)


def test_pooled_is_of_both_pairs():
    def sums(*values: float) -> disentanglement.Sums:
        return {"right": (np.array(values), np.ones(len(values)))}

    pairs = [(sums(1.0, 3.0), sums(0.0, 2.0)), (sums(3.0, 5.0), sums(0.0, 2.0))]
    assert comparison_table(pairs, ("a", "b"))[2] == (
        "| right | 2.000 | 1.000 | +1.000 (+1.000 to +1.000) | 4.000 | 1.000 "
        "| +3.000 (+3.000 to +3.000) | +2.000 (+2.000 to +2.000) |"
    )


def test_the_example_compares_two_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """The same weights twice: every difference is nothing."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"encoder": 16, "decoder": 16, "latent": 8, "codebooks": 2, "size": 16}
    codec = Speech(Config(encoder_blocks=2, decoder_blocks=2, heads=2, **sizes))
    checkpoint.save(codec, tmp_path / "twin.safetensors")
    speech = Audio.load(EXAMPLE.parent / "data/reading.flac").mono().resample(16000)
    lines = ["path\tsplit\tspeaker\ttext"]
    for i in range(4):
        speech[i * 16000 : i * 16000 + 24000].save(tmp_path / f"{i}.wav")
        lines.append(f"{i}.wav\ttest\t{i}\twords")
    (tmp_path / "data.tsv").write_text("\n".join(lines))
    said = [TimedSpan(PHONES[i % 4], i / 10, (i + 1) / 10) for i in range(15)]
    monkeypatch.setattr("audiotok.data.alignment.align", lambda audio, text: Alignment(said, []))
    weights = str(tmp_path / "twin.safetensors")
    monkeypatch.setattr("sys.argv", [str(EXAMPLE), str(tmp_path / "data.tsv"), weights, weights])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    out = capsys.readouterr().out
    assert "with phones: 4 recordings of 4 speakers" in out
    rows = [line for line in out.splitlines() if re.match(r"\| \w", line)]
    assert {row.split(" | ")[0] for row in rows} >= {"| pesq, all codebooks"}
    assert all(row.count("+0.000 (+0.000 to +0.000)") == 2 for row in rows)
