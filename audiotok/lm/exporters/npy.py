"""Exporter to NumPy arrays, one per shard, which `audiotok.lm.packing` maps into memory.

shard-000000.ids/ids.npy     all ids, concatenated, in the smallest sufficient integer type
shard-000000.ids/bounds.npy  recording i is ids bounds[i] to bounds[i + 1]
shard-000000.ids/rows.jsonl  the row of each recording in the corpus
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.lib.format import header_data_from_array_1_0, write_array_header_1_0

from audiotok.lm.exporters.base import ExportedRecording, Exporter


class Npy(Exporter):
    """Exporter to folders of NumPy arrays."""

    suffix = ".ids"
    ids_only = True

    def write(self, part: Path, records: Iterator[ExportedRecording], number: int) -> int:
        """See `Exporter.write`."""
        assert self.layout is not None
        dtype = np.min_scalar_type(self.layout.vocabulary[0] - 1)
        bounds = [0]
        part.mkdir()
        try:
            with (
                (part / "raw").open("wb") as raw,
                (part / "rows.jsonl").open("w", encoding="utf-8") as rows,
            ):
                for record in records:
                    assert record.ids is not None
                    raw.write(record.ids.astype(dtype).tobytes())
                    rows.write(json.dumps(record.row, ensure_ascii=False) + "\n")
                    bounds.append(bounds[-1] + len(record.ids))
            np.save(part / "bounds.npy", np.array(bounds, np.int64))
            with (part / "ids.npy").open("wb") as file, (part / "raw").open("rb") as raw:
                header = header_data_from_array_1_0(np.zeros(0, dtype)) | {"shape": (bounds[-1],)}
                write_array_header_1_0(file, header)
                shutil.copyfileobj(raw, file, 1 << 20)
            (part / "raw").unlink()
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
        return len(bounds) - 1
