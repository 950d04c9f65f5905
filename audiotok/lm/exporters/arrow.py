"""Exporter to Arrow IPC files (Feather 2), which Arrow libraries can map into memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from audiotok._platform.optional import optional_import
from audiotok.lm.exporters.base import ExportedRecording, Exporter

ROWS = 256  # recordings in a record batch


class Arrow(Exporter):
    """Exporter to Arrow IPC files, one per shard.

    The columns are id, text, seconds, codes or latents (list of lists), ids (with a layout) and row
    (JSON).
    """

    suffix = ".arrow"
    kind: ClassVar[str] = "new_file"  # name of the writer in pyarrow.ipc

    def write(self, part: Path, records: Iterator[ExportedRecording], number: int) -> int:
        """See `Exporter.write`."""
        arrow = optional_import("pyarrow", extra="exporters")
        columns, count = self.schema(), 0
        with (
            arrow.OSFile(str(part), "wb") as file,
            getattr(arrow.ipc, self.kind)(file, columns) as writer,
        ):
            for batch in batches(records, columns):
                writer.write_batch(batch)
                count += batch.num_rows
        return count

    @property
    def _rows(self) -> bool:
        """True if the ids of a recording are in several rows, one per codebook."""
        return self.layout is not None and not self.layout.serial

    def schema(self) -> Any:
        """Return the Arrow schema of the columns."""
        arrow = optional_import("pyarrow", extra="exporters")
        many, ids = (arrow.list_(arrow.from_numpy_dtype(x)) for x in (self.dtype, "int32"))
        fields = [("id", arrow.string()), ("text", arrow.string()), ("seconds", arrow.float64())]
        fields += [(self.column, arrow.list_(many))]
        if self.layout is not None:
            fields += [("ids", arrow.list_(ids) if self._rows else ids)]
        return arrow.schema([*fields, ("row", arrow.string())])


def batches(records: Iterator[ExportedRecording], columns: Any) -> Iterator[Any]:
    """Yield Arrow record batches of at most `ROWS` recordings.

    Args:
        records: the recordings.
        columns: the Arrow schema.
    """
    arrow = optional_import("pyarrow", extra="exporters")
    while some := list(islice(records, ROWS)):
        values: dict[str, list[Any]] = {
            "id": [record.id for record in some],
            "text": [record.text for record in some],
            "seconds": [record.seconds for record in some],
            columns.names[3]: [list(record.codes) for record in some],
            "row": [json.dumps(record.row, ensure_ascii=False) for record in some],
        }
        if "ids" in columns.names:
            ids = [record.ids for record in some if record.ids is not None]
            values["ids"] = [
                x.astype("int32") if x.ndim == 1 else list(x.astype("int32")) for x in ids
            ]
        yield arrow.record_batch([values[name] for name in columns.names], schema=columns)
