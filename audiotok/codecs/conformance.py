"""Conformance: a certificate of whether a codec keeps the promises that every codec makes.

Each check runs the codec through its public interface only, so it holds for a codec that ships, one
you trained, one with other weights, and one of another package. A check that cannot apply gives the
reason and is no failure; one that cannot be tried, as the codec lacks what it calls, is no pass.
Of a tokenizer without a decoder the checks hold for the codes. Where a codec has no codes, latents
take their place; where rounding may decide, they may be off by as much as samples may.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from audiotok._platform.errors import Error, InputError
from audiotok.audio.audio import Audio
from audiotok.nn.finite import not_finite
from audiotok.runtime.graph_executor import GraphExecutor
from audiotok.runtime.sessions import Decoding, Encoding
from audiotok.runtime.stream import Stream
from audiotok.tokens.kinds import AnyTokens, load_tokens

if TYPE_CHECKING:
    from audiotok.codecs.models.base import Codec
else:
    Codec = Any  # whatever has the members that a check uses

NEAR_TIES = 1e-3  # share of frames in which rounding may decide between two equally near entries
TOLERANCE = 1e-4  # largest difference of samples, relative to the loudest sample

Verdict = Literal["pass", "fail", "does not apply", "not tried"]


@dataclass(frozen=True)
class CheckResult:
    """A result of one check: its name, the verdict, and a measurement or a reason."""

    check: str
    verdict: Verdict
    message: str


class PromiseError(Error):
    """A promise that is not kept; the message describes the difference."""


class NoCodecError(Error, ValueError):
    """Error of an object that lacks what every check uses."""


class InapplicableError(Error):
    """A check that does not apply to this codec or machine; the message gives the reason."""


def conform(codec: Codec, audio: Audio | None = None) -> Iterator[CheckResult]:
    """Run every check on a codec and yield the result of each as it ends.

    Args:
        codec: codec in eval mode, on any device; or an object with a part of its members, of which
            those of `ESSENTIAL` are needed, and checks that use others are not tried.
        audio: recording to run the checks on, at least 3 s; bursts of noise if None.

    Raises:
        ValueError: the audio is too short.
        NoCodecError: an essential member is missing.
    """
    missing = _missing(codec, ESSENTIAL)
    if missing:
        kind = type(codec).__name__
        raise NoCodecError(f"an object of type {kind} lacks {', '.join(missing)}: no codec to try")
    audio = audio or bursts(codec.sample_rate, 12.0)
    if audio.seconds < 3:
        raise InputError(f"{audio.seconds:.2f} s of audio are too short to try a codec on: 3 s")
    if audio.channels != codec.channels:
        mono = audio.mono().samples
        audio = Audio(mono.expand(codec.channels, -1).contiguous(), audio.rate)
    audio = audio.resample(codec.sample_rate)
    for name, check in CHECKS.items():
        verdict: Verdict = "pass"
        try:
            missing = _missing(codec, USED.get(name, ()))
            if missing and _is_exported(codec):
                reason = f"an exported codec shows no {', '.join(missing)}"
                yield CheckResult(name, "does not apply", reason)
                continue
            if missing:
                more = f" and {len(missing) - 4} others" if len(missing) > 4 else ""
                message = f"it lacks {', '.join(missing[:4])}{more}"
                yield CheckResult(name, "not tried", message)
                continue
            message = check(codec, audio)
        except PromiseError as failure:
            verdict, message = "fail", str(failure)
        except InapplicableError as reason:
            verdict, message = "does not apply", str(reason)
        except Exception as error:  # whatever the code of another package raises
            verdict = "fail"
            message = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        yield CheckResult(name, verdict, message)


def bursts(rate: int, seconds: float) -> Audio:
    """Return noise whose loudness and colour vary a few times a second, the same every time.

    Args:
        rate: Hz.
        seconds: duration.
    """
    random = torch.Generator().manual_seed(0)
    samples = int(rate * seconds)
    time = torch.arange(samples) / rate
    white = torch.randn(1, samples, generator=random)
    dark = torch.nn.functional.avg_pool1d(white[None], 9, 1, 4)[0]
    loud = 0.05 + 0.1 * (1 + torch.sin(2 * torch.pi * 3.1 * time))
    mixed = 0.5 + 0.5 * torch.sin(2 * torch.pi * 1.3 * time)
    return Audio(loud * (mixed * white + (1 - mixed) * 2 * dark), rate)


def _weights(codec: Codec, audio: Audio) -> str:
    """Check that all weights are finite."""
    state = codec.state_dict()
    if not state:
        raise InapplicableError("it shows no weights, and may have some all the same")
    bad = not_finite(state)
    if bad:
        raise PromiseError(f"{bad[0]} holds {bad[1]}")
    return f"{codec.parameters_total} parameters, all finite"


def _lengths(codec: Codec, audio: Audio) -> str:
    """Check that recordings of many lengths give the right number of frames and samples."""
    frame = codec.frame_size
    lengths = [0, 1, frame - 1, frame, frame + 1, 3 * frame + frame // 2, 12345 % len(audio)]
    for n in lengths:
        tokens = codec.encode(audio[:n])
        if tokens.frames != -(-n // frame):
            raise PromiseError(f"{n} samples give {tokens.frames} frames, not {-(-n // frame)}")
        wanted = _decoded_samples(codec, n)
        decoded = len(codec.decode(tokens)) if _decodes(codec) else wanted
        if decoded != wanted:
            raise PromiseError(f"{n} samples come back as {decoded}, not {wanted}")
    kept = "come back exactly" if _decodes(codec) else "give a frame for each one begun"
    return f"{len(lengths)} lengths {kept}"


def _determinism(codec: Codec, audio: Audio) -> str:
    """Check that encoding and decoding twice give the same result."""
    one, other = codec.encode(audio), codec.encode(audio)
    if one != other:
        raise PromiseError(f"{_differing(one, other)} frames differ between two runs")
    if not _decodes(codec):
        return "encoding twice gives the same codes"
    if not torch.equal(codec.decode(one).samples, codec.decode(one).samples):
        raise PromiseError("decoding the same codes twice gives two waveforms")
    return "encoding and decoding twice give the same bits"


def _round_trip(codec: Codec, audio: Audio) -> str:
    """Check that tokens survive a file, and that decoded samples are finite."""
    tokens = codec.encode(audio)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.tok"
        tokens.save(path)
        if load_tokens(path) != tokens:
            raise PromiseError("a token file does not give back its tokens")
    if _decodes(codec) and not codec.decode(tokens).samples.isfinite().all():
        raise PromiseError("decoded samples are not finite")
    if tokens.kind == "codes" and codec.encode(audio, codebooks=1) != tokens.first(1):
        raise PromiseError("one codebook is not the first of all")
    return f"{tokens.frames} frames, {tokens.kbps:.3g} kbps, through a file and back"


def _batch(codec: Codec, audio: Audio) -> str:
    """Check that recordings in a batch give what each gives alone."""
    audios = [audio, audio[: len(audio) // 2 + 77], audio[: 5 * codec.frame_size + 1], audio[:1]]
    alone = [codec.encode(a) for a in audios]
    differ = 0
    for group in (1, len(audios)):
        batch = codec.encode_batch(audios, group=group)
        differ = sum(_differing(a, b) for a, b in zip(alone, batch, strict=True))
        _near_ties(differ, sum(a.frames for a in alone), f"in a batch, {group} at a time,")
    decoded = codec.decode_batch(alone, group=len(audios)) if _decodes(codec) else []
    for one, tokens in zip(decoded, alone, strict=bool(decoded)):
        _close(one.samples, codec.decode(tokens).samples, "decoded in a batch")
    return f"{len(audios)} unlike lengths side by side: {differ} frames differ from those alone"


def _chunks(codec: Codec, audio: Audio) -> str:
    """Check that pieces of any size give the codes and samples of the whole."""
    if not codec.exact_chunks:
        raise InapplicableError("it says itself that chunks give other codes than the whole")
    tokens, executor = codec.encode(audio), codec.executor
    codes = executor.array(tokens.numbers[None])
    wave = codec.decode(tokens).samples.numpy() if _decodes(codec) else None
    random = np.random.default_rng(0)
    for most in (997, 3 * executor.plan.block * codec.frame_size // 2):
        encoding = Encoding(executor)
        pieces = _cut(executor.array(audio.samples), most, random)
        encoded = executor.join([*(encoding.push(x[None]) for x in pieces), encoding.finish()], 2)
        if not np.array_equal(executor.numpy(encoded)[0], tokens.numbers):
            raise PromiseError(f"pieces of up to {most} samples give other codes")
        if wave is None:
            continue
        decoding = Decoding(executor, samples=_decoded_samples(codec, len(audio)))
        frames = max(1, most // codec.frame_size)
        pieces = _cut(codes[0], frames, random)
        decoded = executor.join([*(decoding.push(x[None]) for x in pieces), decoding.finish()], 2)
        if not np.array_equal(executor.numpy(decoded)[0], wave):
            raise PromiseError(f"pieces of up to {frames} frames give other samples")
    memory = "memory does not grow" if codec.constant_memory else "a layer keeps the whole"
    return f"any cutting gives the same bits; {memory}"


def _stream(codec: Codec, audio: Audio) -> str:
    """Check that a stream gives the codes and samples of the whole."""
    if not math.isfinite(codec.latency):
        raise InapplicableError("it needs the end of a recording before it begins")
    audio = audio[: 3 * codec.sample_rate]
    tokens, stream = codec.encode(audio), Stream(codec)
    executor = codec.executor
    pieces = _cut(audio.samples, 3 * codec.frame_size, np.random.default_rng(1))
    encoded = [stream.encode(x) for x in pieces]
    codes = executor.numpy(executor.join([*encoded, stream.finish_encode()], 1))
    live = tokens.holding(codes)
    _near_ties(_differing(tokens, live), tokens.frames, "in a stream")
    if _decodes(codec):
        decoded = executor.join([stream.decode(tokens), stream.finish_decode()], 1)
        length = _decoded_samples(codec, len(audio))
        samples = torch.from_numpy(executor.numpy(decoded)[:, :length])
        _close(samples, codec.decode(tokens).samples, "decoded in a stream")
    return f"latency {1000 * codec.latency:.1f} ms; {_differing(tokens, live)} frames differ"


def _receptive_field(codec: Codec, audio: Audio) -> str:
    """Check that audio after the declared receptive field does not change a frame."""
    before, after = codec.receptive_field
    frame, tokens = codec.frame_size, codec.encode(audio)
    seconds = [x / codec.sample_rate for x in (before, after)]
    message = f"{seconds[0]:.3f} s before a frame, {seconds[1]:.3f} s after it"
    middle = tokens.frames // 2
    past = (middle + 1) * frame + after
    if not math.isfinite(after):
        raise InapplicableError("a frame may depend on the whole recording")
    if past + frame >= len(audio):
        raise InapplicableError(f"{message}: farther than this recording reaches")
    samples = audio.samples.clone()
    samples[:, int(past) :] = -samples[:, int(past) :]
    other = codec.encode(Audio(samples, audio.rate))
    differ = int(_differs(tokens, other)[: middle + 1].sum())
    _near_ties(differ, middle + 1, "with other audio past the declared field")
    return message


def _precision(codec: Codec, audio: Audio) -> str:
    """Check that float64 gives the codes of float32, and measure bfloat16."""
    tokens, samples = codec.encode(audio), audio.samples.to(codec.device)
    if codec.device.type == "mps":
        raise InapplicableError("this device has no float64")
    if not any(weight.is_floating_point() for weight in codec.encoder.state_dict().values()):
        raise InapplicableError("its encoder shows no weights whose precision could be changed")
    codec.encoder.double()  # exactly reversible; codebooks are always searched in float32
    try:
        encoding = Encoding(codec.executor)
        codes = torch.cat([encoding.push(samples[None].double()), encoding.finish()], 2)[0]
    finally:
        codec.encoder.float()
    exact = tokens.holding(codes.cpu().numpy())
    _near_ties(_differing(tokens, exact), tokens.frames, "in float64")
    with torch.autocast(codec.device.type, dtype=torch.bfloat16):
        rough = codec.encode(audio)
    differ = f"{_differing(tokens, exact)} frames differ in float64"
    if tokens.kind == "latents":
        off = np.abs(rough.numbers - tokens.numbers).max() / np.abs(tokens.numbers).max()
        return f"{differ}; bfloat16 is off by {off:.1e} of the largest"
    return f"{differ}; bfloat16 keeps {float((rough.codes == tokens.codes).mean()):.1%}"


def _devices(codec: Codec, audio: Audio) -> str:
    """Check that a CPU and a GPU give the same codes."""
    device, other_device = codec.device, "cuda" if torch.cuda.is_available() else ""
    if not other_device:
        raise InapplicableError("no other device is here")
    tokens = codec.to("cpu").encode(audio)
    try:
        other = codec.to(other_device).encode(audio)
    finally:
        codec.to(device)
    _near_ties(_differing(tokens, other), tokens.frames, f"on {other_device}")
    return f"{_differing(tokens, other)} frames differ between cpu and {other_device}"


CHECKS: dict[str, Callable[[Codec, Audio], str]] = {
    "weights": _weights,
    "round trip": _round_trip,
    "length": _lengths,
    "determinism": _determinism,
    "batch": _batch,
    "chunk": _chunks,
    "stream": _stream,
    "receptive field": _receptive_field,
    "dtype": _precision,
    "device": _devices,
}


ESSENTIAL = ("name", "sample_rate", "frame_size", "channels", "encode", "decode")
"""Members that every check uses."""

USED = {
    "weights": ("state_dict", "parameters_total"),
    "batch": ("encode_batch", "decode_batch"),
    "chunk": ("exact_chunks", "constant_memory", "executor"),
    "stream": ("latency", "executor"),
    "receptive field": ("receptive_field",),
    "dtype": ("encoder", "executor"),
    "device": ("device", "to"),
}
"""Other members that a check uses."""


def _decodes(codec: Any) -> bool:
    """Return whether a codec has a decoder; one of another package that does not say so has."""
    return getattr(codec, "decodes", True)


def _decoded_samples(codec: Any, samples: int) -> int:
    """Return the length that a recording decodes to: its own unless a codec says otherwise."""
    return codec.decoded_samples(samples) if hasattr(codec, "decoded_samples") else samples


def _is_exported(codec: Any) -> bool:
    """Return whether graphs run a codec, which shows neither layers nor weights."""
    return isinstance(getattr(codec, "executor", None), GraphExecutor)


def _missing(codec: Any, members: Iterable[str]) -> list[str]:
    """Return the members that a codec lacks."""

    def there(member: str) -> bool:
        try:
            return hasattr(codec, member)
        except NotImplementedError:  # a property that a base class leaves to be defined
            return False

    return [member for member in members if not there(member)]


def _cut(x: Any, most: int, random: np.random.Generator) -> Iterator[Any]:
    """Yield pieces of random sizes, up to `most`, along the last axis."""
    while x.shape[1]:
        size = int(random.integers(0, most + 1))
        yield x[:, :size]
        x = x[:, size:]


def _differing(one: AnyTokens, other: AnyTokens) -> int:
    """Return the number of frames that differ; all of them where the numbers of frames differ."""
    if one.numbers.shape != other.numbers.shape:
        return max(one.frames, other.frames)
    return int(_differs(one, other).sum())


def _differs(one: AnyTokens, other: AnyTokens) -> np.ndarray:
    """Return for each frame `[f]` whether a code differs, or a latent by more than tolerance."""
    if one.kind == "codes":
        return (one.codes != other.codes).any(0)
    most = TOLERANCE * np.abs(one.numbers).max(initial=1e-3)
    return (np.abs(one.numbers - other.numbers) > most).any(0)


def _near_ties(differ: int, frames: int, where: str) -> None:
    """Raise PromiseError if more frames differ than near-ties explain."""
    if differ > max(1, NEAR_TIES * frames):
        raise PromiseError(f"{where} {differ} of {frames} frames have other codes")


def _close(one: torch.Tensor, other: torch.Tensor, what: str) -> None:
    """Raise PromiseError if samples differ by more than the tolerance."""
    worst = float((one - other).abs().max()) if one.shape == other.shape else math.inf
    if not worst <= TOLERANCE * max(1e-3, float(other.abs().max())):
        raise PromiseError(f"{what}, samples are off by {worst:.1e}")
