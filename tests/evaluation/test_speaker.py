"""Embedders: vectors of length 1, alike for one voice, and clear words for missing weights."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from audiotok._platform.optional import MissingModelError
from audiotok._platform.registry import UnknownPartError, find, names
from audiotok.audio.audio import Audio
from audiotok.evaluation.speaker.base import SpeakerEncoder, speaker_encoder

READING = Path(__file__).parents[2] / "egs/data/reading.flac"


@pytest.fixture(scope="module")
def reading() -> Audio:
    return Audio.load(READING).mono().resample(16000)[: 6 * 16000]


@pytest.mark.parametrize("name", names("speaker"))
def test_says_what_it_is_before_a_model_is_loaded(name: str):
    part = find("speaker", name)("/nowhere/model")
    assert isinstance(part, SpeakerEncoder)
    assert "16 kHz" in part.protocol
    assert "/nowhere/model" in part.protocol  # of a file that is there, only the name


def test_one_embedder_for_a_spec():
    assert speaker_encoder("wespeaker:/a.onnx") is speaker_encoder("wespeaker:/a.onnx")
    assert speaker_encoder("wespeaker:/a.onnx") is not speaker_encoder("wespeaker:/b.onnx")
    assert speaker_encoder().protocol == speaker_encoder("resemblyzer").protocol
    with pytest.raises(UnknownPartError, match="wespeaker"):
        speaker_encoder("wespeak")


class Counting(SpeakerEncoder):
    """Says what the level is, and how often it was asked."""

    def __init__(self, model: str = "") -> None:
        super().__init__(model)
        self.asked = 0

    @property
    def protocol(self) -> str:
        return "counts"

    def embed(self, audio: Audio) -> torch.Tensor:
        self.asked += 1
        angle = audio.samples.mean()
        return torch.stack([angle.cos(), angle.sin()])


def test_similarity_is_the_cosine_and_the_reference_is_heard_once(monkeypatch: pytest.MonkeyPatch):
    counting = Counting()
    monkeypatch.setattr(
        "audiotok.evaluation.metrics.speaker.speaker_encoder", lambda spec: counting
    )
    metric = find("metrics", "speaker")()
    buzz = torch.tensor([[0.1, -0.1]]).repeat(1, 50)  # an offset alone would be silence
    reference = Audio(buzz + 0.5, 16000)
    for angle in (0.75, 1.5, 3.0):
        output = Audio(buzz[:, :90] + angle, 16000)  # of any length
        assert metric.score(output, reference).value == pytest.approx(np.cos(angle - 0.5), abs=1e-6)
    assert counting.asked == 4
    with pytest.raises(ValueError, match="output is silent"):
        metric.score(Audio(torch.zeros(1, 100), 16000), reference)
    with pytest.raises(ValueError, match="reference is silent"):
        metric.score(reference, Audio(torch.zeros(1, 0), 16000))


# ---- Resemblyzer


def test_resemblyzer_is_its_package(reading: Audio):
    pytest.importorskip("webrtcvad")
    part = find("speaker", "resemblyzer")()
    try:
        vector = part.embed(reading)
    except ImportError:
        pytest.skip("resemblyzer is not installed")
    package = part._package
    expected = package.VoiceEncoder("cpu", verbose=False).embed_utterance(
        package.preprocess_wav(reading.samples[0].numpy())
    )
    torch.testing.assert_close(vector, torch.from_numpy(expected), atol=1e-6, rtol=1e-5)
    assert vector.norm().item() == pytest.approx(1, abs=1e-6)
    halves = [part.embed(reading[a:b]) for a, b in ((0, 48000), (48000, 96000))]
    low = Audio(reading.samples, 11000).resample(16000)  # as another, much deeper voice
    assert halves[0] @ halves[1] > 0.8 > vector @ part.embed(low)
    with pytest.raises(ValueError, match="silent"):
        part.embed(Audio(torch.zeros(1, 16000), 16000))


def test_resemblyzer_that_is_not_installed(monkeypatch: pytest.MonkeyPatch, reading: Audio):
    monkeypatch.setitem(sys.modules, "resemblyzer", None)
    with pytest.raises(ImportError, match="pip install"):
        find("speaker", "resemblyzer")().embed(reading)


# ---- WeSpeaker


def test_wespeaker_hears_kaldi_bands_without_their_mean(
    monkeypatch: pytest.MonkeyPatch, reading: Audio
):
    heard = []

    class Session:
        def get_inputs(self) -> list[Any]:
            return [type("Input", (), {"name": "feats", "shape": ["B", "T", 80]})]

        def run(self, wanted: None, given: dict[str, np.ndarray]) -> list[np.ndarray]:
            heard.append(given["feats"])
            return [np.array([[3.0, 4.0]], np.float32)]

    part = find("speaker", "wespeaker")("/nowhere.onnx")
    part.__dict__["_network"] = Session()
    assert part.embed(reading).tolist() == pytest.approx([0.6, 0.8])
    louder = Audio(0.25 * reading.samples, reading.rate)
    part.embed(louder)
    assert heard[0].shape == (1, 1 + (len(reading) - 400) // 160, 80)
    assert np.abs(heard[0].mean(1)).max() < 1e-3
    # The level goes with the mean; only bands at Kaldi's floor would show it.
    assert np.median(np.abs(heard[0] - heard[1])) < 1e-3
    with pytest.raises(ValueError, match=r"0\.1 s"):
        part.embed(reading[:1000])


@pytest.mark.parametrize("model", ["", "/nowhere/there.onnx"])
def test_wespeaker_without_its_model(model: str, reading: Audio):
    with pytest.raises(MissingModelError, match="WeSpeaker in ONNX"):
        find("speaker", "wespeaker")(model).embed(reading)


def test_wespeaker_with_a_file_that_is_no_model(tmp_path: Path, reading: Audio):
    pytest.importorskip("onnxruntime")
    (tmp_path / "a.onnx").write_bytes(b"not a model")
    with pytest.raises(MissingModelError, match="not an ONNX model"):
        find("speaker", "wespeaker")(str(tmp_path / "a.onnx")).embed(reading)


@pytest.mark.slow
def test_wespeaker_tells_voices_apart(reading: Audio):
    model = os.environ.get("AUDIOTOK_TEST_WESPEAKER")
    if not model:
        pytest.skip("AUDIOTOK_TEST_WESPEAKER names no ONNX model")
    part = find("speaker", "wespeaker")(model)
    one, other = part.embed(reading[:48000]), part.embed(reading[48000:])
    deep = part.embed(Audio(reading.samples, 11000))
    assert one @ other > 0.6 > 0.5 > one @ deep


# ---- WavLM


@pytest.fixture
def wavlm(tmp_path: Path) -> tuple[nn.Module, Path]:
    """A tiny one with random weights, as transformers saves it."""
    transformers = pytest.importorskip("transformers")
    config = transformers.WavLMConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16,
        conv_dim=(8, 8), conv_stride=(20, 16), conv_kernel=(20, 16), num_feat_extract_layers=2,
        num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2, tdnn_dim=(8, 8, 8, 8, 16),
        xvector_output_dim=6,
    )  # fmt: skip
    model = transformers.WavLMForXVector(config).eval()
    model.save_pretrained(tmp_path)
    transformers.Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(tmp_path)
    return model, tmp_path


def test_wavlm_is_that_of_transformers(wavlm: tuple[nn.Module, Path], reading: Audio):
    transformers = pytest.importorskip("transformers")
    model, folder = wavlm
    reader = transformers.AutoFeatureExtractor.from_pretrained(folder)
    given = reader(reading.samples[0].numpy(), sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        expected = model(given["input_values"]).embeddings[0]
    vector = find("speaker", "wavlm")(str(folder)).embed(reading)
    torch.testing.assert_close(vector, expected / expected.norm(), atol=1e-4, rtol=1e-3)
    with pytest.raises(ValueError, match=r"0\.5 s"):
        find("speaker", "wavlm")(str(folder)).embed(reading[:4000])


def test_wavlm_without_a_network(reading: Audio):
    pytest.importorskip("transformers")
    with pytest.raises(MissingModelError, match="give its folder as wavlm:FOLDER") as error:
        find("speaker", "wavlm")().embed(reading)
    assert "\n" not in str(error.value)
    with pytest.raises(MissingModelError, match="no such folder"):
        find("speaker", "wavlm")("/nowhere/there").embed(reading)


def test_wavlm_without_its_head(wavlm: tuple[nn.Module, Path], reading: Audio, tmp_path: Path):
    model, folder = wavlm
    model.wavlm.save_pretrained(tmp_path / "bare")  # type: ignore[union-attr, operator]
    (folder / "preprocessor_config.json").rename(tmp_path / "bare/preprocessor_config.json")
    with pytest.raises(MissingModelError, match="x-vector head"):
        find("speaker", "wavlm")(str(tmp_path / "bare")).embed(reading)
