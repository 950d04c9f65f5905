"""Recordings as people hold them: `Audio`, a file's path, an array or a tensor and its rate.

Integer samples of 8, 16 and 32 bits, as `scipy.io.wavfile` and `soundfile` read them, are scaled to
full scale 1. The functions are the same for numpy and torch, and do not import torch for numpy.
"""

from __future__ import annotations

import math
import os
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from audiotok._platform.errors import InputError, InputTypeError
from audiotok.audio import levels
from audiotok.audio.reader import open_audio

if TYPE_CHECKING:
    from typing import TypeAlias

    from torch import Tensor

    from audiotok.audio.audio import Audio

    Samples: TypeAlias = np.ndarray | Tensor
    Recording: TypeAlias = Audio | str | os.PathLike[str] | Samples
else:
    Samples = Recording = Any

FULL_SCALE = {"uint8": 1 << 7, "int16": 1 << 15, "int32": 1 << 31}
SLOWEST = 1000  # Hz of an array: less is a mistake, such as 16 for 16 kHz
MOST_CHANNELS = 2  # channels that an array with fewer samples than channels may have


def to_audio(recording: Recording, rate: float | None = None) -> Audio:
    """Return a recording as `Audio` on the CPU; `Audio` itself is returned as it is.

    Args:
        recording: `Audio`; the path of a file; or an array or tensor `[t]` or `[c t]`.
        rate: sample rate of an array or tensor in Hz; for the others it is optional, and checked.

    Raises:
        AudioFileError: the file cannot be read.
        TypeError: it is none of these.
        ValueError: samples without a rate, or of another rate; samples of another shape or type,
            NaN or infinite.
    """
    import torch

    from audiotok.audio.audio import Audio

    if isinstance(recording, Audio):
        _check_rate(rate, recording.rate, "the Audio")
        return recording
    samples, rate = to_array(recording, rate)
    return Audio(torch.from_numpy(np.require(samples, requirements=["C", "W"])), rate)


def to_array(recording: Recording, rate: float | None = None) -> tuple[np.ndarray, int]:
    """Return the samples `[c t]` of a recording in numpy, and its rate; see `to_audio`."""
    if isinstance(recording, str | os.PathLike):
        with open_audio(recording) as source:
            _check_rate(rate, source.rate, str(recording))
            blocks = [np.zeros((source.channels, 0), np.float32), *source.arrays()]
            return np.concatenate(blocks, 1), source.rate
    given: Any = recording
    if hasattr(given, "rate"):  # Audio, whose module needs torch
        _check_rate(rate, given.rate, "the Audio")
        check_values(given.samples)
        return given.samples.cpu().numpy(), given.rate
    if not is_samples(given):
        raise InputTypeError(
            f"a recording is Audio, a path, or an array or tensor and rate=, not {_kind(recording)}"
        )
    if rate is None:
        raise InputError(
            f"{_kind(recording)} of samples says no sample rate: give it, as in rate=16000"
        )
    if not isinstance(rate, Real) or not math.isfinite(rate) or rate != int(rate) or rate < 1:
        raise InputError(f"the sample rate must be a whole number of Hz, not {rate!r}")
    if rate < SLOWEST:
        raise InputError(f"a sample rate of {rate} Hz is below {SLOWEST}: give Hz, not kHz")
    samples = to_channels(given)
    return (samples if isinstance(samples, np.ndarray) else samples.cpu().numpy()), int(rate)


def is_samples(x: object) -> bool:
    """Return whether this is an array of numpy or a tensor of torch."""
    return isinstance(x, np.ndarray) or type(x).__module__.partition(".")[0] == "torch"


def to_channels(samples: Samples) -> Any:
    """Return samples as float32 `[c t]` with full scale 1; a tensor stays where it is.

    Args:
        samples: array or tensor `[t]` or `[c t]`, of floats with full scale 1, or of integers of 8
            bits (around 128), 16 or 32 bits.

    Raises:
        ValueError: another shape, channels and samples exchanged, another type, or samples that are
            NaN, infinite, or of the size of integers.
    """
    samples = samples if isinstance(samples, np.ndarray) else samples.detach()
    samples = samples[None] if samples.ndim == 1 else samples
    if samples.ndim != 2 or not samples.shape[0]:
        batch = "; a batch [b c t] goes to encode_tensors" if samples.ndim == 3 else ""
        raise InputError(f"samples must be [t] or [channels t], not {list(samples.shape)}{batch}")
    levels.check_shape(*samples.shape, most=MOST_CHANNELS)
    samples = to_float32(samples)
    check_values(samples)
    return samples


def to_float32(samples: Samples) -> Any:
    """Return samples of any shape as float32, integers scaled to full scale 1.

    Raises:
        ValueError: they are neither floats nor integers of 8, 16 or 32 bits.
    """
    kind = str(samples.dtype).removeprefix("torch.")
    if kind not in FULL_SCALE and "float" not in kind:
        raise InputError(
            f"samples of type {kind}: give floats with full scale 1, or int16 or int32 samples"
        )
    x: Any = samples
    x = x.astype(np.float32) if isinstance(samples, np.ndarray) else x.float()
    if kind not in FULL_SCALE:
        return x
    return (x - (FULL_SCALE[kind] if kind == "uint8" else 0)) / FULL_SCALE[kind]


def check_values(samples: Any) -> None:
    """Raise ValueError if samples of any shape are NaN, infinite, or of the size of integers."""
    if not math.prod(samples.shape):
        return
    ends = samples.aminmax() if hasattr(samples, "aminmax") else (samples.min(), samples.max())
    low, high = map(float, ends)  # NaN if there is one
    if not math.isfinite(high - low):
        bad = int((samples != samples).sum() + (abs(samples) == math.inf).sum())
        raise InputError(f"{bad} samples are NaN or infinite: mend the recording or cut them out")
    levels.check_level(low, high)


def _check_rate(given: float | None, known: int, name: str) -> None:
    """Raise ValueError if a rate is given that is not the known one."""
    if given is not None and given != known:
        raise InputError(
            f"{name} is of {known} Hz, not {given}: leave rate out, it is resampled as needed"
        )


def _kind(x: object) -> str:
    """Return what kind of object this is, for messages."""
    return f"{type(x).__module__.partition('.')[0]}.{type(x).__name__}".removeprefix("builtins.")
