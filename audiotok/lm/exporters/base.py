"""What every exporter promises: each shard of a corpus becomes files of its own, row for row.

A shard is written complete or not at all, so an export that was interrupted goes on after the last
one that is there. `export.json` says what was exported, `layout.json` how codes became ids.
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
from audiotok._platform.atomic import complete, sweep
from audiotok.corpus import Corpus, Shard
from audiotok.lm.layout import Layout

FORMAT = "audiotok export 1"


class ExportError(ValueError):
    """What cannot be exported there; says why, and the way out."""


@dataclass(frozen=True)
class Record:
    """One recording.

    Attributes:
        id: its name in the corpus.
        codes: `[k f]`.
        ids: what the layout makes of them, `[n]` or `[rows n]`; None without a layout.
        seconds: length.
        text: what is said, or "".
        row: all that the corpus says of it.
    """

    id: str
    codes: np.ndarray
    ids: np.ndarray | None
    seconds: float
    text: str
    row: dict[str, Any]


class Exporter(ABC):
    """One format.

    Attributes:
        suffix: of a shard's file.
        ids_only: whether the format holds one row of ids; it then needs a layout of one row.
    """

    suffix: ClassVar[str]
    ids_only: ClassVar[bool] = False

    def __init__(self, corpus: Corpus, layout: Layout | None, out: Path) -> None:
        self.corpus, self.layout, self.out = corpus, layout, out

    def name(self, number: int) -> str:
        """The file of a shard."""
        return f"shard-{number:06d}{self.suffix}"

    @abstractmethod
    def write(self, part: Path, records: Iterator[Record], number: int) -> int:
        """Writes a shard to `part`, which takes its name when it is whole.

        Returns:
            How many records there were.
        """

    def finish(self) -> None:  # noqa: B027  most formats need nothing more
        """Writes what is about all shards; they are all there."""


def records(shard: Shard, layout: Layout | None) -> Iterator[Record]:
    """Every recording of a shard, in order, in little memory."""
    for entry in shard:
        codes = entry.tokens.codes
        ids = None if layout is None else layout.encode(codes[: len(layout.sizes)])
        text = entry.row.get("text") or ""
        yield Record(entry.id, codes, ids, entry.tokens.seconds, str(text), entry.row)


def export(
    exporter: type[Exporter],
    corpus: Corpus,
    out: Path,
    *,
    layout: Layout | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> int:
    """All of a corpus, shard by shard; shards that are there already are left as they are.

    Args:
        exporter: the format.
        corpus: what to export.
        out: a folder.
        layout: makes ids of codes; formats of ids alone get a flat one if None.
        progress: told how many recordings are done, after each shard.

    Returns:
        Recordings in the export.

    Raises:
        ExportError: the layout does not fit, or something else was exported to `out`.
        ImportError: the library that writes the format is not installed; says which extra has it.
    """
    if layout is None and exporter.ids_only:
        layout = Layout.of(corpus)
    _check(exporter, corpus, layout)
    try:
        out.mkdir(parents=True, exist_ok=True)
        sweep([out])
        _begun(exporter, corpus, layout, out)
        writer, total = exporter(corpus, layout, out), 0
        for number, shard in enumerate(corpus.shards):
            path = out / writer.name(number)
            if not path.exists():  # it is there only when it is whole
                with complete(path) as part:
                    count = writer.write(part, records(shard, layout), number)
                if count != len(shard):
                    raise ExportError(f"{path}: {count} records of {len(shard)}")
            shard.close()
            total += len(shard)
            progress(total)
        writer.finish()
    except OSError as error:
        raise ExportError(f"{out}: cannot be written: {error.strerror or error}") from None
    return total


def _check(exporter: type[Exporter], corpus: Corpus, layout: Layout | None) -> None:
    if layout is None:
        return
    if exporter.ids_only and not layout.serial:
        raise ExportError(f"ids of {layout.pattern} are in rows; this format holds one row")
    if layout.codec and layout.fingerprint != corpus.fingerprint:
        raise ExportError(
            f"the layout is for {layout.codec} {layout.fingerprint}, the corpus of "
            f"{corpus.codec} {corpus.fingerprint}"
        )
    if corpus.sizes[: len(layout.sizes)] != layout.sizes:
        raise ExportError(
            f"the layout has codebooks of {layout.sizes}, the corpus of {corpus.sizes}"
        )


def _begun(exporter: type[Exporter], corpus: Corpus, layout: Layout | None, out: Path) -> None:
    """Says what is exported to `out`, if nothing else was."""
    about = {
        "format": FORMAT,
        "to": exporter.__module__.rpartition(".")[2],
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
            raise ExportError(f"{out}: not empty, and no export; give a new folder") from None
        known = None
    except ValueError:
        raise ExportError(f"{file}: damaged; delete {out} and export again") from None
    if known is None:
        if layout is not None:
            layout.save(out / "layout.json")
        with complete(file) as part:
            part.write_text(json.dumps(about, indent=1) + "\n", "utf-8")
    elif known != about:
        differ = [key for key in about if about[key] != known.get(key)]
        raise ExportError(f"{out}: an export of another {differ[0]}; give a new folder")
