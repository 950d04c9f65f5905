"""Jobs of a batch: writing the vectors of a recording, which k-means units are made of."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from audiotok._platform.errors import InputError
from audiotok.codecs.latents import latents_of
from audiotok.codecs.load import load_once
from audiotok.codecs.models.kmeans import Kmeans
from audiotok.runtime.batch.workers import Job
from audiotok.tokens.errors import TokenFileExistsError
from audiotok.tokens.reader import TokenReader


def vectors_codec(codec: str, device: str, *, centred: bool = False) -> Kmeans:
    """Return k-means units of a file, the same instance throughout this process.

    Args:
        codec: a file of `fit_units`.
        device: as for `load`.
        centred: whether they are left as they are; if not, means of recordings are left in.

    Raises:
        InputError: it is another codec.
    """
    model = load_once(codec, device)
    if not isinstance(model, Kmeans):
        raise InputError(f"{codec}: codec {model.name!r}, where k-means units are wanted")
    return model if centred else model.uncentred()


def vectors_writer(codec: str, device: str, *, force: bool = False) -> Job:
    """Return the job of writing the vectors of a recording.

    Args:
        codec: as for `vectors_codec`.
        device: as for `vectors_codec`.
        force: whether to overwrite files.
    """
    model = vectors_codec(codec, device)

    def write(source: Path, target: Path) -> dict[str, Any]:
        began = time.perf_counter()
        latents = latents_of(model, source)
        target.parent.mkdir(parents=True, exist_ok=True)
        latents.save(target, force=force)
        return {
            "source": str(source),
            "target": str(target),
            "seconds": latents.samples / latents.sample_rate,
            "frames": latents.frames,
            "took": time.perf_counter() - began,
        }

    return write


def is_vectors(model: Kmeans, target: Path) -> bool:
    """Return whether a file holds vectors of these units; False if there is none.

    Raises:
        TokenFileError: it is another file, or holds codes or the vectors of others.
    """
    if not target.exists():
        return False
    with TokenReader(target) as reader:
        header = reader.header
    if (header.kind, header.fingerprint) == ("latents", model.fingerprint):
        return True
    what = f"{header.kind} of {header.codec} {header.fingerprint}"
    raise TokenFileExistsError(f"{target}: exists already, with {what}; force=True overwrites it")
