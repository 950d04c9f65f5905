"""Audio as a value, and saving it. Reading files is in test_reader.py."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
import torch

from audiotok.audio.audio import Audio, AudioFileError
from audiotok.audio.writer import FORMATS


def noise(samples: int = 8000, channels: int = 1, rate: int = 16000) -> Audio:
    random = torch.Generator().manual_seed(0)
    return Audio((torch.randn(channels, samples, generator=random) * 0.1).clamp(-1, 1), rate)


def test_value():
    audio = noise(8000, 2)
    assert (len(audio), audio.channels, audio.seconds) == (8000, 2, 0.5)
    assert torch.equal(audio[100:-100].samples, audio.samples[:, 100:-100])
    assert len(audio[5:5]) == 0
    assert len(Audio(torch.zeros(1, 0), 16000).resample(8000)) == 0
    with pytest.raises(TypeError, match="cut audio by samples"):
        audio[::2]
    with pytest.raises(AttributeError):
        audio.rate = 1  # pyright: ignore[reportAttributeAccessIssue]


def test_channels():
    audio = noise(100, 8)
    assert torch.allclose(audio.mono().samples, audio.samples.mean(0, keepdim=True), atol=1e-7)
    assert [torch.equal(a.samples[0], x) for a, x in zip(audio.split(), audio.samples, strict=True)]
    assert audio.split()[3].mono().channels == 1
    assert len(audio.split()) == 8


def test_cat():
    audio = noise(1000, 2)
    joined = Audio.cat([audio[:300], audio[300:300], audio[300:]])
    assert torch.equal(joined.samples, audio.samples)
    with pytest.raises(ValueError, match="cannot join"):
        Audio.cat([audio, audio.mono()])
    with pytest.raises(ValueError, match="cannot join"):
        Audio.cat([])


@pytest.mark.parametrize(
    ("samples", "rate", "says"),
    [
        (torch.zeros(10), 16000, r"\[channels samples\], not torch.float32 \[10\]"),
        (torch.zeros(0, 10), 16000, r"not torch.float32 \[0, 10\]"),
        (torch.zeros(1, 10, dtype=torch.float64), 16000, "not torch.float64"),
        (torch.zeros(1, 10), 0, "not 0"),
    ],
)
def test_not_audio(samples, rate, says):
    with pytest.raises(ValueError, match=says):
        Audio(samples, rate)


def test_nan_and_infinite_samples_are_counted_and_placed():
    samples = torch.zeros(2, 16000)
    samples[1, 8000], samples[0, 9000], samples[0, 9001] = torch.nan, torch.inf, -torch.inf
    with pytest.raises(ValueError, match=r"^3 samples are NaN or infinite \(first at 0.500 s\)$"):
        Audio(samples, 16000)


@pytest.mark.parametrize("suffix", sorted(FORMATS))
def test_save_and_load(tmp_path: Path, suffix: str):
    audio = noise(40000, 2)
    path = tmp_path / f"a{suffix}"
    audio.save(path)
    again = Audio.load(path)
    assert (again.rate, again.samples.shape) == (16000, audio.samples.shape)
    if suffix in (".ogg", ".opus", ".mp3"):
        assert soundfile.info(path).frames == 40000
    else:
        assert (again.samples - audio.samples).abs().max() <= 0.5 / 32768 + 1e-7
        again.save(path, force=True)  # 16-bit samples survive any number of rewrites
        assert torch.equal(Audio.load(path).samples, again.samples)
    assert list(tmp_path.iterdir()) == [path]


def test_subtypes(tmp_path: Path):
    loud = Audio(noise().samples * 20, 16000)
    loud.save(tmp_path / "a.wav", subtype="FLOAT")
    assert torch.equal(Audio.load(tmp_path / "a.wav").samples, loud.samples)
    noise().save(tmp_path / "b.flac", subtype="PCM_24")
    assert soundfile.info(tmp_path / "b.flac").subtype == "PCM_24"
    with pytest.raises(AudioFileError, match=r"c\.flac: FLAC cannot hold FLOAT"):
        loud.save(tmp_path / "c.flac", subtype="FLOAT")
    assert not (tmp_path / "c.flac").exists()


@pytest.mark.parametrize(
    ("suffix", "subtype", "bits"),
    [
        (".wav", "PCM_U8", 8),
        (".aiff", "PCM_S8", 8),
        (".flac", "PCM_S8", 8),
        (".wav", "PCM_16", 16),
        (".wav", "PCM_24", 24),
        (".flac", "PCM_24", 24),
        (".caf", "ALAC_16", 16),
        (".caf", "ALAC_24", 24),
    ],
)
def test_samples_are_rounded_to_the_nearest_step(
    tmp_path: Path, suffix: str, subtype: str, bits: int
):
    wave = torch.rand(1, 40000, generator=torch.Generator().manual_seed(0)) * 1.8 - 0.9
    wave[0, :2] = torch.tensor([1.0, -1.0])
    Audio(wave, 16000).save(tmp_path / f"a{suffix}", subtype=subtype)
    error = (Audio.load(tmp_path / f"a{suffix}").samples[:, :40000] - wave)[0].double()
    step = 2.0 ** (1 - bits)
    assert error[0] == pytest.approx(-step, abs=step / 100 + 1e-7)  # full scale is a step too high
    assert error[1] == 0
    assert error[2:].abs().max() <= step * 0.501 + 6e-8
    assert abs(error.mean()) < step / 50


def test_clipping_is_said_once_with_the_count(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    samples = torch.full((1, 200_000), 0.5)
    samples[0, ::1000] = -1.75
    with caplog.at_level(logging.WARNING, "audiotok"):
        Audio(samples, 16000).save(tmp_path / "a.wav")
    assert [r.getMessage() for r in caplog.records] == [
        f"{tmp_path / 'a.wav'}: 200 samples clipped (peak 1.75)"
    ]
    assert Audio.load(tmp_path / "a.wav").samples.min() == -1


@pytest.mark.parametrize("suffix", [".wav", ".aiff", ".w64", ".flac", ".mp3", ".ogg", ".opus"])
def test_no_samples(tmp_path: Path, suffix: str):
    path = tmp_path / f"a{suffix}"
    empty = Audio(torch.zeros(1, 0), 16000)
    if suffix in (".wav", ".aiff", ".w64"):
        empty.save(path)
        assert len(Audio.load(path)) == 0
    else:
        with pytest.raises(AudioFileError, match=r"cannot hold 0 samples; save it as \.wav"):
            empty.save(path)
        assert not list(tmp_path.iterdir())


def test_saving_refuses_in_one_line(tmp_path: Path):
    audio = noise()
    audio.save(tmp_path / "a.wav")
    for path, says in [
        ("a.wav", "exists already; force=True"),
        ("a.xyz", "unknown format; known: .wav"),
        ("no/folder/a.wav", "there is no folder"),
    ]:
        with pytest.raises(AudioFileError, match=says) as error:
            audio.save(tmp_path / path)
        assert str(error.value).startswith(str(tmp_path / path))
        assert "\n" not in str(error.value)
    with pytest.raises(AudioFileError, match=r"8 channels at 16000 Hz.*try \.wav or \.flac"):
        noise(100, 8).save(tmp_path / "b.mp3")
    with pytest.raises(AudioFileError, match=r"1 channels at 44100 Hz.*only supports"):
        noise(100, rate=44100).save(tmp_path / "b.opus")
    assert [p.name for p in tmp_path.iterdir()] == ["a.wav"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    noise(100).save(tmp_path / "a.wav")
    before = (tmp_path / "a.wav").read_bytes()
    for error in (KeyboardInterrupt(), OSError(28, "No space left on device")):

        def fail(self, data, error=error):
            raise error

        monkeypatch.setattr(soundfile.SoundFile, "write", fail)
        with pytest.raises((KeyboardInterrupt, AudioFileError)):
            noise(200).save(tmp_path / "a.wav", force=True)
        assert (tmp_path / "a.wav").read_bytes() == before
        assert len(list(tmp_path.iterdir())) == 1


def test_full_disk_and_no_permission(tmp_path: Path):
    """The disk: a 64 kB file system where mounting one is allowed, else a limit on file size.

    The permission: as nobody, since permissions do not bind root.
    """
    full, closed = tmp_path / "full", tmp_path / "closed"
    full.mkdir()
    closed.mkdir()
    noise(100).save(closed / "a.wav")
    (closed / "a.wav").chmod(0)
    closed.chmod(0o555)
    code = f"""
import os, resource, signal, subprocess, torch
from audiotok.audio.audio import Audio, AudioFileError

def attempt(do, path):
    try:
        do(path)
    except AudioFileError as error:
        print(error)

full, closed = {str(full)!r}, {str(closed)!r}
try:
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", full]
    mounted = subprocess.run(mount, capture_output=True).returncode == 0
except OSError:
    mounted = False
if not mounted:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
long = Audio(torch.randn(1, 500000) * 0.1, 16000)
for name in ("/a.wav", "/a.flac", "/a.mp3"):
    attempt(long.save, full + name)
print(os.listdir(full))
if mounted:
    subprocess.run(["umount", full])
if os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
os.chdir("/")
attempt(Audio.load, closed + "/a.wav")
attempt(long[:9].save, closed + "/b.wav")
"""
    for folder in [tmp_path, *tmp_path.parents]:  # pytest keeps its folders to its user
        if folder == tmp_path or folder.name.startswith(("pytest-", "popen-")):
            folder.chmod(0o755)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    closed.chmod(0o755)
    assert done.returncode == 0, done.stderr
    *writes, left, load, save = done.stdout.splitlines()
    for suffix, line in zip(("wav", "flac", "mp3"), writes, strict=True):
        assert line.startswith(f"{full}/a.{suffix}: no space left on the device")
    assert left == "[]"  # no partial file
    assert load == f"{closed}/a.wav: no permission to read it; try `chmod +r`"
    assert save == f"{closed}/b.wav: no permission to write in {closed}"
