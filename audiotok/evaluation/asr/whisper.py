"""Whisper (Radford et al. 2022, arXiv:2212.04356) by OpenAI's own package, openai-whisper."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from audiotok._platform.optional import MissingModelError, optional_import, version
from audiotok.audio.audio import Audio
from audiotok.evaluation.asr.base import Recognizer, local, mono16, one_line


class Whisper(Recognizer):
    """Whisper as its authors run it, with deterministic settings.

    A model is a .pt file, or a name ("base", "medium.en"); the package verifies the SHA-256 of a
    model downloaded by name. Files are read with `weights_only`, so that no code in them is run.
    """

    usual = "base"

    @property
    def protocol(self) -> str:
        """See `Recognizer`."""
        return (
            f"{version('openai-whisper')}, model {self.name}, language {self.language}, float32, "
            "beam 5, temperature 0 only, not conditioned on previous text"
        )

    @cached_property
    def network(self) -> Any:
        """The loaded model."""
        library = optional_import("whisper", "openai-whisper")
        path = local(self.model)
        if path is None and self.model not in library.available_models():
            raise MissingModelError(
                f"openai-whisper has no model {self.model!r}: give the path of a .pt file, or one "
                f"of {', '.join(library.available_models())}"
            )
        try:
            return library.load_model(str(path or self.model))
        except (
            Exception
        ) as error:  # a damaged file or a failed download can raise any kind of error
            if path:
                raise MissingModelError(
                    f"{path}: not a Whisper checkpoint of OpenAI: {one_line(error)}"
                ) from None
            raise MissingModelError(
                f"openai-whisper cannot fetch {self.model!r} ({one_line(error)}); download its .pt "
                "file elsewhere and give its path: whisper:/path/of/the/model.pt"
            ) from None

    def transcribe(self, audios: Sequence[Audio]) -> list[str]:
        """See `Recognizer.transcribe`."""
        return [
            self.network.transcribe(
                mono16(audio).samples[0].cpu().numpy(),
                language=self.language,
                beam_size=5,
                temperature=0.0,
                condition_on_previous_text=False,
                fp16=False,
            )["text"].strip()
            for audio in audios
        ]
