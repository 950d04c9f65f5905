"""Files that hold more than libsndfile says, or are sound though it refuses them."""

import logging
import shutil
import struct
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from commandline import audiotok, small
from test_reader import needs_ffmpeg, refused, signal, write

from audiotok.audio import mp3, ogg
from audiotok.audio.audio import Audio, AudioFileError, open_audio
from audiotok.data.locator import AudioLocator, opened
from audiotok.data.recording import Recording
from audiotok.tokens.tokens import Tokens

KINDS = {"opus": ("OGG", "OPUS"), "ogg": ("OGG", "VORBIS"), "mp3": ("MP3", "MPEG_LAYER_III")}


def encoded(kind: str, samples: int, rate: int = 16000, channels: int = 1) -> bytes:
    form, subtype = KINDS[kind]
    file = BytesIO()
    soundfile.write(file, signal(samples, channels, rate), rate, subtype, format=form)
    return file.getvalue()


def alone(folder: Path, name: str, data: bytes) -> torch.Tensor:
    (folder / name).write_bytes(data)
    return Audio.load(folder / name).samples


def without_tag(data: bytes) -> bytes:
    """An mp3 without the frame that says its length."""
    first = mp3.frame(data[:4])
    assert first is not None
    return data[first.size :]


# ---- recordings joined into one file


@pytest.mark.parametrize("kind", KINDS)
def test_every_recording_of_a_joined_file_is_read(tmp_path: Path, kind: str):
    parts = [encoded(kind, 48000), encoded(kind, 20000), encoded(kind, 33333)]
    expected = torch.cat([alone(tmp_path, f"part.{kind}", part) for part in parts], 1)
    path = tmp_path / f"joined.{kind}"
    path.write_bytes(b"".join(parts))
    assert torch.equal(Audio.load(path).samples, expected)
    assert Recording.of_file(path).probe().samples == expected.shape[1] == 101333
    with open_audio(path) as source:
        assert torch.equal(torch.cat(list(source.blocks(999)), 1), expected)
    part = Audio.load(path, start=2.5, end=3.5)  # over the joint
    assert torch.equal(part.samples, expected[:, 40000:56000])
    assert torch.equal(Audio.load(path, start=5).samples, expected[:, 80000:])
    with opened(AudioLocator("joined", data=path.read_bytes())) as source:  # as from a tar
        assert torch.equal(torch.cat(list(source.blocks()), 1), expected)
    assert audiotok("encode", path, "-o", tmp_path / "a.tok", "--codec", small()).code == 0
    assert Tokens.load(tmp_path / "a.tok").original_samples == 101333


@pytest.mark.parametrize("other", [{"rate": 24000}, {"channels": 2}])
@pytest.mark.parametrize("kind", KINDS)
def test_recordings_of_different_kinds_are_not_dropped_unsaid(tmp_path: Path, kind: str, other):
    first = encoded(kind, 48000)
    path = tmp_path / f"joined.{kind}"
    path.write_bytes(first + encoded(kind, 48000, **other))
    refused(path, r"different kinds joined.*16000 Hz with 1 channels, and from 3\.00 s on")
    assert torch.equal(
        Audio.load(path, end=3).samples, alone(tmp_path, f"part.{kind}", first)[:, :48000]
    )
    done = audiotok("encode", path, "-o", tmp_path / "a.tok", "--codec", small())
    assert done.code == 1
    assert not (tmp_path / "a.tok").exists()


def test_an_mp3_goes_on_without_a_tag_or_after_tags(tmp_path: Path):
    first, second = encoded("mp3", 48000), encoded("mp3", 20000)
    bare = without_tag(second)
    rest = alone(tmp_path, "rest.mp3", bare)
    assert alone(tmp_path, "a.mp3", first + bare).shape[1] == 48000 + rest.shape[1]
    id3v1 = b"TAG" + bytes(125)
    id3v2 = b"ID3\4\0\0" + bytes([0, 0, 39, 16]) + bytes(5008)  # 39 * 128 + 16
    ape = b"APETAGEX" + struct.pack("<III", 2000, 72, 1 << 29) + bytes(8 + 72)
    for between in (id3v1, id3v2, ape, id3v1 + id3v2):
        assert alone(tmp_path, "b.mp3", first + between + second).shape[1] == 68000
        assert alone(tmp_path, "b.mp3", first + between).shape[1] == 48000
        assert Recording.of_file(tmp_path / "b.mp3").probe().samples == 48000
    path = tmp_path / "c.mp3"  # no tag in the first either, and then another rate
    path.write_bytes(without_tag(first) + encoded("mp3", 48000, rate=24000))
    refused(path, "different kinds joined")


def test_many_parts_leave_nothing_open(tmp_path: Path):
    descriptors = Path("/proc/self/fd")
    for kind in KINDS:
        path = tmp_path / f"many.{kind}"
        path.write_bytes(encoded(kind, 4000) * 3 + b"".join(encoded(kind, 4000) for _ in "12"))
        with open_audio(path) as source:
            blocks = source.blocks(100)
            next(blocks)
            before = len(list(descriptors.iterdir())) if descriptors.exists() else 0
            if kind == "mp3":
                assert 100 + sum(block.shape[1] for block in blocks) == 20000
                assert not before or len(list(descriptors.iterdir())) <= before


def test_links_under_one_serial_number_are_not_dropped_unsaid(tmp_path: Path):
    data = encoded("opus", 48000)
    path = tmp_path / "a.opus"
    path.write_bytes(data + data)
    assert not ogg.is_chained(str(path))
    assert len(ogg.links(str(path))) == 2
    refused(path, "2 recordings joined into one file under one serial number")


def test_a_damaged_link_is_said(tmp_path: Path):
    first, second = encoded("opus", 160000), encoded("opus", 160000)
    path = tmp_path / "a.opus"
    for data in (first[: len(first) // 2] + second, first + second[: len(second) // 2]):
        path.write_bytes(data)
        refused(path, r"truncated or damaged after \d+\.\d\d s")


@needs_ffmpeg
def test_ffmpeg_hears_as_much_of_a_chained_file(tmp_path: Path):
    for kind in ("opus", "ogg"):
        path = tmp_path / f"a.{kind}"
        path.write_bytes(encoded(kind, 48000) + encoded(kind, 20000))
        to = ["-ar", "16000", "-f", "f32le", "pipe:1"]
        done = subprocess.run(
            ["ffmpeg", "-v", "error", "-i", str(path), *to], capture_output=True, check=True
        )
        assert len(done.stdout) / 4 == pytest.approx(len(Audio.load(path)), abs=700)


def test_opus_without_the_mark_of_its_end(tmp_path: Path):
    """As sphn 0.2.1 writes; the checksums of pages are those of the changed page."""
    data = bytearray(encoded("opus", 47896))  # with 312 samples at 48 kHz before it, whole packets
    whole = alone(tmp_path, "whole.opus", bytes(data))
    at = data.rindex(b"OggS")
    data[at + 5] &= ~ogg.ENDS
    data[at + 22 : at + 26] = bytes(4)
    struct.pack_into("<I", data, at + 22, _crc(bytes(data[at:])))
    assert torch.equal(alone(tmp_path, "a.opus", bytes(data)), whole)
    for cut in (1, 100):
        (tmp_path / "cut.opus").write_bytes(data[:-cut])
        refused(tmp_path / "cut.opus", "truncated or damaged")


def _crc(page: bytes) -> int:
    """Ogg's checksum (RFC 3533, section 6), of a page whose own is zeros."""
    value = 0
    for byte in page:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C11DB7 if value >> 31 else 0)) & 0xFFFFFFFF
    return value


def test_sphn(tmp_path: Path):
    sphn = pytest.importorskip("sphn")
    sphn.write_opus(str(tmp_path / "a.opus"), signal(48000, 1, 24000)[:, 0], 24000)
    audio = Audio.load(tmp_path / "a.opus")
    expected, _ = soundfile.read(tmp_path / "a.opus", dtype="float32", always_2d=True)
    assert torch.equal(audio.samples.T, torch.from_numpy(expected))
    assert len(audio) > 40000


# ---- sizes that were never written


@pytest.mark.parametrize("whole", ["zero", "header", "most"])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT", "ULAW"])
@pytest.mark.parametrize("size", [0, 2**32 - 1])
def test_a_wav_whose_size_was_never_written(tmp_path: Path, size: int, subtype: str, whole: str):
    path = write(tmp_path / "a.wav", "WAV", subtype, channels=2)
    expected = Audio.load(path).samples
    data = bytearray(path.read_bytes()[: -(len(path.read_bytes()) % 2) or None])
    at = data.index(b"data")
    if subtype == "FLOAT":  # libsndfile puts a chunk behind float samples
        del data[at + 8 + 70000 * 2 * 4 :]
    struct.pack_into("<I", data, at + 4, size)
    struct.pack_into("<I", data, 4, {"zero": 0, "header": 36, "most": 2**32 - 1}[whole])
    path.write_bytes(data)
    assert torch.equal(Audio.load(path).samples, expected)
    assert Recording.of_file(path).probe().samples == 70000
    assert torch.equal(Audio.load(path, start=1, end=2).samples, expected[:, 16000:32000])


def test_a_wav_that_says_truly_that_it_is_empty(tmp_path: Path):
    write(tmp_path / "a.wav", "WAV", "PCM_16", samples=0)
    data = bytearray((tmp_path / "a.wav").read_bytes()) + b"LIST\4\0\0\0INFO"
    struct.pack_into("<I", data, 4, len(data) - 8)
    (tmp_path / "a.wav").write_bytes(data)
    assert len(Audio.load(tmp_path / "a.wav")) == 0


def test_a_caf_written_to_a_pipe(tmp_path: Path):
    path = write(tmp_path / "a.caf", "CAF", "PCM_16", channels=2)
    expected = Audio.load(path).samples
    data = bytearray(path.read_bytes())
    at = data.index(b"data")
    struct.pack_into(">q", data, at + 4, -1)
    path.write_bytes(data)
    assert torch.equal(Audio.load(path).samples, expected)


# ---- what libsndfile does not read


@needs_ffmpeg
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("g722.wav", "-ac 1 -c:a g722"),
        ("g726.wav", "-ac 1 -ar 8000 -c:a g726"),
        ("mp3.wav", "-c:a libmp3lame"),
        ("flac.ogg", "-c:a flac"),
        ("a.spx", "-ac 1 -c:a libspeex"),
        ("speex.ogg", "-ac 1 -c:a libspeex"),
        ("a.caf", "-f caf pipe:1"),
        ("a.wav", "-f wav pipe:1"),
    ],
)
def test_what_ffmpeg_writes_is_read(tmp_path: Path, name: str, options: str):
    source = write(tmp_path / "in.wav", "WAV", "PCM_16", channels=2)
    path = tmp_path / name
    out = options.split() if "pipe:" in options else [*options.split(), str(path)]
    made = subprocess.run(["ffmpeg", "-v", "error", "-i", str(source), *out], capture_output=True)
    if made.returncode:
        pytest.skip(f"this ffmpeg cannot write it: {made.stderr.decode()[:80]}")
    if "pipe:" in options:
        path.write_bytes(made.stdout)
    assert Audio.load(path).seconds == pytest.approx(4.375, abs=0.12)
    if name.startswith(("g72", "flac")):  # and where its end is missing that is said
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])
        refused(path, "truncated or damaged after")


@needs_ffmpeg
def test_video_in_ogg(tmp_path: Path):
    source = write(tmp_path / "in.wav", "WAV", "PCM_16")
    path = tmp_path / "v.ogg"
    video = ["-f", "lavfi", "-i", "testsrc=duration=1:rate=5:size=64x64", "-i"]
    codecs = ["-c:v", "libtheora", "-c:a", "libvorbis"]
    command = ["ffmpeg", "-v", "error", *video, str(source), *codecs, str(path)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("this ffmpeg cannot write it")
    assert Audio.load(path).seconds == pytest.approx(4.375, abs=0.05)


def g722(path: Path) -> Path:
    """A sound header of G.722 in WAV."""
    form = struct.pack("<HHIIHH", 0x28F, 1, 16000, 8000, 1, 4)
    data = np.random.default_rng(0).bytes(8000)
    chunks = b"fmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", 8000) + data
    path.write_bytes(b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks)
    return path


def test_without_ffmpeg_it_is_said_what_would_read_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setitem(sys.modules, "torchcodec", None)
    refused(g722(tmp_path / "a.wav"), "libsndfile cannot read this format; install ffmpeg")


def test_a_torchcodec_that_does_not_load_is_not_advised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    package = tmp_path / "broken" / "torchcodec"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "decoders.py").write_text(
        "try:\n    raise OSError('libnvrtc.so.13: cannot open shared object file: No such file')\n"
        "except OSError as error:\n    raise OSError('Could not load this library') from error\n"
    )
    monkeypatch.setenv("PATH", "")
    monkeypatch.syspath_prepend(str(package.parent))
    for name in [name for name in sys.modules if name.startswith("torchcodec")]:
        monkeypatch.delitem(sys.modules, name)
    line = refused(g722(tmp_path / "a.wav"), "installed, but does not load: libnvrtc.so.13")
    assert "pip install torchcodec" not in line
    for name in [name for name in sys.modules if name.startswith("torchcodec")]:
        del sys.modules[name]  # for good: what is deleted by monkeypatch comes back


def test_free_format_mp3(tmp_path: Path):
    lame = shutil.which("lame")
    if lame is None:
        pytest.skip("the lame program is not installed")
    source = write(tmp_path / "in.wav", "WAV", "PCM_16")
    command = [lame, "--quiet", "--freeformat", "-b", "400", str(source), str(tmp_path / "a.mp3")]
    subprocess.run(command, check=True, capture_output=True)
    assert len(Audio.load(tmp_path / "a.mp3")) == 70000


def test_raw_samples_ask_for_their_rate(tmp_path: Path):
    for suffix in ("raw", "pcm"):
        path = tmp_path / f"a.{suffix}"
        path.write_bytes((signal(16000)[:, 0] * 32768).astype("<i2").tobytes())
        refused(path, r"raw samples have no header that says their rate.* -ar 16000")
        done = audiotok("encode", path, "-o", tmp_path / "a.tok", "--codec", small())
        assert done.code == 1
        assert len(done.lines) == 1
        assert f"audiotok stream encode --rate HZ < {path}" in done.err
    write(tmp_path / "a.wav", "WAV", "PCM_16").rename(tmp_path / "b.raw")  # a name is no format
    assert len(Audio.load(tmp_path / "b.raw")) == 70000


def test_shortened_sphere_is_not_called_damaged(tmp_path: Path):
    fields = "channel_count -i 1\nsample_rate -i 16000\nsample_count -i 9000\nsample_n_bytes -i 2\n"
    coding = "sample_byte_format -s2 01\nsample_coding -s26 pcm,embedded-shorten-v2.00\nend_head\n"
    header = f"NIST_1A\n   1024\n{fields}{coding}".encode().ljust(1024)
    (tmp_path / "a.sph").write_bytes(header + b"ajkg\2" + np.random.default_rng(0).bytes(9000))
    line = refused(tmp_path / "a.sph", "sph2pipe -f wav")
    assert "damaged" not in line


# ---- samples that are no audio as they stand


@pytest.mark.parametrize("subtype", ["PCM_16", "MPEG_LAYER_III"])
def test_channels_that_cancel_are_not_mixed_to_silence(tmp_path: Path, subtype: str):
    wave = signal(70000)
    form = "WAV" if subtype == "PCM_16" else "MP3"
    path = tmp_path / f"a.{form.lower()}"
    with soundfile.SoundFile(path, "w", 16000, 2, subtype, format=form) as file:
        for at in range(0, 70000, 10000):
            file.write(np.hstack([wave, -wave])[at : at + 10000])
    audio = Audio.load(path)
    assert not audio.silent
    with pytest.raises(ValueError, match="cancel each other"):
        audio.mono()
    with open_audio(path) as source, pytest.raises(AudioFileError, match=r"a\.\w+: the channels"):
        list(source.blocks(rate=16000, mono=True))
    done = audiotok("encode", path, "-o", tmp_path / "a.tok", "--codec", small())
    assert done.code == 1
    assert "cancel each other" in done.err
    assert "split" in done.err
    assert not (tmp_path / "a.tok").exists()
    split = ("--channels", "split", "--codec", small())
    assert audiotok("encode", path, "-o", tmp_path / "a.tok", *split).code == 0
    assert audio.split()[1].mono().channels == 1


def test_channels_that_only_differ_are_mixed(tmp_path: Path):
    random = np.random.default_rng(0)
    for wave in (random.standard_normal((16000, 8)) * 0.1, np.zeros((16000, 2))):
        soundfile.write(tmp_path / "a.wav", wave, 16000)
        with open_audio(tmp_path / "a.wav") as source:
            assert len(list(source.blocks(16000, mono=True))) == 1
        assert Audio.load(tmp_path / "a.wav").mono().channels == 1


@pytest.mark.parametrize("channels", [1, 2])
def test_samples_before_channels_are_refused(channels: int):
    with pytest.raises(ValueError, match=r"48000 channels of . samples each.*x\.T"):
        Audio(torch.zeros(48000, channels), 48000)
    assert Audio(torch.zeros(100, 0), 16000).channels == 100
    assert len(Audio(torch.zeros(64, 1), 16000)) == 1


def test_floats_of_the_size_of_integers_are_refused(tmp_path: Path, caplog):
    from audiotok import load

    wave = signal(16000)[:, 0] * 32768
    codec = load(small())
    audio = Audio(torch.from_numpy(wave)[None], 16000)
    for call in (codec.encode, lambda a: codec.encode_batch([a])):
        with pytest.raises(ValueError, match=r"full scale is 1: divide .* by 32768"):
            call(audio)
    soundfile.write(tmp_path / "a.wav", wave, 16000, "FLOAT")
    with open_audio(tmp_path / "a.wav") as source, pytest.raises(AudioFileError, match="divide"):
        list(source.blocks())
    pcm = wave.astype("<f4").tobytes()
    from audiotok.audio.pcm import PcmError, to_samples

    with pytest.raises(PcmError, match="divide"):
        to_samples(pcm, "f32le")
    with caplog.at_level(logging.WARNING):
        codec.encode(Audio(audio.samples / 32768 * 40, 16000))  # loud is legal
