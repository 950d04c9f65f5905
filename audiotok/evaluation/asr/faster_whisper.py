"""Whisper (Radford et al. 2022, arXiv:2212.04356) by faster-whisper, which runs on CTranslate2."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from audiotok._platform.optional import MissingModelError, optional_import, version
from audiotok.audio.audio import Audio
from audiotok.evaluation.asr.base import Recognizer, local, mono16, one_line


class FasterWhisper(Recognizer):
    """Whisper with deterministic settings: the same text for the same recording.

    A model is the folder of a CTranslate2 model, or a name ("base", "large-v3", a repository of the
    hub). It computes in float32, since faster number formats give other words on other machines.
    """

    usual = "base"

    @property
    def protocol(self) -> str:
        """See `Recognizer`."""
        return (
            f"{version('faster-whisper')}, model {self.name}, language {self.language}, float32, "
            "beam 5, temperature 0 only, no VAD, not conditioned on previous text"
        )

    @cached_property
    def network(self) -> Any:
        """The loaded model."""
        library = optional_import("faster_whisper", "faster-whisper")
        path = local(self.model)
        try:
            return library.WhisperModel(
                str(path or self.model), device="auto", compute_type="float32"
            )
        except (
            Exception
        ) as error:  # from the engine, or from any library that downloads from the hub
            if path:
                raise MissingModelError(
                    f"{path}: not the folder of a CTranslate2 Whisper model: {one_line(error)}"
                ) from None
            raise MissingModelError(
                f"faster-whisper has no model {self.model!r} here and cannot fetch it "
                f"({one_line(error)}); give a folder: faster_whisper:/path/of/the/model"
            ) from None

    def transcribe(self, audios: Sequence[Audio]) -> list[str]:
        """See `Recognizer.transcribe`."""
        texts = []
        for audio in audios:
            segments, _ = self.network.transcribe(
                mono16(audio).samples[0].cpu().numpy(),
                language=self.language,
                beam_size=5,
                temperature=0,
                vad_filter=False,
                condition_on_previous_text=False,
            )
            texts.append("".join(segment.text for segment in segments).strip())
        return texts
