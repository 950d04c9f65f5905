"""Decoding of audio tracks by the torchcodec package, where it is installed and loads."""

from __future__ import annotations

from audiotok._platform.errors import Error
from audiotok.audio.base import CHUNK, AudioFileError, Decoder


class DoesNotLoadError(Error):
    """Error of a torchcodec that is installed but does not load; the message is the reason."""


def open_torchcodec(path: str, name: str) -> Decoder | None:
    """Open the first audio track of a file; return None where torchcodec is not installed.

    The track is decoded whole: torchcodec 0.13 repeats samples where two ranges of a webm file
    meet.

    Args:
        path: the file to decode.
        name: the file, for messages.

    Raises:
        AudioFileError: torchcodec cannot read the file.
        DoesNotLoadError: torchcodec does not load.
    """
    try:
        from torchcodec.decoders import AudioDecoder  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError:
        return None
    except (
        ImportError,
        OSError,
        RuntimeError,
    ) as error:  # it is built for another torch, or ffmpeg is missing
        raise DoesNotLoadError(_root(error)) from None
    try:
        wave = AudioDecoder(path).get_all_samples()
    except (RuntimeError, ValueError):
        raise AudioFileError(
            f"{name}: neither libsndfile nor torchcodec can read it (damaged, or holds no sound)"
        ) from None
    samples = wave.data.numpy().T
    chunks = (samples[at : at + CHUNK] for at in range(0, len(samples), CHUNK))
    return Decoder(name, wave.sample_rate, samples.shape[1], len(samples), 0, chunks)


def _root(error: BaseException) -> str:
    """Return the first cause of an error in one line: torch's message hides the missing library."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    missing = [line for line in lines if "cannot open shared object" in line]
    words = (missing or lines or [type(error).__name__])[-1 if missing else 0]
    return words.removeprefix("OSError: ")[:200]
