"""HuBERT (Hsu et al. 2021, arXiv:2106.07447), which SpeechTokenizer and DM-Codec learn from."""

from __future__ import annotations

from typing import ClassVar

from audiotok.data.features.wav2vec2 import Wav2vec2


class Hubert(Wav2vec2):
    """HuBERT: wav2vec 2.0's network, trained to predict clusters of its own masked features."""

    kind: ClassVar[str] = "hubert"
    pipelines: ClassVar[str] = "HUBERT"
