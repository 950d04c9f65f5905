"""Exported codec, as written by `audiotok export`: it is run by a backend and needs only numpy.

>>> codec = audiotok.load("speech-onnx/", backend="onnx")
>>> tokens = codec.encode_array(samples, rate=48000)     # samples: numpy [channels samples]
>>> samples = codec.decode_array(tokens)                 # at codec.sample_rate

Its tokens are those of the codec that it was exported from, and each decodes those of the other.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from audiotok._platform import jsonfile
from audiotok._platform.errors import Error, InputError
from audiotok.audio.coerce import Recording, to_array
from audiotok.audio.levels import check_mix
from audiotok.audio.reader import mix, resampled
from audiotok.nn.pretrained.hub import sha256_of
from audiotok.runtime.backends.base import Backend
from audiotok.runtime.base import RunnableCodec
from audiotok.runtime.graph_executor import GraphExecutor, GraphPlan
from audiotok.runtime.initializers import not_finite
from audiotok.runtime.sessions import Decoding, Encoding
from audiotok.tokens.codebooks import NoTableError, semantic_codebooks_of
from audiotok.tokens.kinds import AnyTokens
from audiotok.tokens.tokenizer import TokensLike

if TYPE_CHECKING:
    from audiotok.audio.audio import Audio

FORMAT = "audiotok export 2"
FIRST = "audiotok export 1"  # format without rings; still read except where `read_metadata` refuses
METADATA = "codec.json"


class ExportError(Error, ValueError):
    """Error for a folder without an intact exported codec, or a codec that cannot be exported."""


def is_exported(path: str | Path) -> bool:
    """Return whether this is a readable folder of an exported codec."""
    try:
        return (Path(path) / METADATA).is_file()
    except OSError:
        return False


def read_metadata(folder: str | Path) -> dict[str, Any]:
    """Read codec.json, and check that each file it lists is intact and holds finite weights.

    Args:
        folder: folder of an exported codec; or the JSON file of graphs that ship beside weights.

    Raises:
        ExportError: there is no exported codec or it is damaged; says which file.
    """
    file = Path(folder)
    if file.suffix != ".json":
        file = file / METADATA
    folder = file.parent
    try:
        content = jsonfile.parse(file.read_bytes(), str(file))
        old = content["format"] == FIRST
        if content["format"] != FORMAT and not old:
            problem = f"written as {content['format']!r}, not {FORMAT!r}"
            raise ExportError(f"{folder}: {problem}: export it again")
        if old and content["codec"] == "mimi" and content["plan"]["steps"]:
            problem = "exported by an older audiotok, whose first frames of Mimi were wrong"
            raise ExportError(f"{folder}: {problem}: export it again")
        for graph in content["graphs"].values():
            file = folder / Path(graph["file"]).name
            model = file.read_bytes()
            if hashlib.sha256(model).hexdigest() != graph["sha256"]:
                raise ExportError(f"{file}: damaged (its hash is another): export it again")
            name = not_finite(model)
            if name:
                problem = f"tensor {name!r} holds NaN or infinity"
                raise ExportError(f"{file}: {problem}: export a checkpoint that does not")
            if "data" in graph:  # large weights
                _check_data(folder / Path(graph["data"]["file"]).name, graph["data"]["sha256"])
        if "data" in content:  # weights that graphs read from the checkpoint beside them
            _check_data(folder / Path(content["data"]["file"]).name, content["data"]["sha256"])
        _check_values(content)
        return content
    except FileNotFoundError as error:
        missing = f"no exported codec: {Path(error.filename).name} is not there"
        raise ExportError(f"{folder}: {missing}; `audiotok export` writes one") from None
    except OSError as error:
        raise ExportError(f"{folder}: cannot be read ({error.strerror})") from None
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, ExportError):
            raise
        raise ExportError(f"{folder / METADATA}: damaged ({error}): export it again") from None


def _check_data(file: Path, sha256: str) -> None:
    """Raise ExportError unless a file that graphs read weights from is the one they are of."""
    if sha256_of(file) != sha256:
        raise ExportError(f"{file}: not the weights that the graphs beside it are of: ship both")


def _check_values(content: dict[str, Any]) -> None:
    """Raise ValueError unless everything that `Exported` reads has the type it needs."""
    plan = content["plan"]
    counts = {name: plan[name] for name in ("frame_size", "channels", "codebooks", "block")}
    for name, value in {"sample_rate": content["sample_rate"], **counts}.items():
        jsonfile.whole(value, name, least=1, most=2**31)
    # Older exports lack these keys.
    jsonfile.whole(content.get("width", 0), "width", least=0, most=2**20)
    jsonfile.whole(content.get("decoded_rate", 1), "decoded_rate", least=1, most=2**31)
    if "semantic_codebooks" in content:  # missing in older exports
        jsonfile.whole(content["semantic_codebooks"], "semantic_codebooks", least=0, most=2**12)
    latency = content.get("latency_ms")
    if type(latency) not in (int, float, type(None)):
        raise InputError(f"latency_ms is {jsonfile.shown(latency)}, not a number")
    for name in ("causal", "decodes"):
        if type(content.get(name, True)) is not bool:
            raise InputError(f"{name} is {jsonfile.shown(content[name])}, not true or false")
    if type(plan.get("latents", False)) is not bool:
        raise InputError(f"latents is {jsonfile.shown(plan['latents'])}, not true or false")
    for name in ("lead", "first_frames"):
        jsonfile.whole(plan[name], name, least=0, most=2**31)
    for size in content["sizes"]:
        jsonfile.whole(size, "a codebook's size", least=1, most=2**31)
    texts = [(name, content[name]) for name in ("codec", "fingerprint")]
    # Exports from before there were two fingerprints lack the other keys.
    texts.append(("decoder_fingerprint", content.get("decoder_fingerprint", "")))
    texts += [("a former fingerprint", text) for text in content.get("former_fingerprints", [])]
    for name, value in texts:
        if not isinstance(value, str):
            raise InputError(f"{name} is {jsonfile.shown(value)}, not text")
    states = _plan_of(content)
    for kind, shape in (*states.encoder.values(), *states.decoder.values()):
        np.dtype(kind)
        for size in shape:
            jsonfile.whole(size, "a size of a state", least=0, most=2**31)


def _plan_of(content: dict[str, Any]) -> GraphPlan:
    """Return the plan in the content of codec.json."""
    plan: dict[str, Any] = dict(content["plan"])
    plan["look_ahead"] = plan.pop("lead")  # its name in codec.json
    states = {
        way: {name: (kind, tuple(shape)) for name, (kind, shape) in plan[way].items()}
        for way in ("encoder", "decoder")
    }
    rings = tuple(plan.get("rings", ()))  # missing in exports from before there were rings
    values: dict[str, Any] = {**plan, **states, "rings": rings}
    return GraphPlan(**values)


def plan_to_json(plan: GraphPlan) -> dict[str, Any]:
    """Return a plan as JSON for codec.json, as `_plan_of` reads it."""
    values = asdict(plan)
    values["lead"] = values.pop("look_ahead")
    del values["lags"]  # no export with steps does
    return values


class Exported(RunnableCodec[np.ndarray]):
    """Codec whose graphs a backend runs; it has the `encode` and `decode` of a `Codec`.

    Args:
        metadata: content of codec.json.
        graphs: backend with the graphs of the codec.
        weights: checkpoint that the graphs read weights from, if they do.
    """

    def __init__(
        self, metadata: dict[str, Any], graphs: Backend, weights: Path | None = None
    ) -> None:
        self.metadata = metadata
        self.weights = weights
        self.plan = _plan_of(metadata)
        self.graphs = graphs
        self.name = metadata["codec"]
        self.precision = graphs.precision
        self.sample_rate = metadata["sample_rate"]
        self.frame_size = self.plan.frame_size
        self.channels = self.plan.channels
        self.former_fingerprints = tuple(metadata.get("former_fingerprints", ()))
        self.semantic_codebooks = metadata.get(
            "semantic_codebooks", semantic_codebooks_of(self.name)
        )

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of entries in each codebook."""
        return tuple(self.metadata["sizes"])

    @property
    def width(self) -> int:
        """See `Tokenizer.width`."""
        return self.metadata.get("width", 0)  # missing in exports from before there were latents

    @property
    def decodes(self) -> bool:
        """See `Tokenizer.decodes`."""
        return self.metadata.get("decodes", True)

    @property
    def decoded_rate(self) -> int:
        """See `Tokenizer.decoded_rate`."""
        return self.metadata.get("decoded_rate", self.sample_rate)

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the codec it was exported from."""
        return self.metadata["fingerprint"]

    @property
    def decoder_fingerprint(self) -> str:
        """Decoder fingerprint of the codec it was exported from."""
        # In older exports, one fingerprint is that of encoder and decoder.
        return self.metadata.get("decoder_fingerprint", self.fingerprint)

    @property
    def latency(self) -> float:
        """Algorithmic latency in seconds; infinite if the first sample waits for the last."""
        milliseconds = self.metadata.get("latency_ms")
        return math.inf if milliseconds is None else milliseconds / 1000

    @property
    def causal(self) -> bool:
        """True if no frame waits for later ones."""
        # Older exports lack the key, and only those of causal codecs have a latency.
        return self.metadata.get("causal", self.latency < math.inf)

    @property
    def constant_memory(self) -> bool:
        """True if the export has steps, with which long audio takes no more memory than short."""
        return self.plan.steps

    @property
    def exact_chunks(self) -> bool:
        """True: what cannot be cut exactly is not exported."""
        return True

    @property
    def executor(self) -> GraphExecutor:
        """Executor of the graphs, for sessions and streams."""
        return GraphExecutor(self.plan, self.graphs)

    # -- arrays -----------------------------------------------------------------------------------

    def codebook_embeddings(self) -> list[np.ndarray]:
        """Return the embedding table `[entries d]` of each codebook, as `Codec` does.

        Raises:
            NoTableError: the graphs are none that ship beside the weights of the codec.
        """
        tensors = self.metadata.get("embeddings")
        if self.weights is None or not tensors:
            raise NoTableError(f"an exported {self.name} has no tables: load it in torch")
        from safetensors import safe_open

        with safe_open(self.weights, "numpy") as file:
            return [file.get_tensor(name).astype(np.float32) for name in tensors]

    def encode_array(
        self,
        samples: np.ndarray,
        rate: int,
        *,
        codebooks: int | None = None,
        split: bool = False,
    ) -> AnyTokens:
        """Encode one recording.

        Args:
            samples: `[c t]` or `[t]`, floats with full scale 1 or integers of 8, 16 or 32 bits.
            rate: sample rate in Hz; the samples are resampled to the rate of the codec.
            codebooks: number of codebooks to keep, from the first (all if None).
            split: code each channel by itself, instead of their mean.

        Raises:
            ValueError: samples have another shape or type, are NaN or infinite, or have the scale
                of integers; channels cancel each other; there are not so many codebooks.
        """
        return self.encode(samples, rate, codebooks=codebooks, split=split)

    def decode_array(self, tokens: TokensLike) -> np.ndarray:
        """Decode one recording to samples `[c t]`, exactly as many as were encoded.

        Where `decoded_rate` is another than that of the tokens, they are as many at that rate.

        Args:
            tokens: tokens of the codec; or their codes `[k f]`, as an array of integers. Of a codec
                of latents `Latents`; or their numbers `[d f]`.

        Raises:
            NoDecoderError: it has no decoder.
            WrongTokensError: the tokens are of another codec or other weights.
            ValueError: they have more codebooks than this export, or codes do not fit it.
        """
        self.check_decodes()
        tokens = self.to_tokens(tokens)
        books = len(tokens.header.sizes)
        if books > self.codebooks:
            way = f"give tokens.first({self.codebooks})"
            raise InputError(
                f"tokens of {books} codebooks; this export has {self.codebooks}: {way}"
            )
        rows = tokens.numbers.reshape(tokens.streams, 1, tokens.header.stream_rows, tokens.frames)
        waves, samples = [], self.decoded_samples(tokens.samples)
        for codes in rows:
            run = Decoding(self.executor, samples=samples)
            waves.append(np.concatenate([run.push(codes), run.finish()], 2)[0])
        return np.concatenate(waves)

    # -- interface of a Codec; `Audio` needs torch ------------------------------------------------

    def encode(
        self,
        recording: Recording,
        rate: int | None = None,
        *,
        codebooks: int | None = None,
        split: bool = False,
    ) -> AnyTokens:
        """See `Codec.encode`; neither files nor arrays need torch."""
        x, rate = to_array(recording, rate)
        codebooks, length = self.kept(codebooks), x.shape[1]
        if self.streams(len(x), split=split) * self.channels < len(x):
            mixed = mix(x)
            check_mix(x, mixed)
            x = mixed
        x = _resample(x, rate, self.sample_rate)
        codes = [
            np.concatenate([run.push(wave[None]), run.finish()], 2)[0]
            for wave in np.split(x, len(x) // self.channels)
            for run in [Encoding(self.executor, codebooks=codebooks)]
        ]
        return self.tokens_of(
            np.concatenate(codes),
            codebooks=codebooks,
            samples=x.shape[1],
            original_rate=rate,
            original_samples=length,
        )

    def decode(
        self, tokens: TokensLike, *, samples: int | None = None, original_rate: bool = False
    ) -> Audio:
        """See `Codec.decode`."""
        import torch

        from audiotok.audio.audio import Audio

        tokens = self.to_tokens(tokens, samples=samples)
        wave, rate = self.decode_array(tokens), self.decoded_rate
        if original_rate and tokens.original_rate != rate:
            wave = _resample(wave, rate, tokens.original_rate)
            rate = tokens.original_rate
            short = max(0, tokens.original_samples - wave.shape[1])
            wave = np.pad(wave, ((0, 0), (0, short)))[:, : tokens.original_samples]
        return Audio(torch.from_numpy(wave), rate)

    def encode_batch(
        self,
        recordings: Sequence[Recording],
        rate: int | None = None,
        *,
        codebooks: int | None = None,
        group: int | None = None,
    ) -> list[AnyTokens]:
        """Encode recordings one after the other, as each by itself uses all cores of a CPU.

        See `Codec.encode_batch`; whatever `group` is, no two run side by side.
        """
        return [self.encode(recording, rate, codebooks=codebooks) for recording in recordings]

    def decode_batch(self, batch: Sequence[TokensLike], *, group: int | None = None) -> list[Audio]:
        """Decode recordings one after the other, as `encode_batch` does."""
        return [self.decode(tokens) for tokens in batch]

    def __repr__(self) -> str:
        backend = type(self.graphs).__name__
        return f"<{self.facts()}, {self.fingerprint} exported, run by {backend}>"


def _resample(samples: np.ndarray, old: int, new: int) -> np.ndarray:
    """Resample samples `[c t]` at `old` Hz to `[c ceil(t * new / old)]` at `new` Hz."""
    if old == new:
        return samples
    return np.concatenate(list(resampled([samples], old, new, len(samples))), 1)
