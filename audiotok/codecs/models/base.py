"""The base of all codecs: audio to tokens and back, of exact length, alone or in a batch.

Audio of any length runs in blocks of a fixed number of frames with carried state (`sessions`), so
a recording's codes are the same to the bit whole, in a batch, or from a reader in pieces. A codec
with look-ahead lags in the same blocks. Memory stays the same however long the audio is, but for
layers that need the whole of it (`constant_memory`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from audiotok.audio.levels import check_level
from audiotok.nn.autoencoder import Network
from audiotok.nn.pretrained.hub import PublishedWeights
from audiotok.nn.pretrained.state_dicts import StateDictAdapter
from audiotok.runtime.sessions import Decoding, Encoding, code_together
from audiotok.tokens.tokenizer import Tokenizer
from audiotok.tokens.tokenizer import WrongTokensError as WrongTokensError

if TYPE_CHECKING:
    from audiotok.audio.audio import Audio
    from audiotok.tokens.tokens import Tokens


def _groups(signals: Sequence[Tensor], size: int) -> Iterator[list[int]]:
    """Yield indices of at most `size` signals `[d n]` of similar lengths, the shortest first."""
    order = sorted(range(len(signals)), key=lambda i: signals[i].shape[1])
    for first in range(0, len(order), size):
        yield order[first : first + size]


class Codec(Tokenizer, Network):
    """A codec: `encode` and `decode` one recording, `encode_batch` and `decode_batch` a list.

    A subclass sets the attributes below and those of `Network`.

    Attributes:
        name: the codec's id: its preset's name, or its file name.
        config_type: frozen dataclass of its sizes, whose defaults are the usual ones.
        config: its sizes, from which it can be built again.
        sample_rate: Hz.
        presets: published sizes by name; a codec of such sizes has that name.
        sources: where the weights of a preset are published.
        state_dict_adapters: how other programs name these weights.
        own_weights: whether a new instance has its weights already, so that none are looked for.
        weights_folder: folder of the weights NAME.safetensors that ship with the class; None where
            there are none, or with audiotok's own.
    """

    name: str
    config_type: type[Any]
    config: Any
    sample_rate: int
    presets: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    sources: ClassVar[Mapping[str, PublishedWeights]] = MappingProxyType({})
    state_dict_adapters: ClassVar[Sequence[StateDictAdapter]] = ()
    own_weights: ClassVar[bool] = False
    weights_folder: ClassVar[Path | None] = None

    # -- audio to tokens and back -------------------------------------------------------------

    def encode(self, audio: Audio, *, codebooks: int | None = None, split: bool = False) -> Tokens:
        """Encode one recording, resampled to the codec's rate.

        Args:
            audio: a recording of any rate and length; no samples at all give no frames.
            codebooks: number of codebooks, from the first (all if None); fewer are coarser and
                cheaper.
            split: whether to code each channel by itself, instead of their mean (logged once).

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
        """Decode one recording, to exactly as many samples as were encoded.

        Args:
            tokens: tokens of this codec, of any number of its codebooks.
            original_rate: whether to resample to the rate and length of the original recording.

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
        """Encode a list of recordings; each gets the tokens that it gets alone.

        Args:
            audios: recordings of any lengths and rates; channels are mixed down.
            codebooks: number of codebooks, from the first (all if None).
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
        """Return the default number of recordings that run side by side."""
        return 1 if self.device.type == "cpu" else 16

    def _codes(self, waves: Sequence[Tensor], codebooks: int, group: int) -> list[np.ndarray]:
        """Return the codes `[k f]` of each wave `[c t]`, running `group` of them side by side."""
        results: list[np.ndarray] = [np.zeros((codebooks, 0), np.int64)] * len(waves)
        for members in _groups(waves, group):
            batch = [waves[i] for i in members]
            if self.fills_up:  # silence after the end changes no code, and all signals end together
                longest = batch[-1].shape[1]
                batch = [F.pad(wave, (0, longest - wave.shape[1])) for wave in batch]
            encoding = Encoding(self, len(members), codebooks=codebooks)
            codes = code_together(encoding, [wave.to(self.device) for wave in batch])
            for i, mine in zip(members, codes, strict=True):
                results[i] = mine[:, : self.frames(waves[i].shape[1])].cpu().numpy()
        return results

    def _waves(self, codes: Sequence[np.ndarray], group: int) -> list[Tensor]:
        """Return the wave `[c t]` of each recording's codes `[k f]`, running `group` side by side.

        All codes of a group must be of as many codebooks.
        """
        rows = [torch.from_numpy(mine.copy()) for mine in codes]
        results: list[Tensor] = [torch.empty(0)] * len(rows)
        for members in _groups(rows, group):
            decoding = Decoding(self, len(members))
            waves = code_together(decoding, [rows[i].to(self.device) for i in members])
            for i, mine in zip(members, waves, strict=True):
                results[i] = mine.cpu()
        return results

    def _tokens(self, codes: np.ndarray, audio: Audio, samples: int, codebooks: int) -> Tokens:
        """Return codes as the tokens of a recording."""
        return self.tokens_of(
            codes,
            codebooks=codebooks,
            samples=samples,
            original_rate=audio.rate,
            original_samples=len(audio),
        )

    def decode_batch(self, batch: Sequence[Tokens], *, group: int | None = None) -> list[Audio]:
        """Decode a list of recordings; each gets the samples that it gets alone.

        Args:
            batch: tokens of this codec, each of any number of codebooks.
            group: recordings that run side by side, as in `encode_batch`.

        Raises:
            WrongTokensError: another codec's, or other weights'.
        """
        from audiotok.audio.audio import Audio

        group = group or self._group()
        audios: list[Audio | None] = [None] * len(batch)
        # Channels of all recordings with the same number of codebooks run side by side.
        kinds: dict[int, list[tuple[int, int]]] = {}
        for i, tokens in enumerate(batch):
            self.check_tokens(tokens)
            kinds.setdefault(tokens.codebooks, []).extend((i, j) for j in range(tokens.streams))
        for members in kinds.values():
            waves = self._waves([batch[i].channel(j).codes for i, j in members], group)
            for i, run in groupby(zip(members, waves, strict=True), key=lambda pair: pair[0][0]):
                wave = torch.cat([wave for _, wave in run])
                audios[i] = Audio(wave[:, : batch[i].samples], self.sample_rate)
        return [audio for audio in audios if audio is not None]

    def _channels(self, audio: Audio, split: bool) -> Audio:
        """Return a recording with the channels that the codec takes, mixed down or as they are."""
        if len(audio):
            check_level(*map(float, audio.samples.aminmax()))
        streams = self.streams(audio.channels, split=split)
        return audio if streams * self.channels == audio.channels else audio.mono()

    # -- properties ---------------------------------------------------------------------------

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of entries in each codebook."""
        return self.quantizer.sizes

    @property
    def latency(self) -> float:
        """Algorithmic latency in seconds: the longest time from a sample's arrival to its decoding.

        It is infinite if the first sample waits for the last.
        """
        return self.delay / self.sample_rate

    @property
    def parameters_total(self) -> int:
        """Number of learnt values: parameters, and the entries that codebooks keep as buffers."""
        entries = [b for n, b in self.named_buffers() if n.endswith(".entries")]
        return sum(p.numel() for p in [*self.parameters(), *entries])

    @property
    def fingerprint(self) -> str:
        """See `Tokenizer.fingerprint`; it is the same on any device and from any file."""
        return self._digests()[0]

    @property
    def decoder_fingerprint(self) -> str:
        """See `Tokenizer.decoder_fingerprint`; it is the same on any device and from any file."""
        return self._digests()[1]

    def _digests(self) -> tuple[str, str]:
        """Return the fingerprints of the encoding and of the decoding weights, computed once."""
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
        """Device of the weights."""
        return next(self.parameters()).device
