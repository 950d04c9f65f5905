"""Teachers beside other programs that run the same weights, and what all of them promise."""

from __future__ import annotations

import json
import os
import runpy
import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from contracts import assert_close
from torch import Tensor, nn

from audiotok import Audio
from audiotok._platform.registry import find, names
from audiotok.audio import _torchaudio
from audiotok.data.features.base import (
    SpeechTeacher,
    Teacher,
    TeacherError,
    local_weights,
    read_weights,
)
from audiotok.data.features.hubert import Hubert
from audiotok.data.features.text import Text, Word
from audiotok.data.features.w2v_bert import W2vBert, bands, renamed
from audiotok.data.features.wav2vec2 import Wav2vec2
from audiotok.data.features.wavlm import Wavlm
from audiotok.data.features.whisper import Whisper, log_mel, sinusoids


def speech(seconds: float, rate: int = 16000, seed: int = 0) -> Audio:
    """Noise in syllables, a little louder than it is long."""
    random = torch.Generator().manual_seed(seed)
    samples = round(seconds * rate)
    swell = torch.sin(torch.arange(samples) / rate * 20).clamp(min=0.01)
    return Audio(0.3 * swell * torch.randn(1, samples, generator=random), rate)


def shaken(model: nn.Module) -> Any:
    """Every tensor random and of its own, so that none can stand in another's place."""
    for value in [*model.parameters(), *model.buffers()]:
        if value.is_floating_point():
            value.data += 0.1 * torch.randn_like(value)
    return model.eval().requires_grad_(False)


# -- what every teacher promises --------------------------------------------------------------


class Averages(SpeechTeacher):
    """Frame i: mean of samples over `reach` frames to each side, to the power of the layer."""

    name, width, layers, window, overlap = "averages", 1, 2, 40, 12
    frame_rate = Fraction(100)
    reach = 6

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Parameter(torch.ones(()))
        self.heard: list[int] = []

    def states(self, wave: Tensor) -> Iterator[Tensor]:
        self.heard.append(wave.shape[1])
        frames = -(-wave.shape[1] // 160)
        wave = nn.functional.pad(
            wave, (160 * self.reach, 160 * (frames + self.reach) - wave.shape[1])
        )
        means = wave.unfold(1, 160 * (2 * self.reach + 1), 160).mean(2)
        for layer in range(3):
            yield (means * self.one)[..., None] ** (layer + 1)


@pytest.mark.parametrize("frames", [1, 39, 40, 41, 68, 69, 96, 97, 200])
@pytest.mark.parametrize("part", [0, 1, 159])
def test_a_long_recording_is_heard_in_pieces_that_give_what_the_whole_gives(frames: int, part: int):
    audio = speech(frames / 100 - part / 16000)
    teacher = Averages()
    made = teacher.features(audio, layer=0)
    assert max(teacher.heard) <= 40 * 160
    assert len(teacher.heard) == 1 + max(0, -(-(len(audio) - 40 * 160) // (28 * 160)))
    (whole, _, _) = Averages().states(audio.samples)
    assert made.shape == (frames, 1)
    assert_close(made, whole[0].detach(), 1e-6)


def test_the_layer_is_a_hidden_state_or_the_mean_of_all():
    teacher, audio = Averages(), speech(0.3)
    states = teacher.hidden(audio.samples)[:, 0].detach()
    assert states.shape == (3, 30, 1)
    for layer in range(3):
        assert torch.equal(teacher.features(audio, layer=layer), states[layer])
    assert_close(teacher.features(audio, layer="mean"), states.mean(0), 1e-6)
    assert not teacher.features(audio, layer="mean").requires_grad
    for layer in (-1, 3):
        with pytest.raises(ValueError, match=r"'averages' has hidden states 0 to 2, or their mean"):
            teacher.features(audio, layer=layer)


def test_layers_past_the_chosen_one_are_not_computed():
    done = []

    class Counting(Averages):
        def states(self, wave: Tensor) -> Iterator[Tensor]:
            for i, state in enumerate(super().states(wave)):
                done.append(i)
                yield state

    Counting().features(speech(0.1), layer=1)
    assert done == [0, 1]


def test_audio_of_any_rate_and_channels_is_heard():
    stereo = Audio(torch.cat([speech(0.5, 44100).samples, speech(0.5, 44100, 1).samples]), 44100)
    by_hand = stereo.mono().resample(16000)
    teacher = Averages()
    assert torch.equal(teacher.features(stereo, layer=0), teacher.features(by_hand, layer=0))
    with pytest.raises(ValueError, match="'averages' was given no samples"):
        teacher.features(Audio(torch.zeros(1, 0), 16000), layer=0)


def test_a_fingerprint_names_the_weights_and_nothing_else():
    one, other = Whisper(width=64, layers=1, heads=2), Whisper(width=64, layers=1, heads=2)
    other.load_state_dict(one.state_dict())
    assert one.fingerprint == other.double().fingerprint
    with torch.no_grad():
        changed = Whisper(width=64, layers=1, heads=2)
        changed.load_state_dict(one.state_dict())
        changed.norm.bias[3] += 1e-3
    assert changed.fingerprint != one.fingerprint
    assert len(one.fingerprint) == 16


KNOWN = {"beats", "hubert", "text", "w2v_bert", "wav2vec2", "wavlm", "whisper"}


def test_every_part_of_the_family_is_a_teacher():
    assert set(names("teachers")) == KNOWN
    for name in names("teachers"):
        assert issubclass(find("teachers", name), Teacher)


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_weights_that_are_not_there_are_one_clear_line(name: str, tmp_path: Path):
    kind = find("teachers", name)
    pytest.importorskip("huggingface_hub")
    if name == "text":
        transformers()
    with pytest.raises(
        TeacherError, match=r"^nobody/nothing: not to be had from the hub .*give its path$"
    ):
        kind.load("nobody/nothing")
    with pytest.raises(
        TeacherError, match=r"nowhere: no such file or folder; download .*give its path$"
    ):
        kind.load(tmp_path / "nowhere")
    with pytest.raises(TeacherError, match=r"^[^\n]*$"):
        kind.load(tmp_path)  # an empty folder


def test_a_hub_without_its_package_is_one_clear_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(
        TeacherError, match=r"pip install huggingface_hub.*; or download it on .* and give"
    ):
        local_weights("nobody/nothing", needs="it")


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path):
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "done"),)

    torch.save({"model": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(TeacherError, match=r"evil\.pt: not weights that can be read"):
        read_weights(tmp_path / "evil.pt")
    assert not (tmp_path / "done").exists()


# -- Whisper ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def openai() -> ModuleType:
    return pytest.importorskip("whisper", reason="pip install --no-deps openai-whisper tiktoken")


@pytest.mark.parametrize("bands", [80, 128])
@pytest.mark.parametrize("seconds", [0.013, 1.0, 3.77])
def test_whisper_sees_openais_spectrogram(openai: ModuleType, bands: int, seconds: float):
    wave = speech(seconds).samples
    steps = 2 * -(-wave.shape[1] // 320)
    theirs = openai.audio.log_mel_spectrogram(wave[0], bands, padding=30 * 16000)
    assert_close(log_mel(wave, steps, bands)[0], theirs[:, :steps], 3e-5)
    assert_close(log_mel(wave, 3000, bands)[0], theirs[:, :3000], 3e-5)


@pytest.fixture(scope="module")
def theirs(openai: ModuleType) -> Any:
    torch.manual_seed(1)
    dims = openai.model.ModelDimensions(80, 1500, 64, 4, 3, 51865, 8, 64, 4, 1)
    return shaken(openai.model.Whisper(dims))


def saved(theirs: Any, path: Path) -> Path:
    state = {key: value.half() for key, value in theirs.state_dict().items()}
    torch.save({"dims": vars(theirs.dims), "model_state_dict": state}, path)
    theirs.load_state_dict(state)  # rounded alike
    return path


@torch.no_grad()
def openai_states(theirs: Any, mel: Tensor) -> Tensor:
    """All hidden states of OpenAI's encoder, whose forward takes 30 s only."""
    encoder = theirs.encoder
    x = nn.functional.gelu(encoder.conv2(nn.functional.gelu(encoder.conv1(mel)))).transpose(1, 2)
    states = [x + encoder.positional_embedding[: x.shape[1]]]
    for block in encoder.blocks:
        states.append(block(states[-1]))
    states[-1] = encoder.ln_post(states[-1])
    return torch.stack(states)


@pytest.mark.parametrize("fill", [0.0, 2.5, 30.0])
def test_whisper_computes_what_openais_encoder_does(theirs: Any, tmp_path: Path, fill: float):
    teacher = Whisper.load(saved(theirs, tmp_path / "tiny.pt"), fill=fill)
    wave = torch.cat([speech(1.507).samples, speech(1.507, seed=1).samples])
    frames = max(76, round(50 * fill))
    mel = torch.cat([log_mel(row[None], 2 * frames, 80) for row in wave])
    states = openai_states(theirs, mel)
    if fill == 30:
        with torch.no_grad():
            assert_close(states[-1], theirs.encoder(mel), 1e-6)
    hidden = teacher.hidden(wave)
    assert hidden.shape == (4, 2, 76, 64)
    for ours, other in zip(hidden, states[:, :, :76], strict=True):
        assert_close(ours, other, 1e-5)
    assert not hidden.requires_grad


def test_whisper_fills_up_with_silence_and_no_further():
    one, other = (Whisper(width=64, layers=2, heads=4, fill=fill).eval() for fill in (1, 0))
    other.load_state_dict(one.state_dict())
    audio = speech(0.6)
    silence = Audio(torch.cat([audio.samples, torch.zeros(1, 6400)], 1), 16000)
    assert_close(one.features(audio, layer=2), other.features(silence, layer=2)[:30], 1e-6)
    long = speech(1.3)
    assert torch.equal(one.features(long, layer=2), other.features(long, layer=2))
    assert one.name != other.name  # their features are not the same
    with pytest.raises(ValueError, match=r"fill must lie in 0\.\.30 seconds, not 31"):
        Whisper(fill=31)


@pytest.mark.parametrize("samples", [1, 200, 319, 320, 321, 16000])
def test_whisper_gives_a_frame_for_every_320_samples_begun(samples: int):
    teacher = Whisper(width=64, layers=1, heads=2).eval()
    audio = speech(samples / 16000)
    assert len(audio) == samples
    made = teacher.features(audio, layer="mean")
    assert made.shape == (-(-samples // 320), 64)
    assert made.isfinite().all()
    assert teacher.frame_rate == 50


def test_whisper_hears_half_a_minute_at_once():
    teacher = Whisper(width=64, layers=1, heads=2).eval()
    assert teacher.features(speech(31), layer=1).shape == (1550, 64)
    with pytest.raises(ValueError, match=r"hears 30 s at once, not 30\.02 s"):
        teacher.hidden(speech(30.02).samples)


def ctranslate2_model(folder: Path, quantization: str | None) -> Any:
    """A tiny random Whisper as CTranslate2 writes and runs it."""
    ctranslate2 = pytest.importorskip("ctranslate2")
    spec = ctranslate2.specs.WhisperSpec(2, 4, 1, 4)
    random = np.random.default_rng(0)
    sizes = {
        "conv1/weight": (64, 80, 3),
        "conv2/weight": (64, 64, 3),
        "encoder/position_encodings/encodings": (1500, 64),
        "decoder/position_encodings/encodings": (448, 64),
        "self_attention/linear_0/weight": (192, 64),
        "/attention/linear_1/weight": (128, 64),
        "ffn/linear_0/weight": (256, 64),
        "ffn/linear_1/weight": (64, 256),
        "embeddings/weight": (20, 64),
        "projection/weight": (20, 64),
        "self_attention/linear_0/bias": (192,),
        "/attention/linear_1/bias": (128,),
        "ffn/linear_0/bias": (256,),
        "gamma": (64,),
        "beta": (64,),
        "bias": (64,),
        "weight": (64, 64),
    }

    def fill(owner: Any, name: str, value: Any) -> None:
        size = next((size for key, size in sizes.items() if name.endswith(key)), None)
        if size and not name.endswith("projection/bias"):
            drawn = random.normal(name.endswith("gamma"), 0.2, size).astype(np.float32)
            setattr(owner, name.split("/")[-1], drawn)

    ctranslate2.specs.model_spec.visit_spec(spec, fill)
    spec.register_vocabulary([f"<{i}>" for i in range(20)])
    spec.validate()
    spec.optimize(quantization=quantization)
    folder.mkdir()
    spec.save(str(folder))
    return ctranslate2.models.Whisper(str(folder), compute_type="float32", intra_threads=1)


def ctranslate2_output(model: Any, mel: Tensor) -> Tensor:
    view = __import__("ctranslate2").StorageView.from_array(np.ascontiguousarray(mel.numpy()))
    return torch.from_numpy(np.array(model.encode(view)))


@pytest.mark.parametrize("quantization", [None, "float16", "bfloat16", "int8", "int16"])
def test_whisper_computes_what_ctranslate2_does(tmp_path: Path, quantization: str | None):
    model = ctranslate2_model(tmp_path / "model", quantization)
    teacher = Whisper.load(tmp_path / "model", fill=30)
    wave = speech(2.0).samples
    theirs = ctranslate2_output(model, log_mel(wave, 3000, 80))
    assert_close(teacher.hidden(wave)[-1], theirs[:, :100], 1e-5)


@pytest.mark.slow
def test_pretrained_whisper_gives_what_ctranslate2_gives():
    folder = os.environ.get("AUDIOTOK_WHISPER", "")
    ctranslate2 = pytest.importorskip("ctranslate2")
    if not folder:
        pytest.skip("AUDIOTOK_WHISPER is not the folder of a CTranslate2 Whisper model")
    model = ctranslate2.models.Whisper(folder, compute_type="float32", intra_threads=1)
    teacher = Whisper.load(folder, fill=30)
    wave = speech(5.0).samples
    theirs = ctranslate2_output(model, log_mel(wave, 3000, teacher.bands))
    assert_close(teacher.hidden(wave)[-1], theirs[:, :250], 2e-4)


def test_a_damaged_ctranslate2_model_is_refused(tmp_path: Path):
    ctranslate2_model(tmp_path / "model", None)
    file = tmp_path / "model" / "model.bin"
    whole = file.read_bytes()
    for size in (0, 3, 20, 100, 5000, 100_000, len(whole) // 2):
        file.write_bytes(whole[:size])
        with pytest.raises(
            TeacherError, match=r"model\.bin: a damaged CTranslate2 model|no weights of"
        ):
            Whisper.load(tmp_path / "model")
    file.write_bytes(struct.pack("<I", 5) + whole[4:])
    with pytest.raises(TeacherError, match="CTranslate2 format 5, not 6: convert it again"):
        Whisper.load(tmp_path / "model")


def test_what_is_not_whisper_is_refused(tmp_path: Path):
    torch.save({"dims": {}, "model_state_dict": {}}, tmp_path / "other.pt")
    torch.save({"state": 1}, tmp_path / "another.pt")
    for name in ("other", "another"):
        with pytest.raises(
            TeacherError, match=rf"{name}\.pt: not a Whisper checkpoint \(no '\w+'\)"
        ):
            Whisper.load(tmp_path / f"{name}.pt")


def transformers() -> Any:
    _torchaudio.load()  # which it imports
    return pytest.importorskip("transformers")


@pytest.mark.slow
def test_whisper_reads_transformers_checkpoints(tmp_path: Path):
    hf = transformers()
    config = hf.WhisperConfig(
        vocab_size=20,
        d_model=64,
        encoder_layers=3,
        decoder_layers=1,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=256,
        decoder_ffn_dim=64,
        pad_token_id=0,
        bos_token_id=0,
        eos_token_id=0,
        decoder_start_token_id=0,
    )
    wave = speech(2.0).samples
    for kind in (hf.WhisperModel, hf.WhisperForConditionalGeneration):
        theirs: Any = shaken(kind(config))
        theirs.save_pretrained(tmp_path / kind.__name__)
        mel = log_mel(wave, 3000, 80)
        encoder = theirs.get_encoder()
        states = encoder(mel, output_hidden_states=True).hidden_states
        teacher = Whisper.load(tmp_path / kind.__name__, fill=30)
        for ours, other in zip(teacher.hidden(wave), states, strict=True):
            assert_close(ours, other[:, :100], 1e-5)


def test_positions_are_those_of_the_paper():
    made = sinusoids(1500, 512)
    for position, feature in ((0, 0), (7, 3), (1499, 255)):
        angle = position / 10000 ** (feature / 255)
        assert made[position, feature].item() == pytest.approx(np.sin(angle), abs=2e-4)
        assert made[position, 256 + feature].item() == pytest.approx(np.cos(angle), abs=2e-4)


def test_the_example_finds_layers_that_tell_phones(
    theirs: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    """Low and high tones as two phones, by three speakers: even a random network tells them."""
    lines = ["path\tspeaker\tphone\tstart\tend"]
    for i in range(6):
        tone = torch.arange(16000) / 16000 * 2 * np.pi
        samples = torch.cat([torch.sin(300 * tone), torch.sin((3000 + 50 * i) * tone)])
        Audio(0.1 * samples[None], 16000).save(tmp_path / f"{i}.wav")
        lines += [f"{i}.wav\t{i // 2}\t{phone}\t{at}\t{at + 1}" for at, phone in enumerate("AB")]
    (tmp_path / "phones.tsv").write_text("\n".join(lines))
    weights = saved(theirs, tmp_path / "tiny.pt")
    script = Path(__file__).parents[2] / "egs" / "choose_teacher_layer.py"
    command = [script, tmp_path / "phones.tsv", tmp_path, weights]
    monkeypatch.setattr("sys.argv", [str(word) for word in command])
    runpy.run_path(str(script), run_name="__main__")
    out = capsys.readouterr().out
    teacher = Whisper.load(weights)
    assert f"whisper-fill0 {teacher.fingerprint}, 6 recordings" in out
    rows = [line.split(" | ") for line in out.splitlines() if line.startswith("| ")][1:]
    assert [row[0] for row in rows] == ["| 0", "| 1", "| 2", "| 3", "| mean"]
    for _, accuracy, _, chance, _ in rows:
        assert float(accuracy) > 0.9
        assert float(chance) == 0.5


# -- wav2vec 2.0, HuBERT, WavLM ---------------------------------------------------------------

SMALL: dict[str, Any] = {
    "extractor_mode": "group_norm",
    "extractor_conv_layer_config": [
        (16, kernel, stride)
        for kernel, stride in zip((10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2), strict=True)
    ],
    "extractor_conv_bias": False,
    "encoder_embed_dim": 128,
    "encoder_projection_dropout": 0.1,
    "encoder_pos_conv_kernel": 16,
    "encoder_pos_conv_groups": 16,
    "encoder_num_layers": 3,
    "encoder_num_heads": 2,
    "encoder_attention_dropout": 0.1,
    "encoder_ff_interm_features": 192,
    "encoder_ff_interm_dropout": 0.1,
    "encoder_dropout": 0.1,
    "encoder_layer_norm_first": False,
    "encoder_layer_drop": 0.1,
    "aux_num_out": 5,
}
LARGE = {**SMALL, "extractor_mode": "layer_norm", "extractor_conv_bias": True} | {
    "encoder_layer_norm_first": True
}
RELATIVE = {"encoder_num_buckets": 32, "encoder_max_distance": 800}


@pytest.mark.parametrize("options", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("kind", [Wav2vec2, Hubert, Wavlm])
def test_they_read_torchaudios_files(kind: type[Wav2vec2], options: dict[str, Any], tmp_path: Path):
    models = _torchaudio.load().models
    build = models.wavlm_model if kind is Wavlm else models.wav2vec2_model
    theirs: Any = shaken(build(**options, **(RELATIVE if kind is Wavlm else {})))
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    teacher = kind.load(tmp_path / "weights.pth")
    large = options is LARGE
    assert teacher.name == f"{kind.kind}-normalised" if large else kind.kind
    assert (teacher.width, teacher.layers, teacher.frame_rate) == (128, 3, 50)
    wave = speech(1.0).samples
    heard = (wave - wave.mean()) / wave.std(correction=0) if large else wave
    states = theirs.extract_features(heard)[0]  # of layers 1 to 3, without the final norm
    if large:
        states[-1] = theirs.encoder.transformer.layer_norm(states[-1])
    hidden = teacher.hidden(wave)
    assert hidden.shape == (4, 1, 49, 128)
    for ours, other in zip(hidden[1:], states, strict=True):
        assert_close(ours, other, 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
@pytest.mark.parametrize("kind", [Wav2vec2, Hubert, Wavlm])
def test_they_read_transformers_checkpoints(kind: type[Wav2vec2], large: bool, tmp_path: Path):
    hf = transformers()
    family = {Wav2vec2: "Wav2Vec2", Hubert: "Hubert", Wavlm: "WavLM"}[kind]
    config = getattr(hf, f"{family}Config")(
        hidden_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,  # not of 64 features
        intermediate_size=160,
        conv_dim=[16] * 4,
        conv_kernel=[10, 3, 3, 2],
        conv_stride=[5, 4, 4, 4],
        num_feat_extract_layers=4,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        max_bucket_distance=100,
        num_buckets=32,
        feat_extract_norm="layer" if large else "group",
        conv_bias=large,
        do_stable_layer_norm=large,
    )
    wave = speech(1.0).samples
    heads = [f"{family}Model", f"{family}ForCTC"]
    for name in heads:
        folder = tmp_path / name
        theirs: Any = shaken(getattr(hf, name)(config))
        theirs.save_pretrained(folder)
        heard = {"do_normalize": True, "feature_size": 1, "sampling_rate": 16000}
        (folder / "preprocessor_config.json").write_text(json.dumps(heard))
        extract = hf.Wav2Vec2FeatureExtractor.from_pretrained(folder)
        given = extract(wave[0].numpy(), sampling_rate=16000, return_tensors="pt").input_values
        made = theirs.base_model(given, output_hidden_states=True)
        # From version 5 on, transformers gives the last one before the final norm.
        states = [*made.hidden_states[:-1], made.last_hidden_state]
        teacher = kind.load(folder)
        assert teacher.name == f"{kind.kind}-normalised"
        for ours, other in zip(teacher.hidden(wave), states, strict=True):
            assert_close(ours, other, 2e-5)
        assert kind.load(folder, normalise=False).name == kind.kind


@pytest.mark.parametrize("samples", [1, 399, 400, 719, 720, 48000])
def test_they_give_a_frame_for_every_whole_one(samples: int):
    options = {k: v for k, v in SMALL.items() if "drop" not in k and k != "aux_num_out"}
    teacher = Hubert(options, normalise=False).eval()
    made = teacher.features(speech(samples / 16000), layer="mean")
    assert made.shape == (max(0, samples - 400) // 320 + 1, 128)  # 149 for 48000
    assert made.isfinite().all()


def test_another_kind_of_model_is_refused(tmp_path: Path):
    models = _torchaudio.load().models
    torch.save(models.wav2vec2_model(**SMALL).state_dict(), tmp_path / "weights.pth")
    with pytest.raises(TeacherError, match=r"weights\.pth: not a wavlm checkpoint \(no 'encoder\."):
        Wavlm.load(tmp_path / "weights.pth")
    safetensors = pytest.importorskip("safetensors.torch")
    safetensors.save_file({"x": torch.ones(1)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(TeacherError, match="a model of type 'bert', not 'hubert'"):
        Hubert.load(tmp_path)
    with pytest.raises(
        TeacherError, match="torchaudio has no pipeline 'HUBERT_TINY', only HUBERT_"
    ):
        Hubert.load("HUBERT_TINY")


def test_a_pipeline_without_a_network_is_one_clear_line():
    with pytest.raises(
        TeacherError, match=r"^HUBERT_BASE: not to be had .* download its \.pth file"
    ):
        Hubert.load("HUBERT_BASE")


# -- w2v-BERT 2.0 -----------------------------------------------------------------------------

TINY_BERT: dict[str, Any] = {
    "hidden_size": 64,
    "output_hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "conv_depthwise_kernel_size": 7,
    "left_max_position_embeddings": 20,
    "right_max_position_embeddings": 5,
}


def w2v_bert_states(theirs: Any, audio: Audio) -> Tensor:
    """All hidden states of transformers' model, of frames that are not masked."""
    extract = transformers().SeamlessM4TFeatureExtractor(feature_size=80, num_mel_bins=80, stride=2)
    given = extract(audio.samples[0].numpy(), sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        states = torch.stack(theirs(**given, output_hidden_states=True).hidden_states)
    real = given["attention_mask"][0].bool()
    assert_close(bands(audio.samples), given["input_features"][:, real], 1e-5)
    return states[:, :, real]


@pytest.mark.parametrize("samples", [48000, 32080, 16160, 9123, 1201])
def test_w2v_bert_computes_what_transformers_does(samples: int, tmp_path: Path):
    hf, audio = transformers(), speech(samples / 16000)
    torch.manual_seed(0)
    theirs = shaken(hf.Wav2Vec2BertModel(hf.Wav2Vec2BertConfig(**TINY_BERT)))
    theirs.save_pretrained(tmp_path)
    teacher = W2vBert.load(tmp_path)
    states = w2v_bert_states(theirs, audio)
    assert_close(teacher.hidden(audio.samples), states, 1e-5)
    assert torch.equal(teacher.features(audio, layer=2), teacher.hidden(audio.samples)[2, 0])
    again = W2vBert(**teacher.sizes or {})
    again.load_state_dict(teacher.state_dict())


def test_w2v_bert_with_a_head_reads_alike_and_others_are_refused(tmp_path: Path):
    hf = transformers()
    config = hf.Wav2Vec2BertConfig(**TINY_BERT, vocab_size=5, add_adapter=True)
    theirs = shaken(hf.Wav2Vec2BertForCTC(config))
    theirs.save_pretrained(tmp_path / "ctc")
    theirs.wav2vec2_bert.save_pretrained(tmp_path / "alone")
    one, other = (W2vBert.load(tmp_path / name) for name in ("ctc", "alone"))
    assert one.fingerprint == other.fingerprint
    rotary = hf.Wav2Vec2BertConfig(**TINY_BERT, position_embeddings_type="rotary")
    hf.Wav2Vec2BertModel(rotary).save_pretrained(tmp_path / "rotary")
    with pytest.raises(TeacherError, match="'wav2vec2-bert' with positions 'rotary', where"):
        W2vBert.load(tmp_path / "rotary")


@pytest.mark.parametrize(("samples", "frames"), [(1, 1), (560, 1), (880, 2), (48000, 149)])
def test_w2v_bert_gives_a_frame_for_every_two_of_kaldi(samples: int, frames: int):
    teacher = W2vBert(width=32, layers=1, heads=2, hidden=16, kernel=3).eval()
    made = teacher.features(speech(samples / 16000), layer=1)
    assert made.shape == (frames, 32)
    assert made.isfinite().all()


@pytest.mark.slow
def test_w2v_bert_of_full_size_computes_what_transformers_does():
    hf, audio = transformers(), speech(3)
    torch.manual_seed(0)
    theirs: Any = hf.Wav2Vec2BertModel(hf.Wav2Vec2BertConfig()).eval()
    teacher = W2vBert()
    teacher.ready(renamed(theirs.state_dict()), Path("random"))
    count = sum(p.numel() for p in teacher.parameters())
    masked = theirs.masked_spec_embed.numel()  # of training
    assert count == sum(p.numel() for p in theirs.parameters()) - masked == 580_492_096
    assert_close(teacher.hidden(audio.samples), w2v_bert_states(theirs, audio), 1e-5)


# -- text -------------------------------------------------------------------------------------

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "cat", "sat", "on", "a", "mat", "##s", "dog"]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    hf, folder = transformers(), tmp_path_factory.mktemp("bert")
    config = hf.BertConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=60,
    )
    torch.manual_seed(0)
    shaken(hf.BertModel(config)).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    hf.BertTokenizer(vocab={word: i for i, word in enumerate(WORDS)}).save_pretrained(folder)
    return folder


def read(bert: Path, ids: list[int], masked: int = 0) -> Tensor:
    """All hidden states `[s tokens d]` of the model on these tokens, the last `masked` unseen."""
    model = transformers().BertModel.from_pretrained(bert).eval()
    mask = [1] * (len(ids) - masked) + [0] * masked
    with torch.no_grad():
        made = model(torch.tensor([ids]), torch.tensor([mask]), output_hidden_states=True)
    return torch.stack(made.hidden_states)[:, 0]


def test_text_fills_a_slot_a_frame_as_dm_codec_does(bert: Path):
    teacher = Text.load(bert)
    assert (teacher.name, teacher.width, teacher.layers) == ("text-slots", 32, 2)
    ids = [2, 4, 5, 10, 6, 3] + [0] * 44  # [CLS] the cat ##s sat [SEP] and 44 [PAD], 1 s
    states = read(bert, ids, 44)
    for layer, wanted in [(0, states[0]), (2, states[2]), ("mean", states.mean(0))]:
        assert_close(teacher.features(speech(1), layer=layer, text="The cats sat"), wanted, 1e-5)
    short = teacher.features(speech(0.08), layer=1, text="The cats sat")
    assert_close(short, read(bert, [2, 4, 5, 3])[1], 1e-5)  # cut off
    long = teacher.features(speech(1.5, 44100), layer=1, text="the cats sat")
    wanted = read(bert, ids + [0] * 10, 54)[1]  # 60 positions
    assert_close(long, torch.cat([wanted, wanted[-1:].expand(15, -1)]), 1e-5)


def test_text_lies_where_its_words_are_said(bert: Path):
    said = [Word("The", 0.1, 0.2), Word("cats", 0.2, 0.5), Word("sat", 0.7, 0.9)]
    asked = []

    def aligner(audio: Audio, text: str) -> list[Word]:
        asked.append((audio.seconds, text))
        return said

    teacher = Text.load(bert, aligner=aligner, frame_rate=Fraction(25, 2))
    made = teacher.features(speech(1), layer=2, text="The cats sat")
    assert asked == [(1.0, "The cats sat")]
    begin, the, cat, plural, sat, _ = read(bert, [2, 4, 5, 10, 6, 3])[2]
    cats = (cat + plural) / 2
    wanted = [begin, the] + [cats] * 4 + [begin] * 3 + [sat] * 2 + [begin] * 2
    assert_close(made, torch.stack(wanted), 1e-5)  # 12.5 frames a second: 13 of them


def test_text_that_cannot_be_used_is_refused(bert: Path):
    teacher = Text.load(bert)
    assert teacher.reads_text
    for text in (None, "", " "):
        with pytest.raises(
            ValueError, match="'text-slots' reads what is said, and was given no text"
        ):
            teacher.features(speech(1), layer=0, text=text)
    with pytest.raises(ValueError, match="'text-slots' was given no samples"):
        teacher.features(Audio(torch.zeros(1, 0), 16000), layer=0, text="the cat")
    many = Text.load(bert, aligner=lambda audio, text: [Word("cat", 0, 0.1)] * 59)
    with pytest.raises(ValueError, match="61 tokens of text, but the model reads 60"):
        many.features(speech(1), layer=0, text="cat")
