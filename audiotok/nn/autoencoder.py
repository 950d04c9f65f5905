"""Base class of a codec's network: encoder, quantizer and decoder, aligned in time.

samples      |---- frame 0 ----|---- frame 1 ----|
encoder      reads `frame_size - look_ahead` zeros first and drops the frame they produce, so that
             it codes a frame once it has seen `look_ahead` samples past the end of that frame
decoder      outputs samples `look_ahead` late, once the next frame has been overlapped with them
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

from audiotok._platform.errors import InputError
from audiotok._platform.shapes import Latent, Output, Wave
from audiotok.nn.layers.absent import Absent
from audiotok.nn.layers.base import Layer, State
from audiotok.nn.quantizers.base import Quantized, Quantizer


class Network(nn.Module):
    """Encoder, quantizer and decoder that run whole in training and in steps otherwise.

    Attributes:
        frame_size: samples per frame, an integer from which all rates are derived.
        channels: audio channels that are coded together.
        look_ahead: in samples, what the encoder sees past the end of a frame, and by how much
            the output of the decoder lags.
        causal: whether a frame depends on no sample later than `look_ahead` past its end. If
            not, the output lags: a step returns the frames that are determined by then, possibly
            none before the end.
        exact_chunks: whether a recording cut at any places gives the codes of the whole, to the
            bit. True for every codec here; a codec of your own that cannot do so sets it to False.
        block: frames per step offline: 1 to 3 s of audio, so that activations stay in a CPU's
            cache.
        first_frames: least number of frames in the first step, which some codecs mirror.
        period: frames after which the receptive field repeats itself: those of a segment, where
            segments are coded by themselves, or of a window of attention.
        fills_up: whether silence may follow a recording without changing any of its codes. If not,
            the network handles the end itself (`finish_latent`, `finish_wave`), as published codecs
            do that mirror the last samples or have a long look-ahead.
        end_unit: samples of which the last ones are filled up to a multiple with silence, where the
            network handles the end itself: a frame, or what its first layer takes; 1 for none.
        latents_of_codes: whether latents depend on codes, so that no other quantizer can code them.
        precision: "float32"; or "int8" where the decoder computes in 8-bit integers
            (`codecs.int8`), which changes no codes.
        encoder: layer from waves to latents, one latent per frame; `Absent` of a network that only
            decodes.
        quantizer: quantizer from latents to codes and back.
        decoder: layer from latents to waves; `Absent` of a network that only encodes.
    """

    frame_size: int
    channels: int = 1
    look_ahead: int = 0
    causal: bool = True
    exact_chunks: bool = True
    block: int = 128
    first_frames: int = 1
    period: int = 1
    fills_up: bool = True
    end_unit: int = 1
    latents_of_codes: bool = False
    precision: str = "float32"
    encoder: Layer
    quantizer: Quantizer
    decoder: Layer
    _delay: tuple[tuple[object, ...], float] | None = None  # what it is of, and its value

    def frames(self, samples: int) -> int:
        """Return the number of frames in `samples` samples; a frame begun counts as one."""
        return -(-samples // self.frame_size)

    # -- a step at a time -------------------------------------------------------------------------

    def start_latent(self, batch: int) -> State:
        """Return the encoder's state before the first sample of `batch` signals."""
        return self.ends()[0].start(batch)

    def step_latent(self, wave: Wave, state: State) -> tuple[Latent, State]:
        """Encode further whole frames of samples `[b c t]`.

        Returns:
            The latents `[b d f]`, as many as frames or fewer where the encoder lags, and the state.
        """
        return self.ends()[0].step(wave, state)

    def finish_latent(self, wave: Wave, state: State) -> Latent:
        """Return the latents of the last samples, one for every frame begun.

        Args:
            wave: `[b c t]`; the whole recording, of at least one sample, if there was no step.
            state: state after the last step, or None if there was none.
        """
        encoder = self.ends()[0]
        if self.end_unit > 1:
            wave = F.pad(wave, (0, -wave.shape[2] % self.end_unit))
        return encoder(wave) if state is None else encoder.finish(wave, state)

    def start_wave(self, batch: int) -> State:
        """Return the decoder's state before the first frame of `batch` signals."""
        return self.ends()[1].start(batch)

    def step_wave(self, latent: Latent, state: State, frames: int) -> tuple[Wave, State]:
        """Decode the first `frames` frames of `latent [b d f]`; the rest is padding.

        Returns:
            The samples `[b c t]`, which lag by `look_ahead`, and the state.
        """
        padding = latent.shape[2] - frames
        wave, state = self.ends()[1].step(latent, state)
        return wave[:, :, : wave.shape[2] - padding * self.decoded_frame_size], state

    def finish_wave(self, latent: Latent, state: State) -> Wave:
        """Return the samples of the last frames, or of all if there was no step (state None)."""
        decoder = self.ends()[1]
        return decoder(latent) if state is None else decoder.finish(latent, state)

    def flush_wave(self, state: State) -> Wave:
        """Return the samples `[b c look_ahead]` that the decoder holds after the last frame."""
        name = type(self).__name__
        raise InputError(f"{name} looks {self.look_ahead} samples ahead but has no flush_wave")

    # -- the whole ----------------------------------------------------------------------------

    def forward(self, wave: Wave, keep: Tensor | None = None) -> tuple[Output, Quantized]:
        """Reconstruct audio with gradients, as training does.

        Args:
            wave: `[b c t]`; a frame begun counts as one.
            keep: `[b]`, number of codebooks to use for each recording (quantizer dropout); all if
                None.

        Returns:
            The reconstruction `[b c t]`, of as many seconds, and the output of the quantizer.
        """
        quantized = self.quantizer(self.latents(wave), keep)
        length = self.decoded_length(wave.shape[2])
        return self.waves(quantized.latent)[:, :, :length], quantized

    def latents(self, wave: Wave) -> Latent:
        """Return the latents `[b d f]` that `forward` quantizes, one for each frame begun."""
        if not self.fills_up:
            return self.finish_latent(wave, None)
        short = -wave.shape[2] % self.frame_size
        wave = F.pad(wave, (self.start_padding, short + self.look_ahead))
        latent, _ = self.step_latent(wave, self.start_latent(len(wave)))
        return latent[:, :, self.padding_frames :]

    def waves(self, latent: Latent) -> Wave:
        """Return the waves `[b c t]` that `forward` decodes, `decoded_frame_size` a latent."""
        if not self.fills_up:
            return self.finish_wave(latent, None)
        output, state = self.step_wave(latent, self.start_wave(len(latent)), latent.shape[2])
        if self.look_ahead:
            output = torch.cat([output[:, :, self.look_ahead :], self.flush_wave(state)], 2)
        return output

    @property
    def start_padding(self) -> int:
        """Zeros that precede the first sample, so that each frame also contains its look-ahead."""
        return self.frame_size - self.look_ahead if self.look_ahead else 0

    @property
    def padding_frames(self) -> int:
        """Frames to drop at the start, which the zeros of `start_padding` produce."""
        return 1 if self.look_ahead else 0

    @property
    def decoded_frame_size(self) -> int:
        """Samples that a frame decodes to: another number than it is of where the rate is."""
        return self.frame_size

    def decoded_length(self, samples: int) -> int:
        """Return the samples that as many samples decode to; a fraction counts as one."""
        return -(-samples * self.decoded_frame_size // self.frame_size)

    @property
    def encodes(self) -> bool:
        """True if there is an encoder."""
        return not isinstance(self.encoder, Absent)

    @property
    def decodes(self) -> bool:
        """True if there is a decoder."""
        return not isinstance(self.decoder, Absent)

    # -- receptive field and delay -----------------------------------------------------------------

    def ends(self) -> tuple[Layer, Layer]:
        """Return the layers from samples to latents and back, one latent per frame.

        They are the encoder and the decoder unless a subclass wraps those.
        """
        return self.encoder, self.decoder

    @property
    def receptive_field(self) -> tuple[float, float]:
        """Samples before and after a frame's own that its codes depend on; inf if unbounded.

        Where a codec mirrors the ends of a recording, frames near an end also depend on the samples
        that are mirrored. Where segments are coded by themselves, it is the largest of any frame.
        """
        size, encoder = self.frame_size, self.ends()[0]
        spans = [(i * size, encoder.input_span(i, i)) for i in range(self.period)]
        before = max(begin - first for begin, (first, _) in spans)
        after = max(last + 1 - begin for begin, (_, last) in spans)
        # The encoder's frames lie `look_ahead` samples later than the recording's.
        return before - self.look_ahead, after - size + self.look_ahead

    @property
    def constant_memory(self) -> bool:
        """True if long audio takes no more memory than short audio.

        If not, a layer needs the whole recording: a backward LSTM, or attention or normalisation
        over the clip. Chunks are exact all the same, but the input of that layer is kept.
        """
        return all(math.isfinite(end.input_span(0, 0)[1]) for end in self.ends())

    @property
    def delay(self) -> float:
        """Most samples by which decoding lags behind the arrival of audio; inf if unbounded."""
        sizes = self.causal, self.first_frames, self.frame_size, self.look_ahead, self.period
        key = (*sizes, self.encoder, self.decoder)
        if self._delay is None or self._delay[0] != key:  # a walk through all frames of a period
            self._delay = key, self._longest_delay()
        return self._delay[1]

    def _longest_delay(self) -> float:
        """Return what `delay` is for these layers."""
        if self.causal:
            lags = 2 if self.decodes else 1  # encoder and decoder, by the look-ahead each
            return self.first_frames * self.frame_size + lags * self.look_ahead
        if not self.constant_memory:
            return math.inf

        encoder, decoder = self.ends()

        def needs(sample: int) -> int:
            """Return the last frame that a decoded sample depends on, or waits for at the start."""
            return max(int(decoder.input_span(sample, sample)[1]), self.first_frames - 1)

        def wait(sample: int) -> int:
            """Count samples from a sample to the end of the last frame that it depends on."""
            last = int(encoder.input_span(needs(sample), needs(sample))[1])
            return (last // self.frame_size + 1) * self.frame_size - sample

        # The delay is longest at the start of a frame, or where the next frame begins to matter.
        waits = []
        for begin in range(0, self.period * self.frame_size, self.frame_size):
            samples = range(begin, begin + self.frame_size)
            later = bisect_left(samples, needs(samples[-1]), key=needs)
            waits += [wait(begin), wait(samples[later])]
        return max(waits)

    # -- weights ------------------------------------------------------------------------------

    def weight_normed(self) -> Iterable[nn.Module]:
        """Return the modules trained with weight normalisation; none unless overridden."""
        return ()

    def split_weights(self) -> None:
        """Split the weights of `weight_normed` into length and direction, for training.

        This is weight normalisation (Salimans & Kingma 2016, arXiv:1602.07868), whose parameters
        published codecs count.
        """
        for module in self.weight_normed():
            if not parametrize.is_parametrized(module, "weight"):
                weight_norm(module, dim=0)

    def fold_weights(self) -> None:
        """Merge length and direction into plain weights, which run faster and are saved."""
        for module in self.weight_normed():
            if parametrize.is_parametrized(module, "weight"):
                parametrize.remove_parametrizations(module, "weight")


def convolutions(network: nn.Module) -> list[nn.Module]:
    """Return the convolutions in a network, which most published codecs weight-normalise."""
    return [m for m in network.modules() if isinstance(m, nn.Conv1d | nn.ConvTranspose1d)]
