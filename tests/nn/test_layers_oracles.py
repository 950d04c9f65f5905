"""Layers equal what other programs compute: torch, and the published codecs' own packages."""

from __future__ import annotations

import math
import warnings
from typing import Any

import contracts
import pytest
import torch
from contracts import assert_close
from torch import nn
from torch.nn import functional as F

from audiotok.audio import _torchaudio
from audiotok.nn.layers.conv import Conv
from audiotok.nn.layers.lstm import Lstm
from audiotok.nn.layers.seanet import Config, Seanet
from audiotok.nn.layers.stft import Istft, Stft
from audiotok.nn.layers.transposed_conv import TransposedConv


@torch.no_grad()
def test_stft_is_torchs():
    layer, x = Stft(8, power=1.0), torch.randn(3, 1, 192)
    magnitude, real, imaginary = layer(x).chunk(3, 1)
    want = torch.stft(
        F.pad(x[:, 0], (8, 0)), 16, 8, window=layer.window, center=False, return_complex=True
    )
    assert_close(torch.complex(real, imaginary), want)
    assert_close(magnitude, (want.abs().square() + 1e-4).sqrt())


@torch.no_grad()
def test_compression_keeps_the_phase():
    x = torch.randn(3, 1, 192)
    plain, layer = Stft(8, power=1.0, floor=0.0)(x), Stft(8, power=0.3, floor=0.0)
    y, z = (torch.complex(*s.chunk(3, 1)[1:]) for s in (layer(x), plain))
    assert_close(y, torch.polar(z.abs() ** 0.3, z.angle()))
    magnitude, real, imaginary = Stft(8)(torch.zeros(1, 1, 16)).chunk(3, 1)
    assert_close(magnitude, torch.full((1, 9, 2), 0.01))
    assert not real.any()
    assert not imaginary.any()


@torch.no_grad()
def test_istft_is_torchs():
    layer, x = Istft(8), torch.randn(3, 27, 24)
    y, state = layer.step(x, layer.start(3))
    y = torch.cat([y, layer.flush(state)], 2)[:, 0]
    gain, real, imaginary = x.chunk(3, 1)
    spectrum = torch.complex(gain.exp() * real, gain.exp() * imaginary)
    # It divides by the sum of squared windows; ours is 1 except in the first hop.
    want = torch.istft(spectrum, 16, 8, window=layer.window, center=False)
    assert_close(y[:, 8:], want[:, 8 : y.shape[1]])
    assert_close(y[:, :8], want[:, :8] * layer.window[:8].square())


@torch.no_grad()
def test_stft_and_istft_are_one_hop_of_delay():
    x = torch.randn(3, 1, 192)
    spectrum = Stft(8, power=1.0)(x)[:, 9:]
    y = Istft(8)(F.pad(spectrum.unflatten(1, (2, 9)), (0, 0, 0, 0, 1, 0)).flatten(1, 2))
    assert_close(y[:, :, 8:], x[:, :, :-8])


@torch.no_grad()
@pytest.mark.parametrize("stride", [2, 4, 5, 8])
def test_convolutions_are_dacs(stride: int):
    """Its layers, from descript-audio-codec 1.0.0's dac/model/dac.py, are torch's, padded so."""
    x, half = torch.randn(2, 3, 12 * stride), math.ceil(stride / 2)
    down = nn.Conv1d(3, 5, 2 * stride, stride=stride, padding=half)
    ours = Conv(3, 5, 2 * stride, stride=stride, causal=False)
    ours.conv.load_state_dict(down.state_dict())
    assert_close(ours(x), down(x))
    up = nn.ConvTranspose1d(3, 5, 2 * stride, stride=stride, padding=half)
    back = TransposedConv(3, 5, 2 * stride, stride=stride, causal=False, trim=(half, half))
    back.conv.load_state_dict(up.state_dict())
    assert_close(back(x), up(x))
    dilated = nn.Conv1d(3, 3, 7, dilation=9, padding=27)
    ours = Conv(3, 3, 7, dilation=9, causal=False)
    ours.conv.load_state_dict(dilated.state_dict())
    assert_close(ours(x), dilated(x))


@torch.no_grad()
def test_convolution_repeats_like_mimis():
    """moshi's ConvDownsample1d pads with the first value (`pad_mode="replicate"`)."""
    layer, x = Conv(3, 5, 4, stride=2, pad="repeat"), torch.randn(2, 3, 20)
    assert_close(layer(x), layer.conv(F.pad(x, (2, 0), "replicate")))


@torch.no_grad()
def test_bidirectional_lstm_is_speechtokenizers():
    """`y + x.repeat(1, 1, 2)`, speechtokenizer 1.0.1's modules/lstm.py; torch's LSTM."""
    layer, x = Lstm(4, bidirectional=True), torch.randn(2, 4, 20)
    frames = x.permute(2, 0, 1)
    theirs = nn.LSTM(4, 4, 2, bidirectional=True)
    theirs.load_state_dict(layer.lstm.state_dict())
    want = theirs(frames)[0] + frames.repeat(1, 1, 2)
    assert_close(layer(x), want.permute(1, 2, 0))


SIZES: dict[str, Any] = {"n_filters": 4, "dimension": 16, "ratios": [3, 4, 2], "activation": "ELU"}
OURS = {"width": 4, "latent": 16, "strides": (2, 4, 3)}
FORMS: dict[str, tuple[dict[str, Any], Config]] = {
    "24 kHz": ({"causal": True}, Config(**OURS)),
    "24 kHz, zeros": ({"causal": True, "pad_mode": "constant"}, Config(**OURS, pad="zeros")),
    "ahead": (
        {"n_residual_layers": 3, "compress": 1},
        Config(**OURS, residuals=3, compress=1, causal=False),
    ),
    "48 kHz": (
        {"channels": 2, "norm": "time_group_norm"},
        Config(**OURS, channels=2, group_norm=True, causal=False),
    ),
    "as Mimi": (
        {
            "causal": True,
            "pad_mode": "constant",
            "true_skip": True,
            "lstm": 0,
            "last_kernel_size": 3,
            "norm": "none",
        },
        Config(**OURS, last_kernel=3, lstm=0, shortcut=False, pad="zeros"),
    ),
}
WEIGHTS = (nn.Conv1d, nn.ConvTranspose1d, nn.LSTM, nn.GroupNorm)


def copy_by_position(source: nn.Module, target: nn.Module) -> None:
    """Weights of each convolution, LSTM and norm in turn; weight normalisation is folded."""
    pair = [[m for m in model.modules() if isinstance(m, WEIGHTS)] for model in (source, target)]
    for theirs, ours in zip(*pair, strict=True):
        weights = theirs.state_dict()
        if "weight_g" in weights:
            v = weights.pop("weight_v")
            weights["weight"] = v * weights.pop("weight_g") / v.norm(dim=(1, 2), keepdim=True)
        ours.load_state_dict(weights)


@pytest.fixture(params=FORMS)
def seanets(request: pytest.FixtureRequest) -> tuple[Config, list[tuple[nn.Module, Seanet]]]:
    """EnCodec's encoder and ours, its decoder and ours."""
    _torchaudio.load()  # or encodec cannot be imported
    seanet = pytest.importorskip("encodec.modules")
    options, config = FORMS[request.param]
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # it uses the old weight_norm
        theirs = [seanet.SEANetEncoder(**SIZES | options), seanet.SEANetDecoder(**SIZES | options)]
    pairs = list(zip(theirs, [Seanet.encoder(config), Seanet.decoder(config)], strict=True))
    for source, target in pairs:
        copy_by_position(source.eval(), target.eval())
    return config, pairs


@torch.no_grad()
def test_seanet_is_encodecs(seanets: tuple[Config, list[tuple[nn.Module, Seanet]]]):
    """encodec 0.1.1 with random weights: equal, also where a signal is short or no multiple."""
    config, ((their_encoder, encoder), (their_decoder, decoder)) = seanets
    assert (encoder.consumes, decoder.produces) == (24, 24)
    for samples in (24 * 20, 24 * 2, 24 * 20 + 1, 24 * 20 - 1, 24 * 9 + 13, 7, 1):
        x = torch.randn(2, config.channels, samples)
        latent = their_encoder(x)
        assert latent.shape[2] == -(-samples // 24)
        assert_close(encoder(x), latent)
        assert_close(decoder(latent), their_decoder(latent))
    if config.causal and config.pad == "reflect":
        x = torch.randn(2, 1, 24 * 20)  # the last convolution mirrors 6 frames
        contracts.assert_streams(encoder, x, first=24 * 7, examples=5)
        contracts.assert_streams(decoder, their_encoder(x), first=7, examples=5)
