"""NISQA: mean opinion score and its dimensions without a reference (Mittag et al. 2021)."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from audiotok._platform.errors import InputError
from audiotok.audio.audio import Audio
from audiotok.evaluation.cache import BoundedCache, fingerprint
from audiotok.evaluation.metrics.base import (
    Metric,
    MissingModelError,
    Score,
    listener_input,
    optional_import,
    version,
)

FILE = "nisqa.tar"
PAGE = "github.com/gabrielmittag/NISQA, weights/nisqa.tar"
ORDER = ("mos", "noisiness", "discontinuity", "coloration", "loudness")
_memory = BoundedCache[dict[str, float]](10_000)  # one run of the model gives all five variants


class Nisqa(Metric):
    """Predicted opinion, 1 to 5, by NISQA 2.0 in the `torchmetrics` package.

    Variants: `mos` (the default), `noisiness`, `discontinuity`, `coloration`, `loudness`; higher is
    better in each. The weights come with no package and are for non-commercial use (CC BY-NC-SA
    4.0): `models["nisqa"]` is the path of nisqa.tar.
    """

    better = "higher"
    parts = ("nisqa",)
    unit = "MOS"
    options = ORDER
    aligned = False

    def __init__(self, option: str = "", *, models: Mapping[str, str] | None = None) -> None:
        super().__init__(option, models=models)
        self.option = option or "mos"
        self.protocol = (
            f"{version('torchmetrics')}, NISQA 2.0 {self.option}, weights nisqa.tar (CC BY-NC-SA "
            "4.0), 48 kHz, mono mean, at most 52 s; no reference"
        )

    def score(self, output: Audio, reference: Audio, text: str | None = None) -> Score:
        """See `Metric.score`; the reference is not used."""
        wave = listener_input(output, 48000)
        library = self._library()
        key = fingerprint(wave, 48000)
        scores = _memory.get(key)
        if scores is None:
            try:
                ratings = library.non_intrusive_speech_quality_assessment(wave.cpu(), 48000)
            except pickle.UnpicklingError:
                raise MissingModelError(f"{self.models.get('nisqa', FILE)}: not NISQA's") from None
            except RuntimeError as error:
                raise InputError(f"NISQA: {error}") from None
            scores = _memory.put(key, dict(zip(ORDER, ratings.tolist(), strict=True)))
        return Score(scores[self.option], 1)

    def _library(self) -> Any:
        packages = "torchmetrics librosa requests"
        library: Any = optional_import("torchmetrics.functional.audio.nisqa", packages)
        given = self.models.get("nisqa")
        path = Path(given or Path(library.NISQA_DIR) / FILE).expanduser()
        if path.name != FILE or not path.is_file():  # torchmetrics would download it
            raise MissingModelError(
                f"NISQA: no weights {path}: get them at {PAGE} (CC BY-NC-SA 4.0: non-commercial), "
                f'put them there or give the path of {FILE} as the model "nisqa"'
            )
        library.NISQA_DIR = str(path.parent)
        return library
