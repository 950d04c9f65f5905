"""Training of a flow from tokens of a tokenizer to latents of a codec, which stay as they are.

    recordings -> tokens of the tokenizer, latents of the codec -> stretches -> steps of training

The loss is the mean square of what the velocity is off by (`nn.flow.straight_path`), at random
times. No sound is decoded. Tokens and latents of all recordings stay in memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from typing import Annotated, NamedTuple

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from audiotok._platform.config import SEED
from audiotok._platform.errors import InputError
from audiotok.codecs.decoders.base import Source
from audiotok.codecs.decoders.flow import Config, Flow
from audiotok.codecs.embeddings import entries_of
from audiotok.codecs.latents import latents_of, mono_audio
from audiotok.codecs.models.base import Codec
from audiotok.codecs.one_cycle import descend
from audiotok.data.recording import Recording
from audiotok.nn.flow import straight_path
from audiotok.nn.quantizer import check_type

TIMES = 8  # times at which a held-out loss is measured


@dataclass(frozen=True)
class FlowTraining:
    """Settings of the training of a flow.

    Attributes:
        steps: steps of training.
        batch: stretches of a step.
        seconds: length of a stretch.
        rate: largest learning rate of AdamW, which rises for a twentieth of the steps and falls by
            a cosine.
        drop: share of stretches without a condition, from which guidance learns.
        whole: share of stretches with all codebooks; the others have a random number of the first.
        entries: whether embeddings begin as the entries of the tokenizer's codebooks; at random,
            if not.
        seed: random seed of weights, stretches, times and noise.
    """

    steps: int = 2000
    batch: int = 16
    seconds: float = 2.0
    rate: float = 1e-3
    drop: float = 0.1
    whole: float = 0.5
    entries: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        sized = all(0 < x < math.inf for x in (self.rate, self.seconds))
        if min(self.steps, self.batch) < 1 or not sized:
            raise InputError(
                f"{self.steps} steps of {self.batch} stretches of {self.seconds:g} s at rate "
                f"{self.rate:g}: at least one of each, and more than nothing"
            )
        check_type("seed", self.seed, Annotated[int, SEED])
        if not (0 <= self.drop < 1 and 0 <= self.whole <= 1):
            raise InputError(f"drop {self.drop:g}, whole {self.whole:g}: shares from 0 to 1")


class Pair(NamedTuple):
    """Codes `[k f]` of a recording, and latents `[d g]` of as many seconds."""

    codes: Tensor
    latents: Tensor


def flow_pairs(
    tokenizer: Codec,
    codec: Codec,
    recordings: Sequence[Recording],
    *,
    console: Console | None = None,
) -> list[Pair]:
    """Return codes and latents of recordings; those that cannot be read are left out and logged.

    Args:
        tokenizer: tokenizer of the codes.
        codec: codec of the latents.
        recordings: recordings of any length and rate.
        console: where progress is shown; stderr if None.

    Raises:
        NoCodesError: the tokenizer gives latents.
    """
    tokenizer.needs_codes("a flow")
    pairs = []
    for audio in mono_audio(recordings, f"{tokenizer.name} and {codec.name}", console=console):
        codes = tokenizer.encode(audio).codes
        latents = latents_of(codec, audio).values
        pairs.append(Pair(torch.from_numpy(codes.copy()), torch.tensor(latents)))
    return pairs


def fit_flow(
    pairs: Sequence[Pair],
    tokenizer: Codec,
    codec: Codec,
    config: Config | None = None,
    training: FlowTraining | None = None,
    *,
    console: Console | None = None,
) -> Flow:
    """Return a decoder of a tokenizer's tokens that makes latents of a codec.

    Args:
        pairs: codes and latents of `flow_pairs`; those shorter than a stretch are left out.
        tokenizer: tokenizer of the codes.
        codec: codec of the latents.
        config: sizes of the network, and how it samples; source, codec and features are set here.
        training: settings.
        console: where progress is shown; stderr if None.

    Returns:
        The decoder in eval mode, with a card of the training.

    Raises:
        InputError: no pair is long enough, codec and tokenizer do not fit (`Flow`), or the
            tokenizer has no entries that fit the network.
    """
    training = training or FlowTraining()
    source = Source(
        tokenizer.name,
        tokenizer.sample_rate,
        tokenizer.frame_size,
        tokenizer.sizes,
        "" if tokenizer.own_weights else tokenizer.fingerprint,
    )
    whole = torch.cat([pair.latents for pair in pairs], 1) if pairs else torch.empty(1, 0)
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(training.seed)
        flow = Flow(
            replace(
                config or Config(),
                source=asdict(source),
                codec=type(codec).name,
                sizes=asdict(codec.config),
                features=len(whole),
            )
        )
        stretches = Stretches(flow, pairs, training)
        if training.entries:
            _begin_with_entries(flow, tokenizer)
        _copy_weights(codec, flow.sampler.codec)
        deviation, mean = torch.std_mean(whole, 1, correction=0)
        flow.sampler.mean.copy_(mean)
        flow.sampler.deviation.copy_(deviation.clamp(min=1e-6))
        losses = _train(flow, stretches, training, console)
    flow.card = {
        "flow": {
            "tokenizer": {"name": tokenizer.name, "fingerprint": tokenizer.fingerprint},
            "codec": {"name": codec.name, "fingerprint": codec.fingerprint},
            "recordings": len(pairs),
            "training": asdict(training),
            "loss": float(np.mean(losses[-100:])),
        }
    }
    return flow.to("cpu").eval().requires_grad_(False)


@torch.no_grad()
def _begin_with_entries(flow: Flow, tokenizer: Codec) -> None:
    """Set the first features of embeddings to a tokenizer's entries, at about their own size."""
    tables = entries_of(tokenizer)
    if tables is None:
        raise InputError(f"{tokenizer.name}: its codes have no entries at hand")
    books = [torch.from_numpy(table).float() for table in tables]
    features, width = books[0].shape[1], flow.config.width
    if features > width:
        raise InputError(
            f"entries of {features} features in a network of width {width}: give more width"
        )
    books = [book - book.mean(0) for book in books]
    size = sum(book.square().mean() for book in books) ** 0.5
    flow.tables.entries[:, :features] = torch.cat(books) / size


def _copy_weights(codec: Codec, other: Codec) -> None:
    """Copy what makes sound of latents into a codec that has nothing else."""
    for name, part in other.named_children():
        if name not in ("encoder", "quantizer"):
            part.load_state_dict(codec.get_submodule(name).state_dict())


class Stretches:
    """Random stretches of pairs, in whole groups of frames.

    Args:
        flow: the decoder, for its rates.
        pairs: codes and latents.
        training: settings.

    Raises:
        InputError: no pair is long enough.
    """

    def __init__(self, flow: Flow, pairs: Sequence[Pair], training: FlowTraining) -> None:
        ratio = Fraction(flow.frame_size, flow.sampler.codec.frame_size)
        self.codes = ratio.denominator  # frames of tokens in a group
        self.latents = ratio.numerator  # frames of latents in one
        seconds = self.codes * flow.frame_size / flow.sample_rate
        self.length = max(1, round(training.seconds / seconds))
        self.batch = training.batch
        self.pairs = [pair for pair in pairs if self.groups(pair) >= self.length]
        if not self.pairs:
            raise InputError(
                f"no recording has the {self.length * seconds:g} s of a stretch: give longer ones, "
                "or fewer seconds"
            )

    def groups(self, pair: Pair) -> int:
        """Return the number of whole groups of frames of a pair."""
        return min(pair.codes.shape[1] // self.codes, pair.latents.shape[1] // self.latents)

    def at(self, pair: Pair, group: int) -> Pair:
        """Return the stretch of a pair from a group of frames on."""
        first, second = group * self.codes, group * self.latents
        return Pair(
            pair.codes[:, first : first + self.length * self.codes],
            pair.latents[:, second : second + self.length * self.latents],
        )

    def batches(self, seed: int) -> Iterator[Pair]:
        """Yield batches of codes `[b k f]` and latents `[b d g]`, without end."""
        random = np.random.default_rng(seed)
        shares = np.array([self.groups(pair) for pair in self.pairs], dtype=float)
        while True:
            chosen = random.choice(len(self.pairs), self.batch, p=shares / shares.sum())
            some = [self.pairs[i] for i in chosen]
            starts = [int(random.integers(self.groups(p) - self.length + 1)) for p in some]
            crops = [self.at(pair, start) for pair, start in zip(some, starts, strict=True)]
            yield Pair(*(torch.stack(part) for part in zip(*crops, strict=True)))


def _train(
    flow: Flow, stretches: Stretches, training: FlowTraining, console: Console | None
) -> list[float]:
    """Train the flow in place; the codec in it stays as it is. Return the loss of each step."""
    flow.train()
    flow.sampler.codec.eval().requires_grad_(False)
    weights = [p for p in flow.parameters() if p.requires_grad]
    batches = stretches.batches(training.seed)

    def step() -> float:
        codes, latents = next(batches)
        b, k = codes.shape[:2]
        keep = torch.where(torch.rand(b) < training.whole, k, torch.randint(1, k + 1, (b,)))
        absent = torch.rand(b) < training.drop
        noise = torch.randn_like(latents)
        loss = _loss(flow, Pair(codes, latents), torch.rand(b), noise, keep, absent)
        loss.backward()
        return loss.item()

    return descend(
        weights, step, steps=training.steps, rate=training.rate, what="flow", console=console
    )


def _loss(
    flow: Flow, batch: Pair, time: Tensor, noise: Tensor, keep: Tensor, absent: Tensor
) -> Tensor:
    """Return the mean square of what velocities are off by.

    Args:
        flow: the decoder.
        batch: codes `[b k f]` and latents `[b d g]`.
        time: `[b]`, from 0 to 1.
        noise: `[b d g]`.
        keep: `[b]`, codebooks that are used.
        absent: `[b]`, whether there is no condition.
    """
    sampler = flow.sampler
    data = (batch.latents - sampler.mean[:, None]) / sampler.deviation[:, None]
    condition = sampler.reading(flow.tables.dropped(batch.codes, keep))
    nothing = sampler.velocity.nothing[:, None]
    condition = torch.where(absent[:, None, None], nothing, condition)
    x, velocity = straight_path(data, noise, time, sigma=flow.config.sigma)
    return (sampler.velocity(x, time, condition) - velocity).square().mean()


@torch.no_grad()
def flow_loss(flow: Flow, pairs: Sequence[Pair], training: FlowTraining | None = None) -> float:
    """Return the loss on the middle stretches of pairs, at fixed times and with fixed noise.

    A flow that gives the mean of what is possible has about 1 and less; the loss does not fall to
    zero, as many latents are possible at a point.

    Raises:
        InputError: no pair is long enough.
    """
    stretches = Stretches(flow, pairs, training or FlowTraining())
    random = torch.Generator().manual_seed(0)
    total = 0.0
    for pair in stretches.pairs:
        codes, latents = stretches.at(pair, (stretches.groups(pair) - stretches.length) // 2)
        batch = Pair(codes.expand(TIMES, -1, -1), latents.expand(TIMES, -1, -1))
        noise = torch.randn(batch.latents.shape, generator=random)
        time = (torch.arange(TIMES) + 0.5) / TIMES
        keep = torch.full((TIMES,), len(codes))
        total += float(_loss(flow, batch, time, noise, keep, torch.zeros(TIMES, dtype=torch.bool)))
    return total / len(stretches.pairs)
