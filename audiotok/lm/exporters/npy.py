"""One array a shard, to be mapped into memory: what `audiotok.lm.packing` reads fastest.

shard-000000.ids/ids.npy     all ids end to end, in the smallest type that holds them
shard-000000.ids/bounds.npy  recording i is ids bounds[i] to bounds[i + 1]
shard-000000.ids/rows.jsonl  what the corpus says of each
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.lib.format import header_data_from_array_1_0, write_array_header_1_0

from audiotok.lm.exporters.base import Exporter, Record


class Npy(Exporter):
    """Arrays of numpy."""

    suffix = ".ids"
    ids_only = True

    def write(self, part: Path, records: Iterator[Record], number: int) -> int:
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
