"""Exported: a codec that `audiotok export` wrote, run by a backend, with numpy as all it needs.

>>> codec = audiotok.load("speech-onnx/", backend="onnx")
>>> tokens = codec.encode_array(samples, rate=48000)     # samples: numpy [channels samples]
>>> samples = codec.decode_array(tokens)                 # at codec.sample_rate

Its tokens are those of the codec that it was exported from, and either decodes the other's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from audiotok._platform import jsonfile
from audiotok.audio.levels import checked_level, checked_mix, checked_shape
from audiotok.audio.reader import mix, resampled
from audiotok.runtime.backends.base import Backend
from audiotok.runtime.initializers import not_finite
from audiotok.runtime.sessions_numpy import Decoding, Encoding
from audiotok.runtime.signature import Plan
from audiotok.tokens.tokenizer import Tokenizer
from audiotok.tokens.tokens import Tokens

if TYPE_CHECKING:
    from audiotok.audio.audio import Audio

FORMAT = "audiotok export 2"
FIRST = "audiotok export 1"  # before rings; read still, but for what `read_about` refuses
ABOUT = "codec.json"


class ExportError(ValueError):
    """A folder that holds no exported codec, or a damaged one; a codec that cannot be exported."""


def is_exported(path: str | Path) -> bool:
    """Whether this is a folder that `audiotok export` wrote, as far as it may be looked into."""
    try:
        return (Path(path) / ABOUT).is_file()
    except OSError:
        return False


def read_about(folder: str | Path) -> dict[str, Any]:
    """Read codec.json, and check that each file it lists is whole and holds finite weights.

    Raises:
        ExportError: no such folder, or it is damaged; says which file.
    """
    folder = Path(folder)
    try:
        about = jsonfile.parse((folder / ABOUT).read_bytes(), str(folder / ABOUT))
        old = about["format"] == FIRST
        if about["format"] != FORMAT and not old:
            said = f"written as {about['format']!r}, not {FORMAT!r}"
            raise ExportError(f"{folder}: {said}: export it again")
        if old and about["codec"] == "mimi" and about["plan"]["steps"]:
            said = "exported by an older audiotok, whose first frames of Mimi were wrong"
            raise ExportError(f"{folder}: {said}: export it again")
        for graph in about["graphs"].values():
            file = folder / Path(graph["file"]).name
            content = file.read_bytes()
            if hashlib.sha256(content).hexdigest() != graph["sha256"]:
                raise ExportError(f"{file}: damaged (its hash is another): export it again")
            name = not_finite(content)
            if name:
                said = f"tensor {name!r} holds NaN or infinity"
                raise ExportError(f"{file}: {said}: export a checkpoint that does not")
        _check_values(about)
        return about
    except FileNotFoundError as error:
        missing = f"no exported codec: {Path(error.filename).name} is not there"
        raise ExportError(f"{folder}: {missing}; `audiotok export` writes one") from None
    except OSError as error:
        raise ExportError(f"{folder}: cannot be read ({error.strerror})") from None
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, ExportError):
            raise
        raise ExportError(f"{folder / ABOUT}: damaged ({error}): export it again") from None


def _check_values(about: dict[str, Any]) -> None:
    """Raise ValueError unless everything that `Exported` reads has the type it needs."""
    plan = about["plan"]
    counts = {name: plan[name] for name in ("frame_size", "channels", "codebooks", "block")}
    for name, value in {"sample_rate": about["sample_rate"], **counts}.items():
        jsonfile.whole(value, name, least=1, most=2**31)
    for name in ("lead", "first_frames"):
        jsonfile.whole(plan[name], name, least=0, most=2**31)
    for size in about["sizes"]:
        jsonfile.whole(size, "a codebook's size", least=1, most=2**31)
    texts = [(name, about[name]) for name in ("codec", "fingerprint")]
    # What was exported before there were two fingerprints has neither.
    texts.append(("decoder_fingerprint", about.get("decoder_fingerprint", "")))
    texts += [("a former fingerprint", text) for text in about.get("former_fingerprints", [])]
    for name, value in texts:
        if not isinstance(value, str):
            raise ValueError(f"{name} is {jsonfile.shown(value)}, not text")
    made = plan_of(about)
    for kind, shape in (*made.encoder.values(), *made.decoder.values()):
        np.dtype(kind)
        for size in shape:
            jsonfile.whole(size, "a size of a state", least=0, most=2**31)


def plan_of(about: dict[str, Any]) -> Plan:
    """The plan in codec.json."""
    states = {
        way: {name: (kind, tuple(shape)) for name, (kind, shape) in about["plan"][way].items()}
        for way in ("encoder", "decoder")
    }
    rings = tuple(about["plan"].get("rings", ()))  # not in exports of before there were any
    return Plan(**about["plan"] | states | {"rings": rings})


def plan_to_json(plan: Plan) -> dict[str, Any]:
    """What `plan_of` reads."""
    return asdict(plan)


class Exported(Tokenizer):
    """A codec of graphs that a backend runs; `encode` and `decode` as a `Codec` has them.

    Args:
        about: what codec.json says.
        graphs: what runs them.
    """

    def __init__(self, about: dict[str, Any], graphs: Backend) -> None:
        self.about, self.plan, self.graphs = about, plan_of(about), graphs
        self.name, self.sample_rate = about["codec"], about["sample_rate"]
        self.frame_size, self.channels = self.plan.frame_size, self.plan.channels
        self.former_fingerprints = tuple(about.get("former_fingerprints", ()))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Entries in each codebook."""
        return tuple(self.about["sizes"])

    @property
    def fingerprint(self) -> str:
        """That of the weights it was exported from."""
        return self.about["fingerprint"]

    @property
    def decoder_fingerprint(self) -> str:
        """That of the weights it was exported from."""
        # Before there were two, one named encoder and decoder.
        return self.about.get("decoder_fingerprint", self.fingerprint)

    @property
    def constant_memory(self) -> bool:
        """Whether long audio takes no more memory than short: it was exported stepwise."""
        return self.plan.steps

    def encoding(
        self, batch: int = 1, *, codebooks: int | None = None, block: int | None = None
    ) -> Encoding:
        """Takes waves `[b c t]` at the codec's rate piece by piece, and gives codes `[b k f]`: with
        `block` 1 a frame as soon as it is there."""
        kept = self.kept(codebooks)
        return Encoding(self.plan, self.graphs, batch, codebooks=kept, block=block)

    def decoding(
        self, batch: int = 1, *, samples: int | None = None, block: int | None = None
    ) -> Decoding:
        """Takes codes `[b k f]` piece by piece, and gives waves `[b c t]`."""
        return Decoding(self.plan, self.graphs, batch, samples=samples, block=block)

    # -- arrays -----------------------------------------------------------------------------------

    def encode_array(
        self,
        samples: np.ndarray,
        rate: int,
        *,
        codebooks: int | None = None,
        split: bool = False,
    ) -> Tokens:
        """The tokens of one recording.

        Args:
            samples: `[c t]` or `[t]`, full scale at 1.
            rate: theirs, Hz; resampled to the codec's.
            codebooks: how many to keep (all if None).
            split: code each channel by itself, instead of their mean.

        Raises:
            ValueError: samples of another shape, NaN or infinite, or of the size of integers;
                channels that cancel each other; more codebooks than there are.
        """
        x = np.atleast_2d(np.asarray(samples, np.float32))
        if x.ndim != 2 or not len(x) or rate != int(rate) or rate < 1:
            raise ValueError(f"samples must be [channels samples] at a rate, not {x.shape} {rate}")
        checked_shape(*x.shape)
        if not np.isfinite(x).all():
            raise ValueError(f"{int((~np.isfinite(x)).sum())} samples are NaN or infinite")
        if x.size:
            checked_level(float(x.min()), float(x.max()))
        codebooks, length = self.kept(codebooks), x.shape[1]
        if self.streams(len(x), split=split) * self.channels < len(x):
            mixed = mix(x)
            checked_mix(x, mixed)
            x = mixed
        x = _at(x, rate, self.sample_rate)
        codes = [
            np.concatenate([run.push(wave[None]), run.finish()], 2)[0]
            for wave in np.split(x, len(x) // self.channels)
            for run in [self.encoding(codebooks=codebooks)]
        ]
        return self.tokens_of(
            np.concatenate(codes),
            codebooks=codebooks,
            samples=x.shape[1],
            original_rate=rate,
            original_samples=length,
        )

    def decode_array(self, tokens: Tokens) -> np.ndarray:
        """The samples `[c t]` of one recording: exactly as many as went in.

        Raises:
            WrongTokensError: another codec's, or other weights'.
        """
        self.check_tokens(tokens)
        if tokens.codebooks > self.codebooks:
            way = f"tokens.first({self.codebooks}) (--codebooks {self.codebooks})"
            raise ValueError(
                f"tokens of {tokens.codebooks} codebooks; this export has {self.codebooks}: {way}"
            )
        rows = tokens.codes.reshape(tokens.streams, 1, tokens.codebooks, tokens.frames)
        waves = []
        for codes in rows:
            run = self.decoding(samples=tokens.samples)
            waves.append(np.concatenate([run.push(codes), run.finish()], 2)[0])
        return np.concatenate(waves)

    # -- as a Codec; `Audio` needs torch ----------------------------------------------------------

    def encode(self, audio: Audio, *, codebooks: int | None = None, split: bool = False) -> Tokens:
        """See `Codec.encode`."""
        samples = audio.samples.cpu().numpy()
        return self.encode_array(samples, audio.rate, codebooks=codebooks, split=split)

    def decode(self, tokens: Tokens, *, original_rate: bool = False) -> Audio:
        """See `Codec.decode`."""
        import torch

        from audiotok.audio.audio import Audio

        samples, rate = self.decode_array(tokens), self.sample_rate
        if original_rate and tokens.original_rate != rate:
            samples = _at(samples, rate, tokens.original_rate)
            rate = tokens.original_rate
            short = max(0, tokens.original_samples - samples.shape[1])
            samples = np.pad(samples, ((0, 0), (0, short)))[:, : tokens.original_samples]
        return Audio(torch.from_numpy(samples), rate)

    def encode_batch(
        self, audios: Sequence[Audio], *, codebooks: int | None = None
    ) -> list[Tokens]:
        """The tokens of each recording; each runs alone, as on a CPU that fills the cores."""
        return [self.encode(audio, codebooks=codebooks) for audio in audios]

    def decode_batch(self, batch: Sequence[Tokens]) -> list[Audio]:
        """The audio of each recording."""
        return [self.decode(tokens) for tokens in batch]


def _at(samples: np.ndarray, old: int, new: int) -> np.ndarray:
    """`[c t]` at `old` Hz as `[c ceil(t * new / old)]` at `new` Hz."""
    if old == new:
        return samples
    return np.concatenate(list(resampled([samples], old, new, len(samples))), 1)
