"""Batches of tensors through a codec: recordings of different lengths, padded at their ends.

    waves   |------------|00000|   16000 samples      codes  |---------|0000|   50 frames
            |------------------|   24000 samples             |--------------|   75 frames

Padding is cut off before a recording runs, so that none of it can leak into a recording through
look-ahead, normalisation over the clip, a backward LSTM, attention, or the edges of a transform. On
a CPU recordings run one after the other, and each row is to the bit what the recording gives alone.
On a GPU they run side by side, and differ from it by rounding: codes at near-ties only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from audiotok._platform.errors import InputError, InputTypeError
from audiotok.audio.coerce import check_values, to_float32
from audiotok.nn.autoencoder import Network
from audiotok.runtime.network_executor import NetworkExecutor
from audiotok.runtime.sessions import Decoding, code_together, encode_together
from audiotok.tokens.codebooks import check_frames, check_range

if TYPE_CHECKING:
    from typing import TypeAlias

    Lengths: TypeAlias = Tensor | Sequence[int]
else:  # checked by `_counts`, whose errors are one line each
    Lengths = Any


@dataclass(frozen=True)
class CodeBatch:
    """Codes of a batch of recordings.

    Attributes:
        codes: `[b k f]` int64 (latents `[b d f]` float32); 0 after the end of a recording.
        lengths: `[b]` int64, number of frames of each recording.
    """

    codes: Tensor
    lengths: Tensor

    @property
    def mask(self) -> Tensor:
        """Bool `[b f]`, True where frames are of a recording."""
        return mask(self.lengths, self.codes.shape[2])


@dataclass(frozen=True)
class WaveBatch:
    """Waves of a batch of recordings.

    Attributes:
        waves: `[b c t]` float32 at the rate that the codec decodes to, 0 after a recording's end.
        lengths: `[b]` int64, number of samples of each recording.
    """

    waves: Tensor
    lengths: Tensor

    @property
    def mask(self) -> Tensor:
        """Bool `[b t]`, True where samples are of a recording."""
        return mask(self.lengths, self.waves.shape[2])


@dataclass(frozen=True)
class Reconstruction(WaveBatch):
    """Waves of a batch of recordings, encoded and decoded with gradients.

    Attributes:
        codes: `[b k f]`, of all codebooks, 0 after the end of a recording.
        frames: `[b]` int64, number of frames of each recording.
        latents: `[b d f]`, decoded, with a straight-through gradient; 0 after the end.
        losses: scalar losses of the quantizer by name, a mean over the recordings.
    """

    codes: Tensor
    frames: Tensor
    latents: Tensor
    losses: dict[str, Tensor]


def mask(lengths: Tensor, size: int) -> Tensor:
    """Return bool `[b size]`, True at the first `lengths[i]` places of row i."""
    return torch.arange(size, device=lengths.device) < lengths[:, None]


class TensorCodec(Network):
    """A network that runs on padded batches of recordings, with and without gradients.

    With `group`, so many recordings run side by side: 1 on a CPU, where a recording alone fills the
    cores and results are the same to the bit; 16 on a GPU.
    """

    sample_rate: int

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(chain(self.parameters(), self.buffers())).device

    @property
    def executor(self) -> NetworkExecutor:
        """Executor of the codec's steps, for sessions and streams."""
        return NetworkExecutor(self, self.device)

    # -- codes, without gradients -----------------------------------------------------------------

    def encode_tensors(
        self,
        waves: Tensor,
        lengths: Lengths | None = None,
        *,
        codebooks: int | None = None,
        group: int | None = None,
    ) -> CodeBatch:
        """Encode a batch of recordings, each to the codes that `encode` gives it alone.

        Autocast has no effect: codes are always those of full precision.

        Args:
            waves: `[b c t]` at the codec's rate and with its channels, on its device.
            lengths: `[b]`, number of samples of each recording; t if None. What follows is ignored.
            codebooks: number of codebooks, from the first (all if None).
            group: recordings that run side by side.

        Raises:
            ValueError: a tensor of another shape, type or device, lengths that do not fit, NaN or
                infinite samples, or more codebooks than there are.
        """
        codebooks = self.quantizer.check(codebooks)
        rows = [row.detach() for row in self._rows(waves, lengths)]
        codes = self._codes(rows, codebooks, group or self._group())
        return CodeBatch(padded(codes, self._no_codes(codebooks)), self._lengths(codes))

    def decode_tensors(
        self,
        codes: Tensor,
        lengths: Lengths | None = None,
        *,
        samples: Lengths | None = None,
        group: int | None = None,
    ) -> WaveBatch:
        """Decode a batch of codes, each to the samples that `decode` gives it alone.

        Args:
            codes: `[b k f]`, of the first k codebooks, on the codec's device.
            lengths: `[b]`, number of frames of each recording; f if None. What follows is ignored.
            samples: `[b]`, number of samples of each recording, as were encoded: they take
                `lengths` frames. If None, as many as the frames hold.
            group: recordings that run side by side.

        Raises:
            ValueError: a tensor of another shape, type or device, lengths that do not fit, or a
                code that its codebook does not have.
        """
        self._check_device(codes, "codes")
        check_frames(codes, self.quantizer.codebooks, self.quantizer.latent_width, batch=True)
        b, k, f = codes.shape
        if samples is None:
            frames = _counts(lengths, b, f, "lengths")
            counts = [n * self.frame_size for n in frames]
        else:
            counts = _counts(samples, b, f * self.frame_size, "samples")
            frames = [self.frames(n) for n in counts]
            if lengths is not None and _counts(lengths, b, f, "lengths") != frames:
                raise InputError(f"lengths must be {frames} frames for {counts} samples")
        whole = codes if self.quantizer.latent_width else codes.long()
        rows = [row[:, :n] for row, n in zip(whole, frames, strict=True)]
        for row in rows:
            check_range(row, self.quantizer.sizes[:k])
        waves = self._waves(rows, group or self._group())
        waves = [wave[:, : self.decoded_length(n)] for wave, n in zip(waves, counts, strict=True)]
        return WaveBatch(padded(waves, self._none(self.channels)), self._lengths(waves))

    # -- with gradients ---------------------------------------------------------------------------

    def reconstruct_tensors(
        self,
        waves: Tensor,
        lengths: Lengths | None = None,
        *,
        codebooks: int | Lengths | None = None,
        group: int | None = None,
    ) -> Reconstruction:
        """Encode and decode a batch of recordings with gradients, each as `codec(wave)` does alone.

        Recordings of one length run side by side, others one after the other. The gradient
        passes straight through the quantizer. Each recording is one step of the network, as in
        training, whose codes equal those of `encode` up to near-ties. In training mode codebooks
        learn from each group in turn; crops of one length are rather given to `codec(wave)`.

        Args:
            waves: `[b c t]` at the codec's rate and with its channels, on its device.
            lengths: `[b]`, number of samples of each recording; t if None. What follows is ignored.
            codebooks: number of codebooks to decode from, or `[b]` for each recording; all if None.
            group: recordings that run side by side; 1 on a CPU, all of one length on a GPU.

        Raises:
            ValueError: as `encode_tensors`.
        """
        rows = self._rows(waves, lengths)
        keep = self._keep(codebooks, len(rows))
        outputs = list(rows)  # those of no samples stay as they are
        codes = [self._no_codes()] * len(rows)
        latents = [self.quantizer.decode(codes[0][None])[0]] * len(rows) if rows else []
        losses: dict[str, Tensor] = {}
        for members in self._alike(rows, group):
            output, quantized = self(torch.stack([rows[i] for i in members]), keep[members])
            for row, i in enumerate(members):
                outputs[i] = output[row]
                latents[i] = quantized.latent[row]
                codes[i] = quantized.codes[row]
            for name, loss in quantized.losses.items():
                losses[name] = losses.get(name, 0) + loss * (len(members) / len(rows))
        return Reconstruction(
            waves=padded(outputs, self._none(self.channels), self.decoded_length(waves.shape[2])),
            lengths=self._lengths(outputs),
            codes=padded(codes, self._no_codes()),
            frames=self._lengths(codes),
            latents=padded(latents, self._none(0)),
            losses=losses,
        )

    def decode_latents(
        self, latents: Tensor, lengths: Lengths | None = None, *, group: int | None = None
    ) -> WaveBatch:
        """Decode a batch of latents with gradients, each as it is decoded alone.

        Args:
            latents: `[b d f]` as `quantizer.decode` gives them, or sums of rows of
                `codebook_embeddings`, on the codec's device.
            lengths: `[b]`, number of frames of each recording; f if None. What follows is ignored.
            group: recordings that run side by side; 1 on a CPU, all of as many frames on a GPU.

        Raises:
            ValueError: a tensor of another shape, type or device, or lengths that do not fit.
        """
        self._check_device(latents, "latents")
        if latents.ndim != 3 or not latents.is_floating_point():
            raise InputError(f"latents must be floats [b d f], not {_shown(latents)}")
        width = self.quantizer.decode(self._no_codes()[None]).shape[1]
        if latents.shape[1] != width:
            raise InputError(f"latents must be [b {width} f], not {_shown(latents)}")
        frames = _counts(lengths, len(latents), latents.shape[2], "lengths")
        rows = [row[:, :n] for row, n in zip(latents, frames, strict=True)]
        outputs: list[Tensor] = [row.new_zeros(self.channels, 0) for row in rows]
        for members in self._alike(rows, group):
            output = self.waves(torch.stack([rows[i] for i in members]))
            for row, i in enumerate(members):
                outputs[i] = output[row]
        return WaveBatch(padded(outputs, self._none(self.channels)), self._lengths(outputs))

    # -- runs of recordings -----------------------------------------------------------------------

    def _group(self) -> int:
        """Return the default number of recordings that run side by side."""
        return 1 if self.device.type == "cpu" else 16

    def _codes(self, waves: Sequence[Tensor], codebooks: int, group: int) -> list[Tensor]:
        """Return the codes `[k f]` of each wave `[c t]`, running `group` of them side by side."""

        def run(batch: list[Tensor]) -> list[Tensor]:
            return encode_together(self.executor, [w.to(self.device) for w in batch], codebooks)

        return _grouped(waves, group, run)

    def _waves(self, codes: Sequence[Tensor], group: int) -> list[Tensor]:
        """Return the wave `[c t]` of each recording's codes `[k f]`, running `group` side by side.

        All codes must be of as many codebooks; each wave is on the device of its codes.
        """

        def run(batch: list[Tensor]) -> list[Tensor]:
            decoding = Decoding(self.executor, len(batch))
            waves = code_together(decoding, [mine.to(self.device) for mine in batch])
            return [wave.to(mine.device) for wave, mine in zip(waves, batch, strict=True)]

        return _grouped(codes, group, run)

    def _alike(self, rows: Sequence[Tensor], group: int | None) -> Iterator[list[int]]:
        """Yield indices of signals `[d n]` of one length, `group` at a time; none of no length."""
        size = group or (1 if self.device.type == "cpu" else len(rows))
        order = sorted(range(len(rows)), key=lambda i: rows[i].shape[1])
        for length, run in groupby(order, key=lambda i: rows[i].shape[1]):
            members = list(run) if length else []
            yield from (members[i : i + size] for i in range(0, len(members), size))

    # -- arguments and results --------------------------------------------------------------------

    def _rows(self, waves: Tensor, lengths: Lengths | None) -> list[Tensor]:
        """Return the wave `[c n]` of each recording of a batch, checked, without padding."""
        self._check_device(waves, "waves")
        if waves.ndim != 3 or waves.shape[1] != self.channels:
            raise InputError(
                f"waves must be [batch {self.channels} samples] at {self.sample_rate} Hz, not "
                f"{_shown(waves)}"
            )
        counts = _counts(lengths, len(waves), waves.shape[2], "lengths")
        x = to_float32(waves)
        rows = [row[:, :n].contiguous() for row, n in zip(x, counts, strict=True)]
        for row in rows:
            check_values(row.detach())
        return rows

    def _check_device(self, x: Tensor, name: str) -> None:
        """Raise unless a tensor is one, and on the device of the codec."""
        if not isinstance(x, Tensor):
            raise InputTypeError(f"{name} must be a tensor, not {type(x).__name__}")
        if x.device != self.device:
            raise InputError(
                f"{name} are on {x.device} and the codec is on {self.device}: "
                f"give {name}.to(codec.device)"
            )

    def _keep(self, codebooks: int | Lengths | None, batch: int) -> Tensor:
        """Return the number of codebooks to decode from, `[b]`, checked."""
        if codebooks is None or isinstance(codebooks, int):
            codebooks = [self.quantizer.check(codebooks)] * batch
        counts = _counts(codebooks, batch, self.quantizer.codebooks, "codebooks")
        return torch.tensor([self.quantizer.check(n) for n in counts], device=self.device)

    def _none(self, width: int) -> Tensor:
        """Return a signal `[width 0]` of no length."""
        return torch.zeros(width, 0, device=self.device)

    def _no_codes(self, codebooks: int | None = None) -> Tensor:
        """Return codes `[k 0]` or latents `[d 0]` of no frames."""
        return self.executor.no_codes(1, codebooks or self.quantizer.rows)[0]

    def _lengths(self, rows: Sequence[Tensor]) -> Tensor:
        """Return the lengths of signals `[d n]` as a tensor."""
        return torch.tensor([row.shape[1] for row in rows], dtype=torch.int64, device=self.device)


def _grouped(
    signals: Sequence[Tensor], size: int, run: Callable[[list[Tensor]], list[Tensor]]
) -> list[Tensor]:
    """Return what `run` makes of each signal `[d n]`, given at most `size` of similar lengths.

    It is given the shortest first.
    """
    order = sorted(range(len(signals)), key=lambda i: signals[i].shape[1])
    results: list[Tensor] = list(signals)
    for first in range(0, len(order), size):
        members = order[first : first + size]
        for i, result in zip(members, run([signals[i] for i in members]), strict=True):
            results[i] = result
    return results


def padded(rows: Sequence[Tensor], like: Tensor, size: int | None = None) -> Tensor:
    """Return signals `[d n]` as one tensor `[b d size]`, with zeros after their ends.

    Args:
        rows: the signals.
        like: `[d 0]`, for the shape and type where there are no signals.
        size: length to pad to; that of the longest if None.
    """
    longest = max((row.shape[1] for row in rows), default=0) if size is None else size
    if not rows:
        return like.new_zeros(0, len(like), longest)
    return torch.stack([F.pad(row, (0, longest - row.shape[1])) for row in rows])


def _counts(lengths: Lengths | None, batch: int, most: int, name: str) -> list[int]:
    """Return the lengths of a batch as integers, checked; `most` for each if None.

    Raises:
        TypeError: nothing that has lengths.
        ValueError: not one integer for each recording, or not 0 to `most`.
    """
    if lengths is None:
        return [most] * batch
    try:
        counts = torch.as_tensor(lengths)
    except (TypeError, ValueError, RuntimeError):
        raise InputTypeError(f"{name} must be integers, not {lengths!r:.80}") from None
    whole = not counts.is_floating_point() and counts.dtype != torch.bool
    if counts.shape != (batch,) or not whole:
        raise InputError(
            f"{name} must be one integer for each of {batch} recordings, not {_shown(counts)}"
        )
    values: list[int] = counts.tolist()
    if wrong := [n for n in values if not 0 <= n <= most]:
        raise InputError(f"{name} must be 0 to {most}, where the tensor ends, not {wrong[0]}")
    return values


def _shown(x: Tensor) -> str:
    """Return type and shape of a tensor for messages."""
    return f"{str(x.dtype).removeprefix('torch.')} {list(x.shape)}"
