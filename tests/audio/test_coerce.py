"""Recordings as people hold them: paths, arrays, tensors; integers are scaled, the rest refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from audiotok.audio.audio import Audio, AudioFileError
from audiotok.audio.coerce import to_array, to_audio

WAVE = 0.1 * np.random.default_rng(0).standard_normal((2, 800)).astype(np.float32)


@pytest.mark.parametrize(
    "given",
    [
        WAVE,
        WAVE.astype(np.float64),
        np.asfortranarray(WAVE),
        torch.from_numpy(WAVE),
        torch.from_numpy(WAVE).double().requires_grad_(),
    ],
)
def test_arrays_and_tensors_are_audio(given: Any):
    audio = to_audio(given, 16000)
    assert (audio.rate, audio.samples.dtype) == (16000, torch.float32)
    assert np.array_equal(audio.samples.numpy(), WAVE)
    samples, rate = to_array(given, 16000)
    assert (rate, samples.dtype) == (16000, np.float32)
    assert np.array_equal(samples, WAVE)


def test_one_axis_is_one_channel_and_arrays_may_be_read_only():
    mono = WAVE[0, ::-1]
    mono.flags.writeable = False
    assert torch.equal(to_audio(mono, 8000).samples[0], torch.from_numpy(mono.copy()))
    assert to_audio(np.zeros(0, np.float32), 8000).samples.shape == (1, 0)


def test_integers_of_a_file_are_scaled(tmp_path: Path):
    soundfile.write(tmp_path / "a.wav", WAVE.T, 16000, subtype="PCM_16")
    audio = Audio.load(tmp_path / "a.wav")
    for kind in ("int16", "int32"):
        read, rate = soundfile.read(tmp_path / "a.wav", dtype=kind)
        assert torch.equal(to_audio(read.T, rate).samples, audio.samples)
        assert torch.equal(to_audio(torch.from_numpy(read.T.copy()), rate).samples, audio.samples)
    octets = np.array([0, 128, 255], np.uint8)  # as wav files of 8 bits have them
    assert to_audio(octets, 8000).samples.tolist() == [[-1.0, 0.0, 127 / 128]]


def test_a_path_is_read_and_audio_is_itself(tmp_path: Path):
    audio = to_audio(WAVE, 16000)
    audio.save(tmp_path / "a.wav", subtype="FLOAT")
    for path in (tmp_path / "a.wav", str(tmp_path / "a.wav")):
        assert torch.equal(to_audio(path).samples, audio.samples)
        assert np.array_equal(to_array(path, 16000)[0], WAVE)
    assert to_audio(audio, 16000) is audio
    assert np.array_equal(to_array(audio)[0], WAVE)
    for given in (audio, tmp_path / "a.wav"):
        for convert in (to_audio, to_array):
            with pytest.raises(ValueError, match=r" is of 16000 Hz, not 8000: leave rate out"):
                convert(given, 8000)
    with pytest.raises(AudioFileError, match=r"b\.wav: no such file$"):
        to_audio(tmp_path / "b.wav")


@pytest.mark.parametrize(
    ("given", "rate", "error"),
    [
        (WAVE, None, r"^numpy\.ndarray of samples says no sample rate: give it, as in rate=16000$"),
        (torch.zeros(5), None, r"^torch\.Tensor of samples says no sample rate"),
        (WAVE, 0, r"^the sample rate must be a whole number of Hz, not 0$"),
        (WAVE, 16000.5, r"^the sample rate must be a whole number of Hz, not 16000\.5$"),
        (WAVE, float("inf"), r"^the sample rate must be a whole number of Hz, not inf$"),
        (WAVE.T, 16000, r"^800 channels of 2 samples each: .* turn these over with x\.T$"),
        (WAVE[None], 16000, r"not \[1, 2, 800\]; a batch \[b c t\] goes to encode_tensors$"),
        (np.zeros(()), 16000, r"^samples must be \[t\] or \[channels t\], not \[\]"),
        (WAVE[:0], 16000, r"^samples must be \[t\] or \[channels t\], not \[0, 800\]$"),
        (WAVE.astype(np.int64), 16000, r"^samples of type int64: give floats with full scale 1"),
        (WAVE > 0, 16000, r"^samples of type bool: "),
        (WAVE.astype(complex), 16000, r"^samples of type complex128: "),
        (1e5 * WAVE, 16000, r"^samples of up to \d+, where full scale is 1: divide"),
        (np.array([0, np.nan, -np.inf]), 16000, r"^2 samples are NaN or infinite: mend"),
        (torch.tensor([0, np.inf]), 16000, r"^1 samples are NaN or infinite: mend"),
    ],
)
def test_what_would_be_another_recording_is_refused(given: Any, rate: Any, error: str):
    for convert in (to_audio, to_array):
        with pytest.raises(ValueError, match=error):
            convert(given, rate)


def test_a_rate_in_khz_is_refused():
    for convert in (to_audio, to_array):
        with pytest.raises(ValueError, match=r"^a sample rate of 16 Hz is below 1000: give Hz"):
            convert(WAVE, 16)


@pytest.mark.parametrize("given", [None, [0.1, 0.2], {"array": WAVE}, 3, b"RIFF"])
def test_what_is_no_recording_is_refused(given: Any):
    kind = type(given).__name__
    for convert in (to_audio, to_array):
        with pytest.raises(TypeError, match=rf"^a recording is Audio, a path, .* not {kind}$"):
            convert(given, 16000)
