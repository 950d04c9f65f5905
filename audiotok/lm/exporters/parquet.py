"""Parquet: what data lakes, Spark and `datasets` read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from audiotok._platform.optional import needed
from audiotok.lm.exporters.arrow import Arrow, batches, schema
from audiotok.lm.exporters.base import Record


class Parquet(Arrow):
    """The columns of `arrow`, compressed by Zstandard."""

    suffix = ".parquet"

    def write(self, part: Path, records: Iterator[Record], number: int) -> int:
        """See `Exporter.write`."""
        parquet = needed("pyarrow.parquet", "pyarrow", extra="exporters")
        made, count = schema(self.layout is not None, self._rows), 0
        with parquet.ParquetWriter(part, made, compression="zstd") as writer:
            for batch in batches(records, made):
                writer.write_batch(batch)
                count += batch.num_rows
        return count
