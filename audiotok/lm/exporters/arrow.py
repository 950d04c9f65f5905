"""Arrow IPC files (Feather 2): columns that any Arrow library maps into memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from audiotok._platform.optional import needed
from audiotok.lm.exporters.base import Exporter, Record

ROWS = 256  # recordings of a batch


class Arrow(Exporter):
    """Columns id, text, seconds, codes (list of lists), ids (if there is a layout), row (JSON)."""

    suffix = ".arrow"
    kind: ClassVar[str] = "new_file"  # of pyarrow.ipc

    def write(self, part: Path, records: Iterator[Record], number: int) -> int:
        """See `Exporter.write`."""
        arrow = needed("pyarrow", extra="exporters")
        made, count = schema(self.layout is not None, self._rows), 0
        with (
            arrow.OSFile(str(part), "wb") as file,
            getattr(arrow.ipc, self.kind)(file, made) as writer,
        ):
            for batch in batches(records, made):
                writer.write_batch(batch)
                count += batch.num_rows
        return count

    @property
    def _rows(self) -> bool:
        return self.layout is not None and not self.layout.serial


def schema(ids: bool, rows: bool) -> Any:
    """The columns, for Arrow and Parquet alike."""
    arrow = needed("pyarrow", extra="exporters")
    many = arrow.list_(arrow.int32())
    fields = [("id", arrow.string()), ("text", arrow.string()), ("seconds", arrow.float64())]
    fields += [("codes", arrow.list_(many))]
    fields += [("ids", arrow.list_(many) if rows else many)] if ids else []
    return arrow.schema([*fields, ("row", arrow.string())])


def batches(records: Iterator[Record], made: Any) -> Iterator[Any]:
    """Record batches of some hundred recordings."""
    arrow = needed("pyarrow", extra="exporters")
    while some := list(islice(records, ROWS)):
        columns: dict[str, list[Any]] = {
            "id": [record.id for record in some],
            "text": [record.text for record in some],
            "seconds": [record.seconds for record in some],
            "codes": [list(record.codes.astype("int32")) for record in some],
            "row": [json.dumps(record.row, ensure_ascii=False) for record in some],
        }
        if "ids" in made.names:
            ids = [record.ids for record in some if record.ids is not None]
            columns["ids"] = [
                x.astype("int32") if x.ndim == 1 else list(x.astype("int32")) for x in ids
            ]
        yield arrow.record_batch([columns[name] for name in made.names], schema=made)
