"""A codec as a model of transformers gives what the codec gives."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commandline import audiotok as run

import audiotok
from audiotok.audio.audio import Audio
from audiotok.codecs.checkpoint import describe, load, read_card

pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("default")  # others' warnings are not ours

READING = Path(__file__).parents[2] / "egs/data/reading.flac"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("hf") / "speech"
    import_module("audiotok.codecs.transformers").AudiotokModel.of("speech").save_pretrained(out)
    return out


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    return import_module("transformers").AutoModel.from_pretrained(folder)


def test_auto_classes_find_it(folder: Path, model: Any):
    transformers, ours = (
        import_module("transformers"),
        import_module("audiotok.codecs.transformers"),
    )
    assert isinstance(model, ours.AudiotokModel)
    assert model.codec.fingerprint == load("speech").fingerprint
    config = transformers.AutoConfig.from_pretrained(folder)
    assert (config.num_quantizers, config.frame_rate) == (8, 50.0)
    assert isinstance(
        transformers.AutoFeatureExtractor.from_pretrained(folder), ours.AudiotokFeatureExtractor
    )


def test_a_batch_has_the_codes_of_each_alone(folder: Path, model: Any):
    audio = Audio.load(READING).resample(16000)
    waves = [audio[:20000], audio[30000:41111]]
    extract = import_module("transformers").AutoFeatureExtractor.from_pretrained(folder)
    arrays = [wave.samples[0].numpy() for wave in waves]
    inputs = extract(arrays, sampling_rate=16000, padding=True, return_tensors="pt")
    codec = load("speech")
    for few in (None, 3):
        made = model.encode(**inputs, num_quantizers=few)
        for i, wave in enumerate(waves):
            tokens = codec.encode(wave, codebooks=few)
            assert int(made.codes_mask[i].sum()) == tokens.frames
            assert np.array_equal(made.audio_codes[i, :, : tokens.frames].numpy(), tokens.codes)
    back = model.decode(made.audio_codes, made.codes_mask).audio_values
    heard = codec.decode(codec.encode(waves[1], codebooks=3)).samples
    assert torch.equal(back[1, :, : heard.shape[1]], heard)
    assert model(**inputs).audio_values.shape == inputs["input_values"].shape


def test_its_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    wave = Audio.load(READING).resample(16000)[:16000]
    space: dict[str, Any] = {"wave": wave.samples[0].numpy()}
    text = import_module("audiotok.codecs.transformers").__doc__
    for example in doctest.DocTestParser().get_examples(text or ""):
        exec(example.source, space)
    codec = load("speech")
    assert torch.equal(space["decoded"][0], codec.decode(codec.encode(wave)).samples)


def test_its_folder_is_a_checkpoint(folder: Path, tmp_path: Path):
    speech, codec = load("speech"), load(folder)
    assert (codec.fingerprint, codec.card) == (speech.fingerprint, speech.card)
    assert audiotok.load(folder, name="speech").decoder_fingerprint == speech.decoder_fingerprint
    assert describe(folder)["fingerprint"] == speech.fingerprint
    out = tmp_path / "speech.safetensors"
    done = run("convert", str(folder), str(out))
    assert done.code == 0, done.err
    assert (load(out).fingerprint, read_card(out)["card"]) == (speech.fingerprint, speech.card)


def test_padding_comes_last(model: Any):
    mask = torch.tensor([[0, 1, 1, 1]])
    with pytest.raises(ValueError, match=r"^padding_mask has padding before what is real"):
        model.encode(torch.zeros(1, 1, 4), mask)


def test_what_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(OSError, match=r"model\.safetensors"):
        import_module("audiotok.codecs.transformers").AudiotokModel.from_pretrained(tmp_path)
