"""Exporter to tar files for WebDataset, in which the files of a recording share a key."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from audiotok.lm.exporters.base import ExportedRecording, Exporter


class Webdataset(Exporter):
    """Exporter to `KEY.codes.npy`, `KEY.ids.npy` (with a layout), `KEY.txt` and `KEY.json`.

    Of a codec of latents there is `KEY.latents.npy` in place of the codes.

    A key consists of the shard number and the recording's number in it, since WebDataset splits
    names at dots, which ids may contain. The id is in the JSON.
    """

    suffix = ".tar"

    def write(self, part: Path, records: Iterator[ExportedRecording], number: int) -> int:
        """See `Exporter.write`."""
        count = 0
        with tarfile.open(part, "w", format=tarfile.PAX_FORMAT) as tar:
            for record in records:
                key = f"{number:06d}-{count:09d}"
                _add(tar, f"{key}.{self.column}.npy", _npy(record.codes))
                if record.ids is not None:
                    _add(tar, f"{key}.ids.npy", _npy(record.ids))
                _add(tar, f"{key}.txt", record.text.encode())
                row = {**record.row, "id": record.id, "seconds": record.seconds}
                _add(tar, f"{key}.json", json.dumps(row, ensure_ascii=False).encode())
                count += 1
        return count


def _npy(x: np.ndarray) -> bytes:
    """Return the bytes of a .npy file, of integers in the smallest sufficient unsigned type."""
    file = io.BytesIO()
    if x.dtype.kind == "i":
        x = x.astype(np.min_scalar_type(int(x.max(initial=0))))
    np.save(file, x, allow_pickle=False)
    return file.getvalue()


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """Add a file to a tar archive."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))
