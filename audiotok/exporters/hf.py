"""A folder that `datasets.load_from_disk` opens: Arrow streams and two JSON files about them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from audiotok.exporters.arrow import Arrow, batches, schema
from audiotok.exporters.base import FORMAT, Record
from audiotok.missing import needed
from audiotok.part import complete


class Hf(Arrow):
    """The columns of `arrow`. Written without the library, which reads it."""

    def name(self, number: int) -> str:
        """See `Exporter.name`."""
        return f"data-{number:05d}-of-{len(self.corpus.shards):05d}.arrow"

    def write(self, part: Path, records: Iterator[Record], number: int) -> int:
        """See `Exporter.write`."""
        arrow = needed("pyarrow", extra="export")
        made, count = schema(self.layout is not None, self._rows), 0
        with arrow.OSFile(str(part), "wb") as file, arrow.ipc.new_stream(file, made) as writer:
            for batch in batches(records, made):
                writer.write_batch(batch)
                count += batch.num_rows
        return count

    def finish(self) -> None:
        """See `Exporter.finish`."""
        one: dict[str, Any] = {"dtype": "int32", "_type": "Value"}
        many = {"feature": one, "_type": "List"}
        features: dict[str, Any] = {
            "id": {"dtype": "string", "_type": "Value"},
            "text": {"dtype": "string", "_type": "Value"},
            "seconds": {"dtype": "float64", "_type": "Value"},
            "codes": {"feature": many, "_type": "List"},
        }
        if self.layout is not None:
            features["ids"] = {"feature": many, "_type": "List"} if self._rows else many
        features["row"] = {"dtype": "string", "_type": "Value"}
        info = {"description": f"codes of {self.corpus.codec}, {FORMAT}", "features": features}
        files = [{"filename": self.name(number)} for number in range(len(self.corpus.shards))]
        state = {
            "_data_files": files,
            "_fingerprint": self.corpus.fingerprint,
            "_format_columns": None,
            "_format_kwargs": {},
            "_format_type": None,
            "_output_all_columns": False,
            "_split": None,
        }
        for name, made in (("dataset_info.json", info), ("state.json", state)):
            with complete(self.out / name) as part:
                part.write_text(json.dumps(made, indent=1), "utf-8")
