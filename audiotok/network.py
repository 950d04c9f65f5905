"""Network: encoder, quantizer and decoder, and how their frames line up in time.

samples      |---- frame 0 ----|---- frame 1 ----|
encoder      takes `frame_size - lead` zeros first and drops the frame that comes of them, so
             that it codes a frame when it has seen `lead` samples past the frame's end
decoder      gives samples `lead` late, when the next frame has overlapped them
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiotok.layers.base import Layer, State
from audiotok.quantizers.base import Quantized, Quantizer
from audiotok.shapes import Latent, Wave


class Network(nn.Module):
    """What runs, whole in training and a step at a time otherwise.

    Attributes:
        frame_size: samples a frame; integer, the truth that rates derive from.
        channels: of the audio it codes.
        lead: samples that the encoder sees past the end of a frame, and the decoder lags.
        encoder: waves to latents, one a frame.
        quantizer: latents to codes and back.
        decoder: latents to waves.
    """

    frame_size: int
    channels: int = 1
    lead: int = 0
    encoder: Layer
    quantizer: Quantizer
    decoder: Layer

    def frames(self, samples: int) -> int:
        """Frames that `samples` samples take: every begun frame counts."""
        return -(-samples // self.frame_size)

    def start_latent(self, batch: int) -> State:
        """The encoder's state before the first sample."""
        return self.encoder.start(batch)

    def step_latent(self, wave: Wave, state: State) -> tuple[Latent, State]:
        """Continue encoding by whole frames of samples."""
        return self.encoder.step(wave, state)

    def start_wave(self, batch: int) -> State:
        """The decoder's state before the first frame."""
        return self.decoder.start(batch)

    def step_wave(self, latent: Latent, state: State, frames: int) -> tuple[Wave, State]:
        """Continue decoding by the first `frames` frames of `latent`; the rest is padding.

        The samples given lag by `lead`.
        """
        wave, state = self.decoder.step(latent, state)
        return wave[:, :, : frames * self.frame_size], state

    def flush_wave(self, state: State) -> Wave:
        """The `lead` samples `[b c lead]` that the decoder still holds after the last frame."""
        raise ValueError(f"{type(self).__name__} has lead {self.lead} but no flush_wave")

    def forward(self, wave: Wave, keep: Tensor | None = None) -> tuple[Wave, Quantized]:
        """Reconstruct whole frames of audio, with gradients: what training runs.

        Args:
            wave: `[b c t]`, t a multiple of `frame_size`.
            keep: `[b]`, codebooks to use for each (quantizer dropout); all if None.
        """
        wave = F.pad(wave, (self.ahead, self.lead))
        latent, _ = self.step_latent(wave, self.start_latent(len(wave)))
        quantized = self.quantizer(latent[:, :, self.early :], keep)
        frames = quantized.latent.shape[2]
        made, state = self.step_wave(quantized.latent, self.start_wave(len(wave)), frames)
        if self.lead:
            made = torch.cat([made[:, :, self.lead :], self.flush_wave(state)], 2)
        return made, quantized

    @property
    def ahead(self) -> int:
        """Zeros before the first sample, so that a frame ends `lead` samples past its own end."""
        return self.frame_size - self.lead if self.lead else 0

    @property
    def early(self) -> int:
        """Frames that come of those zeros and are dropped."""
        return 1 if self.lead else 0
