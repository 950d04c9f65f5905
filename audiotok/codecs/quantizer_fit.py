"""Learning of a quantizer on latents of a frozen codec.

    recordings -> latents of the codec, computed once -> steps of training -> `Discretised`

The quantizer alone learns, to restore latents. No sound is decoded, so minutes on a CPU are enough.
Latents stay in memory: an hour of 50 frames of 96 features a second is 69 MB.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from audiotok._platform.errors import InputError
from audiotok.codecs.latents import latents_of, mono_audio, progress
from audiotok.codecs.models.base import Codec
from audiotok.codecs.models.discretised import Config, Discretised
from audiotok.data.recording import Recording
from audiotok.nn.quantizers.base import Quantizer
from audiotok.tokens.format import MAX_SIZE

CHUNK = 2048  # frames that are coded at once


@dataclass(frozen=True)
class QuantizerTraining:
    """Settings of the training of a quantizer.

    Attributes:
        steps: steps of training; a quantizer that learns in one pass makes one over all frames.
        batch: frames of a step.
        rate: learning rate of Adam at first, which falls to zero in a straight line.
        seed: random seed of weights and of the order of frames.
    """

    steps: int = 2000
    batch: int = 1024
    rate: float = 1e-2
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.steps, self.batch) < 1 or not 0 < self.rate < math.inf:
            raise InputError(
                f"{self.steps} steps of {self.batch} frames at rate {self.rate:g}: at least one of "
                "each, and a rate above zero"
            )


def discretise(
    codec: Codec,
    latents: Tensor,
    quantizer: str = "rvq",
    options: Mapping[str, Any] | None = None,
    training: QuantizerTraining | None = None,
) -> Discretised:
    """Return a codec of the same network, with a quantizer that has learnt from its latents.

    Args:
        codec: a codec of latents, or one whose codebooks are to be replaced; it stays as it is.
        latents: its latents `[d n]`, of `frames_of`.
        quantizer: name of a quantizer of latents.
        options: its options by name.
        training: steps, frames of a step, learning rate and seed.

    Raises:
        InputError: the quantizer has no such options or too large a codebook, or the codec's
            latents are no frames.
        UnknownPartError: there is no such quantizer.
    """
    training = training or QuantizerTraining()
    if (latents == latents[:, :1]).all():
        raise InputError(f"{latents.shape[1]} frames that are all alike: nothing to learn from")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        codes = Discretised(
            Config(
                codec=type(codec).name,
                sizes=asdict(codec.config),
                features=len(latents),
                quantizer=quantizer,
                quantizer_options=dict(options or {}),
            )
        )
        if max(codes.sizes) > MAX_SIZE:
            raise InputError(
                f"quantizer {quantizer!r} has a codebook of {max(codes.sizes)} entries, where "
                f"tokens have at most {MAX_SIZE}"
            )
        codes.load_network(codec)
        codes.to(codec.device)
        fit_quantizer(codes.quantizer, latents, training)
    lost = lost_share(codes.quantizer, latents)
    codes.card = {
        "discretised": {
            "codec": codec.name,
            "fingerprint": codec.fingerprint,
            "decoder_fingerprint": codec.decoder_fingerprint if codec.decodes else None,
            "frames": latents.shape[1],
            "training": {} if codes.quantizer.one_pass else asdict(training),
            "lost_in_training": lost,
        }
    }
    return codes.eval().requires_grad_(False)


def fit_quantizer(quantizer: Quantizer, latents: Tensor, training: QuantizerTraining) -> None:
    """Train a quantizer to restore latents `[d n]`, in place, and leave it in evaluation mode."""
    quantizer.train()
    if quantizer.one_pass:
        with torch.no_grad():
            for part in latents[None].split(CHUNK, 2):
                quantizer(part)
        quantizer.eval()
        return
    weights = list(quantizer.parameters())
    optimizer = torch.optim.Adam(weights, training.rate) if weights else None
    order = _batches(latents.shape[1], training)
    for step in progress(range(training.steps), "quantizer"):
        some = latents[:, next(order).to(latents.device)][None]
        quantized = quantizer(some)
        if optimizer is None:  # codebooks of moving averages have no parameters
            continue
        for group in optimizer.param_groups:
            group["lr"] = training.rate * (1 - step / training.steps)
        optimizer.zero_grad()
        loss = (quantized.latent - some).square().mean() + quantized.losses["commitment"]
        loss.backward()
        optimizer.step()
    quantizer.eval()


def _batches(count: int, training: QuantizerTraining) -> Iterator[Tensor]:
    """Yield the frames of one step after another; all are drawn before one is drawn again."""
    random = torch.Generator().manual_seed(training.seed)
    pool = torch.empty(0, dtype=torch.int64)
    while True:
        while len(pool) < training.batch:
            pool = torch.cat([pool, torch.randperm(count, generator=random)])
        some, pool = pool[: training.batch], pool[training.batch :]
        yield some


@torch.no_grad()
def lost_share(quantizer: Quantizer, latents: Tensor, codebooks: int | None = None) -> float:
    """Return the share of the variance of latents `[d n]` that decoding does not restore.

    Args:
        quantizer: the quantizer, in evaluation mode.
        latents: latents of any recordings.
        codebooks: number of codebooks, from the first; all if None.
    """
    error = torch.zeros((), dtype=torch.float64)
    for part in latents[None].split(CHUNK, 2):
        restored = quantizer.decode(quantizer.encode(part, codebooks))
        error += (restored - part).double().square().sum().cpu()
    spread = (latents - latents.mean(1, keepdim=True)).double().square().sum()
    return float(error / spread.cpu().clamp(min=1e-30))


def frames_of(
    codec: Codec, recordings: Sequence[Recording], *, console: Console | None = None
) -> Tensor:
    """Return the latents `[d n]` of all frames of recordings, on the codec's device.

    Recordings that cannot be read are left out, which is logged.

    Args:
        codec: any codec of one audio channel.
        recordings: recordings of any length and rate.
        console: where progress is shown; stderr if None.

    Raises:
        InputError: there are no frames.
    """
    audio = mono_audio(recordings, f"latents of {codec.name}", console=console)
    parts = [torch.tensor(latents_of(codec, one).values) for one in audio]
    if not sum(part.shape[1] for part in parts):
        raise InputError("no frames to learn from: the recordings are empty, or cannot be read")
    return torch.cat(parts, 1).to(codec.device)
