"""Jobs of a batch: encoding a file, or decoding a file by the codec that it names."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audiotok._platform.errors import InputError
from audiotok._platform.registry import has_preset
from audiotok.codecs.catalogue import shipped_codec
from audiotok.codecs.load import load_decoder, load_in_backend
from audiotok.runtime.batch.workers import Job
from audiotok.runtime.exported import is_exported
from audiotok.runtime.files import decode_file, encode_file
from audiotok.tokens import TokenReader

if TYPE_CHECKING:
    from audiotok.runtime.backends.base import Precision
    from audiotok.runtime.base import RunnableCodec
    from audiotok.tokens.tokenizer import Tokenizer


def encoder(
    codec: str, device: str, backend: str | None = None, search: int | None = None, **options: Any
) -> Job:
    """Return the job of encoding a file.

    Args:
        codec: a name, a checkpoint or an exported folder.
        device: as for `load_in_backend`.
        backend: as for `load_in_backend`.
        search: as for `load_in_backend`.
        options: as for `encode_file`.
    """
    model = load_in_backend(codec, device, backend, search=search)
    return lambda source, target: encode_file(model, source, target, **options).row()


def tokenizer(
    codec: str,
    device: str,
    backend: str | None,
    jobs: int,
    precision: Precision = "float32",
    search: int | None = None,
) -> Tokenizer:
    """Return a codec that is loaded only as far as files are checked for it, or needed here.

    Where workers code, this process can do without torch if the codec ships. Another one it loads,
    so that only one process downloads or exports it.

    Args:
        codec: a name, a checkpoint or an exported folder.
        device: as for `load_in_backend`.
        backend: as for `load_in_backend`.
        jobs: number of processes that code; 1 for this one.
        precision: as for `load`.
        search: as for `load_in_backend`.
    """
    if jobs == 1:
        return load_in_backend(codec, device, backend, precision, search=search)
    light = None if is_exported(codec) else shipped_codec(codec)
    return light or load_in_backend(codec, "cpu", backend, precision, search=search)


def decoder(
    codec: str | None,
    device: str,
    backend: str | None = None,
    precision: Precision = "float32",
    *,
    decoder: str | None = None,
    seed: int = 0,
    prompt: Path | None = None,
    given: tuple[tuple[str, Any], ...] = (),
    **options: Any,
) -> Job:
    """Return the job of decoding a file.

    Args:
        codec: a name, a checkpoint or an exported folder; None for the codec that the file names.
        device: as for `load_in_backend`.
        backend: as for `load_in_backend`.
        precision: as for `load`.
        decoder: name or checkpoint of a decoder apart from the codec; None for the codec's own.
        seed: seed of such a decoder.
        prompt: recording that gives such a decoder a voice.
        given: names and values of its other conditions.
        options: as for `decode_file`.
    """

    def decode(source: Path, target: Path) -> dict[str, Any]:
        apart: dict[str, Any] = {"decoder": decoder, "seed": seed, "prompt": prompt, "given": given}
        model = codec_for(source, codec, device, backend, precision, **apart)
        row = decode_file(model, source, target, **options).row()
        return {**row, **side_information_of(model)}

    return decode


def side_information_of(model: RunnableCodec[Any]) -> dict[str, str]:
    """Return what a decoder apart is given beside the tokens, as a row's field; {} for others."""
    information = getattr(model, "side_information", {})
    if not information:
        return {}
    from audiotok.codecs.decoders.base import in_words

    return {"side_information": in_words(information)}


def codec_for(
    tokens: Path,
    codec: str | None,
    device: str,
    backend: str | None = None,
    precision: Precision = "float32",
    *,
    decoder: str | None = None,
    seed: int = 0,
    prompt: Path | None = None,
    given: tuple[tuple[str, Any], ...] = (),
) -> RunnableCodec[Any]:
    """Return the codec or decoder that decodes a .tok file; it is loaded once a process.

    Args:
        tokens: the file.
        codec: a name, a checkpoint or an exported folder; None for the codec that the file names.
        device: as for `load_in_backend`.
        backend: as for `load_in_backend`.
        precision: as for `load`.
        decoder: name or checkpoint of a decoder apart from the codec; None for the codec's own.
        seed: seed of such a decoder.
        prompt: recording that gives such a decoder a voice.
        given: names and values of its other conditions.

    Raises:
        ValueError: the codec is unknown, or as `load_in_backend`.
    """
    if decoder is not None:
        with TokenReader(tokens) as reader:
            return decoder_once(decoder, reader.header.codec, device, seed, prompt, given)
    if codec is None:
        with TokenReader(tokens) as reader:
            codec = reader.header.codec
        if not _known(codec):
            raise InputError(
                f"{tokens}: tokens of codec {codec!r}, which is not here (`audiotok codecs` lists "
                "those that are); give its checkpoint, its exported folder, or the code that makes "
                "it (module:name), with --codec"
            )
    return load_in_backend(codec, device, backend, precision)


def _known(name: str) -> bool:
    """Return whether there is a codec of this name; False without torch, as none can be listed."""
    try:
        return has_preset("codecs", name)
    except ImportError:
        return False


@cache
def decoder_once(
    name: str,
    source: str,
    device: str,
    seed: int,
    prompt: Path | None = None,
    given: tuple[tuple[str, Any], ...] = (),
) -> RunnableCodec[Any]:
    """Return a decoder of a tokenizer's tokens, the same instance throughout this process."""
    conditions = {**dict(given), **({} if prompt is None else {"prompt": prompt})}
    return load_decoder(name, source=source, device=device).conditioned(seed=seed, **conditions)
