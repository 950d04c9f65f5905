"""Facts about files, from their headers: neither a codec nor torch is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def describe_tokens(path: str | Path) -> dict[str, Any]:
    """Return header, length and bit rates of a .tok file, as JSON.

    Raises:
        TokenFileError: the file cannot be read.
    """
    from audiotok.tokens import TokenReader

    path = Path(path)
    with TokenReader(path) as reader:
        header, seconds = reader.header, reader.samples / reader.header.sample_rate
        size = path.stat().st_size
        return {
            "file": str(path),
            "kind": header.kind,
            **header.to_json(),
            "frames": reader.frames,
            "samples": reader.samples,
            "original_samples": reader.original_samples,
            "seconds": seconds,
            "nominal_kbps": round(header.kbps, 4),
            "bytes": size,
            "file_kbps": round(size * 8 / 1000 / seconds, 4) if seconds else None,
        }


def describe_audio(path: str | Path) -> dict[str, Any]:
    """Return the header of an audio file as JSON, with None for what it lacks.

    Raises:
        AudioFileError: the file cannot be read.
    """
    from audiotok.audio.reader import open_audio

    with open_audio(path) as audio:
        samples = audio.samples
        seconds = None if samples is None else samples / audio.rate
        facts = {"rate": audio.rate, "channels": audio.channels}
        return {"file": audio.name, **facts, "samples": samples, "seconds": seconds}
