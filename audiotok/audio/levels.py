"""Checks of samples: channels that cancel each other, integers that were not scaled to -1..1.

Both are cheap to detect over a whole recording, and would silently give tokens of something else.
"""

from __future__ import annotations

from typing import Any

from audiotok._platform.errors import InputError

UNSCALED = 256.0  # 48 dB above full scale: unscaled integers, as no gain is that large
CANCELLED = 1e-3  # -30 dB: the mean of channels that have nothing in common loses 3 dB for two
MAX_CHANNELS = 64  # channels allowed in a recording that has fewer samples than channels
CANCELS = (
    "the channels cancel each other, their mean is all but silent; take one of them alone, or code "
    "each by itself (split=True)"
)


def cancels(before: float, after: float) -> bool:
    """Return whether mixing down lost nearly all energy of the channels.

    Args:
        before: the energy of all channels divided by their number.
        after: the energy of their mean.
    """
    return after < CANCELLED * before


def energy(samples: Any) -> float:
    """Return the sum of squares of an array or tensor of any shape."""
    flat = samples.reshape(-1)
    return float(flat @ flat)


def check_mix(samples: Any, mixed: Any) -> None:
    """Raise if channels cancel each other in their mean.

    Args:
        samples: the channels `[c t]`.
        mixed: their mean `[1 t]`.

    Raises:
        ValueError: the mean has almost no energy.
    """
    if cancels(energy(samples) / len(samples), energy(mixed)):
        raise InputError(CANCELS)


def check_level(low: float, high: float) -> None:
    """Raise if samples are too large for floats with full scale 1.

    Args:
        low: the smallest sample.
        high: the largest sample.

    Raises:
        ValueError: they look like integers that were not scaled.
    """
    peak = max(-low, high)
    if peak > UNSCALED:
        raise InputError(
            f"samples of up to {peak:.0f}, where full scale is 1: divide what came as 16-bit "
            "integers by 32768"
        )


def check_shape(channels: int, samples: int, *, most: int = MAX_CHANNELS) -> None:
    """Raise if the axes of `[channels samples]` seem to be exchanged.

    Raises:
        ValueError: more channels than samples, and more than `most`.
    """
    if channels > most and channels > samples > 0:
        raise InputError(
            f"{channels} channels of {samples} samples each: samples must be [channels samples]; "
            "turn these over with x.T"
        )
