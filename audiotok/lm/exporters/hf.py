"""Exporter to a folder that `datasets.load_from_disk` reads: Arrow streams and two JSON files."""

from __future__ import annotations

import json
from typing import Any

from audiotok._platform.atomic import atomic_file
from audiotok.lm.exporters.arrow import Arrow
from audiotok.lm.exporters.base import FORMAT


class Hf(Arrow):
    """Exporter for Hugging Face `datasets`, with the columns of `Arrow`.

    Writing does not need `datasets`.
    """

    kind = "new_stream"

    def name(self, number: int) -> str:
        """See `Exporter.name`."""
        return f"data-{number:05d}-of-{len(self.corpus.shards):05d}.arrow"

    def finish(self) -> None:
        """See `Exporter.finish`."""
        many, ids = (
            {"feature": {"dtype": dtype, "_type": "Value"}, "_type": "List"}
            for dtype in (self.dtype, "int32")
        )
        features: dict[str, Any] = {
            "id": {"dtype": "string", "_type": "Value"},
            "text": {"dtype": "string", "_type": "Value"},
            "seconds": {"dtype": "float64", "_type": "Value"},
            self.column: {"feature": many, "_type": "List"},
        }
        if self.layout is not None:
            features["ids"] = {"feature": ids, "_type": "List"} if self._rows else ids
        features["row"] = {"dtype": "string", "_type": "Value"}
        info = {
            "description": f"{self.column} of {self.corpus.codec}, {FORMAT}",
            "features": features,
        }
        files = [{"filename": self.name(number)} for number in range(len(self.corpus.shards))]
        state = {
            "_data_files": files,
            "_fingerprint": self.corpus.fingerprint,
            "_format_columns": None,
            "_format_kwargs": {},
            "_format_type": None,
            "_output_all_columns": False,
            "_split": None,
        }
        for name, content in (("dataset_info.json", info), ("state.json", state)):
            with atomic_file(self.out / name) as part:
                part.write_text(json.dumps(content, indent=1), "utf-8")
