"""Every layer keeps the contract."""

from __future__ import annotations

import inspect
import math
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module

import contracts
import pytest
import torch
from contracts import NAN, assert_close
from torch import Tensor, nn
from torch.nn import functional as F

import audiotok.nn.layers
from audiotok.nn.layers.absent import Absent, MissingEncoder
from audiotok.nn.layers.ada_norm import AdaLayerNorm, AdaNorm
from audiotok.nn.layers.alibi_attention import AlibiAttention
from audiotok.nn.layers.anti_aliased import AntiAliased
from audiotok.nn.layers.attention import Attention
from audiotok.nn.layers.base import Activation, Layer, Mix, Norm, Pointwise, Residual, WholeClip
from audiotok.nn.layers.block_causal_encoder import BlockCausalEncoder
from audiotok.nn.layers.centred_mel import CentredMel
from audiotok.nn.layers.chain import Chain
from audiotok.nn.layers.clip_attention import ClipAttention
from audiotok.nn.layers.clip_transformer import ClipTransformer
from audiotok.nn.layers.conv import Conv
from audiotok.nn.layers.convnext import Convnext
from audiotok.nn.layers.depthwise import Depthwise
from audiotok.nn.layers.depthwise_mixer import DepthwiseMixer
from audiotok.nn.layers.feed_forward import FeedForward
from audiotok.nn.layers.fold import CausalFold, Fold, Unfold
from audiotok.nn.layers.fourier_head import FourierHead
from audiotok.nn.layers.group_norm import GroupNorm
from audiotok.nn.layers.half_snake import HalfSnake
from audiotok.nn.layers.hifigan_block import HifiganBlock, NormedHifiganBlock
from audiotok.nn.layers.kaldi_patches import KaldiPatches
from audiotok.nn.layers.lstm import Lstm
from audiotok.nn.layers.noise_block import NoiseBlock
from audiotok.nn.layers.parallel import LevelNorm, Parallel
from audiotok.nn.layers.relative_transformer import RelativeTransformer
from audiotok.nn.layers.residual_unit import ResidualUnit, elu
from audiotok.nn.layers.resnet_block import ResnetBlock
from audiotok.nn.layers.rms_norm import RmsNorm
from audiotok.nn.layers.seanet import Config, Seanet
from audiotok.nn.layers.segmented import Segmented
from audiotok.nn.layers.segments import Cut, Join
from audiotok.nn.layers.sliding_attention import SlidingAttention
from audiotok.nn.layers.snake import Snake
from audiotok.nn.layers.snake_beta import SnakeBeta
from audiotok.nn.layers.stft import Istft, Stft
from audiotok.nn.layers.stretch import Stretch
from audiotok.nn.layers.strided_encoder import StridedEncoder
from audiotok.nn.layers.transformer_block import TransformerBlock
from audiotok.nn.layers.transposed_conv import TransposedConv
from audiotok.nn.layers.window_attention import WindowAttention
from audiotok.nn.layers.window_transformer import WindowTransformer

SMALL = Config(latent=6, width=2, strides=(2, 3), pad="zeros")
MIRRORED = Config(latent=6, width=2, strides=(2, 3), lstm=0)
MIMI = Config(latent=6, width=2, strides=(2, 3), last_kernel=3, lstm=0, shortcut=False, pad="zeros")
AHEAD = Config(
    latent=6, width=2, strides=(2, 3), residuals=2, lstm=0, snake=True, causal=False, pad="zeros"
)
SPT = Config(latent=6, width=2, strides=(2, 3), bidirectional=True, causal=False, pad="zeros")


@dataclass(frozen=True)
class Case:
    """A layer in a sensible size, and what the contracts must know to try it."""

    make: Callable[[], Layer]
    features: int  # of its input
    units: int = 24  # length of its input, in `consumes`
    poison: float = NAN
    first: int = 0  # inputs that the first step needs, if its start is mirrored
    inside: bool = False  # whether padding is made of the signal
    short: int = 0  # outputs missing at the end


def cut(**sizes: int) -> Layer:
    """Segments coded by their means: a latent of 2 features for every 4 samples begun."""
    return Cut(
        lambda x: F.avg_pool1d(F.pad(x, (0, -x.shape[2] % 4)), 4), channels=2, features=2, **sizes
    )


def join(**sizes: int) -> Layer:
    """Back: each latent, four times."""
    return Join(lambda x: x.repeat_interleave(4, 2), channels=2, **sizes)


class Chunked(Segmented):
    """Segments of four steps, each less the mean of its segment."""

    def __init__(self, features: int) -> None:
        super().__init__(features, features, size=4)
        self.mix = Mix(features, features)

    def segment(self, x: Tensor) -> Tensor:
        return self.mix(x) - x.mean(2, keepdim=True)


def blocks(*, wait: bool) -> Layer:
    """Blocks of two frames of 20 ms, in segments of three."""
    sizes = {"bands": 4, "width": 8, "heads": 2, "layers": 1, "pool": 1, "block": 2, "segment": 3}
    return BlockCausalEncoder(**sizes, wait=wait)


CASES = {
    "mix": Case(lambda: Mix(3, 5), 3),
    "norm": Case(lambda: Norm(4), 4),
    "elu": Case(lambda: elu(3), 3),
    "pointwise": Case(lambda: Pointwise(nn.Tanh()), 3),
    "norm, conditional": Case(lambda: AdaNorm(4, conditions=2), 4),
    "norm, root mean square": Case(lambda: RmsNorm(4), 4),
    "norm, root mean square, no gain": Case(lambda: RmsNorm(4, affine=False), 4),
    "snake": Case(lambda: Snake(3), 3),
    "snake, beta": Case(lambda: SnakeBeta(3), 3),
    "snake, half": Case(lambda: HalfSnake(5), 5),
    "snake, beta, anti-aliased": Case(lambda: AntiAliased(3, activation=SnakeBeta), 3, inside=True),
    "unit, anti-aliased": Case(
        lambda: ResidualUnit(
            2,
            kernel=7,
            dilation=3,
            activation=partial(AntiAliased, activation=SnakeBeta),
            causal=False,
        ),
        2,
        70,
        inside=True,
    ),
    "strided encoder": Case(
        lambda: StridedEncoder(
            1, 3, strides=(3,), activation=partial(AntiAliased, activation=SnakeBeta)
        ),
        1,
        80,
        inside=True,
    ),
    "resnet block": Case(lambda: ResnetBlock(4, groups=2, dropout=0.1), 4),
    "HiFi-GAN": Case(lambda: HifiganBlock(4, activation=HalfSnake), 4, 60),
    "HiFi-GAN, ahead": Case(
        lambda: HifiganBlock(
            2, activation=elu, kernels=(3, 5), dilations=(1, 2), causal=False, pad="repeat"
        ),
        2,
        60,
        inside=True,
    ),
    "HiFi-GAN, normalised": Case(
        lambda: NormedHifiganBlock(4, activation=elu, kernels=(5, 3), dilations=(1, 2), groups=2), 4
    ),
    "feed forward": Case(lambda: FeedForward(4, 6, scale=1.0), 4),
    "feed forward, gated": Case(
        lambda: FeedForward(4, 6, scale=1.0, gated=True, norm=nn.RMSNorm), 4
    ),
    "noise": Case(lambda: NoiseBlock(3), 3),
    "noise, twice": Case(lambda: Chain([NoiseBlock(3), NoiseBlock(3, seed=1, gain=0.5)]), 3),
    "fold": Case(lambda: Fold(3, 4), 3),
    "causal fold": Case(lambda: CausalFold(4), 3),
    "causal fold and unfold": Case(lambda: Chain([CausalFold(4), Mix(12, 12), Unfold(4)]), 3),
    "parallel": Case(lambda: Parallel([Mix(3, 5), Depthwise(3, 4), LevelNorm(4)]), 3),
    "parallel, ahead": Case(
        lambda: Parallel(
            [Mix(3, 5), Conv(3, 2, 7, causal=False), Chain([GroupNorm(3), Conv(3, 4, 3)])]
        ),
        3,
    ),
    "parallel, ahead, strided": Case(
        lambda: Parallel([Conv(3, 2, n, stride=2, causal=False) for n in (4, 9)]), 3
    ),
    "parallel, segments": Case(
        lambda: Parallel([Conv(3, 2, 5, causal=False), Chunked(3), Depthwise(3, 4)]), 3
    ),
    "segmented": Case(lambda: Chunked(3), 3),
    "level norm": Case(lambda: LevelNorm(5), 3),
    "fold and unfold": Case(lambda: Chain([Fold(3, 4), Mix(12, 12), Unfold(4)]), 3),
    "segments": Case(
        lambda: Chain([cut(size=12, stride=10, hop=4), join(size=12, stride=10, hop=4)]), 2, 6
    ),
    "group norm": Case(lambda: GroupNorm(4, groups=2), 4),
    "stretch": Case(lambda: Stretch(4, 5), 3, 6, inside=True),
    "stretch, up": Case(lambda: Stretch(1, 4), 3, inside=True),
    "stretch, down": Case(lambda: Stretch(8, 5), 3, 4, inside=True),
    "residual": Case(lambda: Residual(Conv(3, 4, 5), Mix(3, 4)), 3),
    "residual, plain": Case(lambda: Residual(Conv(3, 3, 5, causal=False)), 3),
    "depthwise, ahead": Case(lambda: Depthwise(4, 5, causal=False), 4),
    "convnext, ahead": Case(
        lambda: Convnext(4, kernel=7, causal=False, norm=partial(AdaLayerNorm, conditions=2)), 4
    ),
    "depthwise": Case(lambda: Depthwise(4, 7), 4),
    "convnext": Case(lambda: Convnext(4, kernel=5), 4),
    "depthwise mixer": Case(lambda: DepthwiseMixer(4, kernel=5, norm=nn.RMSNorm), 4),
    "feed forward, biases": Case(lambda: FeedForward(4, 6, bias=True, approximate=True), 4),
    "attention": Case(lambda: Attention(8, heads=2, window=5, scale=1.0), 8, 60, poison=1e3),
    "attention, self": Case(lambda: Attention(4, heads=1, window=1), 4, poison=1e3),
    "attention, twice": Case(
        lambda: Chain(Attention(8, heads=2, window=4, scale=1.0) for _ in range(2)), 8, poison=1e3
    ),
    "attention, wide heads in groups": Case(
        lambda: Attention(6, heads=4, window=5, scale=1.0, width=8, key_heads=2, norm=nn.RMSNorm),
        6,
        poison=1e3,
    ),
    "attention, falling with the distance": Case(
        lambda: AlibiAttention(6, heads=3, window=5, scale=1.0, width=2), 6, 40, poison=1e3
    ),
    "attention, falling, heads in groups": Case(
        lambda: AlibiAttention(8, heads=4, window=4, scale=1.0, key_heads=2), 8, poison=1e3
    ),
    "transformer of windows": Case(
        lambda: WindowTransformer(
            4, 6, blocks=2, heads=2, window=3, scale=1.0, gated=True, norm=nn.RMSNorm
        ),
        4,
        poison=1e3,
    ),
    "causal fold, by feature": Case(lambda: CausalFold(4, by_feature=True), 3),
    "causal fold and unfold, by feature": Case(
        lambda: Chain([CausalFold(4, by_feature=True), Mix(12, 12), Unfold(4, by_feature=True)]), 3
    ),
    "attention, clip": Case(lambda: ClipAttention(4), 4),
    "attention, clip, heads": Case(lambda: ClipAttention(6, heads=3, bias=False), 6),
    "attention, clip, rotary": Case(lambda: ClipAttention(8, heads=2, rotary=True), 8),
    "attention, clip, added": Case(lambda: Residual(ClipAttention(4)), 4),
    "transformer, clip": Case(
        lambda: ClipTransformer(6, blocks=2, heads=3, hidden=8, norm=RmsNorm), 6
    ),
    "transformer, clip, gated relative positions": Case(
        lambda: RelativeTransformer(6, blocks=2, heads=3, hidden=8, buckets=8, farthest=10), 6
    ),
    "transformer, clip, norms after": Case(
        lambda: RelativeTransformer(
            6, blocks=1, heads=2, hidden=8, buckets=4, farthest=2, gated=False, deep=False
        ),
        6,
    ),
    "transformer, clip, no positions": Case(
        lambda: RelativeTransformer(4, blocks=1, heads=1, hidden=8, buckets=0), 4
    ),
    "transformer, clip, gated": Case(
        lambda: ClipTransformer(
            8, blocks=2, heads=2, hidden=8, norm=RmsNorm, rotary=True, gated=True
        ),
        8,
    ),
    "attention, sliding": Case(
        lambda: SlidingAttention(8, heads=2, earlier=3, later=2, rotated=2, scale=1.0),
        8,
        poison=1e3,
    ),
    "attention, sliding, twice": Case(
        lambda: Chain(
            SlidingAttention(8, heads=1, earlier=2, later=n, rotated=8, scale=1.0) for n in (0, 3)
        ),
        8,
        poison=1e3,
    ),
    "feed forward, biased": Case(lambda: FeedForward(4, 6, scale=1.0, gated=True, bias=True), 4),
    "attention, windows": Case(lambda: WindowAttention(8, heads=2, window=5), 8),
    "transformer block": Case(lambda: TransformerBlock(8, heads=2), 8),
    "transformer block, rotary, memory": Case(
        lambda: TransformerBlock(8, heads=2, rotary=True, memory=5), 8
    ),
    "blocks of a segment": Case(lambda: blocks(wait=False), 1, 5, inside=True),
    "blocks of a segment, waiting": Case(lambda: blocks(wait=True), 1, 5, inside=True),
    "lstm": Case(lambda: Lstm(4), 4),
    "lstm, no skip": Case(lambda: Lstm(4, depth=1, skip=False), 4),
    "lstm, bidirectional": Case(lambda: Lstm(4, bidirectional=True), 4),
    "stft": Case(lambda: Stft(8), 1),
    "istft": Case(lambda: Istft(8), 27),
    "Fourier head": Case(lambda: FourierHead(4, 16), 18, poison=1e3),
    "Fourier head, odd": Case(lambda: FourierHead(5, 13), 14, poison=1e3),
    "stft and back": Case(lambda: Chain([Stft(8, power=1.0), Mix(27, 27), Istft(8)]), 1),
    "patches of Kaldi's": Case(lambda: KaldiPatches(steps=1, bands=4, height=2), 1, 6, inside=True),
    "centred mel": Case(
        lambda: CentredMel(
            rate=16000, hop=8, window=12, fft=16, bands=4, low=0, high=8000, floor=1e-9
        ),
        1,
        poison=1e3,  # the first sample of a window counts nothing, but NaN times zero is NaN
        inside=True,
    ),
    "conv": Case(lambda: Conv(3, 5, 7), 3),
    "conv 1": Case(lambda: Conv(3, 5, 1, bias=False), 3),
    "conv, dilated": Case(lambda: Conv(3, 5, 3, dilation=4), 3),
    "conv, strided": Case(lambda: Conv(3, 5, 10, stride=5), 3),
    "conv, odd kernel": Case(lambda: Conv(3, 5, 7, stride=3), 3),
    "conv, no overlap": Case(lambda: Conv(3, 5, 4, stride=4), 3),
    "conv, strided, dilated": Case(lambda: Conv(3, 5, 3, stride=2, dilation=3), 3),
    "conv, later": Case(lambda: Conv(3, 5, 10, stride=5, lag=1), 3),
    "conv, much later": Case(lambda: Conv(3, 5, 4, stride=4, lag=3), 3),
    "conv, grouped": Case(lambda: Conv(4, 8, 5, groups=4), 4),
    "conv, mirrored": Case(lambda: Conv(3, 5, 7, pad="reflect"), 3, first=7, inside=True),
    "conv, mirrored, strided": Case(
        lambda: Conv(3, 5, 10, stride=5, pad="reflect"), 3, first=6, inside=True
    ),
    "conv, repeated": Case(lambda: Conv(3, 5, 4, stride=2, pad="repeat"), 3),
    "conv 1, repeated": Case(lambda: Conv(3, 5, 1, pad="repeat"), 3),
    "conv, ahead": Case(lambda: Conv(3, 5, 7, dilation=3, causal=False), 3, 40),
    "conv, ahead, strided": Case(lambda: Conv(3, 5, 10, stride=5, causal=False), 3),
    "conv, ahead, mirrored": Case(
        lambda: Conv(3, 5, 6, stride=3, causal=False, pad="reflect"), 3, inside=True
    ),
    "conv, ahead, repeated": Case(lambda: Conv(3, 5, 7, causal=False, pad="repeat"), 3),
    "transposed": Case(lambda: TransposedConv(3, 5, 10, stride=5), 3),
    "transposed, no overlap": Case(lambda: TransposedConv(3, 5, 4, stride=4), 3),
    "transposed, odd kernel": Case(lambda: TransposedConv(3, 5, 7, stride=3), 3),
    "transposed, long kernel": Case(lambda: TransposedConv(3, 5, 11, stride=3), 3),
    "transposed, stride 1": Case(lambda: TransposedConv(3, 5, 4, stride=1), 3),
    "transposed, grouped": Case(lambda: TransposedConv(4, 4, 4, stride=2, groups=4, bias=False), 4),
    "transposed, ahead": Case(lambda: TransposedConv(3, 5, 8, stride=4, causal=False), 3),
    "transposed, ahead, odd": Case(lambda: TransposedConv(3, 5, 8, stride=3, causal=False), 3),
    "transposed, DAC": Case(
        lambda: TransposedConv(3, 5, 10, stride=5, causal=False, trim=(3, 3)), 3, short=1
    ),
    "transposed, EnCodec 48": Case(
        lambda: TransposedConv(3, 4, 8, stride=4, causal=False, norm=GroupNorm(4)), 3
    ),
    "chain, up and down": Case(
        lambda: Chain([TransposedConv(3, 4, 7, stride=3), Snake(4), Conv(4, 5, 5, stride=2)]), 3
    ),
    "unit, SEANet": Case(lambda: ResidualUnit(4, hidden=2, dilation=2, shortcut=True), 4),
    "unit, DAC": Case(
        lambda: ResidualUnit(4, kernel=7, dilation=3, activation=Snake, causal=False), 4, 40
    ),
    "unit, no bias": Case(lambda: ResidualUnit(4, bias=False, causal=False), 4),
    "unit, depthwise": Case(
        lambda: ResidualUnit(4, kernel=7, dilation=3, activation=Snake, depthwise=True), 4
    ),
    "unit, SnakeBeta": Case(lambda: ResidualUnit(4, kernel=7, dilation=3, activation=SnakeBeta), 4),
    "upsampling with ConvNeXt": Case(
        lambda: Chain([TransposedConv(4, 4, 2, stride=2), Convnext(4, expansion=4)]), 4
    ),
    "unit, EnCodec 48": Case(lambda: ResidualUnit(4, norm=GroupNorm, causal=False), 4),
    "SEANet": Case(lambda: Seanet.encoder(SMALL), 1, 16),
    "SEANet, mirrored": Case(lambda: Seanet.encoder(MIRRORED), 1, 16, first=6 * 7, inside=True),
    "SEANet, back": Case(lambda: Seanet.decoder(SMALL), 6, 16),
    "SEANet, Mimi": Case(lambda: Seanet.encoder(MIMI), 1, 12),
    "SEANet, Mimi, back": Case(lambda: Seanet.decoder(MIMI), 6, 12),
    "SEANet, ahead": Case(lambda: Seanet.encoder(AHEAD), 1, 20),
    "SEANet, ahead, back": Case(lambda: Seanet.decoder(AHEAD), 6, 20),
    "SEANet, SpeechTokenizer": Case(lambda: Seanet.encoder(SPT), 1),
}
CAUSAL = [name for name, case in CASES.items() if case.make().causal]
LOOKING_AHEAD = [name for name in CASES if name not in CAUSAL]


def build(name: str) -> tuple[Layer, Tensor]:
    case = CASES[name]
    torch.manual_seed(0)
    layer = case.make().eval()
    return layer, torch.randn(3, case.features, case.units * layer.consumes) * 0.5


LACKING = (
    Layer,
    Activation,
    WholeClip,
    Segmented,
    Absent,
    MissingEncoder,
)  # what a subclass adds, or all


# -- the contract -----------------------------------------------------------------------------


def test_no_layer_is_forgotten():
    tried = {type(part) for case in CASES.values() for part in case.make().modules()}
    for info in pkgutil.iter_modules(audiotok.nn.layers.__path__):
        module = import_module(f"audiotok.nn.layers.{info.name}")
        for name, layer in inspect.getmembers(module, inspect.isclass):
            if issubclass(layer, Layer) and layer.__module__ == module.__name__:
                assert layer in tried or layer in LACKING, (
                    f"{name} of {info.name}.py is not in CASES"
                )


@pytest.mark.parametrize("name", CASES)
def test_lengths(name: str):
    contracts.assert_lengths(*build(name), short=CASES[name].short)


@pytest.mark.parametrize("name", CAUSAL)
def test_streams(name: str):
    contracts.assert_streams(*build(name), first=CASES[name].first)


@pytest.mark.parametrize("name", CAUSAL)
def test_finishes(name: str):
    contracts.assert_finishes(
        *build(name), first=CASES[name].first, partial=not name.startswith(("stft", "causal fold"))
    )


@pytest.mark.parametrize("name", LOOKING_AHEAD)
def test_lags(name: str):
    contracts.assert_lags(*build(name), mirrors=CASES[name].inside)


@pytest.mark.parametrize("name", CAUSAL)
def test_causal(name: str):
    contracts.assert_causal(*build(name), poison=CASES[name].poison, first=CASES[name].first)


@pytest.mark.parametrize("name", CASES)
def test_reach(name: str):
    contracts.assert_input_span(*build(name), poison=CASES[name].poison, inside=CASES[name].inside)


@pytest.mark.parametrize("name", CASES)
def test_padding(name: str):
    case = CASES[name]
    contracts.assert_padding(*build(name), poison=case.poison, inside=case.inside)


@pytest.mark.parametrize("name", CASES)
def test_gradient_reaches_every_parameter(name: str):
    layer, x = build(name)
    y = layer(x.requires_grad_())
    (y * torch.randn_like(y)).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    for key, parameter in layer.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.any(), key


# -- what else layers say ---------------------------------------------------------------------


def test_mirrored_start_needs_a_long_first_step():
    layer, x = build("conv, mirrored")
    state = layer.start(3)
    with pytest.raises(ValueError, match=r"first step has 6 steps; mirroring .* more than 6$"):
        layer.step(x[:, :, :6], state)
    _, state = layer.step(x[:, :, :7], state)
    layer.step(x[:, :, 7:8], state)


def test_bad_sizes_are_refused():
    with pytest.raises(ValueError, match="spans 3 steps and skips some at stride 4"):
        Conv(1, 1, 3, stride=4)
    for lag, causal in ((4, True), (-1, True), (1, False)):
        with pytest.raises(ValueError, match=rf"^lag {lag}: fewer steps than the stride 4"):
            Conv(1, 1, 8, stride=4, lag=lag, causal=causal)
    with pytest.raises(ValueError, match="kernel 3 leaves gaps at stride 4"):
        TransposedConv(1, 1, 3, stride=4)
    with pytest.raises(ValueError, match="cuts nothing"):
        TransposedConv(1, 1, 4, stride=2, trim=(1, 1))
    with pytest.raises(ValueError, match=r"features 6 must be a multiple of 2 x heads \(8\)"):
        Attention(6, heads=4)
    with pytest.raises(ValueError, match="heads of 3 features: rotation takes an even number"):
        Attention(6, heads=2, width=3)
    with pytest.raises(ValueError, match="4 heads must be a multiple of the heads of keys, 3"):
        Attention(8, heads=4, key_heads=3)
    with pytest.raises(ValueError, match="features 6 must be a multiple of the heads, 4"):
        ClipAttention(6, heads=4)
    for window in (4, 9):
        with pytest.raises(ValueError, match=f"window {window} cannot be centred on hop 4: even"):
            FourierHead(4, window)


def test_chain_follows_each_bound_by_itself():
    memory, ahead, back = Lstm(2), Conv(2, 2, 5, causal=False), Conv(2, 2, 3)
    assert Chain([memory, ahead]).input_span(10, 20) == (-math.inf, 22)
    assert Chain([ahead, memory, back]).input_span(10, 20) == (-math.inf, 22)
    assert Chain([ahead, Lstm(2, bidirectional=True)]).input_span(0, 0) == (-math.inf, math.inf)
    assert Chain([Conv(2, 2, 4, stride=2), memory]).input_span(5, 5) == (-math.inf, 11)


@torch.no_grad()
def test_attention_does_not_know_the_time():
    """The same frames give the same output wherever in the stream they come."""
    torch.manual_seed(0)
    layer = Attention(8, heads=2, window=6, scale=1.0)
    local = torch.randn(1, 8, 12)

    def heard(before: int) -> Tensor:
        state = layer.start(1)
        for piece in torch.randn(1, 8, before).split(500, 2):
            _, state = layer.step(piece, state)
        return layer.step(local, state)[0][:, :, 5:]

    for before in (1, 7, 700, 50_000):
        assert_close(heard(before), heard(0), 1e-6)
    long = torch.cat([torch.randn(1, 8, 500), local], 2)
    assert_close(layer(long)[:, :, -7:], heard(0))
