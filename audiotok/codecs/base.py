"""What every codec promises: audio to tokens and back, of exact length, alone or in a batch.

Audio of any length runs in blocks of a fixed number of frames with carried state (`pieces.py`), so
a recording's codes are the same to the bit whole, in a batch, or from a reader in pieces. A codec
that is not causal runs the whole recording at once: the same holds, but memory grows with it.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from functools import cache
from itertools import groupby
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from audiotok.network import Network
from audiotok.pieces import Decoding, Encoding

if TYPE_CHECKING:
    from audiotok.audio import Audio
    from audiotok.tokens import Header, Tokens

log = logging.getLogger("audiotok")


class WrongTokensError(ValueError):
    """Tokens that another codec, or other weights of the same codec, made."""


@cache
def mixing_down(channels: int) -> None:
    """Says that channels are mixed down, once for each number of them."""
    log.warning(
        "%d channels are mixed down to one; --channels split (split=True) codes each", channels
    )


class Codec(Network):
    """A codec: `encode` and `decode` one recording, `encode_batch` and `decode_batch` a list.

    A subclass sets what follows and what `Network` asks for.

    Attributes:
        name: the codec's id, its file name.
        config_type: the frozen dataclass of its sizes; without arguments, the usual ones.
        config: the sizes it has, enough to build it again.
        sample_rate: Hz.
        presets: the sizes it was published in, by name.
    """

    name: str
    config_type: type[Any]
    config: Any
    sample_rate: int
    presets: ClassVar[Mapping[str, Any]] = MappingProxyType({})

    # -- audio to tokens and back -------------------------------------------------------------

    def encode(self, audio: Audio, *, codebooks: int | None = None, split: bool = False) -> Tokens:
        """The tokens of one recording, resampled to the codec's rate.

        Args:
            audio: of any rate and length; no samples at all give no frames.
            codebooks: how many to code (all if None); fewer is coarser and cheaper.
            split: code each channel by itself, instead of their mean (said once in the log).

        Raises:
            ValueError: more codebooks than there are.
        """
        codebooks = self.quantizer.check(codebooks)
        at_rate = self._channels(audio, split).resample(self.sample_rate)
        waves = at_rate.samples.split(self.channels)
        codes = np.concatenate(self._codes(waves, codebooks, group=1))
        return self._tokens(codes, audio, len(at_rate), codebooks)

    def decode(self, tokens: Tokens, *, original_rate: bool = False) -> Audio:
        """The audio of one recording: exactly as many samples as went in.

        Args:
            tokens: of this codec; any number of its codebooks.
            original_rate: resample to the rate of the original recording, and to its length.

        Raises:
            WrongTokensError: another codec's, or other weights'.
        """
        from audiotok.audio import Audio

        self.check_tokens(tokens)
        channels = []
        for number in range(tokens.streams):
            codes = torch.from_numpy(tokens.channel(number).codes.copy()).to(self.device)
            decoding = Decoding(self, samples=tokens.samples)
            channels.append(torch.cat([decoding.push(codes[None]), decoding.finish()], 2)[0])
        audio = Audio(torch.cat(channels).cpu(), self.sample_rate)
        if not original_rate or tokens.original_rate == self.sample_rate:
            return audio
        audio = audio.resample(tokens.original_rate)
        short = tokens.original_samples - len(audio)
        return Audio(F.pad(audio.samples, (0, max(0, short))), audio.rate)[: len(audio) + short]

    def encode_batch(
        self, audios: Sequence[Audio], *, codebooks: int | None = None, group: int | None = None
    ) -> list[Tokens]:
        """The tokens of each recording, which are those it gets alone.

        Args:
            audios: of any lengths and rates; channels are mixed down.
            codebooks: how many to code (all if None).
            group: recordings that run side by side. 1 on a CPU, where a recording alone fills
                the cores and the codes are the same to the bit; 16 on a GPU, where they are the
                same up to near-ties (two entries equally near but for rounding).
        """
        group = group or (1 if self.device.type == "cpu" else 16)
        codebooks = self.quantizer.check(codebooks)
        waves = [self._channels(a, split=False).resample(self.sample_rate).samples for a in audios]
        return [
            self._tokens(codes, audio, wave.shape[1], codebooks)
            for codes, audio, wave in zip(
                self._codes(waves, codebooks, group), audios, waves, strict=True
            )
        ]

    def _codes(self, waves: Sequence[Tensor], codebooks: int, group: int) -> list[np.ndarray]:
        """Codes `[k f]` of each wave `[c t]`, `group` of them side by side."""
        made: list[np.ndarray] = [np.zeros((codebooks, 0), np.int64)] * len(waves)
        for members in self._groups([wave.shape[1] for wave in waves], group):
            longest = waves[members[-1]].shape[1]
            batch = [F.pad(waves[i], (0, longest - waves[i].shape[1])) for i in members]
            encoding = Encoding(self, len(members), codebooks=codebooks)
            first_codes = encoding.push(torch.stack(batch).to(self.device))
            codes = torch.cat([first_codes, encoding.finish()], 2).cpu().numpy()
            for i, mine in zip(members, codes, strict=True):
                made[i] = mine[:, : self.frames(waves[i].shape[1])]
        return made

    def _groups(self, lengths: Sequence[int], group: int) -> Iterator[list[int]]:
        """Indices of at most `group` recordings that can run side by side, the longest last.

        Like lengths waste the least. Silence after a recording's end changes none of its codes if
        the codec fills up its last frame with silence too; else only equal lengths can.
        """
        order = sorted(range(len(lengths)), key=lambda i: lengths[i])
        for _, run in groupby(order, key=lambda i: None if self.fills_up else lengths[i]):
            members = list(run)
            for first in range(0, len(members), group):
                yield members[first : first + group]

    def _tokens(self, codes: np.ndarray, audio: Audio, samples: int, codebooks: int) -> Tokens:
        from audiotok.tokens import Tokens

        streams = len(codes) // codebooks
        return Tokens(
            codes=codes,
            size=self.sizes[:codebooks],
            codec=self.name,
            fingerprint=self.fingerprint,
            sample_rate=self.sample_rate,
            frame_size=self.frame_size,
            samples=samples,
            original_rate=audio.rate,
            original_samples=len(audio),
            channels=self.channels * streams,
            streams=streams,
        )

    def decode_batch(self, batch: Sequence[Tokens]) -> list[Audio]:
        """The audio of each recording, which is what it gets alone."""
        return [self.decode(tokens) for tokens in batch]

    def check_tokens(self, tokens: Tokens | Header) -> None:
        """Raises `WrongTokensError` unless this codec, with these weights, made them."""
        if tokens.codec != self.name:
            raise WrongTokensError(
                f"tokens of codec {tokens.codec!r}, not {self.name!r}: decode them with "
                f"audiotok.load({tokens.codec!r}) (--codec {tokens.codec})"
            )
        if tokens.fingerprint != self.fingerprint:
            raise WrongTokensError(
                f"tokens of other weights of {self.name!r} ({tokens.fingerprint}, these are "
                f"{self.fingerprint}): give the checkpoint that made them, or encode again"
            )

    def streams(self, channels: int, *, split: bool = False) -> int:
        """How many times a recording of so many channels is coded: the channel policy.

        A mono codec codes the mean of the channels, and says so once; or each, if `split`.

        Raises:
            ValueError: channels that this codec cannot take.
        """
        if split and channels % self.channels == 0:
            return channels // self.channels
        if self.channels == 1 or self.channels == channels:
            if channels > self.channels:
                mixing_down(channels)
            return 1
        raise ValueError(f"{channels} channels given to {self.name!r}, which codes {self.channels}")

    def _channels(self, audio: Audio, split: bool) -> Audio:
        streams = self.streams(audio.channels, split=split)
        return audio if streams * self.channels == audio.channels else audio.mono()

    # -- what it is ---------------------------------------------------------------------------

    @property
    def codebooks(self) -> int:
        """Codes in a frame."""
        return self.quantizer.codebooks

    @property
    def sizes(self) -> tuple[int, ...]:
        """Entries in each codebook."""
        return self.quantizer.sizes

    @property
    def frame_rate(self) -> Fraction:
        """Frames a second, exactly."""
        return Fraction(self.sample_rate, self.frame_size)

    @property
    def kbps(self) -> float:
        """Nominal rate with all codebooks: frames/s x the information of a frame."""
        return float(self.frame_rate) * sum(math.log2(size) for size in self.sizes) / 1000

    @property
    def latency(self) -> float:
        """Algorithmic latency in seconds: from a sample's arrival to its decoded self, at most.

        Infinite if the codec is not causal: the first sample waits for the last.
        """
        if not self.causal:
            return math.inf
        return (self.first_frames * self.frame_size + 2 * self.lead) / self.sample_rate

    @property
    def receptive_field(self) -> tuple[float, float]:
        """Samples before and after a frame's own that its codes depend on; inf if unbounded.

        Where a codec mirrors the ends of a recording, frames near them also depend on what is
        mirrored.
        """
        first, last = self.encoder.reach(0, 0)
        # The encoder's frames lie `lead` samples later than the recording's.
        return -first - self.lead, last - self.frame_size + 1 + self.lead

    @property
    def parameters_total(self) -> int:
        """Learnt numbers: parameters, and the entries that codebooks keep as buffers."""
        entries = [b for n, b in self.named_buffers() if n.endswith(".entries")]
        return sum(p.numel() for p in [*self.parameters(), *entries])

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that name these weights, whatever the device or file."""
        state = self.state_dict()
        version = tuple((t.data_ptr(), t._version) for t in state.values())
        if getattr(self, "_fingerprint", (None, ""))[0] != version:
            digest = hashlib.sha256(self.name.encode())
            for key in sorted(state):
                digest.update(key.encode())
                digest.update(state[key].detach().cpu().float().contiguous().numpy())
            self._fingerprint = (version, digest.hexdigest()[:16])
        return self._fingerprint[1]

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device
