"""Codebooks: what their codes may be, and which of them are semantic; for numpy and torch alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from audiotok._platform.errors import Error, InputError, InputTypeError

SEMANTIC = {
    "beats": 8,
    "dm_codec": 1,
    "dualcodec": 1,
    "dualcodec_25hz": 1,
    "fish_s2": 1,
    "glm4_voice": 1,
    "glm4_voice_30s": 1,
    "ichigo": 1,
    "kmeans": 1,
    "longcat_16k": 1,
    "longcat_24k": 1,
    "mimi": 1,
    "neucodec": 1,
    "qwen3_tts_12hz": 1,
    "s3_v1": 1,
    "s3_v1_25hz": 1,
    "s3_v2_25hz": 1,
    "s3_v3_25hz": 1,
    "speech": 1,
    "speechtokenizer": 1,
    "speechtokenizer_snake": 1,
    "units": 1,
    "units_12hz": 1,
    "units_50hz": 1,
    "xcodec2": 1,
    "voxtral": 1,
}
"""Codecs of the package whose first codebooks say what is said, and how many do: distilled from a
teacher, supervised, or its units."""

BEYOND_HALF = 65520.0  # the least number that rounds to infinity in half precision


class NoCodesError(Error, ValueError):
    """Error of asking something of codes where frames hold latents."""


class NoTableError(Error, ValueError):
    """Error for a codebook without a table whose rows add up to decoded latents."""


def semantic_codebooks_of(codec: str) -> int:
    """Return the number of semantic codebooks, from the first, of a codec known by name; or 0."""
    return SEMANTIC.get(codec, 0)


def needs_codes(width: int, codec: str, use: str) -> None:
    """Raise unless a codec gives codes.

    Args:
        width: features of its latents; 0 of a codec that gives codes.
        codec: its name.
        use: what codes are needed for, for the message.

    Raises:
        NoCodesError: it gives latents.
    """
    if width:
        raise NoCodesError(
            f"{use}: {codec} gives latents of {width} numbers a frame and no codes; take a codec"
            " whose kind is codes"
        )


def check_latents(latents: Any, width: int, *, batch: bool = False, dtype: str = "float32") -> None:
    """Raise unless an array holds latents.

    Args:
        latents: array or tensor `[d f]` of floats, or `[b d f]` for a batch.
        width: number of features d.
        batch: whether they must be a batch.
        dtype: type in which they are stored, where an array is to be: its numbers must be finite in
            that too.

    Raises:
        TypeError: neither an array nor a tensor.
        ValueError: another shape or type, or NaN or infinite numbers.
    """
    shape = f"[batch {width} frames]" if batch else f"[{width} frames]"
    if not hasattr(latents, "dtype") or not hasattr(latents, "ndim"):
        kind = type(latents).__name__
        raise InputTypeError(f"give Latents, or latents {shape} as an array or tensor, not {kind}")
    if str(latents.dtype).removeprefix("torch.") not in ("float32", "float16"):
        raise InputError(f"latents must be float32 or float16 {shape}, not {latents.dtype}")
    if latents.ndim != 2 + batch or latents.shape[-2] != width:
        raise InputError(f"latents must be {shape}, not of shape {list(latents.shape)}")
    if not math.prod(latents.shape):
        return
    most = max(abs(float(latents.max())), abs(float(latents.min())))
    if not math.isfinite(most):
        raise InputError("latents that are NaN or infinite")
    if dtype == "float16" and most >= BEYOND_HALF:
        raise InputError(f"a latent of {most:g}: half precision holds up to 65504; store float32")


def check_frames(frames: Any, codebooks: int, width: int, *, batch: bool = False) -> None:
    """Raise unless an array or tensor has the shape and type of a codec's frames.

    Args:
        frames: codes `[k f]` of the first codebooks or all, or latents `[d f]`; with one more axis
            before for a batch.
        codebooks: number of codebooks of the codec.
        width: features of its latents; 0 of a codec that gives codes.
        batch: whether they must be a batch.

    Raises:
        TypeError: as `check_codes` and `check_latents`.
        ValueError: as `check_codes` and `check_latents`.
    """
    if width:
        check_latents(frames, width, batch=batch)
    else:
        check_codes(frames, codebooks, batch=batch)


def check_codes(codes: Any, codebooks: int, *, batch: bool = False) -> None:
    """Raise unless shape and type of codes are those of a codec's.

    Args:
        codes: array or tensor `[k f]`, or `[b k f]` for a batch.
        codebooks: number of codebooks of the codec.
        batch: whether they must be a batch.

    Raises:
        TypeError: neither an array nor a tensor.
        ValueError: another shape or type, or more codebooks than the codec has.
    """
    shape = "[batch codebooks frames]" if batch else "[codebooks frames]"
    if not hasattr(codes, "dtype") or not hasattr(codes, "ndim"):
        kind = type(codes).__name__
        raise InputTypeError(f"give Tokens, or codes {shape} as an array or tensor, not {kind}")
    if "int" not in str(codes.dtype):
        raise InputError(f"codes must be integers {shape}, not {codes.dtype}")
    if codes.ndim != 2 + batch:
        other = {2: "decode takes", 3: "decode_tensors takes"}.get(codes.ndim)
        way = f"; {other} {codes.ndim} axes" if other else ""
        raise InputError(f"codes must be {shape}, not of shape {list(codes.shape)}{way}")
    rows, frames = codes.shape[-2:]
    if not 1 <= rows <= codebooks:
        turn = "; turn these over" if 1 <= frames <= codebooks < rows - 1 else ""
        raise InputError(
            f"codes of {rows} codebooks and {frames} frames, where the codec has {codebooks} "
            f"codebooks: codes must be {shape}{turn}"
        )


def check_range(codes: Any, sizes: Sequence[int]) -> None:
    """Raise unless codes are entries of their codebooks.

    Args:
        codes: array or tensor `[... k f]` of integers.
        sizes: number of entries in each codebook; () of latents, which may be any numbers.

    Raises:
        ValueError: a code is negative or too large.
    """
    if not sizes or not math.prod(codes.shape) or (codes.min() >= 0 and codes.max() < min(sizes)):
        return
    for row, size in enumerate(sizes):
        mine = codes[..., row, :]
        low, high = int(mine.min()), int(mine.max())
        if low < 0 or high >= size:
            code = low if low < 0 else high
            raise InputError(f"code {code} in codebook {row}: codes there are 0 to {size - 1}")
