"""Subjects of a bench, codecs at a rate or baselines: their outputs and bytes.

speech            a codec by name, all codebooks         speech@4    its first 4
runs/x.safetensors@2                                     a checkpoint, the same
dmel_40hz+griffin_lim                                    a tokenizer and a decoder apart from it
units+voice.safetensors+prompt                           each recording is the decoder's prompt
my_module:codec     code, imported by the user's word    my_module:codec@2
opus:6  folder:DIR  original  noise:10 ...               a baseline, NAME:OPTION
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audiotok._platform.errors import InputError
from audiotok._platform.registry import find, has_preset, names
from audiotok.audio.audio import Audio
from audiotok.codecs.load import load_decoder, load_in_backend
from audiotok.evaluation.baselines.base import Baseline
from audiotok.evaluation.results import Subject
from audiotok.tokens.tokens import Tokens

PROMPTED = "+prompt"


@dataclass(frozen=True)
class Spec:
    """Parsed name of a subject."""

    name: str
    codec: str = ""  # a name, a checkpoint or code; "" for a baseline
    decoder: str = ""  # name or checkpoint of a decoder apart from the codec; "" for its own
    prompted: bool = False  # whether each recording is the decoder's prompt
    codebooks: int | None = None  # None: all
    baseline: str = ""
    option: str = ""

    @property
    def kind(self) -> str:
        """Kind of the subject, as in `results.Subject`."""
        return "codec" if self.codec else "folder" if self.baseline == "folder" else "anchor"

    @classmethod
    def parse(cls, name: str) -> Spec:
        """Return the subject that `name` means; a codec is only looked up when it is loaded."""
        head, _, tail = name.partition(":")
        if head in names("baselines"):
            return cls(name, baseline=head, option=tail)
        codec, at, count = name.rpartition("@")
        codebooks = int(count) if at and count.isdecimal() else None
        codec = name if codebooks is None else codec
        pair = codec.removesuffix(PROMPTED)
        tokenizer, plus, decoder = pair.rpartition("+")
        if plus and (_is_decoder(decoder) or Path(decoder).is_file()):
            prompted = pair != codec
            return cls(name, tokenizer, decoder, prompted=prompted, codebooks=codebooks)
        return cls(name, codec=codec, codebooks=codebooks)

    @property
    def folder(self) -> str:
        """File name for outputs of this subject."""
        return re.sub(r"[^\w@.+-]+", "_", self.name).strip("_")


def _is_decoder(name: str) -> bool:
    """Return whether a decoder has this name."""
    return name in names("decoders") or has_preset("decoders", name)


@dataclass(frozen=True)
class Output:
    """Output of a subject for a recording."""

    # At the recording's rate, and of its length but for the slack; None without a decoder.
    audio: Audio | None
    bytes: int | None  # bytes written, with the container; None where none are


class System:
    """Loaded subject that produces outputs.

    Attributes:
        spec: parsed name of the subject.
        id: text that changes when its outputs may; scores under another are computed again.
        slack: seconds by which an output may be longer or shorter than its recording.
    """

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.id = spec.name
        self.slack = 0.0

    def stamp(self, name: str) -> str:
        """Return a text that changes when the output for one recording may."""
        return self.id

    def output(self, audio: Audio, name: str, cache_stem: Path) -> Output:
        """Return the output for a recording.

        Args:
            audio: the recording, mono.
            name: its path relative to the corpus.
            cache_stem: path without suffix for its cached tokens.

        Raises:
            ValueError: the recording cannot be coded; the message says why.
        """
        raise NotImplementedError

    def describe(self) -> Subject:
        """Return the subject's description, without the counts of a bench."""
        raise NotImplementedError


class BaselineSystem(System):
    """Baseline as a subject."""

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        self.baseline: Baseline = find("baselines", spec.baseline)(spec.option)
        self.slack = self.baseline.slack

    def stamp(self, name: str) -> str:
        """See `System.stamp`."""
        return f"{self.id} {self.baseline.stamp(name)}".strip()

    def output(self, audio: Audio, name: str, cache_stem: Path) -> Output:
        """See `System.output`."""
        return Output(*self.baseline.process(audio, name))

    def describe(self) -> Subject:
        """See `System.described`."""
        nominal = self.baseline.nominal_kbps
        return Subject(self.spec.name, self.spec.kind, nominal, None, dict(self.baseline.facts))


class CodecSystem(System):
    """Codec with its first codebooks as a subject.

    Raises:
        CheckpointError: there is no such codec.
        ValueError: more codebooks are asked for than it has.
    """

    def __init__(self, spec: Spec, device: str, backend: str) -> None:
        super().__init__(spec)
        self.codec: Any = load_in_backend(spec.codec, device, backend)
        self.codec.needs_codes(f"{spec.name} in a benchmark of codes")
        self.decoder: Any = self.codec
        if spec.decoder:
            self.decoder = load_decoder(spec.decoder, source=self.codec.name, device=device)
        if spec.prompted and "prompt" not in self.decoder.conditions:
            raise InputError(f"{spec.name}: decoder {self.decoder.name!r} takes no prompt")
        self.backend = backend
        try:
            self.codebooks = self.codec.kept(spec.codebooks)
        except ValueError as error:
            raise InputError(f"{spec.name}: {error}") from None
        weights = f"{self.codec.fingerprint} {self.decoder.decoder_fingerprint}"
        self.id = f"{weights} {self.codebooks}" + ("" if backend == "torch" else f" {backend}")
        self.id += PROMPTED if spec.prompted else ""

    def output(self, audio: Audio, name: str, cache_stem: Path) -> Output:
        """See `System.output`."""
        tokens = self.tokens(audio, cache_stem).first(self.codebooks)
        path = self.tokens_path(cache_stem).with_suffix(f".{self.codebooks}.tok")
        if not path.exists():
            tokens.save(path)
        decoder = self.decoder.conditioned(prompt=audio) if self.spec.prompted else self.decoder
        decoded = decoder.decode(tokens, original_rate=True) if decoder.decodes else None
        return Output(decoded, path.stat().st_size)

    def tokens(self, audio: Audio, cache_stem: Path) -> Tokens:
        """Return all codebooks of a recording, cached because all rates share them."""
        path = self.tokens_path(cache_stem)
        try:
            return Tokens.load(path)
        except (ValueError, OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
        tokens = self.codec.encode(audio)
        tokens.save(path, force=True)
        return tokens

    def tokens_path(self, cache_stem: Path) -> Path:
        """Return the path of the cached tokens with all codebooks."""
        by = "" if self.backend == "torch" else f".{self.backend}"
        return cache_stem.with_name(f"{cache_stem.name}.{self.codec.fingerprint}{by}.tok")

    def describe(self) -> Subject:
        """See `System.described`."""
        codec, first = self.codec, self.codec.sizes[: self.codebooks]
        facts: dict[str, Any] = {
            "fingerprint": codec.fingerprint,
            "decoder fingerprint": self.decoder.decoder_fingerprint,
            "parameters": getattr(codec, "parameters_total", 0),
            "sample_rate": codec.sample_rate,
            "frames/s": float(codec.frame_rate),
            "codebooks": self.codebooks,
            "causal": codec.causal,
        }
        if self.spec.prompted:
            facts["side information"] = "the decoder hears each recording itself, as its prompt"
        if not facts["parameters"]:  # an exported codec, or one of functions, shows none
            del facts["parameters"]
        if self.backend != "torch":
            facts["backend"] = self.backend
        nominal = float(codec.frame_rate) * sum(map(math.log2, first)) / 1000
        return Subject(self.spec.name, "codec", nominal, None, facts, sizes=list(first))


def load_system(spec: Spec, device: str = "cpu", backend: str = "torch") -> System:
    """Return the loaded subject."""
    return CodecSystem(spec, device, backend) if spec.codec else BaselineSystem(spec)
