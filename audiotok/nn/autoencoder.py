"""Network: encoder, quantizer and decoder, and how their frames line up in time.

samples      |---- frame 0 ----|---- frame 1 ----|
encoder      takes `frame_size - lead` zeros first and drops the frame that comes of them, so
             that it codes a frame when it has seen `lead` samples past the frame's end
decoder      gives samples `lead` late, when the next frame has overlapped them
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import weight_norm

from audiotok._platform.shapes import Latent, Wave
from audiotok.nn.layers.base import Layer, State
from audiotok.nn.quantizers.base import Quantized, Quantizer


class Network(nn.Module):
    """What runs, whole in training and a step at a time otherwise.

    Attributes:
        frame_size: samples a frame; integer, the truth that rates derive from.
        channels: of the audio it codes.
        lead: samples that the encoder sees past the end of a frame, and the decoder lags.
        causal: whether a frame depends on nothing `lead` samples past its end. If not, it lags: a
            step gives what is determined by then, and may be nothing before the end.
        exact_chunks: whether any cutting of a recording gives the codes of the whole, to the bit:
            so it is for every codec here; one of your own that cannot says False.
        block: frames a step, offline: 1 to 3 s, so that activations stay in a CPU's cache.
        first_frames: frames that the first step needs at least, to mirror them.
        fills_up: whether silence may follow a recording and change none of its codes. If not, the
            network makes an end of its own (`finish_latent`, `finish_wave`), as published codecs do
            that mirror the last samples or see them from afar.
        encoder: waves to latents, one a frame.
        quantizer: latents to codes and back.
        decoder: latents to waves.
    """

    frame_size: int
    channels: int = 1
    lead: int = 0
    causal: bool = True
    exact_chunks: bool = True
    block: int = 128
    first_frames: int = 1
    fills_up: bool = True
    encoder: Layer
    quantizer: Quantizer
    decoder: Layer

    def frames(self, samples: int) -> int:
        """Frames that `samples` samples take: every begun frame counts."""
        return -(-samples // self.frame_size)

    # -- a step at a time -------------------------------------------------------------------------

    def start_latent(self, batch: int) -> State:
        """The encoder's state before the first sample."""
        return self.ends()[0].start(batch)

    def step_latent(self, wave: Wave, state: State) -> tuple[Latent, State]:
        """Continue encoding by whole frames of samples; gives as many latents, or lags."""
        return self.ends()[0].step(wave, state)

    def finish_latent(self, wave: Wave, state: State) -> Latent:
        """The latents of the last samples, one for every begun frame.

        Args:
            wave: `[b c t]`; the whole recording, at least a sample, if there was no step.
            state: after the last step, or None if there was none.
        """
        encoder = self.ends()[0]
        return encoder(wave) if state is None else encoder.finish(wave, state)

    def start_wave(self, batch: int) -> State:
        """The decoder's state before the first frame."""
        return self.ends()[1].start(batch)

    def step_wave(self, latent: Latent, state: State, frames: int) -> tuple[Wave, State]:
        """Continue decoding by the first `frames` frames of `latent`; the rest is padding.

        The samples given lag by `lead`.
        """
        padding = latent.shape[2] - frames
        wave, state = self.ends()[1].step(latent, state)
        return wave[:, :, : wave.shape[2] - padding * self.frame_size], state

    def finish_wave(self, latent: Latent, state: State) -> Wave:
        """The samples of the last frames; of all of them if there was no step (state None)."""
        decoder = self.ends()[1]
        return decoder(latent) if state is None else decoder.finish(latent, state)

    def flush_wave(self, state: State) -> Wave:
        """The `lead` samples `[b c lead]` that the decoder still holds after the last frame."""
        raise ValueError(f"{type(self).__name__} has lead {self.lead} but no flush_wave")

    # -- the whole ----------------------------------------------------------------------------

    def forward(self, wave: Wave, keep: Tensor | None = None) -> tuple[Wave, Quantized]:
        """Reconstruct whole frames of audio, with gradients: what training runs.

        Args:
            wave: `[b c t]`, t a multiple of `frame_size`.
            keep: `[b]`, codebooks to use for each (quantizer dropout); all if None.
        """
        quantized = self.quantizer(self.latents(wave), keep)
        if not self.fills_up:
            return self.finish_wave(quantized.latent, None), quantized
        frames = quantized.latent.shape[2]
        made, state = self.step_wave(quantized.latent, self.start_wave(len(wave)), frames)
        if self.lead:
            made = torch.cat([made[:, :, self.lead :], self.flush_wave(state)], 2)
        return made, quantized

    def latents(self, wave: Wave) -> Latent:
        """What `forward` quantizes: a latent for each frame of `wave`."""
        if not self.fills_up:
            return self.finish_latent(wave, None)
        wave = F.pad(wave, (self.ahead, self.lead))
        latent, _ = self.step_latent(wave, self.start_latent(len(wave)))
        return latent[:, :, self.early :]

    @property
    def ahead(self) -> int:
        """Zeros before the first sample, so that a frame ends `lead` samples past its own end."""
        return self.frame_size - self.lead if self.lead else 0

    @property
    def early(self) -> int:
        """Frames that come of those zeros and are dropped."""
        return 1 if self.lead else 0

    # -- what it sees -----------------------------------------------------------------------------

    def ends(self) -> tuple[Layer, Layer]:
        """From samples to latents, one a frame, and back: encoder and decoder, unless said."""
        return self.encoder, self.decoder

    @property
    def receptive_field(self) -> tuple[float, float]:
        """Samples before and after a frame's own that its codes depend on; inf if unbounded.

        Where a codec mirrors the ends of a recording, frames near them also depend on what is
        mirrored.
        """
        first, last = self.ends()[0].reach(0, 0)
        # The encoder's frames lie `lead` samples later than the recording's.
        return -first - self.lead, last - self.frame_size + 1 + self.lead

    @property
    def constant_memory(self) -> bool:
        """Whether long audio takes no more memory than short.

        If not, a layer needs the whole recording: a memory that runs from its end, attention or
        normalisation over all of it. Chunks are exact all the same, but that layer's input is kept.
        """
        return all(math.isfinite(end.reach(0, 0)[1]) for end in self.ends())

    @property
    def delay(self) -> float:
        """Samples that decoding lags behind the arrival of audio, at most; inf if unbounded."""
        if self.causal:
            return self.first_frames * self.frame_size + 2 * self.lead
        if not self.constant_memory:
            return math.inf

        encoder, decoder = self.ends()

        def needs(sample: int) -> int:
            """The last frame that a decoded sample depends on."""
            return int(decoder.reach(sample, sample)[1])

        def wait(sample: int) -> int:
            """From a sample to the end of the frame that completes all it depends on."""
            last = int(encoder.reach(needs(sample), needs(sample))[1])
            return (last // self.frame_size + 1) * self.frame_size - sample

        # It waits longest at the begin of a frame, or where a further one begins to matter.
        samples = range(self.frame_size)
        further = bisect_left(samples, needs(samples[-1]), key=needs)
        return max(wait(0), wait(further))

    # -- weights ------------------------------------------------------------------------------

    def weight_normed(self) -> Iterable[nn.Module]:
        """The modules whose `weight` is trained as a length and a direction; none unless said."""
        return ()

    def split_weights(self) -> None:
        """For training: each of those weights becomes length and direction (weight normalisation,
        Salimans & Kingma 2016, arXiv:1602.07868), the parameters that published codecs count."""
        for module in self.weight_normed():
            if not parametrize.is_parametrized(module, "weight"):
                weight_norm(module, dim=0)

    def fold_weights(self) -> None:
        """After training: they are plain weights again, which run faster and are what is saved."""
        for module in self.weight_normed():
            if parametrize.is_parametrized(module, "weight"):
                parametrize.remove_parametrizations(module, "weight")


def convolutions(network: nn.Module) -> list[nn.Module]:
    """The convolutions in a network, which most published codecs train weight-normalised."""
    return [m for m in network.modules() if isinstance(m, nn.Conv1d | nn.ConvTranspose1d)]
