"""SI-SDR aligned, STFT and mel distances as published, F0: oracles and closed forms."""

from __future__ import annotations

import math
import os
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from audiotok._platform.registry import find, shipped
from audiotok.audio.audio import Audio
from audiotok.codecs.checkpoint import load
from audiotok.evaluation.metrics.si_sdr import alignment

RATE = 16000
ROOT = Path(__file__).parents[2]


def score(name: str, output: torch.Tensor, reference: torch.Tensor, rate: int = RATE) -> float:
    part, _, option = name.partition(":")
    metric = find("metrics", part)(option)
    return metric.score(Audio(output, rate), Audio(reference, rate)).value


def smooth(pole: float, samples: int = 8 * RATE, seed: int = 0) -> torch.Tensor:
    """Noise `[1 t]` of which samples k apart correlate by `pole ** k`."""
    signal = pytest.importorskip("scipy.signal")
    noise = np.random.default_rng(seed).standard_normal(samples)
    return torch.from_numpy(signal.lfilter([0.1], [1, -pole], noise)).float()[None]


def white(wave: torch.Tensor, decibels: float) -> torch.Tensor:
    """Noise so many dB below the wave."""
    noise = torch.randn(wave.shape, generator=torch.Generator().manual_seed(7))
    return noise * wave.norm() / noise.norm() * 10 ** (-decibels / 20)


# ---- SI-SDR


@pytest.mark.parametrize("part", shipped("metrics"))
def test_an_unknown_variant_lists_those_there_are(part: str):
    metric = find("metrics", part)
    with pytest.raises(ValueError, match="has no variant 'nearly': ") as refused:
        metric("nearly")
    listed = str(refused.value).replace(",", "").split()
    assert {*metric.options, *metric.groups} <= {word.rstrip(";") for word in listed}


@pytest.mark.parametrize(("lag", "sign"), [(0, 1), (0, -1), (3, 1), (-3, -1), (799, -1), (-800, 1)])
@pytest.mark.parametrize("decibels", [-5, 5, 30])
def test_a_shifted_inverted_scaled_copy_scores_its_noise(lag: int, sign: int, decibels: float):
    wave = smooth(0.9)
    moved = sign * 0.3 * torch.roll(wave, lag, 1)
    output = moved + white(moved, decibels)
    assert alignment(output[0], wave[0], 800) == (lag, sign)
    assert score("si_sdr:aligned", output, wave) == pytest.approx(decibels, abs=0.1)


@pytest.mark.parametrize("lag", [1, 3, 11])
def test_a_shift_alone_gives_scores_such_as_the_published_one_of_dac(lag: int):
    """Correlated by r with its reference, an output scores r^2 / (1 - r^2)."""
    wave = smooth(0.9)
    output = torch.roll(wave, lag, 1)
    output = output + white(output, 40)
    correlation = 0.9 ** (2 * lag)
    expected = 10 * math.log10(correlation / (1 - correlation))
    assert score("si_sdr", output, wave) == pytest.approx(expected, abs=1)
    assert score("si_sdr:aligned", output, wave) == pytest.approx(40, abs=0.2)
    if lag == 11:
        assert expected == pytest.approx(-9.6, abs=0.1)  # DAC's is -9.5


def test_a_lag_beyond_the_limit_is_not_found():
    wave = smooth(0.9)
    lag, _ = alignment(torch.roll(wave, 1000, 1)[0], wave[0], 800)
    assert abs(lag) <= 800
    assert score("si_sdr:aligned", torch.roll(wave, 1000, 1), wave) < -5


def test_of_equal_lags_the_nearest_is_taken():
    impulses = torch.zeros(1000)
    impulses[::100] = 1
    assert alignment(impulses, impulses, 300) == (0, 1)


def test_raw_keeps_the_means():
    """Of an offset d in a wave of power 1 that is told from its output by noise of power n."""
    wave = torch.sin(torch.arange(RATE) * 2 * math.pi * 100 / RATE)[None] * 2**0.5
    noise = 0.1 * torch.cos(torch.arange(RATE) * 2 * math.pi * 100 / RATE)[None] * 2**0.5
    assert score("si_sdr:raw", wave + noise, wave) == pytest.approx(20, abs=1e-3)
    assert score("si_sdr:raw", wave + noise + 0.1, wave) == pytest.approx(
        10 * math.log10(1 / 0.02), abs=1e-3
    )
    assert score("si_sdr", wave + noise + 0.1, wave) == pytest.approx(20, abs=1e-3)


def test_aligned_is_not_scored_where_plain_is_not():
    wave = smooth(0.9)
    for output, reference, why in (
        (torch.zeros_like(wave), wave, "output is silent"),
        (wave, torch.zeros_like(wave), "reference is silent"),
        (-wave, wave, "infinite"),
    ):
        with pytest.raises(ValueError, match=why):
            score("si_sdr:aligned", output, reference)
    with pytest.raises(ValueError, match="cut them first"):
        alignment(wave[0, 1:], wave[0], 10)


# ---- STFT and mel distances


@pytest.mark.parametrize("rate", [16000, 24000, 44100])
def test_stft_distance_is_that_of_auraloss(rate: int):
    auraloss = pytest.importorskip("auraloss")
    wave = smooth(0.5, rate)
    output = wave + white(wave, 10)
    output[:, : rate // 4] = 0  # so that the floor counts
    expected = auraloss.freq.MultiResolutionSTFTLoss()(output[None], wave[None]).item()
    assert score("stft", output, wave, rate) == pytest.approx(expected, rel=1e-5)
    assert score("stft:mrstft", output, wave, rate) == score("stft", output, wave, rate)


def test_stft_distance_of_dac():
    """Against its definition by torch.stft: audiotools' MultiScaleSTFTLoss with its defaults."""
    wave = smooth(0.5, RATE)
    output = wave + white(wave, 10)
    output[:, : RATE // 4] = 0
    expected = 0.0
    for size in (2048, 512):
        made, wanted = (
            torch.stft(
                x.double(),
                size,
                size // 4,
                window=torch.hann_window(size).double(),
                return_complex=True,
            ).abs()
            for x in (output, wave)
        )
        expected += (made - wanted).abs().mean().item()
        squares = (x.square().clamp(min=1e-5).log10() for x in (made, wanted))
        one, other = squares
        expected += (one - other).abs().mean().item()
    assert score("stft:dac", output, wave) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # Summed over 7 windows in decimal logarithms; over 1 + 3/45 in natural ones; over 1.
        ("mel:dac", 7 * math.log10(2)),
        ("mel:speechtokenizer", (1 + 3 / 45) * math.log(2)),
        ("mel:vocos", math.log(2)),
    ],
)
def test_mel_distance_of_twice_the_level(name: str, expected: float):
    """Every band is the same number of decibels off, but for those that have no bin."""
    wave = 0.1 * torch.randn(1, 44100, generator=torch.Generator().manual_seed(0))
    found = score(name, 2 * wave, wave, 44100)
    assert 0.6 * expected < found < 1.0001 * expected
    if name == "mel:vocos":
        assert found == pytest.approx(expected, rel=0.02)


def test_mel_distance_of_vocos_by_librosa():
    librosa = pytest.importorskip("librosa")
    wave = smooth(0.5, RATE)
    output = wave + white(wave, 10)
    logs = []
    for x in (output, wave):
        power = librosa.feature.melspectrogram(
            y=x[0].numpy(), sr=RATE, n_fft=1024, hop_length=256, n_mels=100, power=1, htk=True,
            norm=None, pad_mode="reflect",
        )  # fmt: skip
        logs.append(np.log(np.maximum(power, 1e-7)))
    expected = float(np.mean(np.abs(logs[0] - logs[1])))
    assert score("mel:vocos", output, wave) == pytest.approx(expected, rel=1e-3)


def test_mrstft_of_a_silent_reference_is_no_number():
    wave = smooth(0.5, RATE)
    with pytest.raises(ValueError, match="silent"):
        score("stft", wave, torch.zeros_like(wave))


# ---- F0


def tone(start: float, octaves: float = 0.0, seconds: float = 1.0) -> torch.Tensor:
    """Harmonics `[1 t]` that glide from `start` Hz, over so many octaves, in a little noise."""
    t = np.arange(round(seconds * RATE)) / RATE
    phase = 2 * np.pi * np.cumsum(start * 2 ** (octaves * t / seconds)) / RATE
    wave = 0.1 * sum(np.sin(k * phase) / k for k in range(1, 12))
    noise = 0.003 * np.random.default_rng(0).standard_normal(len(t))
    return torch.from_numpy(wave + noise).float()[None]


def f0(option: str, output: torch.Tensor, reference: torch.Tensor, tracker: str = "pyin") -> float:
    metric = find("metrics", "f0")(option, models={"f0": tracker})
    return metric.score(Audio(output, RATE), Audio(reference, RATE)).value


@pytest.fixture(params=["pyin", "torchcrepe:tiny"])
def tracker(request: pytest.FixtureRequest) -> str:
    pytest.importorskip("librosa")
    if request.param != "pyin":
        from audiotok.audio import _torchaudio

        _torchaudio.load()
        pytest.importorskip("torchcrepe")
    return request.param


@pytest.mark.parametrize("semitones", [1, -3])
def test_a_transposed_glide_is_so_many_cents_off(tracker: str, semitones: int):
    wave = tone(120, 0.6)
    output = tone(120 * 2 ** (semitones / 12), 0.6)
    assert f0("", output, wave, tracker) == pytest.approx(100 * abs(semitones), abs=8)
    assert f0("correlation", output, wave, tracker) > 0.995
    assert f0("voicing", output, wave, tracker) > 0.98
    assert f0("correlation", output.flip(1), wave, tracker) < -0.9


def test_half_of_the_voiced_frames_lost_is_two_thirds(tracker: str):
    """Precision 1 and recall 1/2."""
    wave = tone(150, 0.3, 2.0)
    output = wave.clone()
    output[:, RATE:] = 0
    assert f0("voicing", output, wave, tracker) == pytest.approx(2 / 3, abs=0.05)
    assert f0("voicing", wave, wave, tracker) == 1
    assert f0("", output, wave, tracker) < 30


def test_nothing_voiced_is_no_number():
    pytest.importorskip("librosa")
    silent = torch.zeros(1, RATE)
    for option in ("rmse", "correlation"):
        with pytest.raises(ValueError, match="no frame is voiced in both"):
            f0(option, silent, tone(150))
    assert f0("voicing", silent, tone(150)) == 0
    with pytest.raises(ValueError, match="nor in the reference"):
        f0("voicing", silent, silent)
    with pytest.raises(ValueError, match="too short"):
        f0("rmse", tone(150)[:, :1000], tone(150)[:, :1000])
    with pytest.raises(ValueError, match="pyin, torchcrepe"):
        find("metrics", "f0")(models={"f0": "praat"})


def test_the_reference_is_tracked_once():
    metric = find("metrics", "f0")()
    asked = []

    def track(wave: np.ndarray) -> np.ndarray:
        asked.append(len(wave))
        return np.linspace(100, 100 + wave[0], 50)

    metric.track = track
    reference, outputs = tone(111, 0.1), [tone(f, 0.1) for f in (112, 113, 114)]
    for output in outputs:
        metric.score(Audio(output, RATE), Audio(reference, RATE))
    assert len(asked) == 4


# ---- numbers that others measured on sounds that others made

TABLE = {  # SI-SDR, means kept, of the public samples in assets/ of mubtasimahasan/DM-Codec
    ("EnCodec", 118): "5.16", ("SpeechTokenizer", 118): "7.01",
    ("FACodec", 118): "-0.53", ("DM-Codec", 118): "9.33",
    ("EnCodec", 132): "4.13", ("SpeechTokenizer", 132): "5.63",
    ("FACodec", 132): "1.82", ("DM-Codec", 132): "7.69",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("codec", "sample"), list(TABLE))
def test_si_sdr_of_the_samples_of_dm_codec(codec: str, sample: int):
    place = os.environ.get("AUDIOTOK_TEST_DMCODEC")
    if not place:
        pytest.skip("AUDIOTOK_TEST_DMCODEC names no folder with DM-Codec's samples")
    made, wanted = (
        Audio.load(Path(place) / f"{who}_sample_{sample}.flac") for who in (codec, "Original")
    )
    length = min(len(made), len(wanted))
    value = find("metrics", "si_sdr")("raw").score(made[:length], wanted[:length]).value
    assert f"{value:.2f}" == TABLE[codec, sample]


# ---- magnitudes or phases


def told_by(script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Any:
    """What a script of egs/ says of four seconds of speech, by the name of each line."""
    Audio.load(ROOT / "egs/data/reading.flac")[: 4 * RATE].save(tmp_path / "reading.wav")
    monkeypatch.setattr("sys.argv", [script, str(tmp_path)])
    runpy.run_path(str(ROOT / "egs" / script), run_name="__main__")
    lines = (line.rpartition(": ") for line in capsys.readouterr().out.splitlines())
    return {name: value for name, _, value in lines}


def test_what_limits_a_codec_is_told_by_putting_the_original_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    pytest.importorskip("pesq")
    said = told_by("what_limits.py", tmp_path, monkeypatch, capsys)
    told = {name: float(value) for name, value in said.items()}
    assert all(-1 <= value <= 1 for name, value in told.items() if name.startswith("cosine"))
    for metric in ("pesq", "stoi"):
        as_it_is = told[f"{metric}, as it is"]
        assert as_it_is < told[f"{metric}, the original's magnitudes"]
        assert as_it_is < told[f"{metric}, the original's phases, 0 to 4000 Hz"]


def test_what_quantizing_costs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    pytest.importorskip("pesq")
    said = told_by("what_quantizing_costs.py", tmp_path, monkeypatch, capsys)
    codec, audio = load("speech"), Audio.load(tmp_path / "reading.wav")
    made = codec.decode(codec.encode(audio))
    assert said["pesq, quantized"] == f"{find('metrics', 'pesq')().score(made, audio).value:.3f}"
    assert 0 < float(said["lost, all codebooks"]) < 0.5
    assert float(said["stoi, as it is"]) > float(said["stoi, quantized"]) - 0.02
    held = [int(value.split()[0]) for name, value in said.items() if "directions" in name]
    assert held == sorted(held)
    assert held[0] > 1
    assert held[-1] <= 96
