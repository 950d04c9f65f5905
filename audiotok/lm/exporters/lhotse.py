"""Exporter to Lhotse: cuts with supervisions, and their codes as temporal arrays."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from audiotok._platform.atomic import remove_stale_parts
from audiotok._platform.optional import optional_import
from audiotok.lm.exporters.base import ExportedRecording, Exporter


class Lhotse(Exporter):
    """Exporter to Lhotse cuts, `shard-000000.jsonl`, with arrays in `arrays-000000`.

    `cut.load_codes()` returns the codes `[f k]`, and `cut.load_ids()` the ids; `cut.load_latents()`
    the latents `[f d]` of a codec of those.
    """

    suffix = ".jsonl"

    def write(self, part: Path, records: Iterator[ExportedRecording], number: int) -> int:
        """See `Exporter.write`."""
        lhotse = optional_import("lhotse", extra="exporters")
        folder = self.out / f"arrays-{number:06d}"
        folder.mkdir(exist_ok=True)
        remove_stale_parts([folder])
        count = 0
        with lhotse.NumpyFilesWriter(folder) as writer, part.open("w", encoding="utf-8") as cuts:
            for record in records:
                cut = self._cut(lhotse, writer, record, f"{number:06d}-{count:09d}")
                cuts.write(json.dumps(cut.to_dict(), ensure_ascii=False) + "\n")
                count += 1
        return count

    def _cut(self, lhotse: Any, writer: Any, record: ExportedRecording, key: str) -> Any:
        """Return the cut of a recording, its arrays written under a key."""
        frame = self.corpus.frame_size / self.corpus.sample_rate
        frames = record.codes.shape[1]
        codes = writer.store_array(
            f"{key}-{self.column}",
            record.codes.T,
            frame_shift=frame,
            temporal_dim=0,
            start=0,
        )
        custom: dict[str, Any] = {self.column: codes, "row": record.row}
        if record.ids is not None:
            custom["ids"] = writer.store_array(f"{key}-ids", record.ids.astype("int32"))
        length = frames * frame
        supervision = lhotse.SupervisionSegment(
            id=record.id,
            recording_id=record.id,
            start=0,
            duration=length,
            text=record.text or None,
            speaker=record.row.get("speaker"),
            language=record.row.get("language"),
        )
        return lhotse.MonoCut(
            id=record.id,
            start=0,
            duration=length,
            channel=0,
            supervisions=[supervision],
            custom=custom,
        )
