"""WavLM's speaker embeddings: an x-vector head on its hidden states, by transformers."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from audiotok._platform.errors import InputError
from audiotok._platform.optional import MissingModelError, optional_import, version
from audiotok.audio.audio import Audio
from audiotok.evaluation.speaker.base import SpeakerEncoder, unit
from audiotok.nn.finite import NotFiniteError, check_finite


class Wavlm(SpeakerEncoder):
    """WavLM with an x-vector head: `microsoft/wavlm-base-plus-sv`, or another by name or folder.

    Source: Chen et al. 2022, arXiv:2110.13900. Its page takes two recordings for the same speaker's
    above a cosine of 0.86. It is not the fine-tuned WavLM-large with ECAPA-TDNN of speech synthesis
    papers, whose similarities are lower.
    """

    usual = "microsoft/wavlm-base-plus-sv"

    @property
    def protocol(self) -> str:
        """See `SpeakerEncoder`."""
        return f"{version('transformers')}, model {self.name}, x-vector, 16 kHz, mono mean"

    @cached_property
    def _network(self) -> tuple[Any, bool]:
        """The model, and whether its input is normalised to mean 0 and variance 1."""
        library = optional_import("transformers")
        path = Path(self.model).expanduser()
        model = str(path) if path.exists() else self.model
        if self.model.startswith(("/", ".", "~")) and not path.exists():
            raise MissingModelError(f"{self.model}: no such folder with a model")
        try:
            network, loading = library.WavLMForXVector.from_pretrained(
                model, output_loading_info=True
            )
            reader = library.AutoFeatureExtractor.from_pretrained(model, trust_remote_code=False)
        except (OSError, ValueError, RuntimeError) as error:
            why = " ".join(str(error).split())[:120]
            raise MissingModelError(
                f"{self.model} cannot be loaded ({why}): get it where there is a network, and give "
                "its folder as wavlm:FOLDER"
            ) from None
        missing = [key for key in loading["missing_keys"] if not key.startswith("objective")]
        if missing:
            raise MissingModelError(
                f"{self.model}: has no weights for {missing[0]} and {len(missing) - 1} more; "
                f"wanted is a model with an x-vector head, such as {self.usual}"
            )
        try:
            check_finite(dict(network.named_parameters()), self.model)
        except NotFiniteError as error:
            raise MissingModelError(str(error)) from None
        return network.eval(), bool(getattr(reader, "do_normalize", False))

    def embed(self, audio: Audio) -> Float[Tensor, " d"]:
        """See `SpeakerEncoder.embed`; 0.5 s is needed."""
        wave = audio.mono().resample(16000).samples
        if wave.shape[1] < 8000 or not wave.any():
            raise InputError("wavlm: the recording is silent or shorter than 0.5 s")
        network, normalize = self._network
        if normalize:  # transformers' Wav2Vec2FeatureExtractor
            wave = (wave - wave.mean()) / (wave.var(correction=0) + 1e-7).sqrt()
        with torch.no_grad():
            return unit(network(wave).embeddings)
