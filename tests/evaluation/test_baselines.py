"""Anchors: the same length and rate back, honest bytes, clear words where something is missing."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch

from audiotok._platform.optional import MissingModelError
from audiotok._platform.registry import find, names
from audiotok.audio.audio import Audio
from audiotok.evaluation.baselines.base import Baseline, fit_length, run
from audiotok.evaluation.metrics.si_sdr import alignment

READING = Path(__file__).parents[2] / "egs/data/reading.flac"
LYRA = os.environ.get("LYRA", "")
MUST = {"opus": ("opusenc", "opusdec"), "codec2": ("c2enc", "c2dec")}
OPTIONS = {"opus": "12", "codec2": "3200", "resampled": "8000", "original": "", "noise": "10"}


@pytest.fixture(scope="module")
def reading() -> Audio:
    return Audio.load(READING).mono().resample(16000)[: 3 * 16000 + 7]


def baseline(spec: str) -> Baseline:
    """The baseline `NAME:OPTION`; the test is skipped where its program is not installed."""
    name, _, option = spec.partition(":")
    for program in MUST.get(name, ()):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    return find("baselines", name)(option)


def ratio(output: Audio, audio: Audio) -> float:
    """SNR in dB."""
    noise = (output.samples - audio.samples).square().sum()
    return float(10 * torch.log10(audio.samples.square().sum() / noise))


# ---- every baseline


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize(("rate", "samples"), [(16000, 16000), (24000, 30001), (44100, 20011)])
def test_length_and_rate_come_back(name: str, rate: int, samples: int, reading: Audio):
    audio = reading.resample(rate)[:samples]
    part = baseline(f"{name}:{OPTIONS[name]}")
    first, size = part.process(audio)
    assert (first.samples.shape, first.rate) == ((1, samples), rate)
    second, again = part.process(audio)
    assert torch.equal(first.samples, second.samples)
    assert size == again
    assert (size is None) == (part.nominal_kbps is None)
    assert isinstance(part.facts, dict)


@pytest.mark.parametrize(
    "spec",
    ["opus:", "opus:5", "opus:x", "opus:999", "codec2:", "codec2:3201", "lyra:", "lyra:3000",
     "encodec:", "encodec:7", "original:1", "resampled:", "resampled:0", "resampled:x",
     "noise:loud", "noise:nan", "folder:", "folder:/nowhere/there"],
)  # fmt: skip
def test_an_option_that_does_not_exist(spec: str):
    name, _, option = spec.partition(":")
    with pytest.raises(ValueError, match=f"^{name}:.*(option|weights|it has no)") as error:
        find("baselines", name)(option)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("spec", "package"), [("opus:6", "opus-tools"), ("codec2:3200", "codec2")])
def test_a_missing_program(
    spec: str, package: str, reading: Audio, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("PATH", str(tmp_path))
    name, _, option = spec.partition(":")
    part = find("baselines", name)(option)
    with pytest.raises(ImportError, match=f"apt-get install {package}"):
        part.process(reading)


def test_a_program_that_fails():
    with pytest.raises(ValueError, match="false failed"):
        run("coreutils", "false")


def test_fitted_makes_up_for_little():
    audio, made = Audio(torch.ones(1, 1000), 1000), Audio(torch.ones(1, 990), 1000)
    output = fit_length(made, audio, seconds=0.01)
    assert output.samples[0, 989:991].tolist() == [1, 0]
    assert len(fit_length(audio, made, seconds=0.01)) == 990
    with pytest.raises(ValueError, match="10 ms are made up for"):
        fit_length(Audio(torch.ones(1, 989), 1000), audio, seconds=0.01)


def test_every_anchor_is_found():
    assert set(names("baselines")) == {*OPTIONS, "lyra", "encodec", "folder"}


# ---- classical


@pytest.mark.parametrize("kbps", [6, 12, 24])
def test_opus_keeps_its_rate_but_for_its_container(kbps: int, reading: Audio):
    output, size = baseline(f"opus:{kbps}").process(reading)
    real = 8 * (size or 0) / reading.seconds / 1000
    assert kbps < real < 1.1 * kbps + 3  # headers of a file of 3 s, pages
    lag, sign = alignment(output.samples[0], reading.samples[0], 800)
    assert (abs(lag) <= 3, sign) == (True, 1)
    assert ratio(output, reading) > {6: -3, 12: 2, 24: 6}[kbps]


@pytest.mark.parametrize(("mode", "bits", "frame"), [("3200", 64, 0.02), ("700C", 32, 0.04)])
def test_codec2_writes_its_frames(mode: str, bits: int, frame: float, reading: Audio):
    output, size = baseline(f"codec2:{mode}").process(reading)
    frames = -(-reading.seconds // frame)
    assert size == 7 + frames * bits // 8  # the header of a .c2 file
    spectrum = torch.fft.rfft(output.samples[0]).abs()
    assert spectrum[len(spectrum) // 2 + 900 :].max() < 0.01 * spectrum.max()


# ---- rows


def test_original_is_the_recording(reading: Audio):
    output, size = baseline("original").process(reading)
    assert torch.equal(output.samples, reading.samples)
    assert size is None


def test_resampled_loses_what_is_above_half_the_rate():
    t = torch.arange(16000) / 16000
    low, high = (torch.sin(2 * torch.pi * f * t)[None] for f in (1000, 6000))
    output, _ = baseline("resampled:8000").process(Audio(low + high, 16000))
    middle = slice(1000, 15000)
    assert ratio(output[middle], Audio(low, 16000)[middle]) > 50


@pytest.mark.parametrize("decibels", [-10, 0, 25])
def test_noise_has_its_ratio(decibels: int, reading: Audio):
    output, _ = baseline(f"noise:{decibels}").process(reading)
    assert ratio(output, reading) == pytest.approx(decibels, abs=0.01)


def test_noise_alone_is_as_loud_and_nothing_like_the_recording(reading: Audio):
    output, _ = baseline("noise").process(reading)
    assert output.samples.norm().item() == pytest.approx(reading.samples.norm().item(), rel=1e-4)
    both = (output.samples * reading.samples).sum() / reading.samples.square().sum()
    assert abs(both) < 0.05
    other, _ = baseline("noise").process(reading[1:])
    assert not torch.equal(other.samples, output.samples[:, 1:])


# ---- a folder


def test_a_folder_of_what_another_program_made(tmp_path: Path, reading: Audio):
    made = Audio(0.5 * reading.samples[:, :-260], reading.rate)
    for place in ("a/one.wav", "b/one.flac", "b/deep/two.ogg", "x/three.wav", "y/three.flac"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        made.save(tmp_path / place)
    part = baseline(f"folder:{tmp_path}")
    output, size = part.process(reading, "a/one.opus")
    assert size is None
    assert len(output) == len(reading) - 260  # nothing is made up
    assert len(part.process(made, "speaker/two.flac")[0]) == len(made)  # by its name alone
    with pytest.raises(ValueError, match=r"more than one file.*three"):
        part.process(reading, "z/three.flac")
    with pytest.raises(ValueError, match=r"^four\.flac: no such file"):
        part.process(reading, "four.flac")
    with pytest.raises(ValueError, match="without a name"):
        part.process(reading)


def test_a_file_that_is_too_short(tmp_path: Path, reading: Audio):
    reading[:-801].save(tmp_path / "one.wav")
    with pytest.raises(ValueError, match=r"one\.wav: is .* may differ by 50 ms"):
        baseline(f"folder:{tmp_path}").process(reading, "one.wav")


def test_a_file_at_another_rate(tmp_path: Path, reading: Audio):
    reading.resample(24000).save(tmp_path / "one.wav", subtype="FLOAT")
    output, _ = baseline(f"folder:{tmp_path}").process(reading, "one.flac")
    assert ratio(output[: len(reading)], reading) > 35  # what resampling leaves of the highest band


# ---- neural


@pytest.mark.parametrize("folder", ["", "/nowhere/there"])
def test_lyra_without_its_models(folder: str, reading: Audio, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("LYRA", raising=False)
    with pytest.raises(MissingModelError, match="model_coeffs"):
        find("baselines", "lyra")(f"6000:{folder}").process(reading)


@pytest.mark.skipif(not LYRA, reason="LYRA names no folder with Lyra's models")
@pytest.mark.parametrize("bits", [3200, 6000, 9200])
def test_lyra_writes_its_frames(bits: int, reading: Audio):
    pytest.importorskip("ai_edge_litert")
    part = find("baselines", "lyra")(str(bits))
    output, size = part.process(reading)
    assert len(output) == len(reading)
    assert size == -(-len(reading) // 320) * bits // 400
    assert torch.equal(part.process(reading)[0].samples, output.samples)  # nothing is left over
    again = find("baselines", "lyra")(f"{bits}:{LYRA}").process(reading)[0]
    assert torch.equal(again.samples, output.samples)
    assert find("metrics", "stft")().score(output, reading).value < 2


def test_encodec_without_its_weights(reading: Audio):
    pytest.importorskip("encodec")
    with pytest.raises(MissingModelError, match=r"put encodec_24khz.*\.th into") as error:
        find("baselines", "encodec")("6").process(reading)
    assert "\n" not in str(error.value)


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize("kbps", ["1.5", "6"])
def test_encodec_counts_the_bytes_of_its_file(kbps: str, reading: Audio):
    package = pytest.importorskip("encodec")
    part = find("baselines", "encodec")(kbps)
    network = package.EncodecModel.encodec_model_24khz(pretrained=False).eval()
    for key, buffer in network.named_buffers():
        if key.endswith("inited"):
            buffer.fill_(1)
    network.name = "encodec_24khz"  # as the package calls it with its weights
    network.set_target_bandwidth(float(kbps))
    part.__dict__["_network"] = network
    output, size = part.process(reading)
    assert len(output) == len(reading)
    coded = -(-(len(reading) * 3 // 2) // 320) * float(kbps) * 1000 / 75 / 8
    assert coded <= (size or 0) < coded + 100
