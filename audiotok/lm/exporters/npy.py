"""Exporter to NumPy arrays, one per shard, which `audiotok.lm.packing` maps into memory.

shard-000000.ids/ids.npy     all ids, concatenated, in the smallest sufficient integer type
shard-000000.ids/bounds.npy  recording i is ids bounds[i] to bounds[i + 1]
shard-000000.ids/rows.jsonl  the row of each recording in the corpus

Of latents it is shard-000000.latents/latents.npy, `[frames d]`, and recording i has frames
bounds[i] to bounds[i + 1].
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

    def name(self, number: int) -> str:
        """See `Exporter.name`."""
        return f"shard-{number:06d}{'.latents' if self.layout is None else self.suffix}"

    def write(self, part: Path, records: Iterator[ExportedRecording], number: int) -> int:
        """See `Exporter.write`."""
        content, dtype, axes = "latents", np.dtype(self.dtype), (self.corpus.width,)
        if self.layout is not None:
            content, axes = "ids", ()
            dtype = np.min_scalar_type(self.layout.vocabulary[0] - 1)
        bounds = [0]
        part.mkdir()
        try:
            with (
                (part / "raw").open("wb") as raw,
                (part / "rows.jsonl").open("w", encoding="utf-8") as rows,
            ):
                for record in records:
                    own = record.codes.T if record.ids is None else record.ids
                    raw.write(own.astype(dtype).tobytes())
                    rows.write(json.dumps(record.row, ensure_ascii=False) + "\n")
                    bounds.append(bounds[-1] + len(own))
            np.save(part / "bounds.npy", np.array(bounds, np.int64))
            with (part / f"{content}.npy").open("wb") as file, (part / "raw").open("rb") as raw:
                header = header_data_from_array_1_0(np.zeros((0, *axes), dtype))
                header |= {"shape": (bounds[-1], *axes)}
                write_array_header_1_0(file, header)
                shutil.copyfileobj(raw, file, 1 << 20)
            (part / "raw").unlink()
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
        return len(bounds) - 1
