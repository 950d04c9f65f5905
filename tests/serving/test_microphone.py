"""`audiotok mic` with a made-up sound device, which speaks and keeps what it is to play."""

from __future__ import annotations

import signal
import sys
import threading
import time
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from commandline import audiotok, noise, small

from audiotok.audio.audio import Audio
from audiotok.codecs.checkpoint import load
from audiotok.runtime.sessions import Encoding
from audiotok.serving.live.microphone import loopback
from audiotok.tokens.tokens import Tokens

SPEECH = noise(1.0)


class Device(ModuleType):
    """What of sounddevice is used. A thread calls back, as PortAudio does."""

    class PortAudioError(Exception):
        pass

    trouble: ClassVar[Exception | None] = None
    played: ClassVar[list[np.ndarray]] = []
    pace: ClassVar[float] = 0.001  # seconds a block
    slow: ClassVar[float] = 0.001  # of the loudspeaker

    class InputStream:
        latency = 0.01

        def __init__(self, **options: Any) -> None:
            if Device.trouble:
                raise Device.trouble
            assert options["samplerate"] == 16000
            self.size, self.callback = options["blocksize"], options["callback"]
            self.thread = threading.Thread(target=self.run)
            self.over = threading.Event()

        def __enter__(self) -> Any:
            self.thread.start()
            return self

        def __exit__(self, *_: object) -> None:
            self.over.set()
            self.thread.join()

        def run(self) -> None:
            for first in range(0, len(SPEECH), self.size):
                if self.over.is_set():
                    return
                self.call(SPEECH[first : first + self.size])
                time.sleep(Device.pace)

        def call(self, piece: np.ndarray) -> None:
            self.callback(piece, len(piece), None, None)

    class OutputStream(InputStream):
        latency = 0.02

        def run(self) -> None:
            while not self.over.is_set():
                out = np.full((self.size, 1), np.nan, "f4")
                self.callback(out, self.size, None, None)
                Device.played.append(out)
                time.sleep(Device.slow)

    def query_devices(self) -> str:
        return "  0 made up, ALSA (1 in, 1 out)"


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> type[Device]:
    made = Device("sounddevice")
    monkeypatch.setitem(sys.modules, "sounddevice", made)
    monkeypatch.setattr(Device, "trouble", None)
    monkeypatch.setattr(Device, "played", [])
    return Device


def test_what_is_said_is_encoded_and_heard(device: type[Device], tmp_path: Path):
    codec, levels = load(small()), []
    with (tmp_path / "said.tok").open("wb") as out:
        last = loopback(codec, out=out, seconds=0.6, on_frame=levels.append)
    tokens = Tokens.load(tmp_path / "said.tok")
    audio = Audio(torch.from_numpy(SPEECH[:9600].T), 16000)
    assert tokens == codec.encode(audio)
    assert len(levels) == 30
    assert levels[3].level == pytest.approx(20 * np.log10(SPEECH[960:1280].std()), abs=0.1)
    assert last.frames == 29  # the last is complete with what comes after it
    assert last.device == pytest.approx(0.03)
    assert 0 < last.took.p50 <= last.took.p99
    played = np.concatenate(device.played)[:, 0]
    assert np.isfinite(played).all()
    sound = played[np.flatnonzero(played)[0] :]
    heard = codec.decode(tokens).samples.numpy()[0]
    begun = heard[np.flatnonzero(heard)[0] :][:1500]
    rest = sound[sound != 0][:1500]  # without the silence of where nothing was there to play
    same = min(len(begun), len(rest))
    assert same > 500
    assert np.allclose(rest[:same], begun[:same], atol=1e-4)


def test_a_slow_loudspeaker_skips_what_is_late(
    device: type[Device], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(device, "pace", 0.02)  # as it is spoken, and five blocks for each played
    monkeypatch.setattr(device, "slow", 0.1)
    codec = load(small())
    last = loopback(codec, seconds=0.9)
    assert last.dropped > 5
    heard = codec.decode(codec.encode(Audio(torch.from_numpy(SPEECH[:14400].T), 16000)))
    blocks = heard.samples[0].unfold(0, 320, 320).numpy()
    played = [block[:, 0] for block in device.played if block.any()]
    places = [int(np.abs(blocks - block).sum(1).argmin()) for block in played]
    assert len(places) < 20
    assert places == sorted(set(places))  # in order, some left out
    assert max(np.diff(places)) > 1


def test_ctrl_c_within_a_step_loses_nothing(
    device: type[Device], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    codec, steps, run = load(small()), iter(range(1, 1000)), Encoding.run

    def interrupted(self: Any, *arguments: Any) -> Any:
        if next(steps) == 5:
            signal.raise_signal(signal.SIGINT)
        return run(self, *arguments)

    with monkeypatch.context() as patch, (tmp_path / "said.tok").open("wb") as out:
        patch.setattr(Encoding, "run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            loopback(codec, out=out, play=False)
    tokens = Tokens.load(tmp_path / "said.tok")
    assert tokens.frames >= 5
    assert tokens == codec.encode(Audio(torch.from_numpy(SPEECH[: tokens.samples].T), 16000))


def test_without_a_loudspeaker(device: type[Device]):
    assert loopback(load(small()), seconds=0.3, play=False).seconds == pytest.approx(0.3)
    assert not device.played


def test_the_command(device: type[Device], tmp_path: Path):
    out = tmp_path / "said.tok"
    done = audiotok("mic", "--codec", small(), "--seconds", "0.5", "-o", out)
    assert done.code == 0, done.err
    assert "ms algorithmic" in done.out
    assert "p99" in done.out
    assert Tokens.load(out).seconds == 0.5
    again = audiotok("mic", "--codec", small(), "--seconds", "0.5", "-o", out)
    assert again.code == 1
    assert "exists already" in again.err
    assert "made up" in audiotok("mic", "--list").out


def test_no_device_is_one_line(device: type[Device], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(device, "trouble", device.PortAudioError("Error querying device -1"))
    done = audiotok("mic", "--codec", small())
    assert done.code == 1
    assert len(done.lines) == 1
    assert "no sound device will do: Error querying device -1; --list" in done.err


def test_a_microphone_that_gives_nothing(device: type[Device], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("audiotok.serving.live.microphone.WAIT", 0.05)
    monkeypatch.setattr(device, "pace", 1.0)
    done = audiotok("mic", "--codec", small())
    assert done.code == 1
    assert "the microphone gave nothing" in done.err


def test_without_portaudio_or_the_library(monkeypatch: pytest.MonkeyPatch):
    class Finder:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "sounddevice":
                raise OSError("PortAudio library not found")

    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    done = audiotok("mic", "--codec", small())
    assert done.code == 1
    assert "no PortAudio here (PortAudio library not found)" in done.err
    assert len(done.lines) == 1
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    done = audiotok("mic", "--codec", small())
    assert "pip install sounddevice, or 'audiotok[mic]'" in done.err
