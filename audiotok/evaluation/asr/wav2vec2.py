"""wav2vec 2.0 and HuBERT with a CTC head, from torchaudio's pipelines, with greedy decoding."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from audiotok._platform.optional import MissingModelError, version
from audiotok.audio import _torchaudio
from audiotok.audio.audio import Audio
from audiotok.evaluation.asr.base import Recognizer, mono16, one_line


class Wav2vec2(Recognizer):
    """Pipeline of torchaudio that was fine-tuned for recognition (Baevski et al. 2020).

    A model is the pipeline's name; its weights are read with `weights_only`, from torch.hub's cache
    or from pytorch.org. Transcripts are in capitals, without punctuation.
    """

    usual = "WAV2VEC2_ASR_BASE_960H"

    @property
    def protocol(self) -> str:
        """See `Recognizer`."""
        return f"{version('torchaudio')} pipeline {self.model}, greedy CTC, no language model"

    @cached_property
    def pipeline(self) -> Any:
        """The description of the model by torchaudio."""
        pipelines = _torchaudio.load().pipelines
        known = [name for name in dir(pipelines) if "_ASR_" in name and name.isupper()]
        if self.model not in known:
            raise MissingModelError(
                f"torchaudio has no recognizer {self.model!r}, only {', '.join(known)}"
            )
        return getattr(pipelines, self.model)

    @cached_property
    def network(self) -> torch.nn.Module:
        """The loaded model."""
        try:
            network = self.pipeline.get_model(dl_kwargs={"weights_only": True})
        except Exception as error:  # no connection, a damaged file, or other weights
            folder = Path(torch.hub.get_dir()) / "checkpoints"
            raise MissingModelError(
                f"{self.model} cannot be had from pytorch.org ({one_line(error)}); put its file "
                f"{self.pipeline._path} into {folder}"
            ) from None
        return network.to("cuda" if torch.cuda.is_available() else "cpu")

    @torch.inference_mode()
    def transcribe(self, audios: Sequence[Audio]) -> list[str]:
        """See `Recognizer.transcribe`."""
        network, labels, texts = self.network, self.pipeline.get_labels(), []
        device = next(network.parameters()).device
        for audio in audios:
            wave = mono16(audio).samples
            # The convolutions need 400 samples for one frame.
            wave = torch.nn.functional.pad(wave, (0, max(0, 400 - wave.shape[1])))
            texts.append(greedy(network(wave.to(device))[0][0].argmax(1).cpu(), labels))
        return texts


def greedy(best: Int[Tensor, " f"], labels: tuple[str, ...]) -> str:
    """Return the text of the best label of each frame (Graves et al. 2006).

    Repeated labels count once, label 0 is the blank, and "|" separates words.

    Args:
        best: index of the best label in each frame `[f]`.
        labels: character of each label.
    """
    collapsed = torch.unique_consecutive(best)
    return "".join(labels[i] for i in collapsed.tolist() if i).replace("|", " ").strip()
