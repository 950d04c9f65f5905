"""How good a codec is while it learns: held-out losses, usage, gradients, and real metrics."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from audiotok.audio import Audio
from audiotok.codecs.base import Codec
from audiotok.metrics.base import Score
from audiotok.registry import find

METRICS = ("pesq", "stoi", "si_sdr", "mel")

Losses = dict[str, Callable[..., Tensor]]


@torch.no_grad()
def held_out(
    codec: Codec, wave: Tensor, losses: Losses, weights: dict[str, float]
) -> dict[str, float]:
    """Losses of all codebooks on waves `[b c t]`, and the share of each codebook in use."""
    made, quantized = codec(wave)
    values = {k: f(made, wave, rate=codec.sample_rate).item() for k, f in losses.items()}
    used = [
        len(codes.unique()) / size
        for codes, size in zip(quantized.codes.unbind(1), codec.sizes, strict=True)
    ]
    return {
        "validation": sum(weights[k] * v for k, v in values.items()),
        **{f"held_{k}": v for k, v in values.items()},
        **{f"usage_{i + 1}": share for i, share in enumerate(used)},
        "usage_min": min(used),
    }


def stage_gradients(codec: Codec, wave: Tensor) -> dict[str, float]:
    """Size of the gradient that the commitment of each codebook sends to the encoder.

    None may be zero: where one is, its stage does not train the encoder (`encodec` 0.1.1 has that
    for all but the first).
    """
    with torch.no_grad():
        latent = codec.latents(wave)
    latent = latent.detach().requires_grad_()
    sizes, before = {}, torch.zeros_like(latent)
    for stage in range(1, codec.codebooks + 1):
        keep = torch.full((len(wave),), stage, device=wave.device)
        loss = codec.quantizer(latent, keep).losses.get("commitment")
        if loss is None:
            return {}
        # The loss is a mean over the stages in use; `stage` times it is their sum.
        (total,) = torch.autograd.grad(loss * stage, latent)
        sizes[f"gradient_stage_{stage}"] = (total - before).norm().item()
        before = total
    return sizes


def score(codec: Codec, clips: list[Audio]) -> tuple[dict[str, float], list[Audio]]:
    """Mean scores of decoded clips, with the clips; metrics that are not installed are left out."""
    made = [codec.decode(codec.encode(clip)) for clip in clips]
    values = {}
    for name in METRICS:
        total = Score(0, 0)
        for output, reference in zip(made, clips, strict=True):
            try:
                total += find("metrics", name)().score(output, reference)
            except ImportError:
                break
            except ValueError:  # silent, or too short to score; the count says how many
                continue
        if total.count:
            values[f"score_{name}"] = total.value
            values[f"score_{name}_count"] = total.count
    return values, made
