"""Training data: manifests, a cache that survives crashes, crops that a step alone decides."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from audiotok import data
from audiotok.audio import Audio
from audiotok.data import Pool, Recording, crops, read_manifest

RATE = 8000


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Three ramps of different length, one of them stereo at another rate."""
    for name, (channels, samples, rate) in {
        "a": (1, 800, RATE),
        "b": (2, 400, RATE),
        "c": (1, 1200, 2 * RATE),
    }.items():
        ramp = torch.linspace(-0.5, 0.5, samples).expand(channels, -1)
        Audio(ramp.contiguous(), rate).save(tmp_path / f"{name}.wav")
    path = tmp_path / "m.tsv"
    path.write_text("path\tsplit\ttext\na.wav\ttrain\tA\nb.wav\tdev\tB\nc.wav\ttrain\tC\n")
    return path


def pool_of(*lengths: int) -> Pool:
    """Recordings of 0, 1, 2 ... in 16 bits."""
    starts = np.cumsum([0, *lengths])
    return Pool(np.arange(starts[-1], dtype=np.int16), starts)


# -- manifests --------------------------------------------------------------------------------


def test_a_manifest_lists_recordings_beside_it(manifest: Path):
    everything = read_manifest(manifest)
    assert [r.path for r in everything] == [manifest.parent / f"{n}.wav" for n in "abc"]
    assert everything[1].fields == {"path": "b.wav", "split": "dev", "text": "B"}
    assert [r.fields["text"] for r in read_manifest(manifest, split="train")] == ["A", "C"]


def test_manifests_that_give_nothing(manifest: Path, tmp_path: Path):
    for wrong, message in {
        tmp_path / "none.tsv": "no such manifest (a TSV file with a `path` column)",
        tmp_path: "no such manifest (a TSV file with a `path` column)",
    }.items():
        with pytest.raises(ValueError) as caught:  # noqa: PT011
            read_manifest(wrong)
        assert str(caught.value) == f"{wrong}: {message}"
    with pytest.raises(ValueError, match=f"^{manifest}: no recording of split 'test'$"):
        read_manifest(manifest, split="test")
    for text in ("", "file,split\na.wav,train\n"):
        manifest.write_text(text)
        with pytest.raises(ValueError, match=f"^{manifest}: the header has no `path` column, only"):
            read_manifest(manifest)
    manifest.write_text("path\tsplit\n")
    with pytest.raises(ValueError, match=f"^{manifest}: no recording$"):
        read_manifest(manifest)


# -- the pool ---------------------------------------------------------------------------------


def test_a_pool_is_the_recordings_mono_at_one_rate(manifest: Path, tmp_path: Path):
    recordings = read_manifest(manifest)
    pool = Pool.build(recordings, RATE, tmp_path / "cache")
    assert len(pool) == 3
    assert pool.starts.tolist() == [0, 800, 1200, 1800]
    for i, recording in enumerate(recordings):
        wanted = Audio.load(recording.path).mono().resample(RATE).samples[0]
        assert (pool[i] - wanted).abs().max() < 1.5 / 32768


def test_the_cache_is_used_again_for_the_same_recordings_and_rate_only(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    recordings, cache = read_manifest(manifest), tmp_path / "cache"
    built = Pool.build(recordings, RATE, cache)
    decoded: list[Path] = []
    decode = data._decode

    def counted(path: Path, *, rate: int) -> bytes:
        decoded.append(path)
        return decode(path, rate=rate)

    monkeypatch.setattr(data, "_decode", counted)
    again = Pool.build(recordings, RATE, cache)
    assert decoded == []
    assert np.array_equal(again.samples, built.samples)
    assert len(Pool.build(recordings[:2], RATE, cache)) == 2
    assert len(decoded) == 2
    Pool.build(recordings, RATE // 2, cache)
    assert len(decoded) == 5


def test_a_crash_leaves_no_cache_that_counts(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    recordings, cache = read_manifest(manifest), tmp_path / "cache"
    missing = [*recordings, Recording(tmp_path / "gone.wav", {})]
    with pytest.raises(ValueError, match=r"gone\.wav"):
        Pool.build(missing, RATE, cache)
    assert not list(cache.glob("*.npy"))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    # Killed between the samples and their index: half a cache is none.
    with monkeypatch.context() as patch:
        patch.setattr(np, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            Pool.build(recordings, RATE, cache)
    (samples,) = cache.glob("*.i16")
    samples.write_bytes(b"half")
    pool = Pool.build(recordings, RATE, cache)
    assert pool.starts.tolist() == [0, 800, 1200, 1800]
    assert len(pool.samples) == 1800


# -- crops ------------------------------------------------------------------------------------


def test_a_crop_ends_with_its_recording():
    pool = pool_of(5, 3, 0, 4)
    for start, wanted in {
        0: [0, 1, 2, 3],
        3: [3, 4, 0, 0],
        5: [5, 6, 7, 0],
        7: [7, 0, 0, 0],
        8: [8, 9, 10, 11],
        11: [11, 0, 0, 0],
    }.items():
        assert (pool.crop(start, 4) * 32768).tolist() == wanted


def test_crops_depend_on_seed_and_step_alone():
    pool = pool_of(5000, 3000, 4000)
    whole = list(itertools.islice(crops(pool, batch=3, length=64, seed=1, step=0), 6))
    late = crops(pool, batch=3, length=64, seed=1, step=4)
    assert torch.equal(next(late), whole[4])
    assert torch.equal(next(late), whole[5])
    other = next(crops(pool, batch=3, length=64, seed=2, step=0))
    assert not torch.equal(other, whole[0])
    for one, next_one in itertools.pairwise(whole):
        assert one.shape == (3, 1, 64)
        assert one.dtype == torch.float32
        assert not torch.equal(one, next_one)


def test_crops_are_of_many_loudnesses_and_never_clip():
    wave = (3000 * np.sin(np.arange(50_000) / 5)).astype(np.int16)  # peak -21 dB
    pool = Pool(wave, np.array([0, len(wave)]))
    batch = next(crops(pool, batch=400, length=64, seed=0, step=0))
    peaks = 20 * batch.abs().amax((1, 2)).clamp(min=1e-9).log10()
    own = ((peaks - 20 * np.log10(3000 / 32768)).abs() < 0.5).float().mean()
    assert 0.4 < own < 0.65, "half keep their own loudness"
    assert peaks.max() > -2
    assert -27 < peaks.quantile(0.02) < -20
    assert batch.abs().max() <= 1


def test_silence_stays_silence():
    pool = Pool(np.zeros(1000, np.int16), np.array([0, 1000]))
    batch = next(crops(pool, batch=8, length=64, seed=0, step=0))
    assert not batch.any()
