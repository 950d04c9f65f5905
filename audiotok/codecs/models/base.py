"""What every codec promises: audio to tokens and back, of exact length, alone or in a batch.

Audio of any length runs in blocks of a fixed number of frames with carried state (`sessions`), so
a recording's codes are the same to the bit whole, in a batch, or from a reader in pieces. A codec
that looks ahead lags in the same blocks. Memory stays the same however long the audio is, but for
layers that need the whole of it (`constant_memory`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from audiotok.audio.levels import checked_level
from audiotok.nn.autoencoder import Network
from audiotok.nn.pretrained.hub import Source
from audiotok.nn.pretrained.state_dicts import Dialect
from audiotok.runtime.sessions import Decoding, Encoding, together
from audiotok.tokens.tokenizer import Tokenizer
from audiotok.tokens.tokenizer import WrongTokensError as WrongTokensError

if TYPE_CHECKING:
    from audiotok.audio.audio import Audio
    from audiotok.tokens.tokens import Tokens


def _groups(signals: Sequence[Tensor], size: int) -> Iterator[list[int]]:
    """Indices of at most `size` signals `[d n]` each, like lengths together, the shortest first."""
    order = sorted(range(len(signals)), key=lambda i: signals[i].shape[1])
    for first in range(0, len(order), size):
        yield order[first : first + size]


class Codec(Tokenizer, Network):
    """A codec: `encode` and `decode` one recording, `encode_batch` and `decode_batch` a list.

    A subclass sets what follows and what `Network` asks for.

    Attributes:
        name: the codec's id: its preset's name, or its file name.
        config_type: the frozen dataclass of its sizes; without arguments, the usual ones.
        config: the sizes it has, enough to build it again.
        sample_rate: Hz.
        presets: the sizes it was published in, by name; a codec of one has its name.
        sources: where weights of a preset are published.
        dialects: how other programs name these weights.
    """

    name: str
    config_type: type[Any]
    config: Any
    sample_rate: int
    presets: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    sources: ClassVar[Mapping[str, Source]] = MappingProxyType({})
    dialects: ClassVar[Sequence[Dialect]] = ()

    # -- audio to tokens and back -------------------------------------------------------------

    def encode(self, audio: Audio, *, codebooks: int | None = None, split: bool = False) -> Tokens:
        """The tokens of one recording, resampled to the codec's rate.

        Args:
            audio: of any rate and length; no samples at all give no frames.
            codebooks: how many to code (all if None); fewer is coarser and cheaper.
            split: code each channel by itself, instead of their mean (said once in the log).

        Raises:
            ValueError: more codebooks than there are; samples of the size of integers; channels
                that cancel each other in their mean.
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
        from audiotok.audio.audio import Audio

        audio = self.decode_batch([tokens], group=1)[0]
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
        group = group or self._group()
        codebooks = self.quantizer.check(codebooks)
        waves = [self._channels(a, split=False).resample(self.sample_rate).samples for a in audios]
        return [
            self._tokens(codes, audio, wave.shape[1], codebooks)
            for codes, audio, wave in zip(
                self._codes(waves, codebooks, group), audios, waves, strict=True
            )
        ]

    def _group(self) -> int:
        return 1 if self.device.type == "cpu" else 16

    def _codes(self, waves: Sequence[Tensor], codebooks: int, group: int) -> list[np.ndarray]:
        """Codes `[k f]` of each wave `[c t]`, `group` of them side by side."""
        made: list[np.ndarray] = [np.zeros((codebooks, 0), np.int64)] * len(waves)
        for members in _groups(waves, group):
            batch = [waves[i] for i in members]
            if self.fills_up:  # silence after the end changes no code, and all end at once
                longest = batch[-1].shape[1]
                batch = [F.pad(wave, (0, longest - wave.shape[1])) for wave in batch]
            encoding = Encoding(self, len(members), codebooks=codebooks)
            codes = together(encoding, [wave.to(self.device) for wave in batch])
            for i, mine in zip(members, codes, strict=True):
                made[i] = mine[:, : self.frames(waves[i].shape[1])].cpu().numpy()
        return made

    def _waves(self, codes: Sequence[np.ndarray], group: int) -> list[Tensor]:
        """Waves `[c t]` of the codes `[k f]` of each recording, `group` of them side by side.

        All codes of a group must be of as many codebooks.
        """
        rows = [torch.from_numpy(mine.copy()) for mine in codes]
        made: list[Tensor] = [torch.empty(0)] * len(rows)
        for members in _groups(rows, group):
            decoding = Decoding(self, len(members))
            waves = together(decoding, [rows[i].to(self.device) for i in members])
            for i, mine in zip(members, waves, strict=True):
                made[i] = mine.cpu()
        return made

    def _tokens(self, codes: np.ndarray, audio: Audio, samples: int, codebooks: int) -> Tokens:
        return self.tokens_of(
            codes,
            codebooks=codebooks,
            samples=samples,
            original_rate=audio.rate,
            original_samples=len(audio),
        )

    def decode_batch(self, batch: Sequence[Tokens], *, group: int | None = None) -> list[Audio]:
        """The audio of each recording, which is what it gets alone.

        Args:
            batch: of this codec; each of any number of codebooks.
            group: as of `encode_batch`.

        Raises:
            WrongTokensError: another codec's, or other weights'.
        """
        from audiotok.audio.audio import Audio

        group = group or self._group()
        made: list[Audio | None] = [None] * len(batch)
        # Those of as many codebooks, and of one channel after the other, side by side.
        kinds: dict[int, list[tuple[int, int]]] = {}
        for i, tokens in enumerate(batch):
            self.check_tokens(tokens)
            kinds.setdefault(tokens.codebooks, []).extend((i, j) for j in range(tokens.streams))
        for members in kinds.values():
            waves = self._waves([batch[i].channel(j).codes for i, j in members], group)
            for i, run in groupby(zip(members, waves, strict=True), key=lambda pair: pair[0][0]):
                wave = torch.cat([wave for _, wave in run])
                made[i] = Audio(wave[:, : batch[i].samples], self.sample_rate)
        return [audio for audio in made if audio is not None]

    def _channels(self, audio: Audio, split: bool) -> Audio:
        if len(audio):
            checked_level(*map(float, audio.samples.aminmax()))
        streams = self.streams(audio.channels, split=split)
        return audio if streams * self.channels == audio.channels else audio.mono()

    # -- what it is ---------------------------------------------------------------------------

    @property
    def sizes(self) -> tuple[int, ...]:
        """Entries in each codebook."""
        return self.quantizer.sizes

    @property
    def latency(self) -> float:
        """Algorithmic latency in seconds: from a sample's arrival to its decoded self, at most.

        Infinite if the first sample waits for the last.
        """
        return self.delay / self.sample_rate

    @property
    def parameters_total(self) -> int:
        """Learnt numbers: parameters, and the entries that codebooks keep as buffers."""
        entries = [b for n, b in self.named_buffers() if n.endswith(".entries")]
        return sum(p.numel() for p in [*self.parameters(), *entries])

    @property
    def fingerprint(self) -> str:
        """See `Tokenizer.fingerprint`: the same whatever the device or file."""
        return self._digests()[0]

    @property
    def decoder_fingerprint(self) -> str:
        """See `Tokenizer.decoder_fingerprint`: the same whatever the device or file."""
        return self._digests()[1]

    def _digests(self) -> tuple[str, str]:
        """Fingerprints of what makes codes and of what makes sound, computed once."""
        state = self.state_dict()
        version = tuple((t.data_ptr(), t._version) for t in state.values())
        known = getattr(self, "_fingerprints", None)
        if known is None or known[0] != version:
            codes, sound = (hashlib.sha256(self.name.encode()) for _ in range(2))
            for key in sorted(state):
                part = key.partition(".")[0]
                if part == "semantic":  # used in training only
                    continue
                digest = sound if part == "decoder" else codes
                digest.update(key.encode())
                digest.update(state[key].detach().cpu().float().contiguous().numpy())
            known = version, (codes.hexdigest()[:16], sound.hexdigest()[:16])
            self._fingerprints = known
        return known[1]

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device
