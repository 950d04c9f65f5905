"""Batches: crops that seed and step alone decide, shared out between ranks."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from audiotok.audio.decoders import AudioFileError
from audiotok.data.augment import Augment
from audiotok.data.batches import Batch, BatchConfig, Batches
from audiotok.data.cache import SampleCache
from audiotok.data.direct import FileSamples
from audiotok.data.recording import Recording

RATE, FRAME = 8000, 10
TENSORS = ("wave", "clean", "real", "features", "taught")
CONFIG = BatchConfig(batch=6, frames=4, frame_size=FRAME)


def pool_of(*lengths: int) -> SampleCache:
    """Recordings in which every sample says where it is: 1, 2, 3 ... from the first on."""
    starts = np.cumsum([0, *lengths])
    recordings = [
        Recording.of_file(Path(f"{i}.wav"), {"text": f"text {i}"}) for i in range(len(lengths))
    ]
    samples = np.arange(1, starts[-1] + 1, dtype=np.int16)
    return SampleCache(samples, starts, rate=RATE, recordings=recordings)


POOL = pool_of(5000, 3000, 4000, 200)


def whole_numbers(wave: Tensor) -> list[list[int]]:
    return (wave[:, 0] * 32768).int().tolist()


def same(one: Batch, other: Batch) -> bool:
    return all(
        (a is None and b is None) or (a is not None and torch.equal(a, b))
        for a, b in ((getattr(one, name), getattr(other, name)) for name in TENSORS)
    ) and (one.recordings, one.starts, one.text) == (other.recordings, other.starts, other.text)


class Counted:
    """Features that say which recording and frame they are of; every third recording has none."""

    width, frame_rate = 3, Fraction(RATE, FRAME)

    def has(self, recording: int, /) -> bool:
        return recording % 3 != 2

    def crop(self, recording: int, start: int, frames: int, /) -> Tensor:
        assert self.has(recording)
        return torch.stack([torch.tensor([recording, start + f, 1.0]) for f in range(frames)])


# -- which crops ------------------------------------------------------------------------------


def test_a_batch_is_what_it_says():
    batch = Batches(POOL, CONFIG)[0]
    assert len(batch) == 6
    assert batch.wave.shape == (6, 1, 40)
    assert batch.wave.dtype == torch.float32
    assert batch.clean is batch.wave
    assert batch.features is batch.taught is None
    first = np.cumsum([0, 5000, 3000, 4000])
    for row, i, start, text in zip(
        whole_numbers(batch.wave), batch.recordings, batch.starts, batch.text, strict=True
    ):
        assert row == list(range(first[i] + start + 1, first[i] + start + 41))
        assert text == f"text {i}"


def test_a_crop_lies_inside_its_recording_and_may_lie_anywhere_in_it():
    pool = pool_of(45, 100)
    batches = Batches(pool, replace(CONFIG, batch=200))
    seen: dict[int, Counter[int]] = {0: Counter(), 1: Counter()}
    for step in range(10):
        batch = batches[step]
        assert batch.real.all()
        assert (batch.wave > 0).all(), "no silence"
        for i, start in zip(batch.recordings, batch.starts, strict=True):
            seen[i][start] += 1
    assert set(seen[0]) == set(range(6))
    assert set(seen[1]) == set(range(61))
    assert max(seen[1].values()) < 4 * 1400 / 61


def test_recordings_are_drawn_as_often_as_they_are_long():
    lengths = np.array([30_000, 10_000, 5000, 100, 60, 20, 10])
    pool = pool_of(*lengths)
    pool.lengths = lengths  # int16 samples repeat; lengths do not
    batches = Batches(pool, replace(CONFIG, batch=1000))
    counts = Counter[int]()
    for step in range(8):
        counts.update(batches[step].recordings)
    total = lengths.sum()
    for i, length in enumerate(lengths):
        wanted = 8000 * length / total
        assert abs(counts[i] - wanted) < 5 * np.sqrt(wanted) + 1, f"recording {i}"


def test_shorter_recordings_are_padded_and_say_so():
    batch = Batches(pool_of(25), CONFIG)[0]
    for row, real in zip(whole_numbers(batch.wave), batch.real.tolist(), strict=True):
        assert row == [*range(1, 26), *[0] * 15]
        assert real == [True, True, False, False], "the third frame is half silence"


def test_what_is_shorter_than_a_frame_is_never_drawn():
    batches = Batches(pool_of(9, 0, 10, 9), replace(CONFIG, batch=200))
    assert set(batches[0].recordings) == {2}
    with pytest.raises(ValueError, match=r"^none of 2 recordings can be drawn: each is shorter th"):
        Batches(pool_of(9, 0), CONFIG)


# -- the same again ---------------------------------------------------------------------------


def test_a_second_view_is_the_input_changed_once_more():
    plain, other = Batches(POOL, CONFIG), Batches(POOL, CONFIG, view=Augment(gain=1.0, noise=1.0))
    batch, again = other[3], other[3]
    assert plain[3].view is None
    assert torch.equal(batch.wave, plain[3].wave)
    assert batch.view is not None
    assert again.view is not None
    assert batch.view.shape == batch.wave.shape
    assert torch.equal(batch.view, again.view)
    assert not torch.equal(batch.view, batch.wave)


EVERYTHING = Augment(gain=0.5, flip=0.5, band=0.5, band_high=3900, noise=0.5, denoise=True)


@pytest.mark.parametrize("augment", [None, EVERYTHING])
def test_a_batch_depends_on_seed_and_step_alone(augment: Augment | None):
    batches = Batches(POOL, CONFIG, augment=augment)
    whole = [batches[step] for step in range(6)]
    again = Batches(POOL, CONFIG, augment=augment)
    assert same(again[4], whole[4])
    assert same(again[1], whole[1])
    for step in range(1, 6):
        assert whole[step].starts != whole[0].starts
    other = Batches(POOL, replace(CONFIG, seed=1), augment=augment)
    assert all(other[step].starts != whole[step].starts for step in range(6))


def test_augmentation_changes_no_crop():
    plain, changed = Batches(POOL, CONFIG), Batches(POOL, CONFIG, augment=EVERYTHING)
    for step in range(5):
        assert plain[step].starts == changed[step].starts
        assert plain[step].recordings == changed[step].recordings
        assert not torch.equal(plain[step].wave, changed[step].wave)


@pytest.mark.parametrize("world", [2, 3])
def test_the_ranks_together_have_the_batch_of_one(world: int):
    """So one process with accumulation, and any number of them, train on the same data."""
    one = Batches(POOL, replace(CONFIG, batch=6), augment=EVERYTHING, features=Counted())
    ranks = [
        Batches(
            POOL,
            replace(CONFIG, batch=6 // world, rank=rank, world=world),
            augment=EVERYTHING,
            features=Counted(),
        )
        for rank in range(world)
    ]
    for step in range(4):
        parts, whole = [rank[step] for rank in ranks], one[step]
        for name in TENSORS:
            assert torch.equal(torch.cat([getattr(p, name) for p in parts]), getattr(whole, name))
        assert [start for p in parts for start in p.starts] == whole.starts
        assert [i for p in parts for i in p.recordings] == whole.recordings


def test_every_crop_of_a_batch_has_chances_of_its_own():
    batch = Batches(POOL, replace(CONFIG, batch=50), augment=Augment(gain=0.5))[0]
    assert len(set(batch.starts)) > 45
    raw = Batches(POOL, replace(CONFIG, batch=50))[0]
    kept = (batch.wave == raw.wave).flatten(1).all(1)
    assert 10 < kept.sum() < 40


# -- where samples come from ------------------------------------------------------------------


@pytest.fixture
def recordings(tmp_path: Path) -> list[Recording]:
    found = []
    for i, rate in enumerate((16000, 48000, 8000)):
        wave = np.random.default_rng(i).normal(0, 0.1, rate).clip(-0.9, 0.9)
        soundfile.write(tmp_path / f"{i}.wav", wave, rate)
        found.append(Recording.of_file(tmp_path / f"{i}.wav", {"text": str(i)}))
    return found


def test_pool_and_files_give_the_same_crops(recordings: list[Recording], tmp_path: Path):
    config = BatchConfig(batch=30, frames=5, frame_size=320)
    pool = Batches(SampleCache.build(recordings, 16000, tmp_path), config)
    files = Batches(FileSamples.open(recordings, 16000, tmp_path), config)
    for step in range(3):
        one, other = pool[step], files[step]
        assert (one.starts, one.recordings, one.text) == (
            other.starts,
            other.recordings,
            other.text,
        )
        assert torch.equal(one.real, other.real)
        assert (one.wave - other.wave).abs().max() < 1 / 32768


def test_another_crop_is_drawn_for_a_file_that_cannot_be_read(
    recordings: list[Recording], tmp_path: Path
):
    config = BatchConfig(batch=12, frames=5, frame_size=320)
    files = FileSamples.open(recordings, 16000, tmp_path)
    before = Batches(files, config)[0]
    recordings[1].path.unlink()
    after = Batches(files, config)[0]
    assert before.skipped == []
    assert len(after.skipped) >= before.recordings.count(1) > 0
    assert {str(tmp_path / "1.wav") in line for line in after.skipped} == {True}
    assert 1 not in after.recordings
    for j, i in enumerate(before.recordings):
        if i != 1:
            assert torch.equal(before.wave[j], after.wave[j]), "the others stay"
    for recording in (recordings[0], recordings[2]):
        recording.path.unlink()
    with pytest.raises(AudioFileError, match="no such file"):
        Batches(files, config)[0]


# -- noise ------------------------------------------------------------------------------------


def test_noise_of_ones_own_is_cut_and_repeated_at_random():
    short = SampleCache(
        np.array([1, -1, 2], np.int16), np.array([0, 3]), rate=RATE, recordings=POOL.recordings[:1]
    )
    options = Augment(gain=0, noise=1, snr_low=0, snr_high=0, denoise=True)
    batch = Batches(POOL, CONFIG, augment=options, noises=short)[0]
    added = (batch.wave - batch.clean)[:, 0]
    pattern = torch.tensor([1.0, -1.0, 2.0]).repeat(14)[:40]
    for one in added:
        assert torch.allclose(one / one[0], pattern, atol=1e-3)
    long = pool_of(500, 900)
    batch = Batches(POOL, replace(CONFIG, batch=50), augment=options, noises=long)[0]
    slopes = (batch.wave - batch.clean)[:, 0]
    assert len({round(float(one[0] / (one[1] - one[0]))) for one in slopes}) > 40


def test_noises_that_do_not_go_with_the_recordings():
    other = SampleCache(np.zeros(90, np.int16), np.array([0, 90]), rate=2 * RATE, recordings=[])
    nothing = SampleCache(np.zeros(0, np.int16), np.array([0, 0]), rate=RATE, recordings=[])
    for noises in (other, nothing):
        with pytest.raises(ValueError, match=r"1 noises at \d+ Hz: there must be some, at 8000 Hz"):
            Batches(POOL, CONFIG, noises=noises)


# -- features ---------------------------------------------------------------------------------


def test_features_stand_beside_the_samples_they_are_of():
    batch = Batches(POOL, CONFIG, features=Counted())[0]
    assert batch.features is not None
    assert batch.taught is not None
    assert batch.features.shape == (6, 4, 3)
    assert batch.taught.all()
    first = np.cumsum([0, 5000, 3000, 4000])
    for row, features, i, start in zip(
        whole_numbers(batch.wave),
        batch.features.tolist(),
        batch.recordings,
        batch.starts,
        strict=True,
    ):
        for f, (recording, frame, _) in enumerate(features):
            assert recording == i
            assert row[f * FRAME] == first[i] + frame * FRAME + 1
        assert start % FRAME == 0
    assert 2 not in batch.recordings


def test_recordings_without_features_take_part_if_asked():
    config = replace(CONFIG, batch=60, taught=False)
    batch = Batches(POOL, config, features=Counted())[0]
    assert batch.features is not None
    assert batch.taught is not None
    assert batch.taught.tolist() == [i % 3 != 2 for i in batch.recordings]
    assert 10 < (~batch.taught).sum() < 40
    assert torch.equal(batch.features[..., 2], batch.taught[:, None].expand(-1, 4).float())


def test_features_that_do_not_go_with_the_frames():
    class Slow(Counted):
        frame_rate = Fraction(25)

    class Empty(Counted):
        def has(self, recording: int, /) -> bool:
            return False

        def __len__(self) -> int:  # as a list would be, it is false
            return 0

    with pytest.raises(ValueError, match=r"^25 features a second do not go with 800 frames"):
        Batches(POOL, CONFIG, features=Slow())
    with pytest.raises(ValueError, match=r"shorter than a frame of 10 samples or has no features$"):
        Batches(POOL, CONFIG, features=Empty())


# -- a batch on its way -----------------------------------------------------------------------


def test_a_batch_moves_as_one():
    batch = Batches(POOL, CONFIG, augment=EVERYTHING, features=Counted())[0]
    moved = batch.to("meta")
    for name in ("wave", "clean", "features", "taught", "real"):
        assert getattr(moved, name).device.type == "meta"
    plain = Batches(POOL, CONFIG)[0].to("meta")
    assert plain.clean is plain.wave, "sent once"
    assert plain.features is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch": 0}, "batch must be at least 1, not 0"),
        ({"frames": 0}, "frames must be at least 1, not 0"),
        ({"rank": 2, "world": 2}, "rank below world"),
        ({"seed": -1}, "seed must not be negative"),
    ],
)
def test_batches_that_cannot_be(changes: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **changes)
