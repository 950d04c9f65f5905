"""One file there and back: encoded, decoded, scored and drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from audiotok.audio import Audio
from audiotok.codecs.base import Codec
from audiotok.files import decode_file, encode_file
from audiotok.picture import draw
from audiotok.registry import find, names

LONGEST = 60.0  # seconds scored and drawn


def roundtrip(
    codec: Codec,
    source: str | Path,
    out: str | Path,
    *,
    codebooks: int | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Write NAME.tok, NAME.wav and NAME.png into `out`, and score the decoded audio.

    Returns:
        `encode` and `decode` (rows of `files.Made`), `scores` by metric, a text where a metric
        could not run, and the path of the `picture`. Scores and picture are of the first minute.

    Raises:
        ValueError: the source cannot be read, or an output exists and not `force`.
    """
    source, out = Path(source), Path(out)
    out.mkdir(parents=True, exist_ok=True)
    tokens, wav, png = (out / f"{source.stem}{suffix}" for suffix in (".tok", ".wav", ".png"))
    if png.exists() and not force:
        raise ValueError(f"{png}: exists already; --force overwrites it")
    encoded = encode_file(codec, source, tokens, codebooks=codebooks, force=force)
    decoded = decode_file(codec, tokens, wav, force=force)
    before = Audio.load(source, end=LONGEST).mono().resample(codec.sample_rate)
    after = Audio.load(wav, end=LONGEST)
    scores: dict[str, Any] = {}
    for name in names("metrics"):
        metric = find("metrics", name)()
        try:
            scores[name] = round(metric.score(after, before).value, 4)
        except (ImportError, ValueError) as error:
            scores[name] = f"not run: {error}"
    title = f"{source.name}: {codec.name}, {encoded.codebooks} codebooks, "
    draw(before, after, png, title=title + f"{encoded.nominal_kbps:.2f} kbps")
    return {
        "encode": encoded.row(),
        "decode": decoded.row(),
        "scores": scores,
        "picture": str(png),
    }
