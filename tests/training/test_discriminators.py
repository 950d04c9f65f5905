"""Discriminators: what each promises, the published sizes, and the published programs' output."""

from __future__ import annotations

import dataclasses
import warnings
from importlib import import_module
from typing import Any

import peers
import pytest
import torch
from contracts import assert_close
from torch import Tensor, nn
from torch.nn import functional as F

from audiotok._platform.registry import find, names
from audiotok.training import losses
from audiotok.training.discriminators import mpd, mrd, ms_stft, msd, multi_band
from audiotok.training.discriminators.base import Discriminator, DiscriminatorOutput

NAMES = names("discriminators")
SMALL = {"windows": (256, 64), "periods": (2, 3), "scales": 2, "dilations": (1, 2)}
WIDTHS = {"mpd": 4, "msd": 16}


def small(name: str, **more: Any) -> Discriminator:
    kind = find("discriminators", name)
    config = kind.config_type()
    sizes: dict[str, Any] = {"width": WIDTHS.get(name, 8)}
    sizes |= {key: value for key, value in SMALL.items() if hasattr(config, key)}
    torch.manual_seed(0)
    return kind(dataclasses.replace(config, **sizes | more)).eval()


def noise(batch: int = 3, samples: int = 2000, channels: int = 1) -> Tensor:
    return 0.1 * torch.randn(batch, channels, samples)


def parts(opinions: list[DiscriminatorOutput]) -> list[Tensor]:
    return [x for one in opinions for x in (one.score, *one.features)]


# -- the contract -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_the_config_is_frozen_and_describes_what_was_built(name: str):
    kind = find("discriminators", name)
    config = kind.config_type()
    assert dataclasses.is_dataclass(config)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.channels = 2  # type: ignore[misc]
    built = small(name)
    again = kind(built.config)
    again.load_state_dict(built.state_dict())
    wave = noise()
    for one, other in zip(parts(built(wave)), parts(again.eval()(wave)), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", NAMES)
def test_opinions_are_finite_and_every_part_of_the_wave_and_the_network_matters(name: str):
    built, wave = small(name), noise().requires_grad_()
    opinions = built(wave)
    assert len(opinions) == 2
    for one in opinions:
        assert len(one.features) >= 3
    for x in parts(opinions):
        assert len(x) == len(wave)
        assert x.isfinite().all()
    losses.generator(opinions).backward()
    assert wave.grad is not None
    # Windows fade at the edges, and samples after the last whole frame of EnCodec's are not seen.
    assert (wave.grad[:, :, 64:-64] != 0).all()
    for key, weight in built.named_parameters():
        assert weight.grad is not None, key
        assert weight.grad.isfinite().all(), key
        assert weight.grad.any(), key


@pytest.mark.parametrize("name", NAMES)
def test_feature_matching_reaches_every_layer_but_the_last(name: str):
    built = small(name)
    output, reference = built(noise()), built(noise())
    slopes = torch.autograd.grad(
        losses.feature_matching(output, reference), list(built.parameters()), allow_unused=True
    )
    missed = [k for (k, _), s in zip(built.named_parameters(), slopes, strict=True) if s is None]
    assert missed
    assert all("score" in key for key in missed)


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_a_recording_is_judged_alone(name: str):
    built, wave = small(name), noise()
    together, again = parts(built(wave)), parts(built(wave))
    spoilt = wave.clone()
    spoilt[1] = float("nan")
    beside = parts(built(spoilt))
    for i in (0, 2):
        alone = parts(built(wave[i : i + 1]))
        for one, same, batch, other in zip(alone, again, together, beside, strict=True):
            assert torch.equal(batch, same)
            assert_close(batch[i : i + 1], one)
            assert_close(other[i : i + 1], one)


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("samples", [1, 11, 100, 1000, 1001])
def test_short_waves_are_judged_or_refused(name: str, samples: int):
    built = small(name)
    if samples >= built.shortest:
        assert all(x.isfinite().all() and x.numel() for x in parts(built(noise(2, samples))))
    else:
        message = (
            rf"^{type(built).__name__} needs {built.shortest} samples at least, not {samples}:"
        )
        with pytest.raises(ValueError, match=message):
            built(noise(2, samples))


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_channels_are_those_of_the_config(name: str):
    with pytest.raises(ValueError, match=r"^\w+ is built for 1 channels, not 2$"):
        small(name)(noise(channels=2))
    built, wave = small(name, channels=2), noise(channels=2)
    other = wave.clone()
    other[:, 1] = noise()[:, 0]
    assert not torch.allclose(built(wave)[0].score, built(other)[0].score)


@pytest.mark.parametrize("name", NAMES)
def test_the_slope_is_finite_at_silence(name: str):
    silent = torch.zeros(2, 1, 2000, requires_grad=True)
    built = small(name)
    losses.generator(built(silent)).backward()
    assert silent.grad is not None
    assert silent.grad.isfinite().all()
    assert silent.grad.abs().max() < 100


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_half_precision_judges_alike(name: str):
    built, wave = small(name), noise()
    full = built(wave)
    with torch.autocast("cpu", torch.bfloat16):
        half = built(wave)
    for one, other in zip(half, full, strict=True):
        assert_close(one.score.float(), other.score, 5e-2)


@pytest.mark.parametrize("name", NAMES)
def test_it_learns_to_tell_a_tone_from_noise(name: str):
    built = small(name).train()
    optimizer = torch.optim.Adam(built.parameters(), 5e-3, betas=(0.8, 0.99))
    tone = torch.sin(torch.arange(1000) / 5)[None, None].expand(4, -1, -1)
    spent = []
    for _ in range(12):
        loudness = 0.05 + 0.2 * torch.rand(4, 1, 1)
        loss = losses.discriminator(built(noise(4, 1000)), built(loudness * tone))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        spent.append(loss.item())
    assert spent[-1] < 0.7 * spent[0]


# -- the published sizes ------------------------------------------------------------------------


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


PUBLISHED = {
    "mpd": 41_105_770,  # HiFi-GAN, SpeechTokenizer
    "msd": 29_618_821,
    "ms_stft": 472_330,  # SpeechTokenizer
    "mrd": 600_966 - 768,  # WavTokenizer, without its embedding of the bitrate
    "multi_band": 42_519_760 - 41_105_770,  # DAC, less its MPD
}


@pytest.mark.parametrize("name", NAMES)
def test_the_usual_sizes_are_the_published_ones(name: str):
    assert count(find("discriminators", name)()) == PUBLISHED[name]


# -- the published programs ---------------------------------------------------------------------


def copy_weights(theirs: nn.Module, ours: nn.Module, *, turn: bool = False) -> None:
    """Convolution by convolution, in order; `turn` where ours has the two axes the other way."""
    kinds = (nn.Conv1d, nn.Conv2d)
    pair = [[m for m in model.modules() if isinstance(m, kinds)] for model in (theirs, ours)]
    named = {"weight_g": "0", "weight_v": "1"}
    for one, other in zip(*pair, strict=True):
        weights = {}
        for key, value in one.state_dict().items():
            value = value.transpose(2, 3) if turn and value.ndim == 4 else value
            if key in named:
                key = f"parametrizations.weight.original{named[key]}"
            weights[key] = value
        other.load_state_dict(weights)


def assert_opinions(
    ours: list[DiscriminatorOutput], scores: list[Tensor], features: list[Any]
) -> None:
    assert len(ours) == len(scores)
    for mine, score, layers in zip(ours, scores, features, strict=True):
        assert_close(mine.score, score)
        assert len(mine.features) == len(layers)
        for one, other in zip(mine.features, layers, strict=True):
            assert_close(one, other)


def columns(x: Tensor) -> Tensor:
    """`[b d rows p]` as `[b p d 1 rows]`."""
    return x.permute(0, 3, 1, 2)[:, :, :, None]


@torch.no_grad()
@pytest.mark.parametrize("channels", [1, 2])
def test_ms_stft_is_encodecs(channels: int):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with peers.modules("encodec"):
            kind = import_module("encodec.msstftd").MultiScaleSTFTDiscriminator
        theirs = kind(filters=8, in_channels=channels)
    windows = (1024, 2048, 512)
    ours = ms_stft.MsStft(ms_stft.Config(channels=channels, width=8, windows=windows))
    copy_weights(theirs, ours)
    wave = noise(2, 5000, channels)
    scores, features = theirs(wave)
    assert_opinions(ours(wave), [x[:, 0] for x in scores], features)


@torch.no_grad()
def test_mpd_is_hifigans():
    """Which SpeechTokenizer's package has."""
    with peers.modules("speechtokenizer"):
        theirs = import_module("speechtokenizer.discriminators").MultiPeriodDiscriminator()
    ours = mpd.Mpd()
    copy_weights(theirs, ours, turn=True)
    wave = noise(1, 1001)  # whole rows of 7 and 11, and not of 2, 3 and 5
    _, _, features, _ = theirs(wave, wave)
    wanted = [[columns(x) for x in layers] for layers in features]
    scores = [layers.pop()[:, :, 0, 0] for layers in wanted]
    assert_opinions(ours(wave), scores, wanted)
    kept = mpd.Mpd(mpd.Config(width=2, skip=1))(wave)  # as in Vocos
    assert [len(one.features) for one in kept] == [4] * 5
    assert kept[0].features[0].shape[2] == 8


@torch.no_grad()
def test_msd_is_hifigans():
    with peers.modules("speechtokenizer"):
        theirs = import_module("speechtokenizer.discriminators").MultiScaleDiscriminator()
    ours = msd.Msd().eval()
    first = [m for m in theirs.discriminators[0].modules() if isinstance(m, nn.Conv1d)]
    mine = [m for m in ours.judges[0].modules() if isinstance(m, nn.Conv1d)]
    for one, other in zip(first, mine, strict=True):
        weights = one.state_dict()
        other.load_state_dict(
            {
                "bias": weights["bias"],
                "parametrizations.weight.original": weights["weight_orig"],
                "parametrizations.weight.0._u": weights["weight_u"],
                "parametrizations.weight.0._v": weights["weight_v"],
            }
        )
    for one, other in zip(theirs.discriminators[1:], list(ours.judges)[1:], strict=True):
        copy_weights(one, other)
    wave = noise(1, 2000)
    scores, _, features, _ = theirs.eval()(wave, wave)
    assert_opinions(ours(wave), scores, [layers[:-1] for layers in features])


@torch.no_grad()
def test_mrd_is_univnets():
    """Written out with bins down and frames across, as in Vocos up to 0.0.4 and WavTokenizer."""
    ours = mrd.Mrd(mrd.Config(width=8, windows=(512,)))
    wave = noise(2, 5000)
    spectrum = torch.stft(wave[:, 0], 512, 128, window=torch.ones(512), return_complex=True)
    x, layers = spectrum.abs()[:, None], []
    *stack, last = [m for m in ours.modules() if isinstance(m, nn.Conv2d)]
    strides = [(2, 2), (2, 1), (2, 2), (2, 1), (2, 2)]
    sizes = [(7, 5), (5, 3), (5, 3), (3, 3), (3, 3)]
    for conv, stride, size in zip(stack, strides, sizes, strict=True):
        weight = conv.weight.transpose(2, 3)
        assert weight.shape[2:] == size
        x = F.conv2d(x, weight, conv.bias, stride, [n // 2 for n in size])
        x = F.leaky_relu(x, 0.1)
        layers.append(x.transpose(2, 3))
    score = F.conv2d(x, last.weight.transpose(2, 3), last.bias, padding=1).transpose(2, 3)
    assert_opinions(ours(wave), [score[:, 0]], [layers])


@torch.no_grad()
@pytest.mark.parametrize("samples", [1001, 1024])
def test_multi_band_and_levelled_mpd_are_dacs(samples: int):
    with peers.modules("audiotools", "dac", "dac.model"):
        peers.audiotools()
        module = import_module("dac.model.discriminator")
        theirs = module.Discriminator(periods=[3], fft_sizes=[512, 256])
        ours = multi_band.MultiBand(multi_band.Config(windows=(512, 256)))
        copy_weights(theirs.discriminators[1:], ours)
        wave = noise(2, samples) + 0.01
        period, *spectra = theirs(wave)
    # They put a whole period after a wave that needs none, and then the last row differs.
    if samples % 3:
        other = mpd.Mpd(mpd.Config(periods=(3,), level=True))
        copy_weights(theirs.discriminators[0], other, turn=True)
        *layers, score = [columns(x) for x in period]
        assert_opinions(other(wave), [score[:, :, 0, 0]], [layers])
    scores = [layers.pop()[:, 0] for layers in spectra]
    assert_opinions(ours(wave), scores, spectra)


def test_widths_that_groups_do_not_divide_are_refused():
    with pytest.raises(ValueError, match=r"^width 24 is no multiple of the 16 groups$"):
        msd.Msd(msd.Config(width=24))
