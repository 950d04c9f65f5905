"""Latents: the features of one recording that a codec quantizes, kept instead of its codes.

    wave -> encoder -> latents [d f] -> quantizer -> codes [k f]

Those of k-means units are the vectors of Vec-Tok (Zhu et al. 2023, arXiv:2310.07246).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes

from audiotok._platform import jsonfile
from audiotok._platform.atomic import atomic_file
from audiotok._platform.errors import Error, InputError
from audiotok.audio.coerce import Recording, to_audio
from audiotok.audio.levels import check_level
from audiotok.codecs.models.base import Codec, WrongTokensError
from audiotok.runtime.latent_executor import LatentExecutor
from audiotok.runtime.sessions import encode_together
from audiotok.tokens.tokens import Tokens

FORMAT = "audiotok latents 1"


class LatentsError(Error, ValueError):
    """Error of a file that holds no latents, or of latents that are of another codec."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Latents:
    """Latents `[d f]` of one recording, with what is needed to quantize them.

    Attributes:
        values: float32 `[d f]`.
        codec: name of the codec.
        fingerprint: fingerprint of its weights.
        sample_rate: its rate in Hz.
        frame_size: samples per frame at that rate.
        samples: length of the recording at that rate.
        original_rate: rate of the recording in Hz.
        original_samples: length of the recording at its own rate.
    """

    values: np.ndarray
    codec: str
    fingerprint: str
    sample_rate: int
    frame_size: int
    samples: int
    original_rate: int
    original_samples: int

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.dtype != np.float32:
            kind = f"{self.values.dtype} {list(self.values.shape)}"
            raise InputError(f"latents are float32 [d f], not {kind}")
        if self.values.shape[1] != -(-self.samples // self.frame_size):
            raise InputError(f"{self.values.shape[1]} frames of latents for {self.samples} samples")
        if not np.isfinite(self.values).all():
            raise InputError("latents that are NaN or infinite")

    @property
    def frames(self) -> int:
        """Number of frames."""
        return self.values.shape[1]

    def save(self, path: str | Path) -> None:
        """Write the latents to a .safetensors file, completely or not at all."""
        facts = asdict(self)
        facts.pop("values")
        metadata = {"format": FORMAT, "facts": json.dumps(facts)}
        with atomic_file(Path(path)) as part:
            part.write_bytes(to_bytes({"latents": np.ascontiguousarray(self.values)}, metadata))

    @classmethod
    def load(cls, path: str | Path) -> Latents:
        """Read latents that `save` wrote.

        Raises:
            LatentsError: no such file, or a damaged one, or one of another kind.
        """
        try:
            with safe_open(path, "np") as file:
                metadata = file.metadata() or {}
                values = file.get_tensor("latents") if metadata.get("format") == FORMAT else None
            if values is None:
                raise LatentsError(f"{path}: no latents: `Latents.save` writes them")
            facts: dict[str, Any] = jsonfile.parse(metadata["facts"], f"{path}: facts")
            known = {field.name for field in fields(cls)} - {"values"}
            if not isinstance(facts, dict) or set(facts) != known:
                raise LatentsError(f"{path}: latents of another version")
            return cls(values=values, **facts)
        except FileNotFoundError:
            raise LatentsError(f"{path}: no such file of latents") from None
        except (SafetensorError, OSError, KeyError, TypeError, InputError) as error:
            raise LatentsError(f"{path}: damaged latents ({error})") from None


def latents_of(codec: Codec, recording: Recording, rate: int | None = None) -> Latents:
    """Return the latents of one recording, which `quantize` turns into its codes to the bit.

    They are computed in the blocks of `codec.encode`, so they are equal however many recordings
    follow each other.

    Args:
        codec: any codec of one audio channel; for k-means units without the means of recordings,
            `Kmeans.uncentred` gives the vectors of Vec-Tok.
        recording: as for `Codec.encode`; channels are mixed down.
        rate: sample rate of an array or tensor in Hz.

    Raises:
        AudioFileError: the file cannot be read.
        ValueError: samples that `Codec.encode` refuses.
    """
    audio = to_audio(recording, rate)
    if len(audio):
        check_level(*map(float, audio.samples.aminmax()))
    at_rate = (audio.mono() if codec.channels == 1 else audio).resample(codec.sample_rate)
    if at_rate.channels != codec.channels:
        raise InputError(f"{at_rate.channels} channels: {codec.name} takes {codec.channels}")
    executor = LatentExecutor(codec, codec.device)
    wave = at_rate.samples.to(codec.device)
    values = encode_together(executor, [wave], codec.codebooks)[0]
    return Latents(
        values=values.float().cpu().numpy(),
        codec=codec.name,
        fingerprint=codec.fingerprint,
        sample_rate=codec.sample_rate,
        frame_size=codec.frame_size,
        samples=len(at_rate),
        original_rate=audio.rate,
        original_samples=len(audio),
    )


@torch.no_grad()
def quantize(codec: Codec, latents: Latents) -> Tokens:
    """Return the tokens of latents.

    Args:
        codec: the codec that the latents are of.
        latents: latents of `latents_of`.

    Raises:
        WrongTokensError: they are of another codec, or of other weights.
    """
    if latents.codec != codec.name or not codec.has_codes_of(latents.fingerprint):
        raise WrongTokensError(
            f"latents of {latents.codec!r} {latents.fingerprint}, where the codec is "
            f"{codec.name!r} {codec.fingerprint}"
        )
    values = torch.from_numpy(latents.values)[None].to(codec.device)
    codes = codec.quantizer.encode(values)[0].cpu().numpy()
    return codec.tokens_of(
        codes,
        codebooks=codec.codebooks,
        samples=latents.samples,
        original_rate=latents.original_rate,
        original_samples=latents.original_samples,
    )
