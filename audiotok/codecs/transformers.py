"""A codec as a model of transformers, for training scripts that call one.

>>> from transformers import AutoFeatureExtractor, AutoModel
>>> from audiotok.codecs.transformers import AudiotokModel      # registers it with AutoModel
>>> AudiotokModel.of("speech").save_pretrained("my_speech")     # any codec of audiotok
>>> model = AutoModel.from_pretrained("my_speech")
>>> extractor = AutoFeatureExtractor.from_pretrained("my_speech")
>>> inputs = extractor(wave, sampling_rate=16000, return_tensors="pt")
>>> codes = model.encode(**inputs).audio_codes       # [b k f], as Mimi and EnCodec give them
>>> decoded = model.decode(codes).audio_values       # [b c t]

`audiotok.load("my_speech")` opens the folder too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from audiotok._platform.errors import Error, InputError
from audiotok._platform.optional import optional_import
from audiotok.audio import _torchaudio
from audiotok.codecs.checkpoint import load, save
from audiotok.codecs.models.base import Codec

_torchaudio.load()  # transformers imports torchaudio, which may not load by itself
transformers: Any = optional_import("transformers", extra="teachers")
WEIGHTS = "model.safetensors"


class MissingWeightsError(Error, OSError):
    """Error of a folder without the weights of a model, as transformers raises it."""


@dataclass
class Encoded(transformers.utils.ModelOutput):
    """The output of `AudiotokModel.encode`.

    Attributes:
        audio_codes: `[b k f]`; 0 after the end of a recording.
        codes_mask: bool `[b f]`, True where frames are real.
    """

    audio_codes: Any = None
    codes_mask: Any = None


@dataclass
class Decoded(transformers.utils.ModelOutput):
    """The output of `AudiotokModel.decode`.

    Attributes:
        audio_values: `[b c t]`; 0 after the end of a recording.
    """

    audio_values: Any = None


@dataclass
class RoundTrip(transformers.utils.ModelOutput):
    """The output of `AudiotokModel.forward`: codes and decoded audio.

    Attributes:
        audio_codes: `[b k f]`; 0 after the end of a recording.
        audio_values: `[b c t]`; 0 after the end of a recording.
    """

    audio_codes: Any = None
    audio_values: Any = None


class AudiotokConfig(transformers.PretrainedConfig):
    """The properties of a codec; its config is stored with its weights."""

    model_type = "audiotok"

    def __init__(
        self,
        codec: str = "speech",
        fingerprint: str = "",
        sampling_rate: int = 16000,
        audio_channels: int = 1,
        frame_size: int = 320,
        codebook_sizes: Sequence[int] = (),
        decoded_sampling_rate: int | None = None,
        **kwargs: Any,
    ) -> None:
        self.codec = codec
        self.fingerprint = fingerprint
        self.sampling_rate = sampling_rate
        self.audio_channels = audio_channels
        self.frame_size = frame_size
        self.codebook_sizes = list(codebook_sizes)
        self.decoded_sampling_rate = decoded_sampling_rate or sampling_rate
        super().__init__(**kwargs)

    @property
    def num_quantizers(self) -> int:
        """Number of codebooks."""
        return len(self.codebook_sizes)

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.sampling_rate / self.frame_size


class AudiotokModel(transformers.PreTrainedModel):
    """A codec as a model: audio to codes and back, each recording of a batch as it is alone.

    Args:
        config: properties of the codec.
        codec: the codec; if None, the one with the shipped weights of `config.codec`.
    """

    config_class = AudiotokConfig
    base_model_prefix = "audiotok"
    main_input_name = "input_values"

    def __init__(self, config: Any, codec: Codec | None = None) -> None:
        super().__init__(config)
        self.codec = load(config.codec) if codec is None else codec

    @classmethod
    def of(cls, name_or_path: str | Path) -> AudiotokModel:
        """Return a model of any codec that `audiotok.load` knows, by name or path."""
        codec = load(name_or_path)
        config = AudiotokConfig(
            codec=codec.name,
            fingerprint=codec.fingerprint,
            sampling_rate=codec.sample_rate,
            audio_channels=codec.channels,
            frame_size=codec.frame_size,
            codebook_sizes=codec.sizes,
            decoded_sampling_rate=codec.decoded_rate,
        )
        return cls(config, codec).eval()

    def save_pretrained(self, save_directory: str | Path, **_: Any) -> None:
        """Write config, weights (an audiotok checkpoint) and a feature extractor to a folder.

        Args:
            save_directory: the folder.
            _: options of transformers, which are ignored.
        """
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        save(self.codec, folder / WEIGHTS, dtype=torch.float32)
        self.config.save_pretrained(folder)
        extractor = AudiotokFeatureExtractor(
            feature_size=self.config.audio_channels, sampling_rate=self.config.sampling_rate
        )
        extractor.save_pretrained(folder)

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | Path, *_: Any, **kwargs: Any
    ) -> AudiotokModel:
        """Read a folder that `save_pretrained` wrote, without downloads and without running code.

        Args:
            pretrained_model_name_or_path: the folder.
            _: arguments of transformers, which are ignored.
            kwargs: `config` to take in place of the folder's; others are ignored.

        Raises:
            MissingWeightsError: it is no such folder.
            CheckpointError: its weights are damaged.
        """
        folder = Path(pretrained_model_name_or_path)
        if not (folder / WEIGHTS).is_file():
            raise MissingWeightsError(f"{folder}: no {WEIGHTS} there; save_pretrained writes one")
        config = kwargs.get("config") or AudiotokConfig.from_pretrained(folder)
        return cls(config, load(folder / WEIGHTS)).eval()

    def encode(
        self,
        input_values: Tensor,
        padding_mask: Tensor | None = None,
        num_quantizers: int | None = None,
    ) -> Encoded:
        """Encode waves `[b c t]` or `[b t]` at the codec's rate.

        Args:
            input_values: samples.
            padding_mask: `[b t]`, 1 where samples are real; they come first.
            num_quantizers: number of codebooks, from the first; all if None.
        """
        waves = input_values[:, None] if input_values.ndim == 2 else input_values
        lengths = None
        if padding_mask is not None:
            real = padding_mask.reshape(len(waves), -1, waves.shape[2])[:, 0].bool()
            lengths = _lengths(real, "padding_mask")
        codec = self.codec
        encoded = codec.encode_tensors(waves.to(codec.device), lengths, codebooks=num_quantizers)
        return Encoded(encoded.codes.to(waves.device), encoded.mask.to(waves.device))

    def decode(self, audio_codes: Tensor, codes_mask: Tensor | None = None) -> Decoded:
        """Decode codes `[b k f]` to waves, each frame to all its samples.

        Args:
            audio_codes: codes.
            codes_mask: bool `[b f]`, True where frames are real; they come first.
        """
        lengths = None if codes_mask is None else _lengths(codes_mask.bool(), "codes_mask")
        decoded = self.codec.decode_tensors(audio_codes.to(self.codec.device), lengths)
        return Decoded(decoded.waves.to(audio_codes.device))

    def forward(
        self,
        input_values: Tensor,
        padding_mask: Tensor | None = None,
        num_quantizers: int | None = None,
    ) -> RoundTrip:
        """Encode and decode waves, which come back at the length of the input.

        Those of a codec that decodes to another rate come back at `config.decoded_sampling_rate`.

        Args:
            input_values: samples `[b c t]` or `[b t]` at the codec's rate.
            padding_mask: `[b t]`, 1 where samples are real; they come first.
            num_quantizers: number of codebooks, from the first; all if None.
        """
        encoded = self.encode(input_values, padding_mask, num_quantizers)
        decoded = self.decode(encoded.audio_codes, encoded.codes_mask)
        values = decoded.audio_values[..., : self.codec.decoded_samples(input_values.shape[-1])]
        return RoundTrip(encoded.audio_codes, values)


def _lengths(real: Tensor, name: str) -> Tensor:
    """Return the lengths `[b]` in a mask `[b n]`.

    Raises:
        ValueError: padding comes before what is real.
    """
    if (real[:, 1:] & ~real[:, :-1]).any():
        raise InputError(f"{name} has padding before what is real: pad on the right")
    return real.sum(1)


class AudiotokFeatureExtractor(transformers.EncodecFeatureExtractor):
    """EnCodec's feature extractor: waves to `input_values` `[b c t]` and `padding_mask` `[b t]`."""


transformers.AutoConfig.register("audiotok", AudiotokConfig, exist_ok=True)
transformers.AutoModel.register(AudiotokConfig, AudiotokModel, exist_ok=True)
transformers.AutoFeatureExtractor.register(AudiotokConfig, AudiotokFeatureExtractor, exist_ok=True)
