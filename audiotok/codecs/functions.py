"""A codec of two functions, by which any codec joins `bench`, `conform` and `corpus build`.

>>> import torch
>>> from audiotok.codecs.functions import FunctionCodec
>>> def encode(wave):  # float32 [c t], t whole frames -> whole numbers [k f]
...     return ((wave.clamp(-1, 1) + 1) * 127.5).round().long()
>>> def decode(codes):  # int64 [k f] -> float32 [c t]
...     return codes / 127.5 - 1
>>> codec = FunctionCodec(
...     name="pcm8", sample_rate=8000, frame_size=1, sizes=(256,),
...     encode=encode, decode=decode, weights="pcm8, version 1",
... )
>>> codec.kbps
64.0

In a file `mine.py`, the command line knows this codec as `--codec mine:codec`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiotok._platform.errors import Error, InputError, InputTypeError, in_one_line
from audiotok._platform.shapes import Codes, Features, Latent, Output
from audiotok.codecs.models.base import Codec
from audiotok.nn.layers.base import WholeClip
from audiotok.nn.quantizers.base import NoTableError, Quantized, Quantizer

LARGEST = 1 << 24  # entries of a codebook: codes pass as float32, which holds them up to here
SECONDS = 30  # of audio in a block; nothing is computed before the end


class FunctionError(Error, ValueError):
    """Error of a function of a `FunctionCodec`: it fails, or gives what it should not."""


class FunctionCodec(Codec):
    """Codec of two functions, which are given whole recordings, one at a time.

    So codes are the same however a recording is cut and whatever is in its batch, as every codec
    promises; it cannot answer before the end of a recording, so it has no finite latency. What the
    functions give is checked.

    Args:
        name: a name that no other codec has.
        sample_rate: Hz.
        frame_size: samples per frame.
        sizes: number of entries in each codebook.
        encode: function from samples `[c t]`, a float32 tensor at the codec's rate and on its
            device, to codes `[k f]`, a tensor or an array of integers, f = t / frame_size.
        decode: function from codes `[k f]`, an int64 tensor on the codec's device, to samples
            `[c t]`, a tensor or an array of floats, t = f * frame_size.
        weights: what the codes depend on, from which the fingerprint is computed, so that tokens of
            other weights are never mixed: a module, which then also moves to the codec's device;
            the path of a file; or, where there is neither, a text that you change whenever the
            codes change ("mine, version 2"). Changes of code are not noticed.
        channels: audio channels that are coded together.
        fill_up: whether the last frame is filled up with zeros before `encode` gets it. If not, t
            may be any number of samples, and f = ceil(t / frame_size).
        decodes_fewer: whether `decode` also takes the first codebooks alone.

    Raises:
        ValueError: sizes, rates or weights that no codec can have.
        TypeError: sizes that are no integers, or weights of a type that is not taken.
    """

    own_weights = True
    causal = False
    fills_up = False

    def __init__(
        self,
        *,
        name: str,
        sample_rate: int,
        frame_size: int,
        sizes: Sequence[int],
        encode: Callable[[Tensor], Any],
        decode: Callable[[Tensor], Any],
        weights: nn.Module | Path | str,
        channels: int = 1,
        fill_up: bool = True,
        decodes_fewer: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(sizes, Sequence) or isinstance(sizes, str):
            raise InputTypeError(f"codec {name!r}: sizes is a tuple of entries a codebook, {sizes}")
        if min(sample_rate, frame_size, channels) < 1:
            raise InputError(f"codec {name!r}: rate, frame size and channels are at least 1")
        if not sizes or not all(1 < size <= LARGEST for size in sizes):
            raise InputError(f"codec {name!r}: codebooks have 2 to {LARGEST} entries: {sizes}")
        self.name = name
        self.sample_rate = sample_rate
        self.frame_size = frame_size
        self.channels = channels
        self.block = max(1, SECONDS * sample_rate // frame_size)
        self.fill_up = fill_up
        self.decodes_fewer = decodes_fewer
        self.weights = weights
        self._functions = {"encode": encode, "decode": decode}
        self._placed: Tensor
        self.register_buffer("_placed", torch.empty(0), persistent=False)
        self.encoder = _Whole(channels, len(sizes), self._encoded)
        self.quantizer = _Verbatim(tuple(sizes))
        self.decoder = _Whole(len(sizes), channels, self._decoded)
        self._digests()  # raises if weights identify nothing

    @property
    def device(self) -> torch.device:
        """Device of the tensors that the functions are given."""
        return self._placed.device

    def _encoded(self, wave: Tensor) -> Tensor:
        """Return the codes `[k f]` of samples `[c t]`, checked, as floats."""
        frames = self.frames(wave.shape[1])
        if self.fill_up:
            wave = F.pad(wave, (0, frames * self.frame_size - wave.shape[1]))
        codes = self._called("encode", wave.float())
        if codes.dtype == torch.bool or codes.is_floating_point() or codes.is_complex():
            raise self._wrong("encode", wave, f"values of {_dtype(codes)}", "integers")
        self._check_shape("encode", wave, codes, (self.codebooks, frames))
        for book, (row, size) in enumerate(zip(codes, self.sizes, strict=True)):
            low, high = (int(value) for value in row.aminmax())
            if low < 0 or high >= size:
                given = f"codes {low} to {high} in codebook {book}"
                raise self._wrong("encode", wave, given, f"0 to {size - 1}")
        return codes.float()

    def _decoded(self, latent: Tensor) -> Tensor:
        """Return the samples `[c t]` of codes `[k f]` that came as floats, checked."""
        codebooks, frames = latent.shape
        if codebooks < self.codebooks and not self.decodes_fewer:
            raise FunctionError(
                f"codec {self.name!r} decodes all {self.codebooks} codebooks, not the first "
                f"{codebooks} alone"
            )
        codes = latent.long()
        wave = self._called("decode", codes)
        if not wave.is_floating_point():
            raise self._wrong("decode", codes, f"samples of {_dtype(wave)}", "floats")
        self._check_shape("decode", codes, wave, (self.channels, frames * self.frame_size))
        if not wave.isfinite().all():
            raise self._wrong("decode", codes, "samples of NaN or infinity", "finite ones")
        return wave.float()

    def _called(self, function: str, x: Tensor) -> Tensor:
        """Return what a function gives for a tensor, as a tensor on the same device."""
        try:
            given = self._functions[function](x)
        except Exception as error:  # whatever their code raises
            title = f"{function} of codec {self.name!r} fails"
            raise FunctionError(f"{title}: {in_one_line(error)}") from error
        if isinstance(given, np.ndarray):
            given = given.astype(np.int64) if given.dtype.kind in "iu" else given
            given = torch.from_numpy(np.ascontiguousarray(given))
        if not isinstance(given, Tensor):
            raise self._wrong(function, x, f"a {type(given).__name__}", "a tensor or an array")
        return given.detach().to(x.device)

    def _check_shape(self, function: str, x: Tensor, given: Tensor, shape: tuple[int, int]) -> None:
        """Raise unless a function gave a tensor of this shape."""
        if given.shape != shape:
            raise self._wrong(function, x, f"shape {[*given.shape]}", f"{[*shape]}")

    def _wrong(self, function: str, x: Tensor, given: str, wanted: str) -> FunctionError:
        """Return the error of a function that gave something else than it should for an input."""
        of = f"{function} of codec {self.name!r}"
        return FunctionError(f"{of} gave {given} for an input of {[*x.shape]}; wanted: {wanted}")

    def _digests(self) -> tuple[str, str]:
        """Return the fingerprints, both of everything that the functions depend on."""
        state = self.weights.state_dict() if isinstance(self.weights, nn.Module) else {}
        version = tuple((t.data_ptr(), t._version) for t in state.values())
        known = getattr(self, "_fingerprints", None)
        if known is None or known[0] != version:
            facts = (self.sample_rate, self.frame_size, self.sizes, self.channels, self.fill_up)
            digest = hashlib.sha256(repr(facts).encode())
            digest.update(_content(self.weights, self.name))
            known = version, digest.hexdigest()[:16]
            self._fingerprints = known
        return known[1], known[1]


class _Whole(WholeClip):
    """Layer of a function of one whole signal `[d t]`, applied to each of a batch."""

    def __init__(self, inputs: int, outputs: int, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__(inputs, outputs)
        self.function = function

    def forward(self, x: Features) -> Output:
        """See `Layer.forward`."""
        return torch.stack([self.function(signal) for signal in x])


class _Verbatim(Quantizer):
    """Quantizer of latents that are the codes themselves."""

    def __init__(self, sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.sizes = sizes

    def forward(self, latent: Latent, keep: Tensor | None = None) -> Quantized:
        """Raise, as functions have no gradients."""
        raise FunctionError("a codec of two functions cannot be trained")

    def encode(self, latent: Latent, codebooks: int | None = None) -> Codes:
        """See `Quantizer.encode`."""
        return latent[:, : self.check(codebooks)].long()

    def decode(self, codes: Codes) -> Latent:
        """See `Quantizer.decode`."""
        self.check(codes.shape[1])
        return codes.float()

    def table(self, codebook: int) -> Tensor:
        """Raise, as only the function knows what a code stands for."""
        raise NoTableError("a codec of two functions has no tables of its codebooks")


def _content(weights: nn.Module | Path | str, name: str) -> bytes:
    """Return a digest of weights.

    Raises:
        ValueError: there is nothing that identifies them.
        TypeError: they are of a type that is not taken.
    """
    digest = hashlib.sha256()
    if isinstance(weights, Path):
        with weights.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    elif isinstance(weights, str):
        digest.update(weights.encode())
    elif not isinstance(weights, nn.Module):
        known = "a module, a Path or a text"
        raise InputTypeError(f"codec {name!r}: weights is {known}, not {weights!r}")
    else:
        for key, value in sorted(weights.state_dict().items()):
            digest.update(key.encode())
            digest.update(value.detach().cpu().float().contiguous().numpy())
    if digest.digest() == hashlib.sha256().digest():
        raise InputError(
            f"codec {name!r}: weights that hold nothing cannot tell its tokens from others: give a "
            "module with tensors, a file, or a text that you change with the codes"
        )
    return digest.digest()


def _dtype(x: Tensor) -> str:
    """Return the name of a tensor's type, without its library."""
    return str(x.dtype).removeprefix("torch.")
