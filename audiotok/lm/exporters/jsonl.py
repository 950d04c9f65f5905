"""A line of JSON a recording, and nothing needed to read it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from audiotok.lm.exporters.base import Exporter, Record


class Jsonl(Exporter):
    """`{"id": ..., "text": ..., "seconds": ..., "codes": [[...]], "ids": [...], "row": {...}}`."""

    suffix = ".jsonl"

    def write(self, part: Path, records: Iterator[Record], number: int) -> int:
        """See `Exporter.write`."""
        count = 0
        with part.open("w", encoding="utf-8") as file:
            for record in records:
                made: dict[str, Any] = {
                    "id": record.id,
                    "text": record.text,
                    "seconds": record.seconds,
                    "codes": record.codes.tolist(),
                }
                if record.ids is not None:
                    made["ids"] = record.ids.tolist()
                made["row"] = record.row
                file.write(json.dumps(made, ensure_ascii=False, separators=(",", ":")) + "\n")
                count += 1
        return count
