"""The base of all codecs: audio to tokens and back, of exact length, alone or in a batch.

Audio of any length runs in blocks of a fixed number of frames with carried state (`sessions`), so
a recording's codes are the same to the bit whole, in a batch, or from a reader in pieces. A codec
with look-ahead lags in the same blocks. Memory stays the same however long the audio is, but for
layers that need the whole of it (`constant_memory`).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from audiotok._platform.errors import InputError, InputTypeError
from audiotok._platform.shapes import Latent
from audiotok.audio.coerce import Recording, to_audio
from audiotok.audio.levels import check_level
from audiotok.codecs.taxonomy import Taxonomy
from audiotok.codecs.tensors import TensorCodec
from audiotok.nn.pretrained.hub import PublishedWeights
from audiotok.nn.pretrained.state_dicts import StateDictAdapter
from audiotok.nn.sizes import Sizes
from audiotok.runtime.base import RunnableCodec
from audiotok.tokens.kinds import AnyTokens
from audiotok.tokens.tokenizer import TokensLike
from audiotok.tokens.tokenizer import WrongTokensError as WrongTokensError

if TYPE_CHECKING:
    from audiotok.audio.audio import Audio


class Codec(TensorCodec, RunnableCodec[Tensor]):
    """A codec: `encode` and `decode` one recording, `encode_batch` and `decode_batch` a list.

    For batches of tensors there are `encode_tensors` and `decode_tensors`, and with gradients
    `reconstruct_tensors` and `decode_latents`.

    A subclass sets the attributes below and those of `Network`.

    Attributes:
        name: the codec's id: its preset's name, or its file name.
        config_type: frozen dataclass of its sizes, whose defaults are the usual ones.
        config: its sizes, from which it can be built again.
        sample_rate: Hz.
        presets: published sizes by name; a codec of such sizes has that name.
        sources: where the weights of a preset are published.
        taxonomy: what kind of codec each of its names is.
        state_dict_adapters: how other programs name these weights.
        card: facts about the training, from the checkpoint that it was loaded from.
        own_weights: whether a new instance has its weights already, so that none are looked for.
        teacher_field: name of the size that is the width of a teacher's features, of a codec whose
            codebooks can be distilled from one; else "".
        shared_weights: name of the weights that all presets have in common; "" if each has its own.
        layouts: names of the layouts in which its codes can be had, if there are several
            (`set_layout`).
        search_paths: choices of codes kept for each frame in encoding (`set_search`).
        weights_folder: folder of the weights NAME.safetensors that ship with the class; None where
            there are none, or with audiotok's own.
    """

    name: str
    config_type: type[Any]
    config: Any = Sizes()
    sample_rate: int
    presets: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    sources: ClassVar[Mapping[str, PublishedWeights]] = MappingProxyType({})
    taxonomy: ClassVar[Mapping[str, Taxonomy]] = MappingProxyType({})
    state_dict_adapters: ClassVar[Sequence[StateDictAdapter]] = ()
    card: Mapping[str, Any] = MappingProxyType({})
    own_weights: ClassVar[bool] = False
    shared_weights: ClassVar[str] = ""
    teacher_field: ClassVar[str] = ""
    weights_folder: ClassVar[Path | None] = None
    layouts: ClassVar[Sequence[str]] = ()
    search_paths: int = 1

    # -- distillation from a teacher ----------------------------------------------------------

    @property
    def teacher_width(self) -> int:
        """Width of the teacher's features that codebooks are distilled from; 0 without a head."""
        headed = self.teacher_field and self.codebooks
        return getattr(self.config, self.teacher_field) if headed else 0

    def distilled(self, latent: Latent) -> Tensor:
        """Return a codebook's latents `[b d f]` in the teacher's space, `[b f teacher_width]`.

        Args:
            latent: `Quantized.first`, or any of `Quantized.stages` (DM-Codec).
        """
        raise NotImplementedError

    # -- audio to tokens and back -------------------------------------------------------------

    def encode(
        self,
        recording: Recording,
        rate: int | None = None,
        *,
        codebooks: int | None = None,
        split: bool = False,
    ) -> AnyTokens:
        """Encode one recording, resampled to the codec's rate.

        >>> tokens = codec.encode("in.wav")
        >>> tokens = codec.encode(samples, rate=48000)      # an array or tensor [t] or [c t]

        Args:
            recording: `Audio` or the path of a file, of any rate and length; or an array or tensor
                `[t]` or `[c t]` of floats with full scale 1, or of integers of 8, 16 or 32 bits. No
                samples at all give no frames.
            rate: sample rate of an array or tensor in Hz.
            codebooks: number of codebooks, from the first (all if None); fewer are coarser and
                cheaper.
            split: whether to code each channel by itself, instead of their mean (logged once).

        Returns:
            Its tokens: `Tokens`, or `Latents` of a codec of that `kind`.

        Raises:
            AudioFileError: the file cannot be read.
            TypeError: no recording.
            ValueError: samples without a rate, of another shape or type, NaN or infinite, or of the
                size of integers; more codebooks than there are; channels that cancel each other in
                their mean.
        """
        codebooks = self.quantizer.check(codebooks)
        audio = to_audio(recording, rate)
        at_rate = self._channels(audio, split).resample(self.sample_rate)
        waves = at_rate.samples.split(self.channels)
        codes = torch.cat(self._codes(waves, codebooks, group=1)).cpu().numpy()
        return self._tokens(codes, audio, len(at_rate), codebooks)

    def decode(
        self, tokens: TokensLike, *, samples: int | None = None, original_rate: bool = False
    ) -> Audio:
        """Decode one recording, to exactly as many samples as were encoded.

        Where `decoded_rate` is another than that of the tokens, they are as many at that rate.

        Args:
            tokens: tokens of this codec, of any number of its codebooks; or their codes `[k f]` as
                an array or tensor of integers.
            samples: number of samples that codes stand for; None for all that their frames hold.
                Tokens know it themselves.
            original_rate: whether to resample to the rate and length of the original recording.

        Raises:
            TypeError: neither tokens nor codes.
            ValueError: codes of another shape or type, or that their codebook does not have.
            WrongTokensError: another codec's, or other weights'.
            NoDecoderError: it has no decoder.
        """
        from audiotok.audio.audio import Audio

        self.check_decodes()
        tokens = self.to_tokens(tokens, samples=samples)
        audio = self.decode_batch([tokens], group=1)[0]
        if not original_rate:
            return audio
        audio = audio.resample(tokens.original_rate)
        short = tokens.original_samples - len(audio)
        return Audio(F.pad(audio.samples, (0, max(0, short))), audio.rate)[: len(audio) + short]

    def encode_batch(
        self,
        recordings: Sequence[Recording],
        rate: int | None = None,
        *,
        codebooks: int | None = None,
        group: int | None = None,
    ) -> list[AnyTokens]:
        """Encode a list of recordings; each gets the tokens that it gets alone.

        Args:
            recordings: recordings of any lengths and rates, each as `encode` takes it; channels are
                mixed down.
            rate: sample rate of arrays and tensors in Hz.
            codebooks: number of codebooks, from the first (all if None).
            group: recordings that run side by side. 1 on a CPU, where a recording alone fills
                the cores and the codes are the same to the bit; 16 on a GPU, where they are the
                same up to near-ties (two entries equally near but for rounding).
        """
        group = group or self._group()
        codebooks = self.quantizer.check(codebooks)
        if isinstance(recordings, str | os.PathLike):
            raise InputTypeError(f"{recordings}: one recording; encode_batch takes a list")
        audios = [to_audio(recording, rate) for recording in recordings]
        waves = [self._channels(a, split=False).resample(self.sample_rate).samples for a in audios]
        return [
            self._tokens(codes.cpu().numpy(), audio, wave.shape[1], codebooks)
            for codes, audio, wave in zip(
                self._codes(waves, codebooks, group), audios, waves, strict=True
            )
        ]

    def _tokens(self, codes: np.ndarray, audio: Audio, samples: int, codebooks: int) -> AnyTokens:
        """Return codes as the tokens of a recording."""
        return self.tokens_of(
            codes,
            codebooks=codebooks,
            samples=samples,
            original_rate=audio.rate,
            original_samples=len(audio),
        )

    def decode_batch(self, batch: Sequence[TokensLike], *, group: int | None = None) -> list[Audio]:
        """Decode a list of recordings; each gets the samples that it gets alone.

        Args:
            batch: tokens of this codec or codes, each as `decode` takes it.
            group: recordings that run side by side, as in `encode_batch`.

        Raises:
            WrongTokensError: another codec's, or other weights'.
            NoDecoderError: it has no decoder.
        """
        from audiotok.audio.audio import Audio

        self.check_decodes()
        group = group or self._group()
        batch = [self.to_tokens(tokens) for tokens in batch]
        audios: list[Audio | None] = [None] * len(batch)
        # Channels of all recordings with the same number of codebooks run side by side.
        kinds: dict[int, list[tuple[int, int]]] = {}
        for i, tokens in enumerate(batch):
            each = kinds.setdefault(tokens.header.stream_rows, [])
            each.extend((i, j) for j in range(tokens.streams))
        for members in kinds.values():
            rows = [torch.from_numpy(batch[i].channel(j).numbers.copy()) for i, j in members]
            waves = self._waves(rows, group)
            for i, run in groupby(zip(members, waves, strict=True), key=lambda pair: pair[0][0]):
                wave = torch.cat([wave for _, wave in run])
                length = self.decoded_samples(batch[i].samples)
                audios[i] = Audio(wave[:, :length], self.decoded_rate)
        return [audio for audio in audios if audio is not None]

    def _channels(self, audio: Audio, split: bool) -> Audio:
        """Return a recording with the channels that the codec takes, mixed down or as they are."""
        if len(audio):
            check_level(*map(float, audio.samples.aminmax()))
        streams = self.streams(audio.channels, split=split)
        return audio if streams * self.channels == audio.channels else audio.mono()

    def set_layout(self, layout: str) -> None:
        """Choose the layout of the codes, for a codec whose weights have several.

        Args:
            layout: one of `layouts`.

        Raises:
            ValueError: there is no such layout, or but one.
        """
        known = f"its layouts are {', '.join(self.layouts)}" if self.layouts else "it has but one"
        raise InputError(f"layout {layout!r} of codec {self.name!r}: {known}")

    def set_search(self, paths: int) -> None:
        """Let encoding search for codes that leave a smaller residual (`nn.beam_search`).

        Semantic codebooks keep the codes that they have; tokens decode as others do. The codes of a
        prefix of the codebooks are searched for when that many are encoded.

        Args:
            paths: choices of codes that are kept for each frame; 1 for the nearest entries in turn.

        Raises:
            ValueError: no number of paths, or the codec has no residual codebooks.
        """
        if paths < 1:
            raise InputError(f"search {paths}: at least one path")
        if not self.quantizer.set_search(paths, self.semantic_codebooks) and paths > 1:
            raise InputError(f"codec {self.name!r} has no residual codebooks to search: search=1")
        self.search_paths = paths

    # -- properties ---------------------------------------------------------------------------

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of entries in each codebook."""
        return self.quantizer.sizes

    @property
    def decoded_frame_size(self) -> int:
        """See `Network.decoded_frame_size`."""
        return self.frame_size * self.decoded_rate // self.sample_rate

    @property
    def width(self) -> int:
        """See `Tokenizer.width`."""
        return self.quantizer.latent_width

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
    def parameters_trained(self) -> int:
        """Number of values that are learnt by gradient, as authors count them.

        Length and direction of a normalised weight count apart; entries that codebooks keep as
        moving averages do not count (`codebook_values`).
        """
        plain = (m for m in self.weight_normed() if not parametrize.is_parametrized(m, "weight"))
        lengths = sum(int(module.get_parameter("weight").shape[0]) for module in plain)
        return sum(p.numel() for p in self.parameters()) + lengths

    @property
    def codebook_values(self) -> int:
        """Number of values in the entries of all codebooks, however they are learnt."""
        named = [*self.named_parameters(), *self.named_buffers()]
        return sum(x.numel() for name, x in named if name.endswith(".entries"))

    @property
    def parameters_with_codebooks(self) -> int:
        """Number of `parameters_trained` and of the entries that do not count among them."""
        buffers = self.named_buffers()
        return self.parameters_trained + sum(
            entries.numel() for name, entries in buffers if name.endswith(".entries")
        )

    def own_state(self) -> dict[str, Tensor]:
        """Return the weights that a checkpoint holds: all but those of networks kept elsewhere."""
        return self.state_dict()

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

    def codebook_embeddings(self) -> list[Tensor]:
        """Return the embedding table `[entries d]` of each codebook, on the codec's device.

        The sum of the rows of a frame's codes is the latent that the codec decodes them to
        (`quantizer.decode`, `decode_latents`), also for the first codebooks alone. An entry of a
        codebook that spans several latents, or part of the features, is zero elsewhere.
        `quantizer.table(i)` returns one of them.

        Raises:
            NoTableError: codes do not decode to a sum (EnCodec 48 kHz), or a table is too large.
        """
        return [self.quantizer.table(i) for i in range(self.codebooks)]

    def tree(self) -> str:
        """Return the tree of all modules, as torch prints it."""
        return nn.Module.__repr__(self)

    def __repr__(self) -> str:
        size = f"{self.parameters_total / 1e6:.1f} M parameters"
        identity = "no weights" if self.device.type == "meta" else self.fingerprint
        decoder = "" if self.precision == "float32" else f", decoder in {self.precision}"
        return f"<{self.facts()}, {size}, {identity} on {self.device}{decoder}>"
