"""Taxonomy: what kind of codec each is, by the questions of the survey of audio tokenizers.

A codec's class has an entry in `taxonomy` for each of its names; `audiotok codecs` shows them.

Source: "Discrete Audio Tokens: More Than a Survey!", 2025, arXiv:2506.10274, section 2.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from audiotok._platform.errors import InputError
from audiotok._platform.registry import find_preset

TRAINING = ("joint", "distilled", "supervised", "post-hoc", "none")
DOMAINS = ("speech", "music", "audio")


@dataclass(frozen=True, kw_only=True)
class Taxonomy:
    """Facts about a published codec that its network does not tell.

    Attributes:
        encoder: kind of network of the encoder, as "SEANet" or "Whisper".
        decoder: kind of network of the decoder; "none" if there is none.
        quantizer: kind of quantizer, as "RVQ", "VQ" or "FSQ".
        training: how the codes were learnt: "joint", with encoder and decoder, by reconstruction;
            "distilled", so too, and with features of a teacher as a target or as input;
            "supervised", by transcripts; "post-hoc", on features of a network that stayed as it
            was; or "none".
        teacher: network whose features those are; "" if there is none.
        domain: recordings that it was trained on: "speech", "music", or "audio" of any kind.
        licence: licence of the published weights: its SPDX identifier or its name; "unstated" and
            what is known where the authors do not say; "" where no weights are published.
        published: address of the weights; "" to take it from `Codec.sources`.

    Raises:
        InputError: an unknown word for `training` or `domain`, or an empty one where one is needed.
    """

    encoder: str
    decoder: str
    quantizer: str
    training: str
    teacher: str = ""
    domain: str = "speech"
    licence: str
    published: str = ""

    def __post_init__(self) -> None:
        for field, known in (("training", TRAINING), ("domain", DOMAINS)):
            word = getattr(self, field)
            if word not in known:
                raise InputError(f"{field} {word!r} of a codec: it is {', '.join(known)}")
        for field in ("encoder", "decoder", "quantizer"):
            if not getattr(self, field):
                raise InputError(f"{field} '' of a codec: name its kind, or none")
        if self.training in ("distilled", "post-hoc") and not self.teacher:
            raise InputError(f"training {self.training!r} of a codec needs the name of its teacher")


def taxonomy_of(name: str) -> dict[str, Any]:
    """Return the taxonomy of a codec's name as plain data; all None if its class has none."""
    kind = find_preset("codecs", name)[0]
    if name not in kind.taxonomy:
        return dict.fromkeys(Taxonomy.__dataclass_fields__)
    facts = asdict(kind.taxonomy[name])
    source = kind.sources.get(name)
    return {**facts, "published": facts["published"] or (source.where if source else "")}
