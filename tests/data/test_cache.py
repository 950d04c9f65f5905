"""What crops are cut from: a cache that survives crashes, and files that are entered anywhere."""

from __future__ import annotations

import logging
import pickle
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audiotok.audio.audio import Audio
from audiotok.audio.decoders import AudioFileError
from audiotok.data import cache as pools
from audiotok.data.cache import SampleCache
from audiotok.data.direct import FileSamples
from audiotok.data.recording import Recording

RATE = 8000


def noise(path: Path, *, samples: int, rate: int = RATE, channels: int = 1) -> Recording:
    """A file of noise, in 16 bits where its format has bits."""
    random = np.random.default_rng(samples + rate)
    soundfile.write(path, random.normal(0, 0.1, (samples, channels)).clip(-1, 1), rate)
    return Recording.of_file(path, {"path": path.name})


@pytest.fixture
def recordings(tmp_path: Path) -> list[Recording]:
    """Three of different length, one of them stereo, one at another rate."""
    return [
        noise(tmp_path / "a.wav", samples=800),
        noise(tmp_path / "b.wav", samples=400, channels=2),
        noise(tmp_path / "c.flac", samples=1200, rate=2 * RATE),
    ]


def broken(path: Path) -> Recording:
    """A file that ends in the middle of its samples."""
    noise(path, samples=300_000)
    path.write_bytes(path.read_bytes()[: -path.stat().st_size // 10])
    return Recording.of_file(path)


# -- the pool ---------------------------------------------------------------------------------


def test_a_pool_is_the_recordings_mono_at_one_rate(recordings: list[Recording], tmp_path: Path):
    pool = SampleCache.build(recordings, RATE, tmp_path / "cache")
    assert len(pool) == 3
    assert pool.rate == RATE
    assert pool.recordings == recordings
    assert pool.starts.tolist() == [0, 800, 1200, 1800]
    assert pool.lengths.tolist() == [800, 400, 600]
    for i, recording in enumerate(recordings):
        wanted = Audio.load(recording.path).mono().resample(RATE).samples[0]
        assert (pool[i] - wanted).abs().max() <= 0.5001 / 32768


def test_sixteen_bits_come_back_as_they_were(tmp_path: Path):
    """Every value there is; scaling one way by 32767 and back by 32768 would lose most."""
    values = np.arange(-32768, 32768).astype(np.int16)
    soundfile.write(tmp_path / "all.wav", values, RATE)
    pool = SampleCache.build([Recording.of_file(tmp_path / "all.wav")], RATE, tmp_path / "cache")
    assert np.array_equal(pool.samples, values)
    assert torch.equal(pool[0], Audio.load(tmp_path / "all.wav").samples[0])


def test_what_is_past_full_scale_is_clipped_not_wrapped(tmp_path: Path):
    soundfile.write(tmp_path / "x.wav", np.array([1.0, 1.5, -1.0, -1.5]), RATE, subtype="FLOAT")
    pool = SampleCache.build([Recording.of_file(tmp_path / "x.wav")], RATE, tmp_path / "cache")
    assert pool.samples.tolist() == [32767, 32767, -32768, -32768]


def test_a_piece_ends_with_its_recording():
    samples = np.arange(12, dtype=np.int16)
    pool = SampleCache(samples, np.array([0, 5, 8, 8, 12]), rate=RATE, recordings=[])
    for (i, start, length), wanted in {
        (0, 0, 4): [0, 1, 2, 3],
        (0, 3, 4): [3, 4],
        (1, 0, 4): [5, 6, 7],
        (2, 0, 4): [],
        (3, 3, 4): [11],
    }.items():
        assert (pool.read(i, start, length) * 32768).tolist() == wanted


def test_the_cache_is_used_again_for_the_same_recordings_and_rate_only(
    recordings: list[Recording], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    cache = tmp_path / "cache"
    built = SampleCache.build(recordings, RATE, cache)
    decoded: list[object] = []
    decode = pools._decode_one

    def counted(*given: object) -> None:
        decoded.append(given[0])
        decode(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(pools, "_decode_one", counted)
    again = SampleCache.build(recordings, RATE, cache)
    assert decoded == []
    assert np.array_equal(again.samples, built.samples)
    assert len(SampleCache.build(recordings[:2], RATE, cache)) == 2
    assert len(decoded) == 2
    SampleCache.build(recordings, RATE // 2, cache)
    assert len(decoded) == 5
    noise(recordings[0].path, samples=801)
    assert SampleCache.build(recordings, RATE, cache).lengths[0] == 801


def test_a_crash_leaves_no_cache_that_counts(
    recordings: list[Recording], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    cache = tmp_path / "cache"

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    # Killed between the samples and their index: half a cache is none, and nothing is left.
    with monkeypatch.context() as patch:
        patch.setattr(np, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            SampleCache.build(recordings, RATE, cache)
    assert list(cache.iterdir()) == []
    pool = SampleCache.build(recordings, RATE, cache)
    assert pool.starts.tolist() == [0, 800, 1200, 1800]
    assert len(pool.samples) == 1800
    assert len(list(cache.iterdir())) == 2


def test_ctrl_c_while_decoding_stops_at_once_and_leaves_nothing(
    recordings: list[Recording], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """In the middle of a file that would go on for ever, with others waiting for their turn."""

    class Endless:
        def __enter__(self) -> Endless:
            return self

        def __exit__(self, *_: object) -> None:
            closed.append(True)

        def blocks(self, *_: object, **__: object):
            while True:
                yield torch.zeros(1, 1000)

    closed: list[bool] = []
    monkeypatch.setattr(Recording, "open", lambda _: Endless())
    before = threading.active_count()
    main = threading.main_thread().ident
    assert main is not None
    # Tests that a shell runs in the background are born deaf to it.
    deaf = signal.signal(signal.SIGINT, signal.default_int_handler)
    alarm = threading.Timer(0.5, signal.pthread_kill, (main, signal.SIGINT))
    alarm.start()
    began = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            SampleCache.build(recordings * 20, RATE, tmp_path / "cache")
    finally:
        signal.signal(signal.SIGINT, deaf)
    assert time.monotonic() - began < 5
    alarm.join()
    assert threading.active_count() <= before
    assert closed
    assert list((tmp_path / "cache").iterdir()) == []


def test_memory_holds_a_few_blocks_however_long_a_file_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """What was decoded and not yet written, at its most."""
    monkeypatch.setattr(pools, "BLOCK", 1000)
    monkeypatch.setattr(pools.os, "cpu_count", lambda: 2)
    long = [noise(tmp_path / f"{i}.wav", samples=200_000) for i in range(5)]
    lock, held, most = threading.Lock(), 0, 0
    put, write = pools.Queue.put, pools._write

    def counted(self: object, item: object, **options: float) -> None:
        nonlocal held, most
        put(self, item, **options)  # type: ignore[arg-type]
        with lock:
            held += isinstance(item, bytes)
            most = max(most, held)

    def slow(queue: pools.Queue, out: object) -> int:
        nonlocal held
        time.sleep(0.05)
        samples = write(queue, out)  # type: ignore[arg-type]
        with lock:
            held -= samples // 1000
        return samples

    monkeypatch.setattr(pools.Queue, "put", counted)
    monkeypatch.setattr(pools, "_write", slow)
    pool = SampleCache.build(long, RATE, tmp_path / "cache")
    assert pool.lengths.tolist() == [200_000] * 5
    # Those of the file being written count until it is done.
    assert most <= 200 + 2 * 4


def test_bad_files_are_named_and_left_out_and_others_keep_their_places(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    good = [noise(tmp_path / f"{i}.wav", samples=400 + i) for i in range(38)]
    bad = [broken(tmp_path / "cut.wav"), Recording.of_file(tmp_path / "gone.wav")]
    listed = [*good[:5], bad[0], *good[5:20], bad[1], *good[20:]]
    with caplog.at_level(logging.WARNING, "audiotok"):
        pool = SampleCache.build(listed, RATE, tmp_path / "cache")
    assert len(caplog.messages) == 2
    for message, name in zip(
        caplog.messages, ("cut.wav: truncated", "gone.wav: no such"), strict=True
    ):
        assert name in message
        assert message.endswith("; left out")
    assert len(pool) == 40
    assert [i for i in range(40) if not pool.lengths[i]] == [5, 21]
    assert len(pool.samples) == pool.starts[-1], "nothing of theirs is kept"
    for i, recording in enumerate(listed):
        if pool.lengths[i]:
            assert torch.equal(pool[i], Audio.load(recording.path).samples[0])


def test_too_many_bad_files_are_an_error(recordings: list[Recording], tmp_path: Path):
    listed = [*recordings, Recording.of_file(tmp_path / "gone.wav")]
    message = r"gone\.wav: no such file; that makes 1 of 4 recordings, more than 10%"
    for build in (SampleCache.build, FileSamples.open):
        with pytest.raises(ValueError, match=message):
            build(listed, RATE, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_what_is_no_file_problem_is_not_taken_for_one(
    recordings: list[Recording], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Recording, "open", full)
    with pytest.raises(MemoryError):
        SampleCache.build(recordings, RATE, tmp_path / "cache")


def test_a_pool_is_sent_by_name(recordings: list[Recording], tmp_path: Path):
    noise(recordings[0].path, samples=500_000)
    pool = SampleCache.build(recordings, RATE, tmp_path / "cache")
    sent = pickle.dumps(pool)
    assert len(sent) < 5000
    assert torch.equal(pickle.loads(sent)[0], pool[0])
    small = SampleCache(np.arange(9, dtype=np.int16), np.array([0, 9]), rate=RATE, recordings=[])
    assert torch.equal(pickle.loads(pickle.dumps(small))[0], small[0])


# -- straight from files ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> FileSamples:
    """Files of every sort of seeking and resampling."""
    folder = tmp_path_factory.mktemp("kinds")
    recordings = [
        noise(folder / "same.wav", samples=20_000, rate=16000),
        noise(folder / "stereo.flac", samples=30_000, rate=48000, channels=2),
        noise(folder / "cd.wav", samples=50_001, rate=44100),
        noise(folder / "phone.wav", samples=7_777, rate=8000),
        noise(folder / "odd.flac", samples=12_345, rate=11025),
        noise(folder / "lossy.ogg", samples=30_000, rate=22050),
        noise(folder / "lossy.mp3", samples=30_000, rate=16000),
        noise(folder / "one.wav", samples=1, rate=16000),
    ]
    return FileSamples.open(recordings, 16000, folder / "cache")


def wholes(files: FileSamples) -> list[torch.Tensor]:
    return [Audio.load(r.path).mono().resample(files.rate).samples[0] for r in files.recordings]


def test_lengths_are_known_before_anything_is_read(kinds: FileSamples):
    assert kinds.lengths.tolist() == [len(whole) for whole in wholes(kinds)]


def test_any_piece_is_that_of_the_whole_file_resampled(kinds: FileSamples):
    whole = wholes(kinds)

    @settings(max_examples=150, deadline=None)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        i = data.draw(st.integers(0, len(whole) - 1))
        start = data.draw(st.integers(0, len(whole[i]) - 1))
        length = data.draw(st.integers(1, 5000))
        piece, wanted = kinds.read(i, start, length), whole[i][start : start + length]
        assert len(piece) == len(wanted)
        assert (piece - wanted).abs().max() < 1e-5

    check()
    for i in range(len(whole)):
        assert (kinds[i] - whole[i]).abs().max() < 1e-5


def test_a_piece_needs_no_more_of_the_file_than_the_filter_sees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """An hour at 44.1 kHz: reading all of it would show."""
    files = FileSamples.open(
        [noise(tmp_path / "hour.wav", samples=44100 * 60, rate=44100)], 16000, tmp_path / "cache"
    )
    read: list[int] = []
    plain = soundfile.SoundFile.read

    def counted(self: soundfile.SoundFile, *given: object, **options: object) -> np.ndarray:
        got = plain(self, *given, **options)  # type: ignore[arg-type]
        read.append(len(got))
        return got

    monkeypatch.setattr(soundfile.SoundFile, "read", counted)
    files.read(0, 500_000, 16000)
    assert 44100 < sum(read) < 44100 + 3 * 16384


def test_what_headers_say_is_kept(
    recordings: list[Recording], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    cache = tmp_path / "cache"
    first = FileSamples.open(recordings, RATE, cache)
    monkeypatch.setattr("audiotok.data.direct.probe_all", None)
    again = FileSamples.open(recordings, RATE, cache)
    assert again.lengths.tolist() == first.lengths.tolist() == [800, 400, 600]
    assert torch.equal(pickle.loads(pickle.dumps(again))[1], first[1])


def test_files_that_cannot_be_looked_at_or_resampled_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    good = [noise(tmp_path / f"{i}.wav", samples=400) for i in range(28)]
    odd = noise(tmp_path / "odd.wav", samples=400, rate=999_983)  # a prime
    listed = [Recording.of_file(tmp_path / "gone.wav"), *good, odd]
    with caplog.at_level(logging.WARNING, "audiotok"):
        files = FileSamples.open(listed, 16000, tmp_path / "cache")
    assert [i for i in range(30) if not files.lengths[i]] == [0, 29]
    assert "gone.wav: no such file" in caplog.messages[0]
    assert "odd.wav: cannot resample" in caplog.messages[1]


def test_a_file_that_is_damaged_or_changed_says_so(tmp_path: Path):
    recordings = [broken(tmp_path / "cut.flac"), noise(tmp_path / "other.wav", samples=9000)]
    files = FileSamples.open(recordings, 16000, tmp_path / "cache")
    assert len(files.read(0, 0, 100)) == 100, "its beginning is sound"
    with pytest.raises(AudioFileError, match=r"cut\.flac: .*damaged"):
        files.read(0, int(files.lengths[0]) - 100, 100)
    for changed in ({"samples": 20_000, "rate": 16000}, {"samples": 8999}):
        noise(recordings[1].path, **changed)
        with pytest.raises(AudioFileError, match=r"other\.wav: has changed since"):
            files.read(1, int(files.lengths[1]) - 100, 100)
