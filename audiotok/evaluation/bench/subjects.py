"""What can be scored, a codec at a rate or an anchor: what a recording comes back as, its bytes.

speech            a codec by name, all codebooks         speech@4    its first 4
runs/x.safetensors@2                                     a checkpoint, the same
opus:6  folder:DIR  original  noise:10 ...               an anchor, ANCHOR:OPTION
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audiotok._platform.registry import find, names
from audiotok.audio.audio import Audio
from audiotok.codecs.load import load_once
from audiotok.codecs.models.base import Codec
from audiotok.evaluation.baselines.base import Anchor
from audiotok.evaluation.results import Subject
from audiotok.tokens.tokens import Tokens


@dataclass(frozen=True)
class Spec:
    """The name of a subject, taken apart."""

    name: str
    codec: str = ""  # a name or a checkpoint; "" for an anchor
    codebooks: int | None = None  # None: all
    anchor: str = ""
    option: str = ""

    @property
    def kind(self) -> str:
        """As `results.Subject` says it."""
        return "codec" if self.codec else "folder" if self.anchor == "folder" else "anchor"

    @classmethod
    def parse(cls, name: str) -> Spec:
        """The subject that `name` means; whether the codec is there shows when it is loaded."""
        head, _, tail = name.partition(":")
        if head in names("anchors"):
            return cls(name, anchor=head, option=tail)
        codec, at, count = name.rpartition("@")
        if at and count.isdecimal():
            return cls(name, codec=codec, codebooks=int(count))
        return cls(name, codec=name)

    @property
    def folder(self) -> str:
        """A name for files of this subject."""
        return re.sub(r"[^\w@.+-]+", "_", self.name).strip("_")


@dataclass(frozen=True)
class Output:
    """What a recording came back as."""

    audio: Audio  # at the recording's rate, and of its length but for the player's slack
    bytes: int | None  # written, container and all; None where nothing is


class Player:
    """A subject at work.

    Attributes:
        spec: what it was asked for as.
        id: changes when its outputs may; what was scored under another is scored again.
        slack: seconds by which an output may be longer or shorter than its recording.
    """

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.id = spec.name
        self.slack = 0.0

    def stamp(self, name: str) -> str:
        """As `id`, of what comes of one recording."""
        return self.id

    def output(self, audio: Audio, name: str, keep: Path) -> Output:
        """A recording through it.

        Args:
            audio: mono.
            name: of the recording, its path relative to the corpus.
            keep: where tokens are kept, a path without suffix.

        Raises:
            ValueError: it cannot be coded; says why.
        """
        raise NotImplementedError

    def described(self) -> Subject:
        """What it is, before anything is counted."""
        raise NotImplementedError


class Played(Player):
    """An anchor."""

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        self.anchor: Anchor = find("anchors", spec.anchor)(spec.option)
        self.slack = self.anchor.slack

    def stamp(self, name: str) -> str:
        """See `Player.stamp`."""
        return f"{self.id} {self.anchor.stamp(name)}".strip()

    def output(self, audio: Audio, name: str, keep: Path) -> Output:
        """See `Player.output`."""
        return Output(*self.anchor.through(audio, name))

    def described(self) -> Subject:
        """See `Player.described`."""
        nominal = self.anchor.nominal_kbps
        return Subject(self.spec.name, self.spec.kind, nominal, None, dict(self.anchor.facts))


class Coded(Player):
    """A codec with its first so many codebooks.

    Raises:
        CheckpointError: the codec is not there.
        ValueError: more codebooks than it has.
    """

    def __init__(self, spec: Spec, device: str) -> None:
        super().__init__(spec)
        self.codec: Codec = load_once(spec.codec, device)
        try:
            self.codebooks = self.codec.quantizer.check(spec.codebooks)
        except ValueError as error:
            raise ValueError(f"{spec.name}: {error}") from None
        weights = f"{self.codec.fingerprint} {self.codec.decoder_fingerprint}"
        self.id = f"{weights} {self.codebooks}"

    def output(self, audio: Audio, name: str, keep: Path) -> Output:
        """See `Player.output`."""
        tokens = self.tokens(audio, keep).first(self.codebooks)
        path = self.kept(keep).with_suffix(f".{self.codebooks}.tok")
        if not path.exists():
            tokens.save(path)
        return Output(self.codec.decode(tokens, original_rate=True), path.stat().st_size)

    def tokens(self, audio: Audio, keep: Path) -> Tokens:
        """All codebooks of a recording; kept, because every rate begins with them."""
        path = self.kept(keep)
        try:
            return Tokens.load(path)
        except (ValueError, OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
        tokens = self.codec.encode(audio)
        tokens.save(path, force=True)
        return tokens

    def kept(self, keep: Path) -> Path:
        """Where all codebooks of a recording are kept."""
        return keep.with_name(f"{keep.name}.{self.codec.fingerprint}.tok")

    def described(self) -> Subject:
        """See `Player.described`."""
        codec, first = self.codec, self.codec.sizes[: self.codebooks]
        facts: dict[str, Any] = {
            "fingerprint": codec.fingerprint,
            "decoder fingerprint": codec.decoder_fingerprint,
            "parameters": codec.parameters_total,
            "sample_rate": codec.sample_rate,
            "frames/s": float(codec.frame_rate),
            "codebooks": self.codebooks,
            "causal": codec.causal,
        }
        nominal = float(codec.frame_rate) * sum(map(math.log2, first)) / 1000
        return Subject(self.spec.name, "codec", nominal, None, facts, sizes=list(first))


def player(spec: Spec, device: str = "cpu") -> Player:
    """The subject, ready to play."""
    return Coded(spec, device) if spec.codec else Played(spec)
