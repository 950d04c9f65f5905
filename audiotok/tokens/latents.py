"""Latents: one recording's features in memory, of a codec without codebooks or before them.

    wave -> encoder -> latents [d f] -> quantizer -> codes [k f]

They are the second kind of tokens, in the same files (`audiotok.tokens`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np

from audiotok._platform.errors import InputError
from audiotok.audio.axes import new_axes
from audiotok.tokens import picture
from audiotok.tokens.coded import Coded


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Latents(Coded):
    """Latents `[d f]` of one recording, with what is needed to store, cut and decode them.

    A codec computes them in single precision, in which streams, batches and files give the same
    bits. In half precision (`half`) they take half the room and differ from those by rounding:
    each number is the nearest of half precision, off by at most 2^-11 (0.05 %) of its size, or by
    3e-8 where it is below 6e-5.

    Raises:
        ValueError: a field is out of its range, values are of another shape or type, NaN or
            infinite, or the number of frames does not fit `samples`.
    """

    kind: ClassVar[str] = "latents"
    rows_field: ClassVar[str] = "values"

    values: np.ndarray  # [d f] float32 or float16, streams x width rows; kept as read-only

    def __post_init__(self) -> None:
        self._plain()
        if not isinstance(self.values, np.ndarray) or self.values.ndim != 2:
            raise InputError(f"latents are an array [d f], not {np.shape(self.values)}")
        rows = len(self.values)
        if rows % max(1, self.streams):
            raise InputError(f"{rows} rows of latents do not divide into {self.streams} streams")
        width, dtype = rows // max(1, self.streams), self.values.dtype.name
        self._check(self._header_of(sizes=(), width=width, dtype=dtype))

    @property
    def width(self) -> int:
        """Number of features of one stream."""
        return self.header.width

    @property
    def precision(self) -> str:
        """Precision of the numbers: "single" or "half"."""
        return "half" if self.header.dtype == "float16" else "single"

    def half(self) -> Latents:
        """Return these latents in half precision, each rounded to the nearest number.

        Raises:
            ValueError: one of them is beyond 65504, the largest number of half precision.
        """
        self._header_of(sizes=(), width=self.width, dtype="float16").check(self.values)
        return self.holding(self.values.astype(np.float16))

    def single(self) -> Latents:
        """Return these latents in single precision, which holds those of half precision exactly."""
        return self.holding(self.values.astype(np.float32))

    def plot(self, ax: Any | None = None, *, start: float = 0.0) -> Any:
        """Draw a row for each feature, with seconds below, and return the matplotlib axes.

        Args:
            ax: axes to draw into; those of a new figure if None.
            start: time of the first frame in seconds.

        Raises:
            ImportError: matplotlib is not installed.
        """
        axes, shown = new_axes(ax), cast("Any", self)
        picture.draw(axes, shown, start=start)
        return axes

    def _repr_html_(self) -> str:
        """Return a picture of the latents, which notebooks show."""
        return picture.html(cast("Any", self))

    def __repr__(self) -> str:
        shape = f"{self.streams} x {self.width}" if self.streams > 1 else f"{self.width}"
        extent = f"{self.seconds:.2f} s, {shape} features x {self.frames} frames"
        return f"<Latents of {self.codec}: {extent}, {self.precision} precision>"
