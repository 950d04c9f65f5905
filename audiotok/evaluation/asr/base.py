"""Interface of an ASR model (recognizer): the transcript of a recording."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from audiotok._platform.errors import InputError
from audiotok._platform.optional import MissingModelError
from audiotok._platform.registry import find
from audiotok.audio.audio import Audio
from audiotok.evaluation.cache import BoundedCache, fingerprint

USUAL = "faster_whisper"
REMEMBERED = 20_000  # transcripts: those of a few corpora and their decoded copies


class Recognizer:
    """ASR model, loaded when it is first used.

    Attributes:
        usual: name of the default model.
        model: a name the engine knows, or a local path.
        language: spoken language, as Whisper writes it: "en".
    """

    usual: str

    def __init__(self, model: str = "", *, language: str = "en") -> None:
        self.model = model or self.usual
        self.language = language
        self._cache = BoundedCache[str](REMEMBERED)

    @property
    def protocol(self) -> str:
        """Engine, model and settings, printed beside every number that depends on them."""
        raise NotImplementedError

    @property
    def name(self) -> str:
        """Name of the model, without its folder."""
        return Path(self.model).name if Path(self.model).expanduser().exists() else self.model

    def transcribe(self, audios: Sequence[Audio]) -> list[str]:
        """Return the transcript of each recording, of any rate and length, as the engine writes it.

        Raises:
            MissingModelError: the model is not here and cannot be downloaded; the message says what
                to do.
            ImportError: the engine is not installed; the message says how to install it.
        """
        raise NotImplementedError

    def transcripts(self, audios: Sequence[Audio]) -> list[str]:
        """Return transcripts as `transcribe` does, cached for recordings transcribed before.

        Raises:
            ValueError: a recording has no samples; otherwise as `transcribe`.
        """
        for audio in audios:
            if not len(audio):
                raise InputError("a recording without samples cannot be transcribed")
        keys = [fingerprint(audio.samples, audio.rate) for audio in audios]
        texts = {key: text for key in keys if (text := self._cache.get(key)) is not None}
        new = {key: audio for key, audio in zip(keys, audios, strict=True) if key not in texts}
        for key, text in zip(new, self.transcribe(list(new.values())) if new else (), strict=True):
            texts[key] = self._cache.put(key, text)
        return [texts[key] for key in keys]


@cache
def recognizer(spec: str = "", language: str = "en") -> Recognizer:
    """Return the recognizer that `ENGINE:MODEL` names, one for the whole process.

    Args:
        spec: "faster_whisper:/path/of/a/model"; without a model the engine's default one; "" is
            faster_whisper with its default model.
        language: spoken language.

    Raises:
        UnknownPartError: there is no such engine; the message lists those there are.
    """
    engine, _, model = spec.partition(":")
    return find("asr", engine or USUAL)(model, language=language)


def local(model: str) -> Path | None:
    """Return the local path that a model's name is, or None if the engine has to look the name up.

    Raises:
        MissingModelError: the name can only be a path, and nothing is there.
    """
    path = Path(model).expanduser()
    if path.exists():
        return path
    if model.startswith(("/", ".", "~")):
        raise MissingModelError(f"{model}: no such model; give the path of one, or its name")
    return None


def mono16(audio: Audio) -> Audio:
    """Return the mean of the channels at 16 kHz, the input of every engine here."""
    return audio.mono().resample(16000)


def one_line(error: BaseException) -> str:
    """Return the message of an error in one line, cut at 200 characters."""
    return " ".join(str(error).split())[:200] or type(error).__name__
