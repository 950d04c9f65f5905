"""A corpus made smaller without loss, and as it was again, to the byte."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from audiotok._platform.atomic import complete_folder
from audiotok.corpus.ans import AnsReader, pages, write_ans
from audiotok.corpus.base import About, CorpusError, Files
from audiotok.corpus.read import Corpus
from audiotok.corpus.write import LISTS, link, sha256, write_about
from audiotok.tokens import TokenReader, TokenWriter


@dataclass(frozen=True)
class Saving:
    """What entropy coding came to."""

    before: int  # bytes of codes
    after: int
    kbps_before: float  # of the files
    kbps_after: float
    nominal: list[float]  # bits a code of each codebook
    real: list[float]


def compress(corpus: Corpus, out: str | Path) -> Saving:
    """The same corpus with entropy-coded codes; it reads the same, if more slowly.

    Raises:
        CorpusError: it is so already, or `out` is there.
        ImportError: constriction is not installed.
    """
    if corpus.shards and ".ans" in corpus.shards[0].files.bytes:
        raise CorpusError(f"{corpus.path}: entropy-coded already")
    bits = np.zeros(corpus.codebooks)

    def code(old: Path, new: Path) -> None:
        with TokenReader(old) as reader:
            bits.__iadd__(write_ans(reader, new))

    made = _changed(corpus, Path(out), ".tok", ".ans", code)
    before, after = (
        sum(files.bytes[suffix] for files in about.shards)
        for about, suffix in ((corpus.about, ".tok"), (made, ".ans"))
    )
    seconds = max(corpus.seconds, 1e-9)
    return Saving(
        before=before,
        after=after,
        kbps_before=before * 8 / seconds / 1000,
        kbps_after=after * 8 / seconds / 1000,
        nominal=[float(np.log2(size)) for size in corpus.sizes],
        real=(bits / max(1, corpus.frames)).tolist(),
    )


def expand(corpus: Corpus, out: str | Path) -> About:
    """The corpus that was compressed, to the byte.

    Raises:
        CorpusError: it is not compressed, damaged, or `out` is there.
    """
    if corpus.shards and ".ans" not in corpus.shards[0].files.bytes:
        raise CorpusError(f"{corpus.path}: not entropy-coded")
    return _changed(corpus, Path(out), ".ans", ".tok", _expand)


def _expand(old: Path, new: Path) -> None:
    reader = AnsReader(old)
    try:
        with TokenWriter(new, reader.header, force=True) as writer:
            for codes in pages(reader):
                writer.append(codes)
    finally:
        reader._file.close()


def _changed(
    corpus: Corpus, out: Path, old: str, new: str, change: Callable[[Path, Path], None]
) -> About:
    """A corpus whose files of one extension are others; the rest is linked, or else copied."""
    if out.exists():
        raise CorpusError(f"{out}: exists already; name a new folder")
    shards: list[Files] = []
    with complete_folder(out) as folder:
        for shard in corpus.shards:
            path = folder / f"{shard.name}{new}"
            change(shard.path(old), path)
            for suffix in shard.files.bytes:
                if suffix != old:
                    link(shard.path(suffix), folder / f"{shard.name}{suffix}")
            sizes = {new: path.stat().st_size} | shard.files.bytes
            sums = {new: sha256(path)} | shard.files.sha256
            del sizes[old], sums[old]
            shards.append(replace(shard.files, bytes=sizes, sha256=sums))
        for extra in LISTS:
            if (corpus.path / extra).is_file():
                shutil.copyfile(corpus.path / extra, folder / extra)
        made = write_about(folder, replace(corpus.about, shards=tuple(shards)))
    return made
