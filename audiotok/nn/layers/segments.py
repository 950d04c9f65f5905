"""Segmentation of audio into overlapping segments that are normalised and coded separately.

    samples      |--------- stride ---------|--------- stride ---------|--------- ...
    segment 0    |------------- size -----------|
    segment 1                               |------------- size -----------|
    weights       /----------\\______________/-----------\\______________  cross-fade

Each segment becomes one frame: its number of latents (the last segment is shorter), its loudness,
and its latents in order.

Source: EnCodec 48 kHz (Défossez et al. 2022, arXiv:2210.13438, section 3.1); encodec 0.1.1,
`EncodecModel.encode`, `utils._linear_overlap_add`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from audiotok._platform.shapes import Features, Output
from audiotok.nn.layers.base import Layer, Span, State


class Cut(Layer):
    """Layer from waves `[b c t]` to frames `[b 2+latents*d t/stride]`: count, loudness, latents.

    Args:
        code: function from a segment `[b c n]`, n up to `size`, to latents `[b d ceil(n/hop)]`.
        channels: audio channels.
        features: width d of a latent.
        size: samples per segment.
        stride: samples from the start of one segment to that of the next, less than `size`.
        hop: samples per latent.
    """

    causal = False

    def __init__(
        self,
        code: Callable[[Tensor], Tensor],
        *,
        channels: int,
        features: int,
        size: int,
        stride: int,
        hop: int,
    ) -> None:
        super().__init__()
        self.code = code
        self.channels = channels
        self.features = features
        self.size = size
        self.consumes = stride
        self.latents = -(-size // hop)

    def start(self, batch: int) -> State:
        """See `Layer.start`; the samples of unfinished segments."""
        return self.zeros(batch, self.channels, 0)

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """See `Layer.step`; the complete segments are coded."""
        x = torch.cat([state.to(x), x], 2)
        whole = max(0, (x.shape[2] - self.size) // self.consumes + 1)
        return self._coded(x, whole), x[:, :, whole * self.consumes :]

    def finish(self, x: Features, state: State) -> Output:
        """See `Layer.finish`; all segments begun are coded."""
        return self.forward(torch.cat([state.to(x), x], 2))

    def forward(self, x: Features) -> Output:
        """See `Layer.forward`."""
        return self._coded(x, -(-x.shape[2] // self.consumes))

    def _coded(self, x: Tensor, segments: int) -> Output:
        begins = [i * self.consumes for i in range(segments)]
        frames = [self._frame(x[:, :, begin : begin + self.size]) for begin in begins]
        none = x.new_zeros(len(x), 2 + self.latents * self.features, 0)
        return torch.stack(frames, 2) if frames else none

    def _frame(self, x: Tensor) -> Tensor:
        loudness = x.mean(1).square().mean(1).sqrt() + 1e-8
        latent = self.code(x / loudness[:, None, None])
        count = torch.full_like(loudness, latent.shape[2])
        latent = F.pad(latent, (0, self.latents - latent.shape[2]))
        return torch.cat([count[:, None], loudness[:, None], latent.transpose(1, 2).flatten(1)], 1)

    def input_span(self, first: int, last: int) -> Span:
        """See `Layer.input_span`; the samples of the segments."""
        return first * self.consumes, last * self.consumes + self.size - 1


class Join(Layer):
    """Layer from the frames of `Cut` to waves `[b c f*stride]`, by overlap-add with cross-fading.

    Args:
        decode: function from the latents `[b d n]` of a segment to its samples `[b c n*hop]`.
        channels: audio channels.
        size: samples per segment.
        stride: samples from the start of one segment to that of the next, less than `size`.
        hop: samples per latent.
    """

    def __init__(
        self, decode: Callable[[Tensor], Tensor], *, channels: int, size: int, stride: int, hop: int
    ) -> None:
        super().__init__()
        self.decode = decode
        self.channels = channels
        self.size = size
        self.produces = stride
        self.latents = -(-size // hop)
        self.hop = hop

    def start(self, batch: int) -> State:
        """See `Layer.start`.

        The state is the part of the last segment that overlaps the next, as weighted samples and
        weights, and the length of the first segment, from which all weights are computed.
        """
        tail = self.zeros(batch, self.channels + 1, self.size - self.produces)
        return tail, torch.zeros(batch, dtype=torch.int64, device=tail.device)

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """See `Layer.step`; each segment is cross-faded with the one before."""
        tail, first = state
        pieces, tail = [x.new_zeros(len(x), self.channels, 0)], tail.to(x)
        for frame in x.unbind(2):
            counts = frame[:, 0].round().long().clamp(0, self.latents)
            first = torch.where(first > 0, first, (counts * self.hop).clamp(max=self.size))
            y = self._segment(frame, counts, first) + F.pad(tail, (0, self.produces))
            weight = y[:, -1:, : self.produces]
            pieces.append(y[:, :-1, : self.produces] / weight.clamp(min=1e-9))
            tail = y[:, :, self.produces :]
        return torch.cat(pieces, 2), (tail, first)

    def _segment(self, frame: Tensor, counts: Tensor, first: Tensor) -> Tensor:
        """Decode a segment to weighted samples, then weights, `[b c+1 size]`, zero past its end."""
        if len(set(zip(counts.tolist(), first.tolist(), strict=True))) > 1:
            # The end of a segment affects what is before: other lengths are decoded alone.
            apart = zip(frame.split(1), counts.split(1), first.split(1), strict=True)
            return torch.cat([self._segment(*one) for one in apart])
        count = int(counts[0]) if len(counts) else 0
        if not count:
            return frame.new_zeros(len(frame), self.channels + 1, self.size)
        latent = frame[:, 2:].unflatten(1, (self.latents, -1))[:, :count].transpose(1, 2)
        wave = self.decode(latent)[:, :, : self.size] * frame[:, 1, None, None]
        position = torch.linspace(0, 1, int(first[0]) + 2, dtype=wave.dtype, device=wave.device)
        weight = (0.5 - (position[1:-1] - 0.5).abs())[: wave.shape[2]]
        weight = F.pad(weight, (0, wave.shape[2] - len(weight))).expand(len(wave), 1, -1)
        y = torch.cat([wave * weight, weight], 1)
        return F.pad(y, (0, self.size - y.shape[2]))

    def input_span(self, first: int, last: int) -> Span:
        """See `Layer.input_span`; the frames of the segments that cover the samples."""
        frame, offset = divmod(first, self.produces)
        return frame - (offset < self.size - self.produces), last // self.produces
