"""ASR models of Hugging Face's transformers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch

from audiotok._platform.optional import MissingModelError, optional_import, version
from audiotok.audio import _torchaudio
from audiotok.audio.audio import Audio
from audiotok.evaluation.asr.base import Recognizer, local, mono16, one_line


class Transformers(Recognizer):
    """CTC or sequence-to-sequence model, run by the package's own pipeline.

    A model is a folder that transformers wrote, or a repository of the hub. Code in a repository is
    not run. Whisper models transcribe recordings longer than 30 s window by window, and are given
    the language.
    """

    usual = "openai/whisper-base"

    @property
    def protocol(self) -> str:
        """See `Recognizer`."""
        return (
            f"{version('transformers')}, model {self.name}, float32, greedy CTC or beam "
            f"5 without sampling, language {self.language} where it can be told"
        )

    @cached_property
    def network(self) -> Any:
        """The loaded pipeline."""
        _torchaudio.load()  # transformers imports torchaudio
        library = optional_import("transformers")
        path = local(self.model)
        try:
            return library.pipeline(
                "automatic-speech-recognition",
                model=str(path or self.model),
                dtype=torch.float32,
                device="cuda" if torch.cuda.is_available() else "cpu",
                trust_remote_code=False,
            )
        except (
            Exception
        ) as error:  # from the package, or from any library that downloads from the hub
            if path:
                raise MissingModelError(
                    f"{path}: not a speech recognizer of transformers: {one_line(error)}"
                ) from None
            raise MissingModelError(
                f"transformers has no model {self.model!r} here and cannot fetch it "
                f"({one_line(error)}); give a folder: transformers:/path/of/the/model"
            ) from None

    def transcribe(self, audios: Sequence[Audio]) -> list[str]:
        """See `Recognizer.transcribe`; one recording at a time, since a batch would be padded."""
        options: dict[str, Any] = {}
        network = self.network.model
        if not self.network.type.startswith("ctc"):
            options["generate_kwargs"] = {"do_sample": False, "num_beams": 5}
        if network.config.model_type == "whisper":
            options["return_timestamps"] = True  # without it more than 30 s is refused
            if getattr(network.generation_config, "is_multilingual", True):
                options["generate_kwargs"] |= {"language": self.language, "task": "transcribe"}
        return [
            self.network(
                {"raw": mono16(audio).samples[0].cpu().numpy(), "sampling_rate": 16000}, **options
            )["text"].strip()
            for audio in audios
        ]
