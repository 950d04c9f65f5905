"""Reading files: every format, by blocks, from stdin, through ffmpeg; every kind of bad file."""

import os
import shutil
import struct
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import soundfile
import torch
from commandline import PEAK
from hypothesis import given, settings

from audiotok.audio.audio import Audio, AudioFileError, open_audio

needs_ffmpeg = pytest.mark.skipif(
    not (shutil.which("ffmpeg") and shutil.which("ffprobe")),
    reason="the ffmpeg program is not installed",
)
FILES = {  # name -> libsndfile's format, subtype
    "a.wav": ("WAV", "PCM_16"),
    "float.wav": ("WAV", "FLOAT"),
    "adpcm.wav": ("WAV", "IMA_ADPCM"),
    "a.flac": ("FLAC", "PCM_24"),
    "a.mp3": ("MP3", "MPEG_LAYER_III"),
    "a.ogg": ("OGG", "VORBIS"),
    "a.opus": ("OGG", "OPUS"),
    "a.aiff": ("AIFF", "PCM_16"),
    "a.w64": ("W64", "PCM_16"),
    "a.caf": ("CAF", "PCM_16"),
    "a.au": ("AU", "ULAW"),
    "a.rf64": ("RF64", "PCM_16"),
}


def signal(samples: int, channels: int = 1, rate: int = 16000) -> np.ndarray:
    t = np.arange(samples)[:, None] / rate
    tones = 0.3 * np.sin(2 * np.pi * 220 * t * (1 + np.arange(channels)))
    return (tones + 0.05 * np.random.default_rng(0).standard_normal(tones.shape)).astype("f4")


def write(path: Path, form: str, subtype: str, samples: int = 70000, channels: int = 1) -> Path:
    with soundfile.SoundFile(path, "w", 16000, channels, subtype, format=form) as file:
        wave = signal(samples, channels)
        for at in range(0, samples, 10000):
            file.write(wave[at : at + 10000])
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    for name, (form, subtype) in FILES.items():
        write(folder / name, form, subtype, channels=1 if "adpcm" in name else 2)
    return folder


def refused(path: str | os.PathLike[str], says: str) -> str:
    with pytest.raises(AudioFileError, match=says) as error:
        Audio.load(path)
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", FILES)
def test_every_format_by_blocks_and_whole(files: Path, name: str):
    whole = Audio.load(files / name)
    expected, rate = soundfile.read(files / name, dtype="float32", always_2d=True)
    assert whole.rate == rate
    assert np.allclose(whole.samples.numpy().T, expected, atol=1e-6)
    with open_audio(files / name) as source:
        assert (source.rate, source.channels, source.samples) == (rate, *whole.samples.shape)
        blocks = list(source.blocks(1234))
    assert {b.shape[1] for b in blocks[:-1]} == {1234}
    assert torch.equal(torch.cat(blocks, 1), whole.samples)
    part = Audio.load(files / name, start=1.0, end=2.5)
    assert torch.equal(part.samples, whole.samples[:, 16000:40000])
    end = Audio.load(files / name, start=4.0, end=99)
    assert torch.equal(end.samples, whole.samples[:, 64000:])


@settings(max_examples=25, deadline=None)
@given(
    name=st.sampled_from(["a.wav", "a.flac", "a.mp3", "a.opus"]),
    size=st.integers(1, 100_000),
    rate=st.sampled_from([None, 16000, 8000, 44100]),
    mono=st.booleans(),
    span=st.tuples(st.integers(0, 4000), st.integers(0, 4000)),
)
def test_blocks_are_bit_identical_to_load_mono_resample(files, name, size, rate, mono, span):
    start, end = sorted(ms / 1000 for ms in span)
    size = max(size, 50)
    whole = Audio.load(files / name, start=start, end=end)
    whole = whole.mono() if mono else whole
    whole = whole if rate is None else whole.resample(rate)
    with open_audio(files / name, start=start, end=end) as source:
        blocks = [torch.zeros(whole.channels, 0), *source.blocks(size, rate=rate, mono=mono)]
    assert torch.equal(torch.cat(blocks, 1), whole.samples)


def test_eight_channels_and_192_khz(tmp_path: Path):
    soundfile.write(tmp_path / "a.wav", signal(19200, 8), 192000, subtype="PCM_24")
    audio = Audio.load(tmp_path / "a.wav")
    assert (audio.channels, audio.rate, audio.mono().resample(16000).samples.shape) == (
        8,
        192000,
        (1, 1600),
    )


def test_a_folder_with_a_strange_name(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("-", "ö 音.wav", "-i", "http:x.wav"):
        shutil.copy(files / "a.wav", tmp_path / name)
        assert len(Audio.load(tmp_path / name)) == 70000
    monkeypatch.chdir(tmp_path)
    assert len(Audio.load("./-")) == 70000


def test_stdin_and_pipes(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("a.wav", "a.flac", "a.mp3"):
        with (files / name).open() as stdin:
            monkeypatch.setattr(sys, "stdin", stdin)
            assert torch.equal(Audio.load("-").samples, Audio.load(files / name).samples)
    with Path(os.devnull).open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        with pytest.raises(AudioFileError, match=r"^<stdin>: nothing came"):
            Audio.load("-")
    os.mkfifo(tmp_path / "fifo")
    cat = f"cat {files / 'a.wav'} > {tmp_path / 'fifo'}"
    with subprocess.Popen(["sh", "-c", cat]):
        assert len(Audio.load(tmp_path / "fifo")) == 70000


def test_nothing_stays_open(files: Path):
    descriptors = Path("/proc/self/fd")
    before = len(list(descriptors.iterdir())) if descriptors.exists() else 0
    for name in FILES:
        with open_audio(files / name) as source:
            next(source.blocks(100))
    if before:
        assert len(list(descriptors.iterdir())) <= before


# ---- bad files


def test_missing_empty_folder_text(tmp_path: Path):
    refused(tmp_path / "no.wav", "no such file")
    refused(tmp_path, "this is a folder")
    (tmp_path / "empty.wav").touch()
    refused(tmp_path / "empty.wav", r"the file is empty \(0 bytes\)")
    (tmp_path / "text.wav").write_text("Not a wave file at all. " * 100)
    refused(tmp_path / "text.wav", "this is text, not audio")


def test_no_samples_is_legal(tmp_path: Path):
    audio = Audio.load(write(tmp_path / "a.wav", "WAV", "PCM_16", samples=0))
    assert (len(audio), audio.channels, audio.rate) == (0, 1, 16000)


def test_one_sample(tmp_path: Path):
    assert len(Audio.load(write(tmp_path / "a.wav", "WAV", "PCM_16", samples=1))) == 1


@pytest.mark.parametrize("name", [n for n in FILES if n not in ("a.caf", "adpcm.wav")])
def test_truncated_files_are_detected(files: Path, tmp_path: Path, name: str):
    data = (files / name).read_bytes()
    for kept in (0.5, 0.97):
        path = tmp_path / name
        path.write_bytes(data[: int(len(data) * kept)])
        message = refused(path, r"truncated or damaged after \d\.\d\d s")
        seconds = float(message.split("end=")[1].split(")")[0])
        assert 70000 / 16000 * kept - 1.3 < seconds < 70000 / 16000
        part = Audio.load(path, end=seconds)  # the way out that the message names
        assert len(part) == pytest.approx(seconds * 16000, abs=1)
    path.write_bytes(data[:60])
    refused(path, "damaged|truncated|neither|cannot read")


def test_truncated_caf(files: Path, tmp_path: Path):
    data = (files / "a.caf").read_bytes()
    (tmp_path / "a.caf").write_bytes(data[: len(data) // 2])
    refused(tmp_path / "a.caf", "damaged header")


def test_variable_rate_mp3_without_length_is_read_to_its_end(tmp_path: Path):
    """libsndfile by path guesses the length from the first frames and stops there."""
    quiet_then_loud = signal(160000)
    quiet_then_loud[80000:] *= 0.01
    path = tmp_path / "a.mp3"
    with soundfile.SoundFile(
        path, "w", 16000, 1, format="MP3", bitrate_mode="VARIABLE", compression_level=0.5
    ) as file:
        file.write(quiet_then_loud)
    data = path.read_bytes()
    length = 144 // 2 * [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160][data[2] >> 4]
    assert b"Xing" in data[:200]
    path.write_bytes(data[length * 1000 // 16000 :])  # drop the frame that says the length
    with open_audio(path) as source:
        assert source.samples is None
        assert sum(b.shape[1] for b in source.blocks()) == pytest.approx(160000, abs=3000)


def test_a_flac_that_does_not_say_its_length(files: Path, tmp_path: Path):
    data = bytearray((files / "a.flac").read_bytes())
    data[21] &= 0xF0  # the 36 bits of STREAMINFO that count the samples
    data[22:26] = bytes(4)
    (tmp_path / "a.flac").write_bytes(data)
    with open_audio(tmp_path / "a.flac", end=3) as source:
        assert source.samples is None
        assert sum(b.shape[1] for b in source.blocks()) == 48000


@pytest.mark.parametrize("claimed", [2**31 - 1, 2**31, 2**32 - 1, 2**30])
def test_a_header_that_promises_samples_it_lacks(files: Path, tmp_path: Path, claimed: int):
    header = bytearray((files / "a.wav").read_bytes()[:44])
    struct.pack_into("<I", header, 40, claimed)
    (tmp_path / "a.wav").write_bytes(header)
    refused(tmp_path / "a.wav", r"damaged after 0\.00 s .*get it anew")


def test_a_wav_written_to_a_pipe_does_not_know_its_size(files: Path, tmp_path: Path):
    data = bytearray((files / "a.wav").read_bytes())
    struct.pack_into("<I", data, 40, 2**32 - 1)
    (tmp_path / "a.wav").write_bytes(data)
    assert len(Audio.load(tmp_path / "a.wav")) == 70000


@pytest.mark.parametrize(
    ("offset", "layout", "value", "says"),
    [
        (24, "<I", 1, "the header says 1 Hz"),
        (24, "<I", 0, "impossible sample rate"),
        (24, "<I", 4_000_000_000, "impossible sample rate"),
        (24, "<I", 2_000_000_000, "the header says 2000000000 Hz"),
        (22, "<H", 0, "Channel count is zero"),
        (22, "<H", 5000, "Too many channels"),
    ],
)
def test_absurd_headers(files: Path, tmp_path: Path, offset, layout, value, says):
    data = bytearray((files / "a.wav").read_bytes())
    struct.pack_into(layout, data, offset, value)
    (tmp_path / "a.wav").write_bytes(data)
    refused(tmp_path / "a.wav", says)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinite_samples_are_placed(tmp_path: Path, value: float):
    wave = signal(40000, 2)
    wave[35000, 1] = value
    soundfile.write(tmp_path / "a.wav", wave, 16000, subtype="FLOAT")
    refused(tmp_path / "a.wav", r"NaN or infinite \(first at 2\.188 s\)")
    assert len(Audio.load(tmp_path / "a.wav", end=2.1)) == 33600
    refused_later = open_audio(tmp_path / "a.wav", start=2.0)
    with refused_later, pytest.raises(AudioFileError, match=r"first at 2\.188 s"):
        list(refused_later.blocks())


def test_spans(files: Path):
    with pytest.raises(AudioFileError, match=r"from 9\.00 s on, but it ends at 4\.38 s"):
        Audio.load(files / "a.wav", start=9)
    with pytest.raises(AudioFileError, match="ends at"):
        Audio.load(files / "a.mp3", start=9)
    assert len(Audio.load(files / "a.wav", start=4.375)) == 0
    assert len(Audio.load(files / "a.wav", end=0)) == 0
    for start, end in ((-1, None), (2, 1)):
        with pytest.raises(ValueError, match="cannot read from"):
            open_audio(files / "a.wav", start=start, end=end)
    with open_audio(files / "a.wav") as source, pytest.raises(ValueError, match="at least 1"):
        source.blocks(0)


# ---- what libsndfile cannot read

FFMPEG_FILES = ["a.m4a", "fast.m4a", "a.webm", "a.mkv", "v.mp4", "a.aac"]


@pytest.fixture(scope="module")
def foreign(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("foreign")
    wav = ["-i", str(files / "a.wav")]
    video = ["-f", "lavfi", "-i", "testsrc=duration=1:rate=5:size=64x64"]
    for name, arguments in {
        "a.m4a": [*wav, "-c:a", "aac"],
        "fast.m4a": [*wav, "-c:a", "aac", "-movflags", "+faststart"],
        "a.webm": [*wav, "-c:a", "libopus"],
        "a.mkv": [*wav, "-c:a", "aac"],
        "a.aac": [*wav, "-c:a", "aac"],
        "v.mp4": [*video, *wav, "-c:a", "aac"],
        "silent.mp4": video,
    }.items():
        subprocess.run(["ffmpeg", "-v", "error", *arguments, str(folder / name)], check=True)
    return folder


@needs_ffmpeg
@pytest.mark.parametrize("name", FFMPEG_FILES)
def test_ffmpeg(foreign: Path, files: Path, name: str):
    audio = Audio.load(foreign / name)
    assert (audio.rate, audio.channels) == (48000 if name == "a.webm" else 16000, 2)
    assert 4.3 < audio.seconds < 4.6
    original = Audio.load(files / "a.wav").samples[0, 16000:32000]
    heard = audio.mono().resample(16000).samples[0, 16000 - 1100 : 32000 + 1100]
    match = torch.nn.functional.conv1d(heard[None, None], original[None, None])
    assert match.max() / original.square().sum() > 0.4  # half of the mix is the other channel
    with open_audio(foreign / name) as source:
        blocks = list(source.blocks(999))
    assert torch.equal(torch.cat(blocks, 1), audio.samples)
    part = Audio.load(foreign / name, start=1, end=2)
    assert torch.equal(part.samples, audio.samples[:, audio.rate : 2 * audio.rate])


@needs_ffmpeg
def test_ffmpeg_bad_files(foreign: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    refused(foreign / "silent.mp4", "there is no sound in this file")
    (tmp_path / "noise.m4a").write_bytes(np.random.default_rng(0).bytes(100_000))
    refused(tmp_path / "noise.m4a", "neither libsndfile nor ffmpeg can read it")
    for name in ("fast.m4a", "a.webm", "a.mkv"):
        data = (foreign / name).read_bytes()
        (tmp_path / name).write_bytes(data[: len(data) // 2])
        refused(tmp_path / name, r"truncated or damaged after [12]\.\d\d s")
    with (foreign / "fast.m4a").open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert Audio.load("-").channels == 2


@needs_ffmpeg
def test_ffmpeg_stops_when_enough_is_read(foreign: Path):
    with open_audio(foreign / "a.m4a") as source:
        next(source.blocks(10))  # leaving here ends the program


def foreign_bytes(path: Path) -> Path:
    path.write_bytes(b"\0\0\0\x20ftypM4A \0\0\0\0" + bytes(1000))
    return path


def test_how_to_get_what_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setitem(sys.modules, "torchcodec", None)
    refused(foreign_bytes(tmp_path / "x.m4a"), "install ffmpeg or `pip install torchcodec`")


def fake_torchcodec(monkeypatch: pytest.MonkeyPatch, decode: Callable[[str], object]) -> None:
    class AudioDecoder:
        def __init__(self, path: str):
            self.path = path

        def get_all_samples(self) -> object:
            return decode(self.path)

    module = types.ModuleType("torchcodec.decoders")
    vars(module)["AudioDecoder"] = AudioDecoder
    monkeypatch.setitem(sys.modules, "torchcodec", types.ModuleType("torchcodec"))
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", module)
    monkeypatch.setenv("PATH", "")


def test_torchcodec_where_there_is_no_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Against a stand-in with torchcodec's interface; its wheels need libraries of ffmpeg."""
    wave = torch.from_numpy(signal(50000, 2).T.copy())
    samples = types.SimpleNamespace(data=wave, sample_rate=44100)
    fake_torchcodec(monkeypatch, lambda path: samples)
    audio = Audio.load(foreign_bytes(tmp_path / "x.m4a"))
    assert audio.rate == 44100
    assert torch.equal(audio.samples, wave)

    def fail(path: str) -> object:
        raise RuntimeError("Could not open input file")

    fake_torchcodec(monkeypatch, fail)
    refused(tmp_path / "x.m4a", "neither libsndfile nor torchcodec can read it")


# ---- memory

MEMORY = f"""
{PEAK}
import torch
from audiotok.audio.audio import open_audio
torch.set_num_threads(1)
with open_audio(sys.argv[1]) as source:
    blocks = source.blocks(16000, rate=16000, mono=True)
    next(blocks)
    before = peak()
    samples = 16000 + sum(block.shape[1] for block in blocks)
print(samples, (peak() - before) / 1e6, peak() / 1e6)
"""


def silent_wav(path: Path, seconds: int) -> Path:
    """48 kHz stereo that takes no room on disk."""
    size = seconds * 48000 * 4
    soundfile.write(path, np.zeros((0, 2)), 48000, subtype="PCM_16", format="RF64")
    data = bytearray(path.read_bytes())
    struct.pack_into("<Q", data, data.index(b"ds64") + 8, len(data) - 8 + size)
    struct.pack_into("<QQ", data, data.index(b"ds64") + 16, size, size // 4)
    path.write_bytes(data)
    os.truncate(path, len(data) + size)
    return path


@pytest.mark.parametrize("seconds", [300, pytest.param(36000, marks=pytest.mark.slow)])
def test_a_long_file_takes_constant_memory(tmp_path: Path, seconds: int):
    path = silent_wav(tmp_path / "long.wav", seconds)
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(path)], capture_output=True, text=True, check=True
    )
    samples, growth, peak = map(float, done.stdout.split())
    assert samples == seconds * 16000
    assert growth < 60  # MB
    assert peak < 1000
