"""Exporter to Megatron-LM's indexed dataset: `.bin` has the ids, `.idx` where each document is.

    idx   "MMIDIDX\\0\\0", version 1 (u64), type (u8), sequences (u64), documents + 1 (u64),
          lengths (i32 each), offsets in bytes (i64 each), first sequence of each document (i64)

Format: megatron/core/datasets/indexed_dataset.py. A recording is a sequence and a document.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from audiotok._platform.atomic import atomic_file
from audiotok.lm.exporters.base import ExportedRecording, Exporter

TYPES = {"uint8": 1, "int32": 4, "uint16": 8}


class Megatron(Exporter):
    """Exporter to `shard-000000.bin` and `.idx`; Megatron takes the prefix `shard-000000`."""

    suffix = ".bin"
    ids_only = True
    holds_latents = False

    def write(self, part: Path, records: Iterator[ExportedRecording], number: int) -> int:
        """See `Exporter.write`."""
        assert self.layout is not None
        largest = self.layout.vocabulary[0] - 1
        name = "uint8" if largest < 1 << 8 else "uint16" if largest < 1 << 16 else "int32"
        dtype, lengths = np.dtype(name), list[int]()
        with part.open("wb") as file:
            for record in records:
                assert record.ids is not None
                file.write(record.ids.astype(dtype).tobytes())
                lengths.append(len(record.ids))
        sizes = np.array(lengths, np.int64)
        offsets = (np.cumsum(sizes) - sizes) * dtype.itemsize
        index = (self.out / self.name(number)).with_suffix(".idx")
        with atomic_file(index) as whole, whole.open("wb") as file:
            file.write(b"MMIDIDX\0\0")
            file.write(struct.pack("<QBQQ", 1, TYPES[name], len(sizes), len(sizes) + 1))
            for array, kind in ((sizes, "<i4"), (offsets, "<i8")):
                file.write(array.astype(kind).tobytes())
            file.write(np.arange(len(sizes) + 1, dtype="<i8").tobytes())
        return len(lengths)
