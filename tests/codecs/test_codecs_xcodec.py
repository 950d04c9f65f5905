"""X-Codec and Higgs Audio v2 are what transformers computes, of whole frames and of any length."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commandline import audiotok
from contracts import assert_close, near_ties, noise
from sizes import SIZES
from test_codecs_oracles import imported
from torch import Tensor
from torch.nn import functional as F

from audiotok.audio.audio import Audio
from audiotok.codecs.checkpoint import CheckpointError, load
from audiotok.codecs.models.base import Codec
from audiotok.codecs.models.xcodec import HIGGS, Config, Xcodec
from audiotok.runtime.stream import Stream
from audiotok.runtime.windows import loss

SMALL, SMALL_HIGGS = SIZES["xcodec"]
Reference = tuple[Any, Codec]


def transformers_model(config: Config) -> Any:
    """Its model of these sizes, with weights for which codes and samples depend on the signal."""
    higgs = bool(config.code_width)
    strides = list(config.strides)
    acoustic = {
        "model_type": "dac",
        "encoder_hidden_size": config.encoder,
        "decoder_hidden_size": config.decoder,
        "hidden_size": config.acoustic,
        "downsampling_ratios": strides,
        "upsampling_ratios": strides,
    }
    hubert = {
        "model_type": "hubert",
        "hidden_size": config.semantic,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "intermediate_size": config.hidden,
        "conv_dim": [config.extractor] * 7,
        "num_conv_pos_embeddings": config.positions,
        "num_conv_pos_embedding_groups": config.groups,
        "mask_time_prob": 0.0 if higgs else 0.05,
    }
    bits = math.ceil(math.log2(config.size))
    kbps = config.codebooks * math.ceil(config.sample_rate / math.prod(strides)) * bits / 1000
    options = {
        "acoustic_model_config": acoustic,
        "semantic_model_config": hubert,
        "codebook_size": config.size,
        "target_bandwidths": [kbps],
    }
    with imported("transformers") as (transformers,):
        torch.manual_seed(0)
        if higgs:
            sizes = transformers.HiggsAudioV2TokenizerConfig(
                codebook_dim=config.code_width, **options
            )
            theirs = transformers.HiggsAudioV2TokenizerModel(sizes).eval()
        else:
            theirs = transformers.XcodecModel(transformers.XcodecConfig(**options)).eval()
    return enlivened(theirs).requires_grad_(False)


@torch.no_grad()
def enlivened(theirs: Any) -> Any:
    """Give weights other values than those that say little of the signal; return the model."""
    for name, value in theirs.named_parameters():
        if value.dim() == 1:  # those that begin as ones and zeros
            value.add_(0.1 * torch.randn_like(value))
        elif name.endswith("alpha"):
            value.add_(0.5 * torch.rand_like(value))
        elif name.startswith(("acoustic", "fc")) or "semantic_model.encoder.layers" in name:
            fans = value[0].numel() if "conv_t1" not in name else len(value)
            branch = "res_unit" in name and "conv2" in name  # less than what it is added to
            value.normal_().mul_((0.3 if branch else 1.0) * fans**-0.5)
    rate, frame = theirs.config.sample_rate, theirs.config.hop_length
    level = torch.sin(torch.arange(60 * frame) * 20 / rate) * 0.1 + 0.12
    wave = torch.randn(1, 1, 60 * frame) * level
    residual = latent_of(theirs, wave)[0].T
    for stage in theirs.quantizer.quantizers:
        given = stage.project_in(residual) if hasattr(stage, "project_in") else residual
        pick = given[torch.randint(len(given), (len(stage.codebook.embed),))]
        stage.codebook.embed.copy_(pick + 0.5 * given.std(0) * torch.randn_like(pick))
        stage.codebook.cluster_size.fill_(3)
        residual = residual - stage.decode(stage.encode(residual.T[None]))[0].T
    last = theirs.acoustic_decoder.conv2
    loud = theirs.decode(theirs.encode(wave).audio_codes).audio_values.std()
    last.weight.mul_(0.2 / loud)
    last.bias.zero_()
    return theirs


@torch.no_grad()
def latent_of(theirs: Any, wave: Tensor) -> Tensor:
    """Return the latents `[b d f]` that the model quantizes, of whole frames of samples."""
    given: list[Tensor] = []
    hook = theirs.fc.register_forward_hook(lambda module, x, y: given.append(y))
    theirs.encode(wave)
    hook.remove()
    return given[0].transpose(1, 2)


def pair(config: Config, folder: Path) -> Reference:
    """Return the model of transformers and ours of its folder."""
    theirs = transformers_model(config)
    theirs.save_pretrained(folder)
    return theirs, load(folder)


@pytest.fixture(scope="module", params=[SMALL, SMALL_HIGGS], ids=["xcodec", "higgs"])
def small(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    return pair(request.param, tmp_path_factory.mktemp("folder"))


@torch.no_grad()
def assert_parity(theirs: Any, codec: Codec, samples: int) -> None:
    """Assert that codes are equal but for near-ties, and samples of the same codes within 1e-4.

    Theirs is given silence up to the end of the last frame.
    """
    audio = noise(codec, samples)
    wave = F.pad(audio.samples, (0, -samples % codec.frame_size))[None]
    codes = theirs.encode(wave).audio_codes[0]
    tokens = codec.encode(audio)
    assert tokens.codes.shape == codes.shape
    assert near_ties(codec, audio, tokens.codes, codes.numpy()) <= tokens.frames / 100
    if samples > 50 * codec.frame_size:
        assert len(np.unique(tokens.codes[0])) > 10
    heard = theirs.decode(codes[None]).audio_values[0][:, :samples]
    assert_close(codec.decode(replace(tokens, codes=codes.numpy())).samples, heard, 1e-4)


@pytest.mark.parametrize("frames", [1, 2, 7, 130])
def test_codes_and_waves_are_those_of_transformers(small: Reference, frames: int):
    theirs, codec = small
    assert codec.config in (SMALL, SMALL_HIGGS)  # heads too, of which the weights tell nothing
    for more in (0, -1, 1 - codec.frame_size):
        assert_parity(theirs, codec, frames * codec.frame_size + more)


def test_the_way_back_to_hubert_is_theirs(small: Reference):
    """Of training: what `decoder_semantic` makes of a latent."""
    theirs, codec = small
    latent = torch.randn(2, codec.quantizer.decode(torch.zeros(1, 3, 1).long()).shape[1], 9)
    with torch.no_grad():
        wanted = theirs.decoder_semantic(theirs.fc1(latent.transpose(1, 2)).transpose(1, 2))
        assert_close(codec.distilled(latent).transpose(1, 2), wanted, 1e-5)  # pyright: ignore


@torch.no_grad()
def test_a_last_frame_within_the_sound_is_where_transformers_is_not(small: Reference):
    """It gives DAC's encoder half a frame of silence first then, or the end is lost."""
    theirs, codec = small
    frame, given = codec.frame_size, []
    hook = theirs.acoustic_encoder.register_forward_pre_hook(lambda _, x: given.append(x[0]))
    for more, frames in ((frame // 2, 41), (frame // 10, 40)):
        audio = noise(codec, 40 * frame + more)
        assert theirs.encode(audio.samples[None]).audio_codes.shape[2] == frames
        assert codec.encode(audio).frames == 41
    hook.remove()
    assert [x.shape[2] - 40 * frame for x in given] == [frame // 2 + frame, frame // 10]
    assert not given[0][:, :, : frame // 2].any()


def test_it_does_not_stream_but_in_windows():
    torch.manual_seed(0)
    codec = Xcodec(SMALL).eval()
    with pytest.raises(ValueError, match=r"^codec 'xcodec' hears a recording to its end"):
        Stream(codec)
    audio = noise(codec, 60 * codec.frame_size)
    whole = loss(codec, audio, 60 * codec.frame_size / codec.sample_rate)
    assert (whole.codes, whole.snr) == (0, math.inf)  # one window holds all of it
    assert Stream(codec, context=0.2).encode(audio.samples).shape[1] < 60


def test_training_leaves_hubert_as_it_is():
    codec = Xcodec(SMALL).train()
    kept = {name for name, value in codec.named_parameters() if not value.requires_grad}
    assert kept
    assert all(".hubert." in name for name in kept)
    assert not any(".hubert." in name for name, _ in codec.named_parameters() if name not in kept)


# -- folders of transformers -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("higgs")
    transformers_model(SMALL_HIGGS).save_pretrained(folder)
    return folder


@pytest.fixture
def changed(folder: Path, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that returns a folder whose options are changed, or those of a part."""

    def change(part: str = "", **options: Any) -> Path:
        content = json.loads((folder / "config.json").read_text("utf-8"))
        (content[part] if part else content).update(options)
        (tmp_path / "config.json").write_text(json.dumps(content), "utf-8")
        if not (tmp_path / "model.safetensors").exists():
            (tmp_path / "model.safetensors").symlink_to(folder / "model.safetensors")
        return tmp_path

    return change


def test_convert_prints_the_config_that_it_read(folder: Path, tmp_path: Path):
    out = tmp_path / "ours.safetensors"
    done = audiotok("convert", folder, out, "--json")
    assert done.code == 0, done.err
    told = done.json["config"]
    assert (told["strides"], told["heads"], told["code_width"]) == ([8, 5, 4, 2, 3], 2, 6)
    assert load(out).fingerprint == load(folder).fingerprint


@pytest.mark.parametrize(
    ("part", "change", "words"),
    [
        ("", {"gain": 2}, r"config\.json has options that are not known here: gain$"),
        ("acoustic_model_config", {"causal": 1}, "acoustic_model_config .* here: causal$"),
        ("semantic_model_config", {"bias": 1}, "semantic_model_config .* here: bias$"),
        ("semantic_model_config", {"model_type": "wavlm"}, "has model_type='wavlm', and the netw"),
        ("semantic_model_config", {"do_stable_layer_norm": True}, "do_stable_layer_norm=True"),
        ("", {"strides": [1, 2]}, r"has strides=\[1, 2\], and the network here \[1, 1\]$"),
        ("", {"downsample_factor": 640}, "has downsample_factor=640, and the network here 320$"),
        (
            "",
            {"sample_rate": 44100},
            "a frame of 960 samples at 44100 Hz is no whole number of HuBERT's features, of 320"
            " samples at 16000 Hz$",
        ),
    ],
)
def test_options_are_used_or_refused(
    changed: Callable[..., Path], part: str, change: dict[str, Any], words: str
):
    with pytest.raises(CheckpointError, match=words):
        load(changed(part, **change))


def test_heads_are_read(changed: Callable[..., Path]):
    codec = load(changed("semantic_model_config", num_attention_heads=4))
    assert codec.config == replace(SMALL_HIGGS, heads=4)


def test_the_default_higgs_of_transformers_does_not_encode(tmp_path: Path):
    """Nor there: its frames are 75 a second and its features 50."""
    with imported("transformers") as (transformers,):
        acoustic = {"model_type": "dac", "encoder_hidden_size": 2, "decoder_hidden_size": 16}
        strides = [8, 5, 4, 2]
        acoustic |= {"hidden_size": 4, "downsampling_ratios": strides, "upsampling_ratios": strides}
        hubert = {"model_type": "hubert", "hidden_size": 8, "num_hidden_layers": 1}
        hubert |= {"num_attention_heads": 1, "intermediate_size": 8, "conv_dim": [4] * 7}
        hubert |= {"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2}
        config = transformers.HiggsAudioV2TokenizerConfig(
            acoustic_model_config=acoustic, semantic_model_config=hubert, codebook_size=4
        )
        theirs = transformers.HiggsAudioV2TokenizerModel(config).eval()
        theirs.save_pretrained(tmp_path)
    with pytest.raises(RuntimeError, match="Sizes of tensors must match"):
        theirs.encode(torch.zeros(1, 1, 24000))
    with pytest.raises(CheckpointError, match="a frame of 320 samples at 24000 Hz is no whole"):
        load(tmp_path)


# -- the published sizes ---------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "config", "parameters"),
    [("xcodec", Config(), 160_698_625), ("higgs_v2", HIGGS, 200_343_777)],
)
def test_full_size(name: str, config: Config, parameters: int, tmp_path: Path):
    theirs, codec = pair(config, tmp_path)
    assert (codec.name, codec.config) == (name, config)
    assert sum(p.numel() for p in theirs.parameters()) == codec.parameters_trained == parameters
    for samples in (150 * codec.frame_size, 20 * codec.frame_size + 77):
        assert_parity(theirs, codec, samples)
    audio = Audio(noise(codec, 3 * codec.sample_rate).samples[:, 5:], codec.sample_rate)
    both = codec.encode_batch([audio, noise(codec, 999)])
    assert both[0] == codec.encode(audio)
