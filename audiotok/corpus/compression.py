"""Lossless compression of a corpus, and its reversal to the byte."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from audiotok._platform.atomic import atomic_folder
from audiotok.corpus.ans import AnsReader, pages, write_ans
from audiotok.corpus.base import CorpusError, CorpusInfo, ShardFiles
from audiotok.corpus.location import folder_of
from audiotok.corpus.read import Corpus
from audiotok.corpus.storage import link, sha256
from audiotok.corpus.write import read_lists, write_info
from audiotok.tokens import TokenReader, TokenWriter


@dataclass(frozen=True)
class CompressionSummary:
    """Sizes before and after entropy coding."""

    before: int  # bytes of codes
    after: int  # bytes of entropy-coded codes
    kbps_before: float  # kbps of the files
    kbps_after: float
    nominal: list[float]  # bits per code of each codebook, log2 of its size
    real: list[float]  # bits per code of each codebook, entropy-coded


def compress(corpus: Corpus, out: str | Path) -> CompressionSummary:
    """Write a corpus with entropy-coded codes; it reads the same, though more slowly.

    Args:
        corpus: the corpus to compress.
        out: a new folder.

    Raises:
        CorpusError: the corpus is entropy-coded already, or `out` exists.
        ImportError: constriction is not installed.
    """
    corpus.needs_codes("entropy coding")
    if corpus.shards and ".ans" in corpus.shards[0].files.bytes:
        raise CorpusError(f"{corpus.location}: entropy-coded already")
    bits = np.zeros(corpus.codebooks)

    def code(old: Path, new: Path) -> None:
        with TokenReader(old) as reader:
            bits.__iadd__(write_ans(reader, new))

    info = _changed(corpus, folder_of(out), ".tok", ".ans", code)
    before, after = (
        sum(files.bytes[suffix] for files in info.shards)
        for info, suffix in ((corpus.info, ".tok"), (info, ".ans"))
    )
    seconds = max(corpus.seconds, 1e-9)
    return CompressionSummary(
        before=before,
        after=after,
        kbps_before=before * 8 / seconds / 1000,
        kbps_after=after * 8 / seconds / 1000,
        nominal=[float(np.log2(size)) for size in corpus.sizes],
        real=(bits / max(1, corpus.frames)).tolist(),
    )


def expand(corpus: Corpus, out: str | Path) -> CorpusInfo:
    """Write the corpus that was compressed, equal to the byte.

    Args:
        corpus: an entropy-coded corpus.
        out: a new folder.

    Raises:
        CorpusError: the corpus is not entropy-coded, it is damaged, or `out` exists.
    """
    if corpus.shards and ".ans" not in corpus.shards[0].files.bytes:
        raise CorpusError(f"{corpus.location}: not entropy-coded")
    return _changed(corpus, folder_of(out), ".ans", ".tok", _expand)


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
) -> CorpusInfo:
    """Write a corpus with files of one extension converted; the others are linked or copied."""
    if out.exists():
        raise CorpusError(f"{out}: exists already; name a new folder")
    shards: list[ShardFiles] = []
    with atomic_folder(out) as folder:
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
            shard.close()
        for name, data in read_lists(corpus.storage).items():
            (folder / name).write_bytes(data)
        info = write_info(folder, replace(corpus.info, shards=tuple(shards)))
    return info
