"""Exporter to Parquet files, which Spark, data lakes and `datasets` read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from audiotok._platform.optional import optional_import
from audiotok.lm.exporters.arrow import Arrow, batches
from audiotok.lm.exporters.base import ExportedRecording


class Parquet(Arrow):
    """Exporter to Parquet files with the columns of `Arrow`, compressed by Zstandard."""

    suffix = ".parquet"

    def write(self, part: Path, records: Iterator[ExportedRecording], number: int) -> int:
        """See `Exporter.write`."""
        parquet = optional_import("pyarrow.parquet", "pyarrow", extra="exporters")
        columns, count = self.schema(), 0
        with parquet.ParquetWriter(part, columns, compression="zstd") as writer:
            for batch in batches(records, columns):
                writer.write_batch(batch)
                count += batch.num_rows
        return count
