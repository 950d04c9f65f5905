"""Samples that are no audio as they stand: channels that cancel, integers that nobody scaled.

Both are cheap to see over a whole recording, and silently make tokens of something else.
"""

from __future__ import annotations

from typing import Any

UNSCALED = 256.0  # 48 dB above full scale: no gain, but integers taken for floats
CANCELLED = 1e-3  # -30 dB: the mean of channels that have nothing in common loses 3 dB for two
CROWD = 64  # channels that a recording may have whatever its length
CANCELS = (
    "the channels cancel each other, their mean is all but silent; take one of them alone, or code "
    "each by itself (split=True)"
)


def cancels(before: float, after: float) -> bool:
    """Tell whether mixing channels down has left next to nothing of them.

    Args:
        before: the energy of all channels over their number.
        after: the energy of their mean.
    """
    return after < CANCELLED * before


def energy(samples: Any) -> float:
    """Return the sum of squares of an array or tensor."""
    flat = samples.reshape(-1)
    return float(flat @ flat)


def checked_mix(samples: Any, mixed: Any) -> None:
    """Raise unless something of the channels `[c t]` is in their mean.

    Raises:
        ValueError: they cancel each other.
    """
    if cancels(energy(samples) / len(samples), energy(mixed)):
        raise ValueError(CANCELS)


def checked_level(low: float, high: float) -> None:
    """Raise unless the least and the largest sample can be those of floats of full scale 1.

    Raises:
        ValueError: they are of the size of integers.
    """
    peak = max(-low, high)
    if peak > UNSCALED:
        raise ValueError(
            f"samples of up to {peak:.0f}, where full scale is 1: divide what came as 16-bit "
            "integers by 32768"
        )


def checked_shape(channels: int, samples: int) -> None:
    """Raise where the axes of `[channels samples]` seem to be exchanged.

    Raises:
        ValueError: more channels than samples, and than any recording has.
    """
    if channels > CROWD and channels > samples > 0:
        raise ValueError(
            f"{channels} channels of {samples} samples each: samples must be [channels samples]; "
            "turn these over with x.T"
        )
