"""Recognizers: equal to the packages they run, and in one line where a model is not here.

Those that need real weights are skipped unless AUDIOTOK_TEST_MODELS names a folder that holds
`whisper-base`, converted for CTranslate2.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import torch

from audiotok._platform.optional import MissingModelError
from audiotok._platform.registry import UnknownPartError, find, names
from audiotok.audio.audio import Audio
from audiotok.evaluation.asr import base, wav2vec2
from audiotok.evaluation.asr.base import Recognizer, recognizer
from audiotok.evaluation.cache import BoundedCache, fingerprint

PACKAGES = {
    "faster_whisper": ("faster_whisper", "faster-whisper"),
    "whisper": ("whisper", "openai-whisper"),
    "transformers": ("transformers", "transformers"),
}


def sound(seconds: float = 1.0, rate: int = 16000, seed: int = 0) -> Audio:
    generator = torch.Generator().manual_seed(seed)
    return Audio(0.1 * torch.randn(1, round(seconds * rate), generator=generator), rate)


class Counting(Recognizer):
    """Hears how many samples there are, and counts how often it is asked."""

    usual = "none"

    def __init__(self, model: str = "", *, language: str = "en") -> None:
        super().__init__(model, language=language)
        self.asked: list[int] = []

    def transcribe(self, audios: Sequence[Audio]) -> list[str]:
        self.asked.append(len(audios))
        return [f"{len(audio)} samples" for audio in audios]


class Attack:
    """What a pickle can do to whoever loads it carelessly."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, ("attacked",)


# ---- every recognizer


@pytest.mark.parametrize("name", names("asr"))
def test_says_what_it_is_before_it_loads_anything(name: str):
    part = find("asr", name)("/some/where/a_model", language="en")
    assert isinstance(part, Recognizer)
    assert "a_model" in part.protocol
    assert find("asr", name)().model in find("asr", name)().protocol


@pytest.mark.parametrize("name", PACKAGES)
def test_a_model_that_is_not_there(name: str, tmp_path: Path):
    pytest.importorskip(PACKAGES[name][0])
    with pytest.raises(MissingModelError, match="no such model") as caught:
        recognizer(f"{name}:{tmp_path}/nothing").transcribe([sound()])
    assert "\n" not in str(caught.value)
    damaged = tmp_path / "damaged"
    damaged.write_text("not a model")
    with pytest.raises(MissingModelError, match="damaged: not") as caught:
        recognizer(f"{name}:{damaged}").transcribe([sound()])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", PACKAGES)
def test_a_model_that_cannot_be_fetched(name: str):
    """The network is blocked; the message says how to give a path."""
    pytest.importorskip(PACKAGES[name][0])
    with pytest.raises(MissingModelError, match=f"{name}:/path/of") as caught:
        recognizer(name).transcribe([sound()])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", PACKAGES)
def test_without_the_package(name: str, monkeypatch: pytest.MonkeyPatch):
    library, package = PACKAGES[name]
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match=f"pip install {package}"):
        recognizer(f"{name}:anything").transcribe([sound()])


# ---- by a spec, once per process


def test_a_spec_is_an_engine_and_a_model():
    part = recognizer("whisper:/models/base.pt", "de")
    assert type(part).__name__ == "Whisper"
    assert (part.model, part.language) == ("/models/base.pt", "de")
    assert recognizer("whisper:/models/base.pt", "de") is part
    assert recognizer("whisper:/models/base.pt") is not part
    assert type(recognizer("")).__name__ == "FasterWhisper"
    with pytest.raises(UnknownPartError, match=r"Did you mean 'faster_whisper'"):
        recognizer("fast_whisper:base")


def test_a_local_model_goes_by_its_name_and_not_by_where_it_lies(tmp_path: Path):
    (tmp_path / "whisper-base").mkdir()
    protocol = recognizer(f"faster_whisper:{tmp_path}/whisper-base").protocol
    assert "model whisper-base," in protocol
    assert str(tmp_path) not in protocol


# ---- nothing is heard twice


def test_a_recording_is_heard_once():
    part = Counting()
    a, b = sound(0.1), sound(0.2)
    assert part.transcripts([a, b, a]) == ["1600 samples", "3200 samples", "1600 samples"]
    copy = Audio(a.samples.clone(), a.rate)
    assert part.transcripts([copy, b]) == ["1600 samples", "3200 samples"]
    assert part.asked == [2]
    # The same samples at another rate are another recording.
    assert part.transcripts([Audio(a.samples, 8000)]) == ["1600 samples"]
    assert part.asked == [2, 1]


def test_no_samples_are_no_speech_to_recognize():
    with pytest.raises(ValueError, match="without samples"):
        Counting().transcripts([Audio(torch.zeros(1, 0), 16000)])


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch):
    memory = BoundedCache[int](3)
    for i in range(10):
        assert memory.put(i, i * i) == i * i
    assert [memory.get(i) for i in range(10)] == [None] * 7 + [49, 64, 81]
    monkeypatch.setattr(base, "REMEMBERED", 1)
    part = Counting()
    for audio in (sound(0.1), sound(0.2), sound(0.1)):
        part.transcripts([audio])
    assert part.asked == [1, 1, 1]


def test_a_fingerprint_tells_recordings_apart():
    a = torch.zeros(2, 100)
    b = a.clone()
    b[1, 99] = 1e-30
    seen = {fingerprint(*x) for x in ((a, 1), (a, 2), (b, 1), (a.reshape(1, 200), 1))}
    assert len(seen) == 4
    assert fingerprint(a.T.contiguous().T, 1) == fingerprint(a, 1)


# ---- wav2vec 2.0


def test_ctc_is_read_off_as_transformers_does(tmp_path: Path):
    transformers = pytest.importorskip("transformers")
    labels = ("-", "|", "E", "T", "A")
    path = tmp_path / "vocab.json"
    path.write_text(json.dumps({**{x: i for i, x in enumerate(labels)}, "<unk>": 5}))
    tokenizer = transformers.Wav2Vec2CTCTokenizer(
        path, pad_token="-", bos_token=None, eos_token=None, unk_token="<unk>"
    )
    for _ in range(50):
        best = torch.randint(0, 5, (40,))
        assert wav2vec2.greedy(best, labels).split() == tokenizer.decode(best.tolist()).split()
    best = torch.tensor([0, 2, 2, 0, 2, 1, 1, 3, 4, 4, 0, 0])
    assert wav2vec2.greedy(best, labels) == "EE TA"


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Path]:
    """A pipeline of torchaudio made small, and where it looks for its weights."""
    from audiotok.audio import _torchaudio

    pipeline = _torchaudio.load().pipelines.WAV2VEC2_ASR_BASE_960H
    small = {
        "extractor_conv_layer_config": [(8, 10, 5), *[(8, 3, 2)] * 4, *[(8, 2, 2)] * 2],
        "encoder_embed_dim": 16,
        "encoder_num_layers": 1,
        "encoder_num_heads": 2,
        "encoder_ff_interm_features": 16,
    }
    monkeypatch.setattr(pipeline, "_params", {**pipeline._params, **small})
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / pipeline._path
    monkeypatch.setattr(pipeline, "_path", file.name)
    return pipeline, file


def test_wav2vec2_is_torchaudios(pipeline: tuple[Any, Path]):
    bundle, file = pipeline
    network = torch.nn.Module()
    from audiotok.audio import _torchaudio

    # The published files have 3 labels more, which torchaudio takes out.
    params = {**bundle._params, "aux_num_out": 32}
    network = _torchaudio.load().models.wav2vec2_model(**params).eval()
    torch.nn.init.normal_(network.aux.weight, std=10)
    torch.save(network.state_dict(), file)
    try:
        audios = [sound(1.3), sound(0.5, 24000, seed=1), sound(0.001)]
        texts = find("asr", "wav2vec2")().transcribe(audios)
        with torch.inference_mode():
            scores = network(audios[0].samples)[0][0].clone()
    finally:
        file.unlink()
    scores = scores.numpy().copy()
    scores[:, 1:4] = -math.inf
    best = [i for i, _ in groupby(scores.argmax(1).tolist())]
    alphabet = "-...|" + "".join(bundle.get_labels()[2:])
    assert texts[0] == "".join(alphabet[i] for i in best if i).replace("|", " ").strip()
    assert len(set(texts)) > 1


def test_wav2vec2_runs_nothing_in_a_file(
    pipeline: tuple[Any, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    _, file = pipeline
    torch.save({"weight": Attack()}, file)
    try:
        with pytest.raises(MissingModelError, match="cannot be had"):
            find("asr", "wav2vec2")().transcribe([sound()])
    finally:
        file.unlink()
    assert not Path("attacked").exists()
    with pytest.raises(MissingModelError, match="put its file wav2vec2_fairseq_base"):
        find("asr", "wav2vec2")().transcribe([sound()])
    with pytest.raises(MissingModelError, match=r"only .*WAV2VEC2_ASR_BASE_960H"):
        find("asr", "wav2vec2")("WAV2VEC2_BASE").transcribe([sound()])


# ---- transformers


def test_transformers_ctc_is_that_of_its_parts(tmp_path: Path):
    library = pytest.importorskip("transformers")
    letters = ["<pad>", "|", "<unk>", *"ABCDEFGHIJ"]
    vocabulary = tmp_path / "vocab.json"
    vocabulary.write_text(json.dumps({x: i for i, x in enumerate(letters)}))
    tokenizer = library.Wav2Vec2CTCTokenizer(vocabulary, bos_token=None, eos_token=None)
    extractor = library.Wav2Vec2FeatureExtractor()
    config = library.Wav2Vec2Config(
        vocab_size=len(letters),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=(8,) * 7,
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
        pad_token_id=0,
    )
    network = library.Wav2Vec2ForCTC(config).eval()
    torch.nn.init.normal_(network.lm_head.weight, std=10)
    for part in (tokenizer, extractor, network):
        part.save_pretrained(tmp_path / "tiny")
    audio = sound(1.3)
    text = recognizer(f"transformers:{tmp_path}/tiny").transcribe([audio, sound(0.7, 24000)])[0]
    values = extractor(audio.samples[0].numpy(), sampling_rate=16000, return_tensors="pt")
    with torch.inference_mode():
        best = network(values.input_values).logits[0].argmax(1)
    assert text == tokenizer.decode(best.tolist()).strip()
    assert len(text) > 3


# ---- Whisper


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A very small Whisper with random weights, as OpenAI's files are."""
    whisper = pytest.importorskip("whisper")
    dims = {
        **dict.fromkeys(("n_audio_state", "n_text_state"), 16),
        **dict.fromkeys(("n_audio_head", "n_text_head"), 2),
        **dict.fromkeys(("n_audio_layer", "n_text_layer"), 1),
        **{"n_mels": 80, "n_audio_ctx": 1500, "n_vocab": 51865, "n_text_ctx": 16},
    }
    torch.manual_seed(0)
    state = whisper.model.Whisper(whisper.model.ModelDimensions(**dims)).state_dict()
    for name, value in state.items():
        if not value.isfinite().all():
            state[name] = torch.randn(value.shape)
    path = tmp_path_factory.mktemp("whisper") / "tiny.pt"
    torch.save({"dims": dims, "model_state_dict": state}, path)
    return path


# It was written for an older numpy, and leaves files open.
@pytest.mark.filterwarnings("ignore:__array_wrap__", "ignore:unclosed", "ignore:Exception ignored")
def test_whisper_is_its_own_package(tiny: Path):
    whisper = pytest.importorskip("whisper")
    audio = sound(1.5)
    expected = whisper.load_model(str(tiny)).transcribe(
        audio.samples[0].numpy(),
        language="en",
        beam_size=5,
        temperature=0.0,
        condition_on_previous_text=False,
        fp16=False,
    )
    assert recognizer(f"whisper:{tiny}").transcribe([audio]) == [expected["text"].strip()]


def test_whisper_runs_nothing_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("whisper")
    monkeypatch.chdir(tmp_path)
    torch.save({"dims": Attack()}, "attack.pt")
    with pytest.raises(MissingModelError, match="not a Whisper checkpoint"):
        recognizer(f"whisper:{tmp_path}/attack.pt").transcribe([sound()])
    assert not Path("attacked").exists()
    with pytest.raises(MissingModelError, match=r"one of .*tiny\.en"):
        recognizer("whisper:bases").transcribe([sound()])


@pytest.mark.slow
def test_faster_whisper_is_its_own_package():
    library = pytest.importorskip("faster_whisper")
    models = os.environ.get("AUDIOTOK_TEST_MODELS")
    if not models:
        pytest.skip("AUDIOTOK_TEST_MODELS names no folder of models")
    path = Path(models) / "whisper-base"
    speech = Audio.load(Path(__file__).parents[2] / "egs" / "data" / "reading.flac")
    audios = [speech, speech[: len(speech) // 2]]
    model = library.WhisperModel(str(path), device="auto", compute_type="float32")
    expected = []
    for audio in audios:
        wave = audio.mono().resample(16000).samples[0].numpy()
        segments, _ = model.transcribe(
            wave,
            language="en",
            beam_size=5,
            temperature=0,
            condition_on_previous_text=False,
            vad_filter=False,
        )
        expected.append("".join(x.text for x in segments).strip())
    part = recognizer(f"faster_whisper:{path}")
    assert part.transcribe(audios) == expected
    assert len(expected[0].split()) > len(expected[1].split()) > 3
    # Always the same, whatever was heard before.
    assert part.transcribe(audios[::-1]) == expected[::-1]
