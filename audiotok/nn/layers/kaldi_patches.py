"""Patches of a log-mel spectrogram as Kaldi computes it, as in BEATs."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from audiotok._platform.errors import InputError
from audiotok._platform.shapes import Features, Output
from audiotok.nn import kaldi
from audiotok.nn.layers.base import Layer, Span, State

LOW, HIGH = 20.0, 8000.0  # Hz
FLOOR = 2.0**-23  # least energy of a band
FULL_SCALE = 2.0**15


class KaldiPatches(Layer):
    """Waves `[b 1 t]` at 16 kHz to patches `[b d f]` of a spectrogram, those of a time together.

        bands 112 to 127 | patch 7 | patch 15 |
                         |   ...   |          |
        bands 0 to 15    | patch 0 | patch 8  |      d: patch 0 to 7, each by time, then by band
                          16 steps of 10 ms each

    A frame begun is filled up with silence; `whole` gives those that the wave fills.

    Args:
        steps: steps of 10 ms in a patch.
        bands: mel bands from 20 Hz to 8 kHz.
        height: bands in a patch, a divisor of theirs.
        mean: what is taken off the logarithms of the energies, of samples with full scale 2^15.
        deviation: what they are divided by.

    Raises:
        ValueError: patches do not divide the bands.

    Source: Chen et al. 2022, arXiv:2212.09058, section 4.1; Gong et al. 2021, arXiv:2104.01778,
    section 2.1, whose patches overlap.
    """

    causal = False

    def __init__(
        self,
        *,
        steps: int = 16,
        bands: int = 128,
        height: int = 16,
        mean: float = 15.41663,
        deviation: float = 2 * 6.55582,
    ) -> None:
        super().__init__()
        if bands % height:
            raise InputError(f"{bands} bands in patches of {height}: they do not divide")
        self.steps = steps
        self.bands = bands
        self.height = height
        self.mean = mean
        self.deviation = deviation
        self.consumes = steps * kaldi.HOP
        self.more = kaldi.WINDOW - kaldi.HOP  # samples that the last window of a patch sees past it

    @property
    def outputs(self) -> int:
        """Number of output features."""
        return self.steps * self.bands

    def count(self, samples: int) -> int:
        """Return the number of frames that so many samples fill."""
        return max(0, samples - self.more) // self.consumes

    def whole(self, wave: Features) -> Output:
        """Return the frames `[b d f]` that waves `[b 1 t]` fill; none may be missing past them."""
        frames = self.count(wave.shape[2])
        if not frames:
            return wave.new_zeros(len(wave), self.outputs, 0)
        samples = FULL_SCALE * wave[:, 0, : frames * self.consumes + self.more]
        logs = kaldi.log_energies(samples, LOW, HIGH, FLOOR, centred=True, bands=self.bands)
        x = (logs - self.mean) / self.deviation
        parts = x.unflatten(2, (-1, self.height)).unflatten(1, (frames, self.steps))  # [b f s n h]
        return parts.permute(0, 3, 2, 4, 1).flatten(1, 3).to(wave.dtype)

    def filled(self, wave: Features) -> Tensor:
        """Return waves `[b 1 t]` with silence after them, so that every frame begun is whole."""
        missing = -wave.shape[2] % self.consumes
        return F.pad(wave, (0, missing + self.more)) if wave.shape[2] else wave

    def start(self, batch: int) -> State:
        """See `Layer.start`; samples of frames that are not whole."""
        return self.zeros(batch, 1, 0)

    def step(self, x: Features, state: State) -> tuple[Output, State]:
        """See `Layer.step`."""
        x = self.joined(state, x)
        y = self.whole(x)
        return y, x[:, :, y.shape[2] * self.consumes :]

    def finish(self, x: Features, state: State) -> Output:
        """See `Layer.finish`."""
        return self.forward(self.joined(state, x))

    def forward(self, x: Features) -> Output:
        """See `Layer.forward`; a frame begun counts as one."""
        return self.whole(self.filled(x))

    def input_span(self, first: int, last: int) -> Span:
        """See `Layer.input_span`; the windows of a patch."""
        return first * self.consumes, (last + 1) * self.consumes + self.more - 1
