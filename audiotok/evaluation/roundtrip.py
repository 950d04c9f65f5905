"""Round trip of one file: encode, decode, score and plot it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from audiotok._platform.errors import InputError
from audiotok._platform.registry import find
from audiotok.audio.audio import Audio
from audiotok.codecs.embeddings import entries_of
from audiotok.evaluation.metrics.base import InfiniteScoreError
from audiotok.evaluation.plot import LONGEST, draw_roundtrip
from audiotok.runtime.base import RunnableCodec
from audiotok.runtime.files import decode_file, encode_file
from audiotok.tokens.kinds import load_tokens

log = logging.getLogger("audiotok")

METRICS = ("mel", "pesq", "si_sdr", "stoi")  # metrics that need no model


def roundtrip(
    codec: RunnableCodec[Any],
    source: str | Path,
    out: str | Path,
    *,
    decoder: RunnableCodec[Any] | None = None,
    codebooks: int | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Write NAME.tok, NAME.wav and NAME.png into a folder, and score the decoded audio.

    Args:
        codec: the codec to use.
        source: audio file to encode; not stdin.
        out: folder of the outputs.
        decoder: decoder apart from the codec; None for the codec's own.
        codebooks: number of codebooks to use, from the first; None: all.
        force: overwrite outputs that exist.

    Returns:
        `encode` and `decode` (rows of `files.Made`), `scores` by metric, or a text where a metric
        could not run, and the path of the `picture`, None without matplotlib. Scores and picture
        cover the first minute.

    Raises:
        NoDecoderError: the codec has no decoder, and none is given.
        ValueError: the source cannot be read, or an output exists and `force` is not set.
    """
    source, out, decoder = Path(source), Path(out), decoder or codec
    decoder.check_decodes()
    if str(source) == "-":
        raise InputError("-: stdin can be read only once; save it to a file first")
    tokens, wav, png = (out / f"{source.stem}{suffix}" for suffix in (".tok", ".wav", ".png"))
    for output in (tokens, wav, png):
        if output.exists() and source.exists() and output.samefile(source):
            raise InputError(f"{source}: would be overwritten by its copy; give another folder")
        if output.exists() and not force:
            raise InputError(f"{output}: exists already; force=True overwrites it")
    encoded = encode_file(codec, source, tokens, codebooks=codebooks, force=force)
    decoded = decode_file(decoder, tokens, wav, force=force)
    original = Audio.load(source, end=LONGEST).mono().resample(decoder.decoded_rate)
    decoded_audio = Audio.load(wav, end=LONGEST)
    scores: dict[str, Any] = {}
    for name in METRICS:
        metric = find("metrics", name)()
        try:
            scores[name] = round(metric.score(decoded_audio, original).value, 4)
        except InfiniteScoreError as error:
            scores[name] = f"{error.value} ({error})"
        except (ImportError, ValueError) as error:
            scores[name] = f"not run: {error}"
    first = f", first {LONGEST:.0f} s" if encoded.seconds > LONGEST else ""
    books = f"latents of {encoded.width}" if encoded.width else f"{encoded.codebooks} codebooks"
    facts = f"{books}, {encoded.nominal_kbps:.2f} kbps"
    picture: Path | None = png
    try:
        draw_roundtrip(
            original,
            decoded_audio,
            load_tokens(tokens, end=LONGEST),
            png,
            title=f"{source.name[:60]}{first}: {codec.name} ({codec.fingerprint}), {facts}",
            embeddings=entries_of(codec),
        )
    except ImportError as error:
        log.warning("%s", error)
        picture = None
    return {
        "encode": encoded.row(),
        "decode": decoded.row(),
        "scores": scores,
        "picture": picture and str(picture),
    }
