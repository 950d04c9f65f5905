"""Layers in operations that ONNX has: real numbers, nothing in place, no control flow on data.

Stft, Istft, FourierHead   product with the windowed Fourier basis
Conv                       convolution along one axis; a mirrored one either begins or goes on, and
                           never tests which; where the first sample is repeated, the state holds a
                           flag of each signal that has begun
TransposedConv             convolution with stride times as many features
Lstm                       operator of that name
Attention                  positions that begin anew at every step, or ring buffers and a count
codebooks                  -1 is no code, and adds nothing: a decoder takes any prefix of them
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiotok._platform.shapes import Features, Output
from audiotok.codecs.export.sequences import OnnxLstm, RingAttention, WindowedAttention
from audiotok.codecs.export.whole_clips import ConvolvedHubert, FoldedSegments
from audiotok.codecs.models.longcat import Semantic
from audiotok.codecs.models.xcodec import HubertFeatures
from audiotok.nn.autoencoder import Network
from audiotok.nn.layers.attention import Attention
from audiotok.nn.layers.base import State
from audiotok.nn.layers.conv import Conv
from audiotok.nn.layers.fourier_head import FourierHead
from audiotok.nn.layers.lstm import Lstm
from audiotok.nn.layers.stft import Istft, Stft
from audiotok.nn.layers.transposed_conv import TransposedConv
from audiotok.nn.quantizers.agrvq import PairedCodebook
from audiotok.nn.quantizers.fsq import Fsq
from audiotok.nn.quantizers.projected_rvq import Projected
from audiotok.nn.quantizers.rvq import Euclidean, Factorised

N = TypeVar("N", bound=Network)


def exportable(codec: N, *, started: bool = False, rings: bool = False) -> N:
    """Return a copy of the codec on the CPU whose layers are of these forms.

    Its outputs are the same but for rounding.

    Args:
        codec: codec in eval mode.
        started: whether its streams have begun, which a mirrored convolution must know beforehand.
        rings: whether keys and values of attention are in ring buffers (`sequences.Rings`).
    """
    copy = deepcopy(codec).cpu()
    for layer in copy.modules():
        form = FORMS.get(type(layer))
        if started and form is WholeConv:
            form = StartedConv
        if rings and form is WindowedAttention:
            form = RingAttention
        if form is not None:
            layer.__class__ = form
            prepare = getattr(layer, "prepare", None)
            if prepare is not None:
                prepare()
    return copy


class RealStft(Stft):
    """An `Stft` computed as one matrix product."""

    basis: Tensor

    def prepare(self) -> None:
        """Compute the windowed basis `[2*hop 2*(hop+1)]`: cosines, then sines."""
        turned = torch.fft.rfft(torch.eye(2 * self.hop, dtype=torch.float64))
        basis = self.window.double()[:, None] * torch.cat([turned.real, turned.imag], 1)
        self.register_buffer("basis", basis.float(), persistent=False)

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """See `Stft.step`."""
        samples = torch.cat([state, x[:, 0]], 1)
        hops = samples.unflatten(1, (-1, self.hop))
        real, imaginary = (torch.cat([hops[:, :-1], hops[:, 1:]], 2) @ self.basis).chunk(2, 2)
        power = real.square() + imaginary.square() + self.floor**2
        gain = power.pow((self.power - 1) / 2)
        real, imaginary = real * gain, imaginary * gain
        magnitude = (real.square() + imaginary.square() + 1e-4).sqrt()
        y = torch.cat([magnitude, real, imaginary], 2)
        return y.transpose(1, 2), samples[:, -self.hop :]


class RealIstft(Istft):
    """An `Istft` computed as one matrix product."""

    basis: Tensor

    def prepare(self) -> None:
        """Compute the windowed basis `[2*(hop+1) 2*hop]` of real parts, then of imaginary ones."""
        one = torch.eye(self.hop + 1, dtype=torch.complex128)
        basis = torch.cat([torch.fft.irfft(one), torch.fft.irfft(1j * one)])
        self.register_buffer("basis", (basis * self.window.double()).float(), persistent=False)

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """See `Istft.step`."""
        gain, real, imaginary = x.transpose(1, 2).chunk(3, 2)
        gain = gain.clamp(max=self.loudest).exp()
        frames = torch.cat([gain * real, gain * imaginary], 2) @ self.basis
        first, second = frames.chunk(2, 2)
        tails = torch.cat([state[:, None], second], 1)
        return (first + tails[:, :-1]).flatten(1)[:, None], tails[:, -1]


class RealFourierHead(FourierHead):
    """A `FourierHead` of a whole clip computed as one transposed convolution."""

    basis: Tensor

    def prepare(self) -> None:
        """Compute the windowed basis `[2*bins 1 size]` of real parts, then of imaginary ones."""
        one = torch.eye(self.size // 2 + 1, dtype=torch.complex128)
        basis = torch.cat([torch.fft.irfft(one, self.size), torch.fft.irfft(1j * one, self.size)])
        basis = (basis * self.window.double()).float()[:, None]
        self.register_buffer("basis", basis, persistent=False)

    def forward(self, x: Features) -> Output:
        """See `FourierHead.forward`."""
        magnitude, phase = x.chunk(2, 1)
        magnitude = magnitude.exp().clamp(max=self.loudest)
        parts = torch.cat([magnitude * phase.cos(), magnitude * phase.sin()], 1)
        y = F.conv_transpose1d(parts, self.basis, stride=self.hop)
        squares = self.window.square()[None, None]
        weight = F.conv_transpose1d(torch.ones_like(x[:, :1]), squares, stride=self.hop)
        end = y.shape[2] - self.trim
        return y[:, :, self.trim : end] / weight[:, :, self.trim : end]


class WholeConv(Conv):
    """A `Conv` of a signal from its start, or (`pad="repeat"`) from wherever its state tells."""

    def start(self, batch: int) -> State:
        """See `Conv.start`; with `pad="repeat"` the state also flags signals that have begun."""
        if self.pad != "repeat":
            return super().start(batch)
        begun = torch.zeros(batch, dtype=torch.int64, device=self.conv.weight.device)
        return super().start(batch)[0], begun

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """See `Conv.step`."""
        if self.pad != "repeat":
            return super().step(x, state)
        past, begun = state
        past = torch.where(begun[:, None, None] > 0, past, x[:, :, :1])
        x = self.joined(past, x)
        return self._convolved(x), (x[:, :, x.shape[2] - self.left :], torch.ones_like(begun))

    @staticmethod
    def joined(before: Tensor, x: Tensor) -> Tensor:
        """Return two tensors joined along time; ONNX has no memory layouts."""
        return torch.cat([before, x], 2) if before.shape[2] else x

    def _convolved(self, x: Tensor) -> Tensor:
        """Return the convolution of a signal without padding."""
        c = self.conv
        return F.conv1d(x, c.weight, c.bias, c.stride, 0, c.dilation, c.groups)

    def _before(self, x: Tensor, fresh: Tensor) -> Tensor:
        """See `Conv._before`; a mirrored signal is taken to begin here."""
        if self.pad == "repeat":
            return super()._before(x, fresh)
        return x[:, :, torch.arange(self.left, 0, -1)]

    def _padded(self, x: Tensor, left: int, right: int) -> Tensor:
        """See `Conv._padded`; mirroring works for any length."""
        if self.pad == "zeros":
            return F.pad(x, (left, right))
        if self.pad == "repeat":
            return super()._padded(x, left, right)
        # Lengths are free: which one is larger, or zero, is only known when the graph runs.
        short: Any = torch.sym_max(0, torch.sym_max(left, right) + 1 - x.shape[2])
        y = F.pad(F.pad(x, (0, short)), (left, right), "reflect")
        return y[:, :, : left + x.shape[2] + right]


class StartedConv(WholeConv):
    """A `Conv` of a signal that has begun, so that its state holds the samples before it."""

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """See `Conv.step`."""
        if self.pad == "repeat":
            return super().step(x, state)
        past, fresh = (state, None) if self.pad == "zeros" else state
        x = self.joined(past, x)
        past = x[:, :, x.shape[2] - self.left :]
        return self._convolved(x), past if fresh is None else (past, fresh)

    def finish(self, x: Features, state: State) -> Output:
        """See `Conv.finish`."""
        past = state if self.pad == "zeros" else state[0]
        if self.consumes == 1:
            return self.step(x, state)[0]
        return self._convolved(self._padded(self.joined(past, x), 0, -x.shape[2] % self.consumes))


class FlatTransposedConv(TransposedConv):
    """A `TransposedConv` computed as a convolution, which writes nothing in place."""

    def _overlapped(self, x: Tensor, past: Tensor, more: int = 0) -> Output:
        """See `TransposedConv._overlapped`; it avoids `len`, which would fix the batch's size."""
        count, bias, groups = x.shape[2] * self.produces + more, self.conv.bias, self.conv.groups
        x = torch.cat([past, x], 2)
        if groups > 1 or self.uneven:
            begin = self.before * self.produces
            y = F.conv_transpose1d(x, self.conv.weight, bias, stride=self.produces, groups=groups)
            return y[:, :, begin : begin + count]
        # A convolution gives all outputs of each input, `[b outputs*stride t]`, which are then
        # moved to the time axis: OpenVINO takes a fifth less time than for the sum of a product
        # for each part.
        inputs, outputs, kernel = self.conv.weight.shape
        parts = kernel // self.produces
        taps = self.conv.weight.reshape(inputs, outputs, parts, self.produces).permute(1, 3, 0, 2)
        y = F.conv1d(F.pad(x, (0, -(-more // self.produces))), taps.flatten(0, 1).flip(2))
        y = y.unflatten(1, (outputs, self.produces)).transpose(2, 3).flatten(2)
        return (y if bias is None else y + bias[:, None])[:, :, :count]

    def _last(self, x: Tensor, past: Tensor) -> Tensor:
        """See `TransposedConv._last`; no branch depends on the length."""
        return torch.cat([past, x], 2)[:, :, x.shape[2] :]

    def forward(self, x: Features) -> Output:
        """See `TransposedConv.forward`."""
        if self.norm is not None:
            y = self.norm(self.conv(x))
            return y[:, :, self.left : y.shape[2] - self.right]
        none = self.zeros(x.shape[0], self.conv.in_channels, self.before)
        more = 0 if self.causal else self.overlap - self.right
        return self._overlapped(x, none, more)[:, :, self.left :]


class MaskedEuclidean(Euclidean):
    """A `Euclidean` codebook in which code -1 has an entry of zeros."""

    def look_up(self, index: Tensor) -> Tensor:
        """See `Euclidean.look_up`."""
        return super().look_up(index.clamp(min=0)) * (index >= 0)[..., None]


class MaskedFactorised(Factorised):
    """A `Factorised` codebook in which code -1 has an entry of zeros."""

    def look_up(self, index: Tensor) -> Tensor:
        """See `Factorised.look_up`."""
        return super().look_up(index.clamp(min=0)) * (index >= 0)[..., None]


class MaskedProjected(Projected):
    """A `Projected` codebook in which code -1 has an entry of zeros."""

    def look_up(self, index: Tensor) -> Tensor:
        """See `Projected.look_up`."""
        return super().look_up(index.clamp(min=0)) * (index >= 0)[..., None]


class MaskedPaired(PairedCodebook):
    """A `PairedCodebook` in which code -1 has an entry of zeros, as its halves have."""

    def look_up(self, index: Tensor) -> Tensor:
        """See `PairedCodebook.look_up`."""
        return super().look_up(index.clamp(min=0)) * (index >= 0)[..., None]


class MaskedFsq(Fsq):
    """A `Fsq` quantizer in which code -1 has an entry of zeros."""

    def look_up(self, index: Tensor) -> Tensor:
        """See `Fsq.look_up`."""
        return super().look_up(index.clamp(min=0)) * (index >= 0)[..., None]


FORMS: dict[type[nn.Module], type[nn.Module]] = {
    Stft: RealStft,
    Istft: RealIstft,
    FourierHead: RealFourierHead,
    Conv: WholeConv,
    TransposedConv: FlatTransposedConv,
    Lstm: OnnxLstm,
    Attention: WindowedAttention,
    Euclidean: MaskedEuclidean,
    Factorised: MaskedFactorised,
    Projected: MaskedProjected,
    PairedCodebook: MaskedPaired,
    Fsq: MaskedFsq,
    Semantic: FoldedSegments,
    HubertFeatures: ConvolvedHubert,
}
