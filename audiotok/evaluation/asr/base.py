"""What every recognizer promises: the words of a recording."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from audiotok._platform.cache import Memory, fingerprint
from audiotok._platform.optional import MissingModelError
from audiotok._platform.registry import find
from audiotok.audio.audio import Audio

USUAL = "faster_whisper"
REMEMBERED = 20_000  # transcripts: those of a few corpora and their decoded copies


class Recognizer:
    """Speech to text; its model is loaded when it is first used.

    Attributes:
        usual: its model where none is asked for.
        model: a name the engine knows, or a local path.
        language: that is spoken, as Whisper writes it: "en".
    """

    usual: str

    def __init__(self, model: str = "", *, language: str = "en") -> None:
        self.model, self.language = model or self.usual, language
        self._heard = Memory[str](REMEMBERED)

    @property
    def protocol(self) -> str:
        """Engine, model and settings, printed beside every number made with it."""
        raise NotImplementedError

    @property
    def name(self) -> str:
        """The model's, without where it lies."""
        return Path(self.model).name if Path(self.model).expanduser().exists() else self.model

    def transcribe(self, audios: Sequence[Audio]) -> list[str]:
        """What is said in each recording, of any rate and length, as the engine writes it.

        Raises:
            MissingModelError: no such model here and it cannot be fetched; says what to do.
            ImportError: the engine is not installed; says how to.
        """
        raise NotImplementedError

    def transcripts(self, audios: Sequence[Audio]) -> list[str]:
        """As `transcribe`, but a recording that was heard lately is not heard again.

        Raises:
            ValueError: a recording without samples; otherwise as `transcribe`.
        """
        for audio in audios:
            if not len(audio):
                raise ValueError("a recording without samples cannot be transcribed")
        keys = [fingerprint(audio.samples, audio.rate) for audio in audios]
        found = {key: text for key in keys if (text := self._heard.get(key)) is not None}
        new = {key: audio for key, audio in zip(keys, audios, strict=True) if key not in found}
        for key, text in zip(new, self.transcribe(list(new.values())) if new else (), strict=True):
            found[key] = self._heard.put(key, text)
        return [found[key] for key in keys]


@cache
def recognizer(spec: str = "", language: str = "en") -> Recognizer:
    """The recognizer that `ENGINE:MODEL` names, one for the whole process.

    Args:
        spec: "faster_whisper:/path/of/a/model"; without a model the engine's usual one; "" is
            faster_whisper with its usual one.
        language: that is spoken.

    Raises:
        UnknownPartError: no such engine; the message lists those there are.
    """
    engine, _, model = spec.partition(":")
    return find("recognizers", engine or USUAL)(model, language=language)


def local(model: str) -> Path | None:
    """The path that a model's name is, or None if it is a name for the engine to look up.

    Raises:
        MissingModelError: it can only be a path, and there is nothing.
    """
    path = Path(model).expanduser()
    if path.exists():
        return path
    if model.startswith(("/", ".", "~")):
        raise MissingModelError(f"{model}: no such model; give the path of one, or its name")
    return None


def mono16(audio: Audio) -> Audio:
    """The mean of the channels at 16 kHz, which every engine here hears."""
    return audio.mono().resample(16000)


def one_line(error: BaseException) -> str:
    """Its message, however many lines a library gave it."""
    return " ".join(str(error).split())[:200] or type(error).__name__
