"""Interface of exporters, which write each shard of a corpus to files of its own, row by row.

A shard is written completely or not at all, so an interrupted export continues after the last shard
on disk. `export.json` identifies corpus, format and layout; `layout.json` holds the layout.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from audiotok._platform import jsonfile
from audiotok._platform.atomic import atomic_file, remove_stale_parts
from audiotok._platform.errors import Error
from audiotok._platform.registry import name_of
from audiotok.corpus import Corpus, Shard
from audiotok.lm.dialects.base import Dialect
from audiotok.lm.layout import Layout

FORMAT = "audiotok export 1"


class CorpusExportError(Error, ValueError):
    """Error of an export: the message says why it is not possible and what to do."""


@dataclass(frozen=True)
class ExportedRecording:
    """Recording to be exported.

    Attributes:
        id: id in the corpus.
        codes: codes `[k f]` int32, or latents `[d f]` in the type of the corpus.
        ids: ids of the layout, `[n]` or `[rows n]`; None without a layout.
        seconds: duration in seconds.
        text: transcript, or "".
        row: all fields of its row in the corpus.
    """

    id: str
    codes: np.ndarray
    ids: np.ndarray | None
    seconds: float
    text: str
    row: dict[str, Any]


class Exporter(ABC):
    """Exporter to one format.

    Args:
        corpus: the corpus to export.
        layout: the layout of the ids; None exports codes, or latents, alone.
        out: the folder to write to.

    Attributes:
        suffix: suffix of a shard's file.
        ids_only: whether the format holds one row of ids and nothing else, which needs a layout of
            one row.
        holds_latents: whether the format can hold latents.
    """

    suffix: ClassVar[str]
    ids_only: ClassVar[bool] = False
    holds_latents: ClassVar[bool] = True

    def __init__(self, corpus: Corpus, layout: Layout | None, out: Path) -> None:
        self.corpus = corpus
        self.layout = layout
        self.out = out

    @property
    def column(self) -> str:
        """Name of what recordings hold: "codes" or "latents"."""
        return self.corpus.info.header.kind

    @property
    def dtype(self) -> str:
        """Type of its numbers: int32 of codes, that of the corpus of latents."""
        return self.corpus.info.dtype if self.corpus.width else "int32"

    def name(self, number: int) -> str:
        """Return the file name of a shard."""
        return f"shard-{number:06d}{self.suffix}"

    @abstractmethod
    def write(self, part: Path, records: Iterator[ExportedRecording], number: int) -> int:
        """Write a shard to a temporary path, which is renamed when it is complete.

        Args:
            part: the temporary path.
            records: the recordings of the shard, in order.
            number: number of the shard, from 0.

        Returns:
            The number of recordings written.
        """

    def finish(self) -> None:  # noqa: B027  most formats need nothing more
        """Write files about the whole export, after all shards are written."""


def records(shard: Shard, layout: Layout | None) -> Iterator[ExportedRecording]:
    """Yield the recordings of a shard in order, one at a time.

    Args:
        shard: the shard.
        layout: the layout of the ids; None yields codes alone.
    """
    for entry in shard:
        header, codes = entry.tokens.header, entry.tokens.numbers
        codes = codes if header.width else codes.astype(np.int32)
        ids = None if layout is None else layout.encode(codes[: len(layout.sizes)])
        text = entry.row.get("text") or ""
        yield ExportedRecording(entry.id, codes, ids, entry.tokens.seconds, str(text), entry.row)


def export(
    exporter: type[Exporter],
    corpus: Corpus,
    out: Path,
    *,
    layout: Layout | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> int:
    """Export a corpus shard by shard; shards that are in the folder already are kept.

    Args:
        exporter: the class of the format.
        corpus: the corpus to export.
        out: the folder to write to.
        layout: the layout of the ids; if None, a format of ids alone uses a flat layout, and other
            formats have no ids. Latents have none.
        progress: called after each shard with the number of recordings done.

    Returns:
        The number of recordings in the export.

    Raises:
        CorpusExportError: the layout does not fit, or `out` has another export or other files.
        LayoutError: the layout of a language model does not speak the codec's codes.
        NoCodesError: ids are asked for of a corpus of latents.
        ImportError: the library that writes the format is not installed; the message says which
            extra has it.
    """
    if layout is not None or not exporter.holds_latents:
        corpus.needs_codes(f"an export of ids to {name_of(exporter)}")
    if layout is None and exporter.ids_only and not corpus.width:
        layout = Layout.of(corpus)
    _check(exporter, corpus, layout)
    try:
        out.mkdir(parents=True, exist_ok=True)
        remove_stale_parts([out])
        _write_header(exporter, corpus, layout, out)
        writer, total = exporter(corpus, layout, out), 0
        for number, shard in enumerate(corpus.shards):
            path = out / writer.name(number)
            if not path.exists():  # a shard on disk is complete
                with atomic_file(path) as part:
                    count = writer.write(part, records(shard, layout), number)
                if count != len(shard):
                    raise CorpusExportError(f"{path}: {count} records of {len(shard)}")
            shard.close()
            total += len(shard)
            progress(total)
        writer.finish()
    except OSError as error:
        raise CorpusExportError(f"{out}: cannot be written: {error.strerror or error}") from None
    return total


def _check(exporter: type[Exporter], corpus: Corpus, layout: Layout | None) -> None:
    """Raise unless the layout fits the format and the corpus."""
    if layout is None:
        return
    if isinstance(layout, Dialect):
        layout.check_codec(corpus.codec)
    if exporter.ids_only and not layout.serial:
        raise CorpusExportError(f"ids of {layout.pattern} are in rows; this format holds one row")
    if layout.codec and layout.fingerprint != corpus.fingerprint:
        raise CorpusExportError(
            f"the layout is for {layout.codec} {layout.fingerprint}, the corpus of "
            f"{corpus.codec} {corpus.fingerprint}"
        )
    if corpus.sizes[: len(layout.sizes)] != layout.sizes:
        raise CorpusExportError(
            f"the layout has codebooks of {layout.sizes}, the corpus of {corpus.sizes}"
        )


def _write_header(
    exporter: type[Exporter], corpus: Corpus, layout: Layout | None, out: Path
) -> None:
    """Write `export.json` and `layout.json`, or raise if `out` has another export."""
    header = {
        "format": FORMAT,
        "to": name_of(exporter),
        "codec": corpus.codec,
        "fingerprint": corpus.fingerprint,
        "sizes": list(corpus.sizes),
        "sample_rate": corpus.sample_rate,
        "frame_size": corpus.frame_size,
        "shards": [shard.files.sha256 for shard in corpus.shards],
        "layout": None if layout is None else json.loads(json.dumps(asdict(layout))),
    }
    file = out / "export.json"
    try:
        known = jsonfile.parse(file.read_bytes(), str(file))
    except FileNotFoundError:
        if any(each for each in out.iterdir() if not each.name.startswith(".")):
            raise CorpusExportError(f"{out}: not empty, and no export; give a new folder") from None
        known = None
    except ValueError:
        raise CorpusExportError(f"{file}: damaged; delete {out} and export again") from None
    if known is None:
        if layout is not None:
            layout.save(out / "layout.json")
        with atomic_file(file) as part:
            part.write_text(json.dumps(header, indent=1) + "\n", "utf-8")
    elif known != header:
        differ = [key for key in header if header[key] != known.get(key)]
        raise CorpusExportError(f"{out}: an export of another {differ[0]}; give a new folder")
