"""A codec as a model of transformers, for training scripts that call one.

>>> import audiotok.codecs.transformers                           # registers it with AutoModel
>>> model = audiotok.codecs.transformers.AudiotokModel.of("speech")  # any codec of audiotok
>>> model.save_pretrained("speech"); model = AutoModel.from_pretrained("speech")
>>> inputs = AutoFeatureExtractor.from_pretrained("speech")(wave, sampling_rate=16000)
>>> codes = model.encode(**inputs).audio_codes             # [b k f], as Mimi and EnCodec give them
>>> wave = model.decode(codes).audio_values                # [b c t]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from audiotok._platform.optional import optional_import
from audiotok.audio import _torchaudio
from audiotok.audio.audio import Audio
from audiotok.codecs.checkpoint import load, save
from audiotok.codecs.models.base import Codec
from audiotok.tokens.tokens import Tokens

_torchaudio.load()  # transformers imports torchaudio, which may not load by itself
transformers: Any = optional_import("transformers", extra="teachers")
WEIGHTS = "model.safetensors"


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
        **kwargs: Any,
    ) -> None:
        self.codec = codec
        self.fingerprint = fingerprint
        self.sampling_rate = sampling_rate
        self.audio_channels = audio_channels
        self.frame_size = frame_size
        self.codebook_sizes = list(codebook_sizes)
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
            OSError: it is no such folder.
            CheckpointError: its weights are damaged.
        """
        folder = Path(pretrained_model_name_or_path)
        if not (folder / WEIGHTS).is_file():
            raise OSError(f"{folder}: no {WEIGHTS} there; save_pretrained writes one")
        config = kwargs.get("config") or AudiotokConfig.from_pretrained(folder)
        return cls(config, load(folder / WEIGHTS)).eval()

    @torch.no_grad()
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
        lengths = [waves.shape[2]] * len(waves)
        if padding_mask is not None:
            lengths = padding_mask.reshape(len(waves), -1, waves.shape[2])[:, 0].sum(-1).tolist()
        audios = [
            Audio(wave[:, : int(n)].float().cpu(), self.config.sampling_rate)
            for wave, n in zip(waves, lengths, strict=True)
        ]
        encoded = self.codec.encode_batch(audios, codebooks=num_quantizers)
        longest = max((tokens.frames for tokens in encoded), default=0)
        rows = len(encoded[0].codes) if encoded else 0
        codes = torch.zeros(len(encoded), rows, longest, dtype=torch.long)
        mask = torch.zeros(len(encoded), longest, dtype=torch.bool)
        for i, tokens in enumerate(encoded):
            codes[i, :, : tokens.frames] = torch.from_numpy(tokens.codes.copy())
            mask[i, : tokens.frames] = True
        return Encoded(codes.to(waves.device), mask.to(waves.device))

    @torch.no_grad()
    def decode(self, audio_codes: Tensor, codes_mask: Tensor | None = None) -> Decoded:
        """Decode codes `[b k f]` to waves of `frame_size` samples a frame.

        Args:
            audio_codes: codes.
            codes_mask: bool `[b f]`, True where frames are real; they come first.
        """
        config, device = self.config, audio_codes.device
        frames = [audio_codes.shape[2]] * len(audio_codes)
        if codes_mask is not None:
            frames = codes_mask.sum(1).tolist()
        batch = [
            Tokens(
                codes=codes[:, :n].cpu().numpy(),
                size=tuple(config.codebook_sizes[: len(codes)]),
                codec=self.codec.name,
                fingerprint=self.codec.fingerprint,
                sample_rate=config.sampling_rate,
                frame_size=config.frame_size,
                samples=n * config.frame_size,
                original_rate=config.sampling_rate,
                original_samples=n * config.frame_size,
                channels=config.audio_channels,
            )
            for codes, n in zip(audio_codes, frames, strict=True)
        ]
        waves = [audio.samples for audio in self.codec.decode_batch(batch)]
        longest = max((wave.shape[1] for wave in waves), default=0)
        values = torch.zeros(len(waves), config.audio_channels, longest)
        for i, wave in enumerate(waves):
            values[i, :, : wave.shape[1]] = wave
        return Decoded(values.to(device))

    def forward(
        self,
        input_values: Tensor,
        padding_mask: Tensor | None = None,
        num_quantizers: int | None = None,
    ) -> RoundTrip:
        """Encode and decode waves, which come back at the length of the input.

        Args:
            input_values: samples `[b c t]` or `[b t]` at the codec's rate.
            padding_mask: `[b t]`, 1 where samples are real; they come first.
            num_quantizers: number of codebooks, from the first; all if None.
        """
        encoded = self.encode(input_values, padding_mask, num_quantizers)
        decoded = self.decode(encoded.audio_codes, encoded.codes_mask)
        values = decoded.audio_values[..., : input_values.shape[-1]]
        return RoundTrip(encoded.audio_codes, values)


class AudiotokFeatureExtractor(transformers.EncodecFeatureExtractor):
    """EnCodec's feature extractor: waves to `input_values` `[b c t]` and `padding_mask` `[b t]`."""


transformers.AutoConfig.register("audiotok", AudiotokConfig, exist_ok=True)
transformers.AutoModel.register(AudiotokConfig, AudiotokModel, exist_ok=True)
transformers.AutoFeatureExtractor.register(AudiotokConfig, AudiotokFeatureExtractor, exist_ok=True)
