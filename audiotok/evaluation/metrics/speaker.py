"""Speaker similarity: cosine of the speaker embeddings of output and reference."""

from __future__ import annotations

from collections.abc import Mapping

from audiotok._platform.errors import InputError
from audiotok.audio.audio import Audio
from audiotok.evaluation.metrics.base import Metric, Score
from audiotok.evaluation.speaker.base import speaker_encoder


class Speaker(Metric):
    """Cosine of two speaker embeddings, -1 to 1 (SECS, SIM-o), by `models["embedder"]`.

    Values of different speaker encoders are not comparable: two strangers have 0.7 by one encoder
    and 0 by another.
    """

    better = "higher"
    parts = ("embedder",)
    aligned = False

    def __init__(self, option: str = "", *, models: Mapping[str, str] | None = None) -> None:
        super().__init__(option, models=models)
        self.encoder = speaker_encoder(self.models.get("embedder", ""))
        self.protocol = f"cosine with the reference's vector; {self.encoder.protocol}"

    def score(self, output: Audio, reference: Audio, text: str | None = None) -> Score:
        """See `Metric.score`; each recording is embedded alone, so lengths may differ."""
        vectors = []
        for name, audio in (("output", output), ("reference", reference)):
            if audio.silent:
                raise InputError(f"speaker: the {name} is silent or has no samples")
            vectors.append(self.encoder.vector(audio))
        return Score(float((vectors[0] @ vectors[1]).clamp(-1, 1)), 1)
