"""Tar files for WebDataset: the files of a recording follow one another under one key."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from audiotok.lm.exporters.base import Exporter, Record


class Webdataset(Exporter):
    """`KEY.codes.npy`, `KEY.ids.npy` (if there is a layout), `KEY.txt`, `KEY.json`.

    A key is the recording's place: WebDataset splits names at dots, and ids may have some. The id
    is in the JSON.
    """

    suffix = ".tar"

    def write(self, part: Path, records: Iterator[Record], number: int) -> int:
        """See `Exporter.write`."""
        count = 0
        with tarfile.open(part, "w", format=tarfile.PAX_FORMAT) as tar:
            for record in records:
                key = f"{number:06d}-{count:09d}"
                _add(tar, f"{key}.codes.npy", _npy(record.codes))
                if record.ids is not None:
                    _add(tar, f"{key}.ids.npy", _npy(record.ids))
                _add(tar, f"{key}.txt", record.text.encode())
                row = {**record.row, "id": record.id, "seconds": record.seconds}
                _add(tar, f"{key}.json", json.dumps(row, ensure_ascii=False).encode())
                count += 1
        return count


def _npy(x: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, x.astype(np.min_scalar_type(int(x.max(initial=0)))), allow_pickle=False)
    return file.getvalue()


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))
