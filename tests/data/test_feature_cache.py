"""Features on disk: what is kept is what the teacher gave, and it is computed once."""

from __future__ import annotations

import json
import logging
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from audiotok import Audio
from audiotok.data.feature_cache import FeatureCache
from audiotok.data.features.base import Choice, SpeechTeacher, Teacher
from audiotok.data.recording import Recording


class Sums(SpeechTeacher):
    """Frame i of layer n: the sum of its samples times the weight, plus n; 100 frames a second."""

    name, width, layers = "sums", 2, 3
    frame_rate = Fraction(100)

    def __init__(self, weight: float = 1.0, short: int = 0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))
        self.short = short  # frames missing at the end
        self.calls = 0

    def states(self, wave: Tensor) -> Iterator[Tensor]:
        self.calls += 1
        wave = nn.functional.pad(wave, (0, -wave.shape[1] % 160))
        sums = wave.unfold(1, 160, 160).sum(2)[:, : wave.shape[1] // 160 - self.short] * self.weight
        for layer in range(self.layers + 1):
            yield torch.stack([sums, -sums], 2) + layer


@pytest.fixture
def recordings(tmp_path: Path) -> list[Recording]:
    """Four of 0.3 to 0.72 s at 16 kHz, the last 24 kHz; the second without text."""
    made = []
    for i in range(4):
        path = tmp_path / f"{i}.wav"
        random = torch.Generator().manual_seed(i)
        rate = 24000 if i == 3 else 16000
        Audio(0.2 * torch.randn(1, 4800 + 2240 * i, generator=random), rate).save(path)
        made.append(
            Recording.of_file(path, {"path": path.name, "text": "" if i == 1 else f"say {i}"})
        )
    return made


def test_what_is_kept_is_what_the_teacher_gave(recordings: list[Recording], tmp_path: Path):
    teacher = Sums()
    made = FeatureCache.build(recordings, teacher, layer=2, cache=tmp_path / "cache")
    assert (len(made), made.width, made.frame_rate) == (4, 2, 100)
    for i, recording in enumerate(recordings):
        wanted = teacher.features(Audio.load(recording.path), layer=2).detach()
        assert made.has(i)
        assert made[i].dtype == torch.float32
        assert torch.equal(made[i], wanted.half().float())
        assert torch.equal(made.crop(i, 3, 10), made[i][3:13])
    frames = len(made[0])
    assert frames == 30
    past = made.crop(0, 27, 6)
    assert torch.equal(past, torch.cat([made[0][27:], made[0][-1:].expand(3, -1)]))
    assert torch.equal(made.crop(0, 40, 2), made[0][-1:].expand(2, -1))


def test_a_slower_codec_has_means_of_neighbours(recordings: list[Recording], tmp_path: Path):
    features = FeatureCache.build(recordings, Sums(), layer=2, cache=tmp_path / "cache")
    slow = features.at(Fraction(25))
    assert (slow.width, slow.frame_rate, slow.has(0)) == (2, 25, True)
    assert torch.allclose(slow.crop(0, 2, 3), features.crop(0, 8, 12).view(3, 4, 2).mean(1))
    last = torch.cat([features[0][28:], features[0][-1:].expand(2, -1)]).mean(0)
    assert torch.allclose(slow[0][-1], last)  # of 30 features the last one stands in for two
    assert len(slow[0]) == 8
    assert torch.equal(slow.at(Fraction(25))[0], slow[0])
    assert features.at(Fraction(30)) is features  # not a whole number of times


def test_nothing_is_computed_twice(recordings: list[Recording], tmp_path: Path):
    cache = tmp_path / "cache"
    FeatureCache.build(recordings, Sums(), layer=0, cache=cache)
    again = Sums()
    os.utime(recordings[0].path)  # a new time, the same content
    moved = recordings[1].path.rename(tmp_path / "moved.wav")
    recordings[1] = Recording.of_file(moved, recordings[1].fields)
    FeatureCache.build(recordings, again, layer=0, cache=cache)
    assert again.calls == 0
    # What features depend on makes them others: content, layer, weights, teacher.
    recordings[2].path.write_bytes(recordings[3].path.read_bytes())
    FeatureCache.build(recordings[:3], again, layer=0, cache=cache)
    assert again.calls == 0  # the content of another recording, which is there
    Audio(torch.full((1, 3200), 0.1), 16000).save(recordings[2].path, force=True)
    other = FeatureCache.build(recordings, again, layer=0, cache=cache)
    assert again.calls == 1
    assert other[2].shape == (20, 2)
    Audio(torch.full((1, 3200), 0.2), 16000).save(recordings[2].path, force=True)  # as long
    FeatureCache.build(recordings, again, layer=0, cache=cache)
    assert again.calls == 2
    others: list[tuple[int, Sums, Choice]] = [(6, again, 1), (10, again, "mean"), (4, Sums(2.0), 0)]
    for calls, teacher, layer in others:
        FeatureCache.build(recordings, teacher, layer=layer, cache=cache)
        assert teacher.calls == calls
    again.name = "other"
    FeatureCache.build(recordings, again, layer=0, cache=cache)
    assert again.calls == 14


def test_a_name_says_teacher_layer_and_weights(recordings: list[Recording], tmp_path: Path):
    teacher = Sums()
    FeatureCache.build(recordings, teacher, layer="mean", cache=tmp_path / "cache")
    folder = tmp_path / "cache" / f"sums-mean-{teacher.fingerprint}"
    assert len(list(folder.glob("??/*.npy"))) == 4
    assert json.loads((folder / "about.json").read_text()) == {
        "teacher": "sums",
        "layer": "mean",
        "fingerprint": teacher.fingerprint,
        "width": 2,
        "frame_rate": "100",
        "reads_text": False,
    }


def test_a_cache_is_opened_without_its_teacher(recordings: list[Recording], tmp_path: Path):
    teacher = Sums()
    made = FeatureCache.build(recordings[:2], teacher, layer=1, cache=tmp_path / "cache")
    folder = tmp_path / "cache" / f"sums-1-{teacher.fingerprint}"
    opened = FeatureCache.open([recordings[2], recordings[1]], folder)
    assert [opened.has(i) for i in range(2)] == [False, True]
    assert torch.equal(opened[1], made[1])
    sent = pickle.loads(pickle.dumps(opened))
    assert torch.equal(sent.crop(1, 2, 3), made[1][2:5])
    with pytest.raises(ValueError, match="recording 0 has no features; ask `has` first"):
        opened.crop(0, 0, 1)
    with pytest.raises(ValueError, match=r"no cache of features .* give a folder that Features"):
        FeatureCache.open(recordings, tmp_path)


@pytest.mark.parametrize("damage", ["empty", "cut", "noise", "gone", "shape", "type"])
def test_a_damaged_file_is_made_again(recordings: list[Recording], tmp_path: Path, damage: str):
    teacher, cache = Sums(), tmp_path / "cache"
    whole = FeatureCache.build(recordings, teacher, layer=0, cache=cache)
    wanted = whole[1]
    file = whole.files[1]
    assert file
    content = file.read_bytes()
    if damage == "gone":
        file.unlink()
    elif damage == "shape":
        np.save(file, np.zeros((30, 3), np.float16))
    elif damage == "type":
        np.save(file, np.zeros((30, 2), np.float32))
    else:
        file.write_bytes({"empty": b"", "cut": content[:-1], "noise": b"x" * 500}[damage])
    folder = cache / f"sums-0-{teacher.fingerprint}"
    assert [FeatureCache.open(recordings, folder).has(i) for i in range(4)] == [
        True,
        False,
        True,
        True,
    ]
    again = Sums()
    assert torch.equal(FeatureCache.build(recordings, again, layer=0, cache=cache)[1], wanted)
    assert again.calls == 1


def test_a_damaged_list_of_hashes_is_made_again(recordings: list[Recording], tmp_path: Path):
    FeatureCache.build(recordings, Sums(), layer=0, cache=tmp_path)
    index = tmp_path / "hashes.json"
    whole = index.read_text()
    for damaged in ("", "[1, 2]", whole[:-9]):
        index.write_text(damaged)
        again = Sums()
        FeatureCache.build(recordings, again, layer=0, cache=tmp_path)
        assert again.calls == 0
        assert index.read_text() == whole


def test_one_that_was_stopped_goes_on(recordings: list[Recording], tmp_path: Path):
    class Stopped(Sums):
        def states(self, wave: Tensor) -> Iterator[Tensor]:
            if self.calls == 2:
                raise KeyboardInterrupt
            return super().states(wave)

    with pytest.raises(KeyboardInterrupt):
        FeatureCache.build(recordings, Stopped(), layer=0, cache=tmp_path)
    again = Sums()
    made = FeatureCache.build(recordings, again, layer=0, cache=tmp_path)
    assert again.calls == 2
    assert all(made.has(i) for i in range(4))


def test_what_a_killed_process_left_is_swept_away(recordings: list[Recording], tmp_path: Path):
    teacher = Sums()
    folder = tmp_path / f"sums-0-{teacher.fingerprint}" / "00"
    folder.mkdir(parents=True)
    code = (
        "import sys; from pathlib import Path; from audiotok._platform.atomic import partial_path"
    )
    code += "; print(partial_path(Path(sys.argv[1])))"
    command = [sys.executable, "-c", code, str(folder / "x.npy")]
    left = Path(subprocess.run(command, capture_output=True, text=True).stdout.strip())
    left.write_bytes(b"half")
    FeatureCache.build(recordings, teacher, layer=0, cache=tmp_path)
    assert not left.exists()


@pytest.mark.parametrize("short", [0, 1, 2, -2])
def test_a_frame_may_be_missing_at_the_end_but_no_more(
    recordings: list[Recording], tmp_path: Path, short: int
):
    class Long(Sums):
        def states(self, wave: Tensor) -> Iterator[Tensor]:
            for state in super().states(wave):
                yield torch.cat([state, state[:, :2]], 1) if self.short < 0 else state

    teacher = Long(short=short)
    if short in (0, 1):
        made = FeatureCache.build(recordings[:1], teacher, layer=0, cache=tmp_path)
        assert made[0].shape == (30 - short, 2)
        assert made.crop(0, 25, 5).shape == (5, 2)
    else:
        with pytest.raises(
            ValueError, match=r"0\.wav: sums gave (28|32) frames, but 0\.300 s are 30"
        ):
            FeatureCache.build(recordings[:1], teacher, layer=0, cache=tmp_path)


@pytest.mark.parametrize("bad", [1e6, float("inf"), float("nan")])
def test_what_half_precision_cannot_hold_is_refused(
    recordings: list[Recording], tmp_path: Path, bad: float
):
    with pytest.raises(ValueError, match=r"features of sums, layer 0, reach (\S+), which half"):
        FeatureCache.build(recordings, Sums(bad), layer=0, cache=tmp_path)


def test_recordings_that_cannot_be_read_have_no_features(
    recordings: list[Recording], tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    (tmp_path / "text.wav").write_text("no audio")
    many = [
        Recording.of_file(tmp_path / name) for name in ("text.wav", "gone.wav")
    ] + recordings * 5
    with caplog.at_level(logging.WARNING, "audiotok"):
        made = FeatureCache.build(many, Sums(), layer=0, cache=tmp_path / "cache")
    assert [made.has(i) for i in range(4)] == [False, False, True, True]
    # Building says so of each, and opening what was built of one that is gone.
    said = sorted({record.getMessage().split(": ")[0] for record in caplog.records})
    assert said == [str(tmp_path / "gone.wav"), str(tmp_path / "text.wav")]
    with pytest.raises(ValueError, match="2 of 6 recordings have no features"):
        FeatureCache.build(many[:6], Sums(), layer=0, cache=tmp_path / "cache")
    with pytest.raises(ValueError, match="hidden states 0 to 3"):
        FeatureCache.build(recordings, Sums(), layer=4, cache=tmp_path / "cache")


class Letters(Teacher):
    """Every frame is the number of letters."""

    name, width, layers, reads_text = "letters", 1, 1, True

    def features(self, audio: Audio, *, layer: Choice, text: str | None = None) -> Tensor:
        assert text
        return torch.full((int(audio.seconds * 50), 1), float(len(text)))


def test_features_of_text_go_by_the_text(recordings: list[Recording], tmp_path: Path):
    made = FeatureCache.build(recordings, Letters(), layer=0, cache=tmp_path)
    assert [made.has(i) for i in range(4)] == [True, False, True, True]
    assert (made[0] == 5).all()
    corrected = [
        Recording.of_file(r.path, {**r.fields, "text": r.text and "corrected"}) for r in recordings
    ]
    made = FeatureCache.build(corrected, Letters(), layer=0, cache=tmp_path)
    assert (made[0] == 9).all()
    assert len(list(tmp_path.glob("letters-*/??/*.npy"))) == 6
