"""Exporter to JSON lines, which need no library to read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from audiotok.lm.dialects.base import Dialect
from audiotok.lm.exporters.base import ExportedRecording, Exporter


class Jsonl(Exporter):
    """Exporter to JSON lines, one recording per line.

    `{"id": ..., "text": ..., "seconds": ..., "codes": [[...]], "ids": [...], "row": {...}}`

    A layout of a language model whose tokenizer knows the codes by names adds `"audio"`, the text.
    """

    suffix = ".jsonl"

    def write(self, part: Path, records: Iterator[ExportedRecording], number: int) -> int:
        """See `Exporter.write`."""
        layout, count = self.layout, 0
        with part.open("w", encoding="utf-8") as file:
            for record in records:
                line: dict[str, Any] = {
                    "id": record.id,
                    "text": record.text,
                    "seconds": record.seconds,
                    self.column: record.codes.tolist(),
                }
                if record.ids is not None:
                    line["ids"] = record.ids.tolist()
                    if isinstance(layout, Dialect) and layout.written:
                        line["audio"] = layout.spelled(record.ids)
                line["row"] = record.row
                file.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")
                count += 1
        return count
