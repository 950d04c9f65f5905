"""Other programs' checkpoints load exactly: a reference with random weights, saved as it saves
itself, gives the same codes and samples here; a file that is not whole says what is wrong."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from commandline import audiotok
from contracts import noise
from safetensors.torch import save_file
from test_codecs_oracles import (
    DAC,
    ENCODEC,
    SPEECHTOKENIZER,
    assert_same_codes,
    assert_same_segments,
    assert_same_wave,
    encodec_pair,
    enliven,
    imported,
    lengths,
    spread,
    their_dac,
    their_speechtokenizer,
)
from torch import Tensor, nn
from torch.nn import functional as F
from torch.package.package_exporter import PackageExporter

from audiotok._platform.registry import find, names
from audiotok.audio.audio import Audio
from audiotok.codecs.checkpoint import CheckpointError, load, read_card, save
from audiotok.codecs.models import dac, dualcodec, encodec, speechtokenizer, wavtokenizer
from audiotok.codecs.models.base import Codec
from audiotok.codecs.models.fish_s2 import FishS2
from audiotok.nn.pretrained import reader as foreign
from audiotok.nn.pretrained.hub import SUFFIXES
from audiotok.nn.pretrained.state_dicts import (
    StateDictAdapter,
    StateDictError,
    check,
    recognise,
)

ALL = [adapter for name in names("codecs") for adapter in find("codecs", name).state_dict_adapters]

Codes = Callable[[Tensor], Tensor]


def saved(theirs: nn.Module, path: Path) -> Codec:
    torch.save(theirs.state_dict(), path)
    return load(path)


def settled(theirs: nn.Module, path: Path) -> Codec:
    """Loaded with codebooks of latents, so that codes differ from frame to frame."""
    spread(saved(theirs, path), theirs)
    return saved(theirs, path)


@torch.no_grad()
def assert_parity(codec: Codec, encode: Codes, decode: Codes) -> None:
    """`encode` gives codes `[k f]` of a wave `[1 c t]`, `decode` a wave `[c t]` of them."""
    for samples in lengths(codec.frame_size)[1:6]:
        audio = noise(codec, samples)
        codes = encode(audio.samples[None])
        assert_same_codes(codec, audio, codes)
        assert_same_wave(codec, audio, codes, decode(codes))


# -- each adapter, against the program it is of ----------------------------------------------------


@pytest.mark.parametrize("form", ["24 kHz", "48 kHz"])
def test_encodec(form: str, tmp_path: Path):
    config = ENCODEC[form]
    theirs, copied = encodec_pair(config)
    codec = saved(theirs, tmp_path / "encodec.th")
    assert codec.config == config
    if not config.segment:
        assert codec.codebooks == config.codebooks
    # The same tensors that the oracle tests copy by their position.
    for key, value in copied.state_dict().items():
        if not key.endswith(".usage"):
            torch.testing.assert_close(codec.state_dict()[key], value)
    if config.segment:
        for samples in (48001, 20_003):
            assert_same_segments(theirs, codec, samples)
        return
    assert_parity(
        codec,
        lambda wave: theirs.quantizer.vq.encode(theirs.encoder(wave), n_q=config.codebooks)[:, 0],
        lambda codes: theirs.decoder(theirs.quantizer.decode(codes[:, None]))[0],
    )


@pytest.mark.parametrize("form", ["24 kHz", "32 kHz", "48 kHz"])
@torch.no_grad()
def test_encodec_of_transformers(form: str, tmp_path: Path):
    config = ENCODEC[form]
    with imported("transformers") as (transformers,):
        torch.manual_seed(0)
        theirs = transformers.EncodecModel(
            transformers.EncodecConfig(
                # It has as many codebooks as this many kbps take, of 6 bits each.
                target_bandwidths=[config.codebooks * 6 * config.sample_rate / 320 / 1000],
                sampling_rate=config.sample_rate,
                audio_channels=config.channels,
                num_filters=config.width,
                codebook_size=config.size,
                use_causal_conv=config.causal,
                use_conv_shortcut=config.shortcut,
                norm_type="time_group_norm" if config.group_norm else "weight_norm",
            )
        ).eval()
    for key, parameter in theirs.named_parameters():
        if key.endswith("original0"):
            parameter.mul_(1.8)  # as `enliven` does
        elif ".norm." in key:
            parameter.add_(0.1 * torch.randn_like(parameter))  # they begin as ones and zeros
        elif key.endswith("bias"):
            parameter.mul_(0.1)
    spread(saved(theirs, tmp_path / "any.bin"), theirs)
    with imported("transformers"):
        theirs.save_pretrained(tmp_path / "repository")
    codec = load(tmp_path / "repository")
    assert codec.config == config
    wave = noise(codec, 40 * 320).samples[None]
    torch.testing.assert_close(codec.encoder(wave), theirs.encoder(wave), atol=1e-4, rtol=1e-4)
    if config.group_norm:
        return
    assert_parity(
        codec,
        lambda wave: theirs.quantizer.encode(theirs.encoder(wave))[:, 0],
        lambda codes: theirs.decoder(theirs.quantizer.decode(codes[:, None]))[0],
    )


@pytest.mark.parametrize("form", ["ELU", "Snake"])
@torch.no_grad()
def test_speechtokenizer(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    config = SPEECHTOKENIZER[form]
    theirs: Any = their_speechtokenizer(config, monkeypatch)
    for key, parameter in theirs.named_parameters():
        if key.endswith("alpha"):
            parameter.uniform_(0.5, 1.5)
    codec = settled(theirs, tmp_path / "SpeechTokenizer.pt")
    assert codec.config == config
    assert_parity(
        codec,
        lambda wave: theirs.encode(wave)[:, 0],
        lambda codes: theirs.decode(codes[:, None])[0],
    )
    wave = noise(codec, 20 * codec.frame_size).samples[None]
    torch.testing.assert_close(
        codec.distilled(codec(wave)[1].first),  # pyright: ignore
        theirs(wave)[2],
        atol=1e-4,
        rtol=1e-4,
    )
    # Its trainer's file, in which discriminators and optimisers lie beside it.
    trained = {"generator": theirs.state_dict(), "discriminators": {"mpd": {}}, "optim_g": {}}
    torch.save(trained, tmp_path / "trained.pt")
    assert load(tmp_path / "trained.pt").fingerprint == codec.fingerprint


@pytest.mark.parametrize("form", ["strides 2 4 5 8", "strides 2 4 8 8"])
def test_dac(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    config = replace(DAC[form], sample_rate=22050)
    theirs = their_dac(config, monkeypatch)
    # As audiotools writes it: the constructor's arguments lie beside the weights.
    kwargs = {"encoder_dim": config.encoder, "sample_rate": config.sample_rate}
    whole = {"state_dict": theirs.state_dict(), "metadata": {"kwargs": kwargs, "logs": {}}}
    torch.save(whole, tmp_path / "weights.pth")
    codec = load(tmp_path / "weights.pth")
    assert codec.config == config
    odd = any(stride % 2 for stride in config.strides)  # then theirs ends early
    for samples in lengths(codec.frame_size)[1:5]:
        audio = noise(codec, samples)
        with torch.no_grad():
            latent, codes, *_ = theirs.encode(theirs.preprocess(audio.samples[None], None))
            decoded = theirs.decode(latent)[0]
        assert_same_codes(codec, audio, codes[0])
        if not odd:
            assert_same_wave(codec, audio, codes[0], decoded)


@torch.no_grad()
def test_dac_of_transformers(tmp_path: Path):
    config = replace(DAC["strides 2 4 8 8"], sample_rate=16000)
    with imported("transformers") as (transformers,):
        torch.manual_seed(0)
        theirs = transformers.DacModel(
            transformers.DacConfig(
                encoder_hidden_size=config.encoder,
                decoder_hidden_size=config.decoder,
                downsampling_ratios=list(config.strides),
                n_codebooks=config.codebooks,
                codebook_size=config.size,
            )
        ).eval()
    for parameter in theirs.parameters():  # it begins with small weights, and no biases
        scale = 0.1 if parameter.dim() == 1 else parameter[0].numel() ** -0.5
        parameter.copy_(scale * torch.randn_like(parameter))
    for key, parameter in theirs.named_parameters():
        if key.endswith("alpha"):
            parameter.uniform_(0.5, 1.5)
    theirs.decoder.conv2.weight.mul_(0.02)  # or all samples are 1 or -1
    with imported("transformers"):
        theirs.save_pretrained(tmp_path)
    codec = load(tmp_path)
    assert codec.config == config
    for samples in (20 * 512, 31 * 512):
        audio = noise(codec, samples)
        codes = theirs.encode(audio.samples[None]).audio_codes
        assert_same_codes(codec, audio, codes[0])
        decoded = theirs.decode(audio_codes=codes).audio_values
        assert_same_wave(codec, audio, codes[0], decoded)


class Wavtokenizer(nn.Module):
    """WavTokenizer of others' parts under its own names: it is no package. EnCodec's network; what
    comes between embedding and ConvNeXt, written out after VQGAN; vocos' backbone and head."""

    def __init__(self, config: wavtokenizer.Config) -> None:
        super().__init__()
        width, hop = config.decoder, 320
        with imported("vocos.models", "vocos.heads") as (models, heads):
            expanded = config.expansion * width
            backbone = models.VocosBackbone(
                config.latent, width, expanded, config.blocks, adanorm_num_embeddings=4
            )
            self.head = heads.ISTFTHead(width, 4 * hop, hop, padding="same")

        def conv(kernel: int) -> nn.Conv1d:
            return nn.Conv1d(width, width, kernel, padding=kernel // 2)

        def unit(**layers: nn.Module) -> nn.Module:
            return nn.ModuleDict(layers)

        def norm() -> nn.Module:
            return nn.GroupNorm(config.groups, width, eps=1e-6)

        def resnet() -> nn.Module:
            return unit(norm1=norm(), conv1=conv(3), norm2=norm(), conv2=conv(3))

        attention = unit(norm=norm(), q=conv(1), k=conv(1), v=conv(1), proj_out=conv(1))
        backbone.pos_net = nn.ModuleList(
            [resnet(), resnet(), attention, resnet(), resnet(), norm()]
        )
        self.backbone = backbone
        sizes = {"dimension": config.latent, "n_filters": config.encoder, "causal": False}
        with imported("encodec.modules", "encodec.quantization") as (modules, q):
            self.feature_extractor = nn.ModuleDict({"encodec": nn.Module()})
            network: Any = self.feature_extractor["encodec"]
            network.encoder = modules.SEANetEncoder(**sizes)
            network.decoder = modules.SEANetDecoder(**sizes)  # which nothing runs
            network.quantizer = q.ResidualVectorQuantizer(
                dimension=config.latent, n_q=1, bins=config.size
            )
        self.multiperioddisc = nn.Linear(3, 2)  # Lightning saves what it trained with, too

    def encode(self, wave: Tensor) -> Tensor:
        network: Any = self.feature_extractor["encodec"]
        return network.quantizer.vq.encode(network.encoder(wave), n_q=1)[:, 0]

    def decode(self, codes: Tensor) -> Tensor:
        network: Any = self.feature_extractor["encodec"]
        backbone: Any = self.backbone
        x = backbone.embed(network.quantizer.decode(codes[:, None]))
        for layer in backbone.pos_net[:5]:
            y = layer["norm1" if "norm1" in layer else "norm"](x)
            if "q" in layer:
                q, k, v = (layer[name](y) for name in "qkv")
                weights = (q.transpose(1, 2) @ k / q.shape[1] ** 0.5).softmax(2)
                x = x + layer["proj_out"](v @ weights.transpose(1, 2))
            else:
                y = layer["norm2"](layer["conv1"](F.silu(y)))
                x = x + layer["conv2"](F.silu(y))
        first = torch.tensor([0])
        x = backbone.norm(backbone.pos_net[5](x).transpose(1, 2), cond_embedding_id=first)
        x = x.transpose(1, 2)
        for block in backbone.convnext:
            x = block(x, cond_embedding_id=first)
        return self.head(backbone.final_layer_norm(x.transpose(1, 2)))


@torch.no_grad()
def test_wavtokenizer(tmp_path: Path):
    config = wavtokenizer.Config(encoder=4, latent=48, decoder=64, blocks=3, size=64)
    torch.manual_seed(0)
    theirs = Wavtokenizer(config).eval()
    enliven(theirs.feature_extractor)
    for parameter in theirs.backbone.parameters():  # also those that begin as ones and zeros
        parameter.add_(0.1 * torch.randn_like(parameter))
    codec = settled(theirs, tmp_path / "WavTokenizer.ckpt")
    assert codec.config == config
    theirs.head.out.weight.mul_(0.1)
    lightning = {
        "epoch": 3,
        "pytorch-lightning_version": "1.8.6",
        "state_dict": theirs.state_dict(),
        "optimizer_states": [{"state": {}, "param_groups": [{"lr": 1e-4}]}],
    }
    torch.save(lightning, tmp_path / "WavTokenizer.ckpt")
    codec = load(tmp_path / "WavTokenizer.ckpt")
    assert_parity(codec, theirs.encode, theirs.decode)


def transformers_wavtokenizer(config: wavtokenizer.Config) -> Any:
    """Its WavTokenizerModel of these sizes, with weights that say something of the signal."""
    with imported("transformers") as (transformers,):
        torch.manual_seed(0)
        theirs = transformers.WavTokenizerModel(
            transformers.WavTokenizerConfig(
                num_filters=config.encoder,
                upsampling_ratios=list(reversed(config.strides)),
                hidden_size=config.latent,
                codebook_dim=config.latent,
                codebook_size=config.size,
                decoder_hidden_size=config.decoder,
                decoder_intermediate_size=config.expansion * config.decoder,
                decoder_num_layers=config.blocks,
                decoder_attention_num_groups=config.groups,
            )
        ).eval()
    for key, parameter in theirs.named_parameters():
        if key.startswith("encoder_model"):
            gain = key.endswith("original0")
            parameter.data.mul_(1.8 if gain else 0.1 if key.endswith("conv.bias") else 1.0)
        else:  # also those that begin as ones and zeros
            parameter.data.add_(0.1 * torch.randn_like(parameter))
    theirs.head.linear.weight.data.mul_(0.1)
    return theirs


@torch.no_grad()
def test_wavtokenizer_of_transformers(tmp_path: Path):
    config = wavtokenizer.Config(
        encoder=4, strides=(2, 4, 5), latent=48, decoder=64, blocks=3, size=64, groups=16
    )
    theirs = transformers_wavtokenizer(config)
    codec = saved(theirs, tmp_path / "any.bin")
    latent = codec.latents(noise(codec, 200 * codec.frame_size).samples[None])[0].T
    theirs.encoder_model.quantizer.codebook.embed.copy_(latent[3 : 3 * config.size + 3 : 3])
    with imported("transformers"):
        theirs.save_pretrained(tmp_path / "folder")
    codec = load(tmp_path / "folder")
    assert codec.config == config  # the groups too, of which the weights tell nothing
    assert_parity(
        codec,
        lambda wave: theirs.encode(wave).audio_codes.reshape(1, -1),
        lambda codes: theirs.decode(codes[None]).audio_values.reshape(1, -1),
    )


def test_options_are_used_or_refused(tmp_path: Path):
    config = wavtokenizer.Config(encoder=4, latent=32, decoder=32, blocks=1, size=16)
    theirs = transformers_wavtokenizer(config)
    with imported("transformers"):
        theirs.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    options = json.loads(path.read_text("utf-8"))
    out = tmp_path / "ours.safetensors"
    done = audiotok("convert", tmp_path, out, "--json")
    assert done.code == 0, done.err
    assert done.json["config"] | {"strides": (2, 4, 5, 8)} == vars(config) | {
        "strides": (2, 4, 5, 8)
    }
    assert "groups" in audiotok("convert", tmp_path, out, "--force").out
    for change, words in (
        (
            {"smear": 2, "blur": 1},
            r"config\.json has options .* not known here: blur, smear$",
        ),
        ({"use_causal_conv": True}, "has use_causal_conv=True, and the network here False$"),
        ({"norm_eps": 1e-3}, "has norm_eps=0.001, and the network here 1e-06$"),
    ):
        path.write_text(json.dumps(options | change), "utf-8")
        with pytest.raises(CheckpointError, match=words):
            load(tmp_path)


# -- names ---------------------------------------------------------------------------------------


def test_one_adapter_knows_a_file():
    """No adapter's marks are all among the marks of another with as many."""
    for adapter in ALL:
        assert recognise(ALL, adapter.marks) is adapter
    assert recognise(ALL, ["encoder.weight"]) is None


TABLES = Path(__file__).parents[2] / "shared/specs/state_keys"
PUBLISHED = {
    "encodec_24khz": "encodec_24khz",
    "hf_encodec": "encodec_24khz",
    "speechtokenizer_elu": "speechtokenizer",
    "speechtokenizer_snake": "speechtokenizer_snake",
    "dac_16000": "dac_16khz",
    "dac_24000": "dac_24khz",
    "dac_44100": "dac_44khz",
    "dac_44khz_16kbps": "dac_44khz_16kbps",
    "hf_dac": "dac_44khz",
    "wavtokenizer_75hz": "wavtokenizer_75hz",
    "wavtokenizer_40hz": "wavtokenizer_40hz",
    "hf_wavtokenizer": "wavtokenizer_40hz",
    "hf_mimi_5_24": "mimi",
    "qwen3_tts_tokenizer_12hz": "qwen3_tts_12hz",
    "hf_xcodec": "xcodec",
    "hf_higgs_audio_v2_published": "higgs_v2",
    "voxcpm_audiovae": "voxcpm",
    "snac_24khz": "snac_24khz",
    "snac_1_2_1_snac_32khz_inferred": "snac_32khz",
}
GRIDS = {"num_levels": [9, 8, 8, 7], "dim_base_index": [1, 9, 72, 576]}


def table(name: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of published weights, from files that others' programs made."""
    path = TABLES / f"{name}.tsv"
    if not path.is_file():
        pytest.skip(f"no {path}")
    rows = (line.split("\t") for line in path.read_text("utf-8").splitlines())
    return {row[0]: tuple(map(int, re.findall(r"\d+", row[1]))) for row in rows}


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_names_and_shapes(name: str, tmp_path: Path):
    torch.save({key: torch.ones(s) for key, s in table(name).items()}, tmp_path / "w.bin")
    codec = load(tmp_path / "w.bin")
    assert codec.name == PUBLISHED[name]
    assert codec.config == type(codec).presets[codec.name]


@pytest.mark.slow
def test_nanocodecs_names_and_shapes(tmp_path: Path):
    """Beside the weights it has grids, which say what the codes are."""
    weights = {key: torch.ones(s) for key, s in table("nanocodec_torch_1_0_0").items()}
    for key in weights:
        if key.startswith("vector_quantizer."):
            weights[key] = torch.tensor(GRIDS[key.rpartition(".")[2]])
    torch.save(weights, tmp_path / "w.bin")
    codec = load(tmp_path / "w.bin")
    assert (codec.name, codec.config) == ("nanocodec", type(codec).presets["nanocodec"])


@pytest.mark.parametrize("name", ["xcodec2", "neucodec"])
def test_xcodec2s_names_and_shapes(name: str):
    """Without values, which would take 2.4 GiB."""
    with torch.device("meta"):
        theirs = {key: torch.empty(shape) for key, shape in table(f"hf_{name}").items()}
        kind = find("codecs", "xcodec2")
        adapter = recognise(kind.state_dict_adapters, theirs)
        assert adapter
        weights, origin = adapter.translate(theirs)
        config = kind.config_type(**adapter.sizes(weights, {}))
        assert config == kind.presets[name]
        codec = kind(config)
        check(weights, codec.own_state(), origin)
    assert sum(value.numel() for value in theirs.values()) == codec.parameters_trained


def test_dualcodecs_names_and_shapes():
    """Of all but w2v-BERT, which is another file."""
    with torch.device("meta"):
        theirs = {
            key.replace("weight_v", "weight"): torch.empty(shape)
            for key, shape in table("dualcodec_0_4_2_12hz").items()
            if not key.endswith("weight_g")  # lengths, which are folded
        }
        weights, origin = dualcodec.CODEC.translate(theirs)
        config = dualcodec.Config(**dualcodec.CODEC.sizes(weights, {}))
        state = dualcodec.Dualcodec(config).state_dict()
    others = ("encoder.teacher.", "encoder.mean", "encoder.deviation")
    check(weights, {k: v for k, v in state.items() if not k.startswith(others)}, origin)
    assert config == dualcodec.Dualcodec.presets["dualcodec"]


def test_fish_s2s_names_and_shapes():
    """Without values, as these are 1.6 GB."""
    weights = {}
    for key, shape in table("fish_s2_dac_vllm_omni").items():
        if not key.endswith(("original0", "weight_g")):  # lengths, which are folded
            key = key.replace("parametrizations.weight.original1", "weight")
            weights[key.replace("weight_v", "weight")] = torch.empty(shape, device="meta")
    adapter = recognise(ALL, weights)
    assert adapter is not None
    ours, origin = adapter.translate(weights)
    with torch.device("meta"):
        codec = FishS2(FishS2.config_type(**adapter.sizes(ours, {})))
    check(ours, codec.state_dict(), origin)
    assert codec.config == FishS2.presets["fish_s2"]


@pytest.mark.slow
def test_wavtokenizers_names_are_the_published():
    theirs = Wavtokenizer(wavtokenizer.Config()).state_dict()
    shapes = {key: tuple(value.shape) for key, value in theirs.items() if "disc" not in key}
    assert shapes == table("wavtokenizer_75hz")


def test_what_fits_two_names_is_the_first_unless_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """DM-Codec's weights are SpeechTokenizer's by name and shape."""
    config = SPEECHTOKENIZER["ELU"]
    snake = SPEECHTOKENIZER["Snake"]
    presets = {"speechtokenizer": config, "speechtokenizer_snake": snake, "dm_codec": config}
    monkeypatch.setattr(speechtokenizer.Speechtokenizer, "presets", presets)
    path, ours = tmp_path / "some.pt", tmp_path / "ours.safetensors"
    codec = saved(their_speechtokenizer(config, monkeypatch), path)
    other = load(path, name="dm_codec")
    assert (codec.name, other.name) == ("speechtokenizer", "dm_codec")
    assert codec.fingerprint != other.fingerprint
    with pytest.raises(CheckpointError) as caught:
        load(path, name="speechtokenizer_snake")
    wanted = f"{path}: weights of 'speechtokenizer', not of 'speechtokenizer_snake'"
    assert str(caught.value) == wanted
    # The name goes with the tokens and with the file.
    tokens = other.encode(Audio(torch.randn(1, 4000) / 10, 16000))
    assert (tokens.codec, tokens.fingerprint) == ("dm_codec", other.fingerprint)
    save(other, ours)
    assert load(ours).name == "dm_codec"
    assert read_card(ours)["codec"] == "speechtokenizer"
    assert load(ours, name="speechtokenizer").name == "speechtokenizer"
    with pytest.raises(CheckpointError, match="weights of 'dm_codec', not of 'speech'"):
        load(ours, name="speech")


# -- what files look like --------------------------------------------------------------------------


@pytest.fixture
def state(tmp_path: Path) -> dict[str, Tensor]:
    """A small EnCodec's, as its package names it."""
    return encodec_pair(ENCODEC["24 kHz"])[0].state_dict()


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".weights"])
def test_any_suffix(state: dict[str, Tensor], suffix: str, tmp_path: Path):
    path = tmp_path / f"encodec{suffix}"
    torch.save(state, path)
    assert load(path).config == ENCODEC["24 kHz"]
    torch.save(state, path, _use_new_zipfile_serialization=False)
    assert load(path).config == ENCODEC["24 kHz"]
    save_file({key: value.contiguous() for key, value in state.items()}, path)
    assert load(str(path)).config == ENCODEC["24 kHz"]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": state},
        lambda state: {"model": state, "step": 3},
        lambda state: {"model": {"state_dict": state}},
        lambda state: {
            "best_state": state,
            "xp.cfg": "channels: 1\nsample_rate: 24000\n",
            "version": "1.0.0",
            "exported": True,
        },
        lambda state: {
            "best_state": {"model": state},
            "model": {key: value + 1 for key, value in state.items()},
            "fsdp_best_state": {},
        },
        lambda state: {
            "state_dict": {f"generator.{key}": value for key, value in state.items()}
            | {"discriminator.conv.weight": torch.ones(3), "loss.window": torch.ones(2)}
        },
        lambda state: {
            "state_dict": {f"model.generator.{key}": value for key, value in state.items()}
            | {"model.discriminators.0.conv.weight": torch.ones(3)}
        },
        lambda state: {"model": {"width": 3, "name": "mine"}, "weights": state},
        *(
            lambda state, key=key: {key: state, "step": 7, "optimizer": {"lr": torch.ones(1)}}
            for key in ("net", "model_g", "codec", "weights")
        ),
        lambda state: {f"module.{key}": value for key, value in state.items()},
        lambda state: {f"model._orig_mod.{key}": value for key, value in state.items()},
        lambda state: state | {"step": 3},
        lambda state: {
            re.sub(
                "weight_([gv])$",
                lambda m: f"parametrizations.weight.original{'gv'.index(m[1])}",
                key,
            ): value
            for key, value in state.items()
        },
    ],
    ids=[
        *("state_dict", "model", "nested", "audiocraft exported", "audiocraft training"),
        *("Lightning GAN", "Lightning GAN in a model", "options beside"),
        *(
            "net",
            "model_g",
            "codec",
            "weights",
            "module.",
            "_orig_mod.",
            "step",
            "parametrizations",
        ),
    ],
)
def test_any_wrapping(wrap: Callable[[Any], Any], state: dict[str, Tensor], tmp_path: Path):
    torch.save(state, tmp_path / "plain.th")
    torch.save(wrap(state), tmp_path / "wrapped.th")
    plain, wrapped = (load(tmp_path / f"{name}.th") for name in ("plain", "wrapped"))
    assert plain.fingerprint == wrapped.fingerprint


def test_weight_norm_is_folded_as_torch_does_it():
    for norm in (nn.utils.parametrizations.weight_norm, "old"):
        for layer in (nn.Conv1d(5, 3, 4), nn.ConvTranspose1d(5, 1, 4), nn.Conv1d(5, 1, 4)):
            if norm == "old":
                with pytest.warns(FutureWarning):
                    normed = nn.utils.weight_norm(layer)
            else:
                normed = norm(layer)
            for parameter in normed.parameters():
                parameter.data.add_(torch.randn_like(parameter))
            normed(torch.randn(1, 5, 9))
            weights = foreign.fold(dict(normed.state_dict()))
            assert weights.keys() == {"weight", "bias"}
            assert torch.equal(weights["weight"], torch.as_tensor(normed.weight))


def test_counts_become_shares(state: dict[str, Tensor], tmp_path: Path):
    """How often entries were used, by which dead ones are told in further training."""
    state["quantizer.vq.layers.1._codebook.cluster_size"] = torch.arange(64.0)
    torch.save(state, tmp_path / "some.th")
    usage = load(tmp_path / "some.th").state_dict()
    shares = usage["quantizer.stages.1.usage"]
    torch.testing.assert_close(shares, torch.arange(64.0) / 31.5)
    assert not usage["quantizer.stages.0.usage"].any(), "not used yet"


def test_half_precision_is_read_as_float(state: dict[str, Tensor], tmp_path: Path):
    halves = {k: v.bfloat16() if v.is_floating_point() else v for k, v in state.items()}
    torch.save(halves, tmp_path / "half.th")
    codec = load(tmp_path / "half.th")
    assert all(p.dtype == torch.float32 for p in codec.parameters())


def test_weights_that_are_not_finite_are_refused_by_their_name(
    state: dict[str, Tensor], tmp_path: Path
):
    path = tmp_path / "some.th"
    state["encoder.model.1.block.1.conv.conv.bias"][0] = math.nan
    torch.save(state, path)
    said = "tensor 'encoder.model.1.block.1.conv.conv.bias' holds NaN (1 of "
    assert refusal(path).startswith(said)
    done = audiotok("convert", path, tmp_path / "ours.safetensors")
    assert done.code == 1
    assert said in done.lines[-1]
    assert not (tmp_path / "ours.safetensors").exists()


# -- what is refused, in one line ------------------------------------------------------------------


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert len(message) < len(str(path)) + 600
    return message.removeprefix(f"{path}: ")


class Evil:
    """A pickle of it runs a program."""

    def __reduce__(self) -> Any:
        return os.system, ("touch ran",)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_is_never_run(
    zipped: bool, state: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.pt"
    content = {"state_dict": state, "hyper_parameters": Evil()}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    wanted = "needs posix.system to be read, and no code named in a file is run"
    assert refusal(path).startswith(wanted)
    assert not (tmp_path / "ran").exists()


def test_a_class_is_never_made(state: dict[str, Tensor], tmp_path: Path):
    path = tmp_path / "model.pt"
    torch.save(nn.Linear(2, 2), path)
    assert refusal(path).startswith("needs torch.nn.modules.linear.Linear to be read")


def test_a_package_of_code(tmp_path: Path):
    path = tmp_path / "package.pth"
    with PackageExporter(path) as package:
        package.save_pickle("DAC", "DAC.pth", {"a": 1})
    assert refusal(path).startswith("a torch.package, which holds program code")


@pytest.mark.parametrize("zipped", [True, False, None], ids=["zip", "pickle", "safetensors"])
def test_truncated(zipped: bool | None, state: dict[str, Tensor], tmp_path: Path):
    path = tmp_path / "cut.pt"
    if zipped is None:
        save_file({key: value.contiguous() for key, value in state.items()}, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    for size in (1, 9, 100, 5000, len(whole) // 2, len(whole) - 100):
        path.write_bytes(whole[:size])
        assert re.match(r"no checkpoint, or damaged \(.+\)|damaged safetensors \(", refusal(path))


@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x04.", b"PK\x03\x04" * 9])
def test_no_checkpoint(content: bytes, tmp_path: Path):
    path = tmp_path / "some.ckpt"
    path.write_bytes(content)
    assert refusal(path).startswith("no checkpoint, or damaged (")


@pytest.mark.parametrize("content", [{}, [1], 3, {"epoch": 1}, {"state_dict": {}}, torch.ones(3)])
def test_no_weights(content: Any, tmp_path: Path):
    path = tmp_path / "some.ckpt"
    torch.save(content, path)
    assert refusal(path) == "holds no weights, that is, no tensors by name"


def test_weights_of_something_else(tmp_path: Path):
    path = tmp_path / "resnet.pt"
    torch.save({"conv1.weight": torch.ones(1), "fc.bias": torch.ones(1)}, path)
    said = refusal(path)
    assert said.startswith("weights of no codec here (conv1.weight, fc.bias ...); known: ")
    for program in ("encodec 0.1.1", "WavTokenizer", "transformers 5 DacModel"):
        assert program in said


def test_partial(state: dict[str, Tensor], tmp_path: Path):
    path = tmp_path / "some.th"
    for key in list(state):
        if key.startswith("decoder.model.1"):
            del state[key]
    torch.save(state, path)
    assert refusal(path) == (
        "weights do not fit codec 'encodec': missing: decoder.layers.1.lstm.bias_hh_l0, "
        "decoder.layers.1.lstm.bias_hh_l1, decoder.layers.1.lstm.bias_ih_l0 and 21 more"
    )
    kept = {key: value for key, value in state.items() if not key.startswith("encoder.model.1")}
    for number in (3, 6, 9):
        del kept[f"encoder.model.{number}.conv.conv.weight_v"]
    torch.save(kept, path)
    assert refusal(path) == "partial encodec 0.1.1: no encoder.layers.3.conv.weight"


def test_the_rate_in_audiocrafts_recipe_is_read(state: dict[str, Tensor], tmp_path: Path):
    recipe = "seed: 1\nsample_rate: 32000\nencodec:\n  sample_rate: 16000\n"
    torch.save({"best_state": state, "xp.cfg": recipe}, tmp_path / "some.th")
    assert load(tmp_path / "some.th").sample_rate == 32000


@pytest.mark.parametrize(
    "name", ["encoder.model.0.conv.conv.weight", "quantizer.vq.layers.0._codebook.embed"]
)
def test_a_missing_tensor_by_which_a_codec_is_known_is_named(
    name: str, state: dict[str, Tensor], tmp_path: Path
):
    path = tmp_path / "some.th"
    torch.save({k: v for k, v in state.items() if not k.startswith(name)}, path)
    assert refusal(path).endswith(f"; nearest: encodec 0.1.1, but {name} is missing")


def test_partial_where_sizes_are_read(
    state: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """They would be those of another codec; the name says which they should be."""
    path = tmp_path / "some.th"
    for key in list(state):
        if key.startswith("quantizer.vq.layers.3."):
            del state[key]
    torch.save(state, path)
    assert load(path).codebooks == 3
    monkeypatch.setattr(encodec.Encodec, "presets", {"encodec_24khz": ENCODEC["24 kHz"]})
    with pytest.raises(CheckpointError) as caught:
        load(path, name="encodec_24khz")
    assert str(caught.value) == (
        f"{path}: weights do not fit codec 'encodec_24khz': missing: quantizer.stages.3.entries, "
        "quantizer.stages.3.usage"
    )


def test_a_length_without_its_direction(state: dict[str, Tensor], tmp_path: Path):
    path = tmp_path / "some.th"
    del state["decoder.model.3.convtr.convtr.weight_v"]
    torch.save(state, path)
    assert refusal(path) == (
        "weights do not fit codec 'encodec': missing: decoder.layers.3.conv.weight; "
        "unexpected: decoder.model.3.convtr.convtr.weight_g"
    )


def test_renamed_and_misshapen(state: dict[str, Tensor], tmp_path: Path):
    path = tmp_path / "some.th"
    state["decoder.model.15.conv.conv.bias"] = torch.zeros(7)
    state["new"] = state.pop("decoder.model.3.convtr.convtr.bias")
    torch.save(state, path)
    assert refusal(path) == (
        "weights do not fit codec 'encodec': missing: decoder.layers.3.conv.bias; unexpected: new; "
        "wrong shape: decoder.model.15.conv.conv.bias is 7, not 1"
    )


def test_misshapen_where_sizes_are_read(state: dict[str, Tensor], tmp_path: Path):
    path = tmp_path / "some.th"
    for key, value in (
        ("quantizer.vq.layers.0._codebook.embed", torch.zeros(3)),
        ("encoder.model.3.conv.conv.bias", torch.zeros(())),
    ):
        torch.save(state | {key: value}, path)
        assert refusal(path)


def test_folders(tmp_path: Path, state: dict[str, Tensor]):
    said = refusal(tmp_path)
    assert said == "a folder without model.safetensors or pytorch_model.bin"
    torch.save(state, tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text(json.dumps({"sampling_rate": 8000}))
    assert load(tmp_path).sample_rate == 8000
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json: not JSON"):
        load(tmp_path)


def test_sizes_of_no_preset_are_said(
    state: dict[str, Tensor], tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    path = tmp_path / "some.th"
    torch.save(state, path)
    assert load(path).name == "encodec"
    assert caplog.messages == [f"{path}: of no published size; taken to be for 24000 Hz"]


# -- a adapter's own rules -------------------------------------------------------------------------


def adapter(**options: Any) -> StateDictAdapter:
    defaults: dict[str, Any] = {"source": "x", "marks": (), "rules": (), "sizes": lambda w, a: {}}
    return StateDictAdapter(**defaults | options)


def test_parts_are_concatenated_in_order():
    joined = adapter(rules=((r"\.([qkv])$", lambda m: f".qkv#{'qkv'.index(m[1])}"),))
    parts = {f"a.{name}": torch.full((2, 3), float(i)) for i, name in enumerate("vkq")}
    weights, origin = joined.translate(parts)
    assert weights["a.qkv"].tolist() == [[2] * 3] * 2 + [[1] * 3] * 2 + [[0] * 3] * 2
    assert origin == {"a.qkv": "a.q"}
    del parts["a.k"]
    with pytest.raises(StateDictError, match=r"^only some parts of a\.qkv are there$"):
        joined.translate(parts)
    parts["a.k"] = torch.zeros(2, 4)
    with pytest.raises(StateDictError, match=r"^parts of a\.qkv of shapes 2x3, 2x4, 2x3$"):
        joined.translate(parts)


def test_two_of_one_name():
    with pytest.raises(StateDictError, match=r"^a and b are both c$"):
        adapter(rules=(("^[ab]$", "c"),)).translate({"a": torch.ones(1), "b": torch.ones(1)})


# -- audiotok convert ------------------------------------------------------------------------------


def test_converting_changes_no_bit(state: dict[str, Tensor], tmp_path: Path):
    source, out = tmp_path / "encodec.th", tmp_path / "encodec.safetensors"
    torch.save(state, source)
    done = audiotok("convert", source, out, "--json")
    assert done.code == 0, done.err
    before, after = load(source), load(out)
    assert done.json["fingerprint"] == after.fingerprint == before.fingerprint
    for key, value in before.state_dict().items():
        assert torch.equal(value, after.state_dict()[key])
    assert after.config == before.config
    audio = noise(before, 9999)
    assert after.encode(audio) == before.encode(audio)
    assert read_card(out)["name"] == "encodec"
    told = audiotok("info", source, "--json").json
    assert (told["fingerprint"], told["card"]) == (before.fingerprint, None)

    whole = out.read_bytes()
    done = audiotok("convert", source, out)
    assert done.code == 1
    assert done.lines == [f"error {out}: exists already; --force overwrites it"]
    assert out.read_bytes() == whole
    assert audiotok("convert", source, out, "--force", "--dtype", "float16").code == 0
    assert len(out.read_bytes()) < 0.6 * len(whole)
    assert load(out).fingerprint != before.fingerprint


def test_a_folder_with_the_name_of_a_codec_is_converted(
    state: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """As `git clone` of the weights of encodec_24khz makes one."""
    monkeypatch.chdir(tmp_path)
    folder = Path("encodec_24khz")
    folder.mkdir()
    torch.save(state, folder / "pytorch_model.bin")
    for source in ("encodec_24khz", "./encodec_24khz"):
        out = tmp_path / "out.safetensors"
        done = audiotok("convert", source, out, "--force")
        assert done.code == 0, done.err
        assert load(out).fingerprint == load("./encodec_24khz").fingerprint


def test_what_cannot_be_converted(state: dict[str, Tensor], tmp_path: Path):
    source, out = tmp_path / "encodec.th", tmp_path / "out.safetensors"
    torch.save(state, source)
    for arguments, code, words in (
        ((source, tmp_path / "out.pt"), 2, "not a .safetensors file"),
        ((tmp_path / "none.pt", out), 1, "no such checkpoint"),
        ((source, tmp_path / "no" / "out.safetensors"), 1, "there is no folder"),
        ((source, out, "--name", "dac_16khz"), 1, "weights of 'encodec', not of 'dac_16khz'"),
    ):
        done = audiotok("convert", *arguments)
        assert done.code == code
        assert len(done.lines) == 1
        assert words in done.err
    assert not out.exists()


@pytest.mark.parametrize("kind", [encodec, speechtokenizer, dac, wavtokenizer])
def test_every_preset_has_a_source(kind: Any):
    made = find("codecs", kind.__name__.rpartition(".")[2])
    assert made.presets.keys() <= made.sources.keys()
    for source in made.sources.values():
        assert source.name
        assert source.address.startswith("https://") or source.page.startswith("https://")
