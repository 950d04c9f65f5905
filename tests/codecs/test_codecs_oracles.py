"""Published codecs are what their own programs compute: with the same random weights, the same
codes and the same samples, also at lengths that are no multiple of a frame."""

from __future__ import annotations

import sys
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import pytest
import torch
from contracts import assert_close, near_ties, noise
from test_layers_oracles import copy_by_position
from torch import Tensor, nn
from torch.nn import functional as F

from audiotok.audio import _torchaudio
from audiotok.audio.audio import Audio
from audiotok.codecs.models import dac, encodec, speechtokenizer, wavtokenizer
from audiotok.codecs.models.base import Codec
from audiotok.nn.layers.base import Layer, Mix
from audiotok.nn.layers.chain import Chain
from audiotok.nn.layers.clip_attention import ClipAttention
from audiotok.nn.layers.conv import Conv
from audiotok.nn.layers.fourier_head import FourierHead
from audiotok.nn.layers.transposed_conv import TransposedConv
from audiotok.nn.quantizers.rvq import Euclidean, Factorised, Rvq
from audiotok.nn.quantizers.segment_rvq import SegmentRvq

FRAMES = 45


@contextmanager
def imported(*names: str) -> Iterator[list[Any]]:
    """Other people's packages, whose imports warn; the test is skipped where they are not."""
    _torchaudio.load()  # or they cannot be imported
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield [pytest.importorskip(name, exc_type=ImportError) for name in names]


def ready(codec: Codec) -> Codec:
    return codec.eval().requires_grad_(False)


def lengths(frame: int) -> list[int]:
    """Of which most are no multiple of a frame, and some are too short to mirror."""
    return [
        FRAMES * frame,
        FRAMES * frame + 1,
        FRAMES * frame - 1,
        (FRAMES // 2) * frame + frame // 2 + 1,
        11 * frame + 3,
        7 * frame + 1,
        3 * frame - 2,
        frame + 1,
        1,
    ]


@torch.no_grad()
def enliven(theirs: nn.Module) -> None:
    """Weights as they begin say little of the signal, and codes of it would be near-ties."""
    for key, parameter in theirs.named_parameters():
        if key.endswith("weight_g"):
            parameter.mul_(1.8)
        elif key.endswith("bias"):
            parameter.mul_(0.1)


@torch.no_grad()
def spread(ours: Codec, theirs: nn.Module, seed: int = 0) -> None:
    """Codebooks of both from latents of noise, so that codes differ from frame to frame."""
    torch.manual_seed(seed)
    wave = noise(ours, 400 * prod(ours.config.strides), seed=seed).samples[None]
    residual = ours.encoder(wave)[0].T
    assert isinstance(ours.quantizer, Rvq | SegmentRvq)
    books = [m for m in theirs.modules() if hasattr(m, "embed") and hasattr(m, "cluster_size")]
    for stage, book in zip(ours.quantizer.stages, books, strict=True):
        assert isinstance(stage, Euclidean)
        pick = residual[torch.randint(len(residual), (len(stage.entries),))]
        # Noisy, so that a stage leaves the next something to say: there are up to 32.
        stage.entries.copy_(pick + 0.8 * residual.std(0) * torch.randn_like(pick))
        book.embed.copy_(stage.entries)  # pyright: ignore
        book.inited.fill_(1)  # pyright: ignore  # or it runs k-means, even in eval mode
        residual = residual - stage.look_up(stage.search(residual))


def assert_same_codes(codec: Codec, audio: Audio, theirs: Tensor) -> None:
    """Equal but for near-ties, of which there is one in a thousand frames at most."""
    ours = codec.encode(audio).codes
    assert ours.shape == theirs.shape
    assert len(np.unique(ours[0])) > ours.shape[1] / 5
    assert near_ties(codec, audio, ours, theirs.numpy()) <= ours.shape[1] / 1000


@torch.no_grad()
def assert_same_wave(codec: Codec, audio: Audio, codes: Tensor, theirs: Tensor) -> None:
    """Their samples `[c t]`, within 1e-4 as far as the recording goes."""
    tokens = replace(codec.encode(audio), codes=codes.numpy())
    assert_close(codec.decode(tokens).samples, theirs[:, : len(audio)], 1e-4)


# -- EnCodec ----------------------------------------------------------------------------------

ENCODEC = {
    "24 kHz": encodec.Config(width=8, codebooks=4, size=64),
    "48 kHz": encodec.Config(
        sample_rate=48000,
        channels=2,
        width=8,
        codebooks=3,
        size=64,
        causal=False,
        group_norm=True,
        segment=48000,
        stride=47520,
    ),
    "32 kHz": replace(
        encodec.Encodec.presets["encodec_32khz"], width=8, strides=(2, 4, 5, 8), size=64
    ),
    "24 kHz, full size": encodec.Config(),
}


def encodec_pair(config: encodec.Config) -> tuple[Any, Codec]:
    names = ("encodec.modules", "encodec.quantization", "encodec.model")
    with imported(*names) as (modules, q, model):
        torch.manual_seed(0)
        sizes: dict[str, Any] = {
            "channels": config.channels,
            "dimension": config.latent,
            "n_filters": config.width,
            "ratios": list(reversed(config.strides)),
            "causal": config.causal,
            "true_skip": not config.shortcut,
            "norm": "time_group_norm" if config.group_norm else "weight_norm",
        }
        theirs = model.EncodecModel(
            modules.SEANetEncoder(**sizes),
            modules.SEANetDecoder(**sizes),
            q.ResidualVectorQuantizer(
                dimension=config.latent, n_q=config.codebooks, bins=config.size
            ),
            [24.0],
            config.sample_rate,
            config.channels,
            normalize=bool(config.segment),
            segment=config.segment / config.sample_rate or None,
        ).eval()
    enliven(theirs)
    ours = ready(encodec.Encodec(config))
    copy_by_position(theirs.encoder, ours.encoder)
    copy_by_position(theirs.decoder, ours.decoder)
    spread(ours, theirs)
    return theirs, ours


@torch.no_grad()
@pytest.mark.parametrize(
    "form", ["24 kHz", "32 kHz", pytest.param("24 kHz, full size", marks=pytest.mark.slow)]
)
def test_encodec(form: str):
    config = ENCODEC[form]
    theirs, ours = encodec_pair(config)
    for samples in lengths(ours.frame_size):
        audio = noise(ours, samples)
        latent = theirs.encoder(audio.samples[None])
        codes = theirs.quantizer.vq.encode(latent, n_q=config.codebooks).transpose(0, 1)
        assert_same_codes(ours, audio, codes[0])
        decoded = theirs.decoder(theirs.quantizer.decode(codes.transpose(0, 1)))
        assert_same_wave(ours, audio, codes[0], decoded[0])


@torch.no_grad()
def assert_same_segments(theirs: Any, ours: Codec, samples: int) -> None:
    """Theirs gives codes and loudness for each segment, the last a shorter one."""
    audio = noise(ours, samples)
    frames = theirs.encode(audio.samples[None])
    tokens = ours.encode(audio)
    assert tokens.frames == len(frames)
    codes = np.zeros_like(tokens.codes)
    for i, (mine, (one, loudness)) in enumerate(zip(tokens.codes.T, frames, strict=True)):
        books, count = one.shape[1:]
        assert mine[0] == count
        assert (0.5 + (mine[2] + 0.5) / 2**16) * 2.0 ** (mine[1] - 128) == pytest.approx(
            loudness.item(), rel=2**-16
        )
        rows = mine[3:].reshape(books, -1)[:, :count]
        assert np.mean(rows == one[0].numpy()) > 0.9999
        codes[:3, i] = mine[:3]
        codes[3:].reshape(books, -1, len(frames))[:, :count, i] = one[0].numpy()
    decoded = theirs.decode(frames)[0]
    assert decoded.shape[1] >= samples
    assert_close(ours.decode(replace(tokens, codes=codes)).samples, decoded[:, :samples], 1e-4)


def test_encodec_48khz():
    """Of a second, a little more than its stride, and long enough for a last one of any size."""
    theirs, ours = encodec_pair(ENCODEC["48 kHz"])
    for samples in (48000, 47521, 20_001, 1500, 3 * 47520 + 400, 2 * 47520 - 1, 100_000):
        assert_same_segments(theirs, ours, samples)


# -- SpeechTokenizer, and DM-Codec, whose network is the same -----------------------------------

SPEECHTOKENIZER = {
    "ELU": speechtokenizer.Config(width=8, latent=64, codebooks=3, size=64, semantic=24),
    "Snake": speechtokenizer.Config(
        width=8, latent=64, codebooks=3, size=64, semantic=24, snake=True
    ),
    "full size": speechtokenizer.Config(),
}


def copy_snakes(source: nn.Module, target: nn.Module) -> None:
    """Random slopes of Snake in both, in turn."""
    pair = [
        [m for m in network.modules() if type(m).__name__.startswith("Snake")]
        for network in (source, target)
    ]
    for theirs, ours in zip(*pair, strict=True):
        alpha = 0.5 + torch.rand_like(ours.alpha)
        theirs.alpha.data.copy_(alpha)
        ours.alpha.data.copy_(alpha)


@torch.no_grad()
def their_speechtokenizer(
    config: speechtokenizer.Config, monkeypatch: pytest.MonkeyPatch
) -> nn.Module:
    # Its trainer needs much that the network does not.
    stub = types.ModuleType("speechtokenizer.trainer")
    vars(stub)["SpeechTokenizerTrainer"] = None
    monkeypatch.setitem(sys.modules, "speechtokenizer.trainer", stub)
    torch.manual_seed(0)
    with imported("speechtokenizer.model") as (module,):
        theirs = module.SpeechTokenizer(
            {
                "n_filters": config.width,
                "dimension": config.latent,
                "strides": list(reversed(config.strides)),
                "lstm_layers": config.lstm,
                "bidirectional": True,
                "dilation_base": 2,
                "residual_kernel_size": 3,
                "n_residual_layers": 1,
                "activation": "Snake" if config.snake else "ELU",
                "sample_rate": config.sample_rate,
                "n_q": config.codebooks,
                "semantic_dimension": config.semantic,
                "codebook_size": config.size,
            }
        ).eval()
    enliven(theirs)
    return theirs


@torch.no_grad()
@pytest.mark.parametrize(
    "form", ["ELU", "Snake", pytest.param("full size", marks=pytest.mark.slow)]
)
def test_speechtokenizer(form: str, monkeypatch: pytest.MonkeyPatch):
    config = SPEECHTOKENIZER[form]
    theirs: Any = their_speechtokenizer(config, monkeypatch)
    ours = speechtokenizer.Speechtokenizer(config)
    ready(ours)
    for part in ("encoder", "decoder"):
        copy_by_position(getattr(theirs, part), getattr(ours, part))
        copy_snakes(getattr(theirs, part), getattr(ours, part))
    ours.semantic.load_state_dict(theirs.transform.state_dict())
    spread(ours, theirs)
    for samples in lengths(ours.frame_size):
        audio = noise(ours, samples)
        codes = theirs.encode(audio.samples[None])
        assert_same_codes(ours, audio, codes[:, 0])
        assert_same_wave(ours, audio, codes[:, 0], theirs.decode(codes)[0])
    wave = noise(ours, 20 * ours.frame_size).samples[None]
    _, _, feature = theirs(wave)
    first = ours(wave)[1].first
    assert first is not None
    assert_close(ours.distilled(first), feature, 1e-4)


# -- DAC --------------------------------------------------------------------------------------

DAC = {
    "strides 2 4 5 8": dac.Config(
        encoder=8, decoder=64, strides=(2, 4, 5, 8), latent=48, codebooks=3, size=64
    ),
    "strides 2 4 8 8": dac.Config(encoder=4, decoder=64, latent=64, codebooks=3, size=64),
    "16 kHz, full size": dac.Dac.presets["dac_16khz"],
    "44 kHz, full size": dac.Config(),
}


def stubbed_audiotools(monkeypatch: pytest.MonkeyPatch) -> None:
    """DAC's network needs of audiotools, which needs much, only a base class."""
    stub, ml = types.ModuleType("audiotools"), types.ModuleType("audiotools.ml")
    base = type("BaseModel", (nn.Module,), {"INTERN": [], "EXTERN": []})
    vars(ml)["BaseModel"] = base
    vars(stub).update(ml=ml, AudioSignal=object, STFTParams=object)
    utils = types.ModuleType("dac.utils")
    for module in (stub, ml, utils):
        monkeypatch.setitem(sys.modules, module.__name__, module)


def copy_dac(theirs: Any, ours: Codec) -> None:
    for part in ("encoder", "decoder"):
        copy_by_position(getattr(theirs, part), getattr(ours, part))
        copy_snakes(getattr(theirs, part), getattr(ours, part))
    assert isinstance(ours.quantizer, Rvq)
    for stage, quantizer in zip(ours.quantizer.stages, theirs.quantizer.quantizers, strict=True):
        assert isinstance(stage, Factorised)
        for linear, conv in ((stage.down, quantizer.in_proj), (stage.up, quantizer.out_proj)):
            linear.weight.copy_(conv.weight[:, :, 0])
            linear.bias.copy_(conv.bias)
        stage.entries.copy_(quantizer.codebook.weight)


@torch.no_grad()
def their_dac(config: dac.Config, monkeypatch: pytest.MonkeyPatch) -> Any:
    stubbed_audiotools(monkeypatch)
    torch.manual_seed(0)
    with imported("dac.model.dac") as (module,):
        theirs = module.DAC(
            encoder_dim=config.encoder,
            encoder_rates=list(config.strides),
            latent_dim=config.latent,
            decoder_dim=config.decoder,
            decoder_rates=list(reversed(config.strides)),
            n_codebooks=config.codebooks,
            codebook_size=config.size,
            codebook_dim=config.code_width,
            sample_rate=config.sample_rate,
        ).eval()
        theirs(torch.zeros(1, 1, 8000))  # old weight norm makes its weights when it runs
    return theirs


@torch.no_grad()
@pytest.mark.parametrize(
    "form",
    [
        "strides 2 4 5 8",
        "strides 2 4 8 8",
        pytest.param("16 kHz, full size", marks=pytest.mark.slow),
        pytest.param("44 kHz, full size", marks=pytest.mark.slow),
    ],
)
def test_dac(form: str, monkeypatch: pytest.MonkeyPatch):
    config = DAC[form]
    theirs = their_dac(config, monkeypatch)
    ours = ready(dac.Dac(config))
    copy_dac(theirs, ours)
    odd = any(stride % 2 for stride in config.strides)
    for samples in lengths(ours.frame_size):
        audio = noise(ours, samples)
        padded = theirs.preprocess(audio.samples[None], None)
        latent, codes, *_ = theirs.encode(padded)
        assert_same_codes(ours, audio, codes[0])
        decoded = theirs.decode(latent)[0]
        mine = ours.finish_wave(ours.quantizer.decode(codes), None)[0]
        assert mine.shape == padded[0].shape
        # One output more at stride 5 is heard in what comes before it, as far as layers reach.
        short = mine.shape[1] - decoded.shape[1]
        assert short == (8 if odd else 0)
        heard = mine.shape[1] - 480 - 8 if odd else mine.shape[1]
        if heard > 0:
            assert_close(mine[:, :heard], decoded[:, :heard], 1e-4)
        if odd:
            with cut_as_theirs(ours):
                exactly = ours.decoder(ours.quantizer.decode(codes))[0]
            assert_close(exactly, decoded, 1e-4)
        else:
            assert_same_wave(ours, audio, codes[0], decoded)


@contextmanager
def cut_as_theirs(codec: Codec) -> Iterator[None]:
    """With the published decoder's cut on both sides, which loses an output at odd strides."""
    layers = [m for m in codec.decoder.modules() if isinstance(m, TransposedConv)]
    before = [layer.right for layer in layers]
    for layer in layers:
        layer.right = layer.left
    yield
    for layer, right in zip(layers, before, strict=True):
        layer.right = right


# -- WavTokenizer, which is no package: its encoder is EnCodec's, its decoder built on Vocos ------


def wav_decoder(width: int = 64, blocks: int = 3) -> tuple[Codec, list[Layer]]:
    config = wavtokenizer.Config(
        encoder=4, latent=48, decoder=width, blocks=blocks, groups=8, size=64
    )
    torch.manual_seed(0)
    codec = ready(wavtokenizer.Wavtokenizer(config))
    for parameter in codec.parameters():  # also those that begin as ones and zeros
        parameter.add_(0.1 * torch.randn_like(parameter))
    assert isinstance(codec.decoder, Chain)
    return codec, list(codec.decoder)


@torch.no_grad()
def test_wavtokenizer_encodes_as_encodec():
    """It is a SEANet of encodec's, not causal, and one codebook."""
    codec, _ = wav_decoder()
    config = codec.config
    with imported("encodec.modules", "encodec.quantization") as (modules, q):
        encoder = modules.SEANetEncoder(
            dimension=config.latent, n_filters=config.encoder, causal=False
        ).eval()
        quantizer = q.ResidualVectorQuantizer(dimension=config.latent, n_q=1, bins=config.size)
    enliven(encoder)
    copy_by_position(encoder, codec.encoder)
    spread(codec, quantizer.eval())
    for samples in lengths(codec.frame_size):
        audio = noise(codec, samples)
        codes = quantizer.vq.encode(encoder(audio.samples[None]), n_q=1)
        assert_same_codes(codec, audio, codes[:, 0])


@torch.no_grad()
def test_wavtokenizer_decodes_as_vocos():
    """Its ConvNeXt blocks, their conditional norms and its head are vocos 0.1.0's."""
    _, layers = wav_decoder()
    with imported("vocos.models", "vocos.heads") as (models, heads):
        backbone = models.VocosBackbone(48, 64, 192, 3, adanorm_num_embeddings=4).eval()
        head = heads.ISTFTHead(64, 4 * 320, 320, padding="same").eval()
    embed, norm, final, mix = layers[0], layers[7], layers[-3], layers[-2]
    assert isinstance(embed, Conv)
    assert isinstance(mix, Mix)
    backbone.embed.load_state_dict(embed.conv.state_dict())
    pairs: list[tuple[Any, Any]] = [(backbone.norm, norm)]
    for block, ours in zip(backbone.convnext, layers[8:-3], strict=True):
        mine: Any = ours
        block.dwconv.weight.copy_(mine.depthwise.weight.T[:, None])
        block.dwconv.bias.copy_(mine.depthwise.bias)
        block.pwconv1.load_state_dict(mine.up.state_dict())
        block.pwconv2.load_state_dict(mine.down.state_dict())
        block.gamma.copy_(mine.scale)
        pairs.append((block.norm, mine))
    for theirs, ours in pairs:
        theirs.scale.weight.copy_(ours.norm.scale)
        theirs.shift.weight.copy_(ours.norm.shift)
    backbone.final_layer_norm.load_state_dict(final.norm.state_dict())  # pyright: ignore
    head.out.load_state_dict(mix.linear.state_dict())
    head.out.weight.mul_(0.1)
    mix.linear.weight.mul_(0.1)
    for frames in (1, 2, 30):
        latent = torch.randn(2, 48, frames)
        mine = Chain([embed, norm, *layers[8:]])(latent)
        theirs = head(backbone(latent, bandwidth_id=torch.tensor([0])))
        assert_close(mine[:, 0], theirs, 1e-4)


@torch.no_grad()
def test_wavtokenizer_attends_as_vqgan():
    """Between embedding and ConvNeXt: two ResnetBlocks, an AttnBlock, two more, a normalisation
    (decoder/models.py of its repository, from VQGAN), written out with torch's functions."""
    _, layers = wav_decoder()

    def normed(x: Tensor, layer: Any) -> Tensor:
        return F.group_norm(x, 8, layer.norm.weight, layer.norm.bias, 1e-6)

    def convolved(x: Tensor, layer: Any) -> Tensor:
        return F.conv1d(x, layer.conv.weight, layer.conv.bias, padding=1)

    def resnet(x: Tensor, block: Any) -> Tensor:
        norm1, _, conv1, norm2, _, _, conv2 = block.body
        y = convolved(F.silu(normed(x, norm1)), conv1)
        return x + convolved(F.silu(normed(y, norm2)), conv2)

    def attention(x: Tensor, block: Any) -> Tensor:
        norm, attend = block.body
        q, k, v = attend.qkv(normed(x, norm).transpose(1, 2)).chunk(3, 2)
        weights = (q @ k.transpose(1, 2) / 64**0.5).softmax(2)
        return x + attend.out(weights @ v).transpose(1, 2)

    for frames in (1, 25):
        x = torch.randn(2, 64, frames)
        want = resnet(resnet(x, layers[1]), layers[2])
        want = resnet(resnet(attention(want, layers[3]), layers[4]), layers[5])
        assert_close(Chain(layers[1:7])(x), normed(want, layers[6]), 1e-4)


@torch.no_grad()
def test_fourier_head_is_torchs_istft():
    """torch centres its windows; ours begin `trim` before the first sample, as Vocos' "same"."""
    head, x = FourierHead(8, 32), torch.randn(2, 34, 20)
    magnitude, phase = x.chunk(2, 1)
    spectrum = torch.polar(magnitude.exp().clamp(max=100), phase)
    want = torch.istft(spectrum, 32, 8, window=torch.hann_window(32), length=19 * 8)
    # Sample 0 of torch's lies 16 into the first window, of ours 12.
    assert_close(head(x)[:, 0, 4 : 19 * 8 - 4], want[:, : 19 * 8 - 8], 1e-4)


@torch.no_grad()
def test_fourier_head_inverts_the_transform():
    hop, window, x = 8, 32, torch.randn(2, 160)
    padded = F.pad(x, (12, 12))
    spectrum = torch.stft(
        padded, window, hop, window=torch.hann_window(window), center=False, return_complex=True
    )
    made = FourierHead(hop, window)(torch.cat([spectrum.abs().log(), spectrum.angle()], 1))
    assert_close(made[:, 0], x, 1e-4)


@torch.no_grad()
def test_clip_attention_is_torchs():
    ours, x = ClipAttention(16), torch.randn(2, 16, 9)
    theirs = nn.MultiheadAttention(16, 1, batch_first=True)
    theirs.in_proj_weight.copy_(ours.qkv.weight)
    assert theirs.in_proj_bias is not None
    theirs.in_proj_bias.copy_(ours.qkv.bias)
    theirs.out_proj.load_state_dict(ours.out.state_dict())
    frames = x.transpose(1, 2)
    assert_close(ours(x), theirs(frames, frames, frames)[0].transpose(1, 2))
