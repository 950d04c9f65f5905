"""Subjects of a bench, codecs at a rate or baselines: their outputs and bytes.

speech            a codec by name, all codebooks         speech@4    its first 4
runs/x.safetensors@2                                     a checkpoint, the same
dmel_40hz+griffin_lim                                    a tokenizer and a decoder apart from it
units+voice.safetensors+prompt                           each recording is the decoder's prompt
tadicodec+mel_flow.safetensors+text+prompt               and its transcript its text
units+flow.safetensors+steps=8+guidance=2                other conditions of the decoder, or a seed
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
from audiotok.codecs.decoders.base import in_words
from audiotok.codecs.load import load_decoder, load_in_backend
from audiotok.evaluation.baselines.base import Baseline
from audiotok.evaluation.results import SIDE, Subject
from audiotok.tokens.kinds import AnyTokens, load_tokens

PROMPTED = "+prompt"
TEXTED = "+text"
# What follows the name of a decoder: the recording's own, or a condition with its value.
CONDITION = re.compile(r"\+(?:(prompt|text)|([a-z_]+)=([^+]+))$")
OWN = ("prompt", "text", "prompt_text")  # conditions that are each recording's own


@dataclass(frozen=True)
class Spec:
    """Parsed name of a subject."""

    name: str
    codec: str = ""  # a name, a checkpoint or code; "" for a baseline
    decoder: str = ""  # name or checkpoint of a decoder apart from the codec; "" for its own
    prompted: bool = False  # whether each recording is the decoder's prompt
    texted: bool = False  # whether each recording's transcript is the decoder's text
    given: tuple[tuple[str, Any], ...] = ()  # names and values of its other conditions
    codebooks: int | None = None  # None: all
    baseline: str = ""
    option: str = ""

    @property
    def kind(self) -> str:
        """Kind of the subject, as in `results.Subject`."""
        return "codec" if self.codec else "folder" if self.baseline == "folder" else "anchor"

    @classmethod
    def parse(cls, name: str) -> Spec:
        """Return the subject that `name` means; a codec is only looked up when it is loaded.

        Raises:
            InputError: a condition is given twice.
        """
        head, _, tail = name.partition(":")
        if head in names("baselines"):
            return cls(name, baseline=head, option=tail)
        codec, at, count = name.rpartition("@")
        codebooks = int(count) if at and count.isdecimal() else None
        codec = name if codebooks is None else codec
        pair, own, given = codec, set[str](), dict[str, Any]()
        while end := CONDITION.search(pair):
            way, condition, value = end.groups()
            if condition in given:
                raise InputError(f"{name}: {condition} is given twice")
            if way:
                own.add(way)
            else:
                given[condition] = _value(value)
            pair = pair[: end.start()]
        tokenizer, plus, decoder = pair.rpartition("+")
        if plus and (_is_decoder(decoder) or Path(decoder).is_file()):
            conditions = "prompt" in own, "text" in own, tuple(sorted(given.items()))
            return cls(name, tokenizer, decoder, *conditions, codebooks)
        return cls(name, codec=codec, codebooks=codebooks)

    @property
    def folder(self) -> str:
        """File name for outputs of this subject."""
        return re.sub(r"[^\w@.+-]+", "_", self.name).strip("_")


def _value(text: str) -> Any:
    """Return a value of a condition: a number where it is one, else text."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


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

    def stamp(self, name: str, text: str = "") -> str:
        """Return a text that changes when the output for one recording may."""
        return f"{self.id} {text}" if self.spec.texted else self.id

    def output(self, audio: Audio, name: str, cache_stem: Path, text: str = "") -> Output:
        """Return the output for a recording.

        Args:
            audio: the recording, mono.
            name: its path relative to the corpus.
            cache_stem: path without suffix for its cached tokens.
            text: its transcript, "" where none is known.

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

    def stamp(self, name: str, text: str = "") -> str:
        """See `System.stamp`."""
        return f"{self.id} {self.baseline.stamp(name)}".strip()

    def output(self, audio: Audio, name: str, cache_stem: Path, text: str = "") -> Output:
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
        self.decoder: Any = self.codec
        if spec.decoder:
            self.decoder = load_decoder(spec.decoder, source=self.codec.name, device=device)
        for way, asked in (("prompt", spec.prompted), ("text", spec.texted)):
            if asked and way not in self.decoder.conditions:
                raise InputError(f"{spec.name}: decoder {self.decoder.name!r} takes no {way}")
        self.given = dict(spec.given)
        if self.given:
            self.decoder = self._conditioned()
        self.backend = backend
        try:
            self.codebooks = self.codec.kept(spec.codebooks)
        except ValueError as error:
            raise InputError(f"{spec.name}: {error}") from None
        weights = f"{self.codec.fingerprint} {self.decoder.decoder_fingerprint}"
        self.id = f"{weights} {self.codebooks}" + ("" if backend == "torch" else f" {backend}")
        self.id += (PROMPTED if spec.prompted else "") + (TEXTED if spec.texted else "")
        self.id += "".join(f" {name}={value}" for name, value in spec.given)

    def _conditioned(self) -> Any:
        """Return the decoder with the conditions that are the same for all recordings."""
        takes = [name for name in self.decoder.conditions if name not in OWN]
        takes += ["seed"] if self.decoder.random else []
        try:
            for name in self.given:
                if name not in takes:
                    known = ", ".join(takes) or "none"
                    raise InputError(f"no condition {name!r} for all recordings; there are {known}")
            # A text's tokenizer goes with the text, which comes with each recording.
            late = {"text_tokenizer"} if self.spec.texted else set[str]()
            return self.decoder.conditioned(
                **{name: value for name, value in self.given.items() if name not in late}
            )
        except InputError as error:
            raise InputError(f"{self.spec.name}: {error}") from None

    def output(self, audio: Audio, name: str, cache_stem: Path, text: str = "") -> Output:
        """See `System.output`."""
        tokens = self.first_tokens(audio, cache_stem)
        path = self.tokens_path(cache_stem).with_suffix(f".{self.codebooks}.tok")
        if not path.exists():
            tokens.save(path)
        decoder = self.decoder
        if self.spec.prompted or self.spec.texted:
            if self.spec.texted and not text:
                raise InputError(f"{name}: no transcript, which {self.spec.name} is given")
            prompt = audio if self.spec.prompted else None
            transcript = text if self.spec.texted else None
            ways = {"prompt": prompt, "text": transcript}
            ways["prompt_text"] = transcript if prompt is not None else None
            own = {k: v for k, v in ways.items() if v is not None}
            decoder = decoder.conditioned(**self.given, **own)
        decoded = decoder.decode(tokens, original_rate=True) if decoder.decodes else None
        return Output(decoded, path.stat().st_size)

    def tokens(self, audio: Audio, cache_stem: Path) -> AnyTokens:
        """Return all codebooks, or the latents, of a recording, cached as all rates share them."""
        path = self.tokens_path(cache_stem)
        try:
            return load_tokens(path)
        except (ValueError, OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
        tokens = self.codec.encode(audio)
        tokens.save(path, force=True)
        return tokens

    def first_tokens(self, audio: Audio, cache_stem: Path) -> AnyTokens:
        """Return the subject's first codebooks, or the latents, of a recording."""
        tokens = self.tokens(audio, cache_stem)
        return tokens if self.codec.width else tokens.first(self.codebooks)

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
            **({"latents": codec.width} if codec.width else {"codebooks": self.codebooks}),
            "causal": codec.causal,
        }
        if self.spec.decoder and self.decoder.side_information:
            own = {
                **({"prompt": "each recording itself"} if self.spec.prompted else {}),
                **({"text": "each recording's transcript"} if self.spec.texted else {}),
            }
            facts[SIDE] = in_words({**self.decoder.side_information, **self.given, **own})
        if not facts["parameters"]:  # an exported codec, or one of functions, shows none
            del facts["parameters"]
        if self.backend != "torch":
            facts["backend"] = self.backend
        bits = 32 * codec.width + sum(map(math.log2, first))
        nominal = float(codec.frame_rate) * bits / 1000
        return Subject(self.spec.name, "codec", nominal, None, facts, sizes=list(first))


def load_system(spec: Spec, device: str = "cpu", backend: str = "torch") -> System:
    """Return the loaded subject."""
    return CodecSystem(spec, device, backend) if spec.codec else BaselineSystem(spec)
