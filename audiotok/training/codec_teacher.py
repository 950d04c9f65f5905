"""The first codebook of a codec as a teacher, so that another codec learns its codes."""

from __future__ import annotations

from pathlib import Path

import torch

from audiotok._platform.errors import InputError
from audiotok.audio.audio import Audio
from audiotok.codecs.load import load
from audiotok.codecs.models.base import Codec
from audiotok.data.features.base import Choice, FeatureFrames, Teacher


class CodecTeacher(Teacher):
    """Codes of a codec's first codebook, as what they decode to in its latent.

    Semantic codes that a large network finds in a whole recording, as those of `units`, are learnt
    so by a codec that hears no more than a stream has brought.

    Args:
        codec: any codec with codebooks.

    Attributes:
        entries: what each code decodes to, `[size d]`; these are the units of axis "labels".

    Raises:
        InputError: the codec has no codebooks.
    """

    layers = 0

    def __init__(self, codec: Codec) -> None:
        super().__init__()
        if not codec.sizes:
            raise InputError(f"codec {codec.name!r} has no codebooks, and teaches no codes")
        self.codec = codec
        self.name = f"codec-{codec.name}"
        self.sample_rate = codec.sample_rate
        self.frame_rate = codec.frame_rate
        every = torch.arange(codec.sizes[0])[None, None]
        with torch.no_grad():
            self.entries = codec.quantizer.decode(every)[0].T.float().contiguous()
        self.width = self.entries.shape[1]

    @classmethod
    def load(cls, weights: str | Path) -> CodecTeacher:
        """Load a codec by name or path, as `codecs.load`, as a teacher."""
        return cls(load(weights))

    @property
    def fingerprint(self) -> str:
        """That of the codec."""
        return self.codec.fingerprint

    def features(self, audio: Audio, *, layer: Choice, text: str | None = None) -> FeatureFrames:
        """See `Teacher.features`; a codec has one hidden state, its quantized latent."""
        self.check_layer(layer)
        codes = self.codec.encode(audio.mono(), codebooks=1).codes[0]
        return self.entries[torch.from_numpy(codes.astype("int64"))]
