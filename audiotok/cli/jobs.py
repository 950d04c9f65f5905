"""What is done to each file of a batch: encoding it, or decoding it by the codec that it names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from audiotok._platform.registry import presets
from audiotok.codecs.load import load_by
from audiotok.runtime.batch.workers import Job
from audiotok.runtime.files import decode_file, encode_file
from audiotok.tokens import TokenReader

if TYPE_CHECKING:
    from audiotok.codecs.models.base import Codec
    from audiotok.runtime.exported import Exported


def encoder(codec: str, device: str, backend: str | None = None, **options: Any) -> Job:
    """The job of encoding a file; options as for `encode_file`."""
    model = load_by(codec, device, backend)
    return lambda source, target: encode_file(model, source, target, **options).row()


def decoder(codec: str | None, device: str, backend: str | None = None, **options: Any) -> Job:
    """The job of decoding a file, by the codec it names if None; options as for `decode_file`."""

    def decode(source: Path, target: Path) -> dict[str, Any]:
        return decode_file(
            codec_for(source, codec, device, backend), source, target, **options
        ).row()

    return decode


def codec_for(
    tokens: Path, codec: str | None, device: str, backend: str | None = None
) -> Codec | Exported:
    """Return the codec that decodes a .tok file, loaded once a process.

    Args:
        tokens: the file.
        codec: a name or a checkpoint; None for the codec that the file names.
        device, backend: as for `load_by`.

    Raises:
        ValueError: as `load_by`, or a codec that is not here.
    """
    if codec is None:
        with TokenReader(tokens) as reader:
            codec = reader.header.codec
        if not _known(codec):
            raise ValueError(
                f"{tokens}: tokens of codec {codec!r}, which is not here (`audiotok codecs` lists "
                "those that are); give its checkpoint, or its exported folder, with --codec"
            )
    return load_by(codec, device, backend)


def _known(name: str) -> bool:
    """Whether there is a codec of this name; without torch none can be looked up."""
    try:
        return name in presets("codecs")
    except ImportError:
        return False
