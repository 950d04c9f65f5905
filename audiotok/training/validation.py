"""How good a codec is while it learns: held-out losses, usage, gradients, and real metrics."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from audiotok._platform.registry import find
from audiotok.audio.audio import Audio
from audiotok.codecs.models.base import Codec
from audiotok.evaluation.metrics.base import Metric, MissingModelError, Score

log = logging.getLogger("audiotok")

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


@dataclass(frozen=True)
class HeldClip:
    """A held-out recording that is scored, and heard in TensorBoard.

    Attributes:
        audio: at the codec's rate.
        text: what is spoken in it; "" where that is not known.
    """

    audio: Audio
    text: str = ""


class ClipScorer:
    """Scores held-out recordings as they come back from a codec.

    Args:
        metrics: by name, with a variant after a colon ("dnsmos:sig").
        models: which model for which part of a metric.
        codebooks: how many the recordings are decoded from; all of them if empty.

    Raises:
        ValueError: there is no such metric, or no such variant of it.
    """

    def __init__(
        self,
        metrics: Sequence[str],
        models: Mapping[str, str] | None = None,
        codebooks: Sequence[int] = (),
    ) -> None:
        self._codebooks = codebooks
        self._metrics = {}
        for metric in metrics:
            name, _, option = metric.partition(":")
            self._metrics[metric] = find("metrics", name)(option, models=models)

    def score(
        self, codec: Codec, clips: Sequence[HeldClip]
    ) -> tuple[dict[str, float], list[Audio]]:
        """Return pooled scores by column, and the recordings as they come back.

        A column is `score_METRIC`, followed by `@N` for N codebooks where not all are used; its
        `_count` says over how much the score was pooled. Metrics that cannot run here are left
        out, which is logged once, and so are recordings that a metric cannot score (silent, too
        short, without a text).
        """
        values: dict[str, float] = {}
        full: list[Audio] = []
        for count in self._codebooks or (codec.codebooks,):
            decoded = [codec.decode(codec.encode(clip.audio, codebooks=count)) for clip in clips]
            suffix = "" if count == codec.codebooks else f"@{count}"
            if not full or not suffix:
                full = decoded
            for name in list(self._metrics):
                try:
                    pooled = _pooled(self._metrics[name], decoded, clips)
                except (ImportError, MissingModelError) as error:
                    del self._metrics[name]
                    log.warning("score_%s is left out: %s", name, error)
                    continue
                if pooled.count:
                    values[f"score_{name}{suffix}"] = pooled.value
                    values[f"score_{name}{suffix}_count"] = pooled.count
        return values, full


def _pooled(metric: Metric, decoded: Sequence[Audio], clips: Sequence[HeldClip]) -> Score:
    total = Score(0, 0)
    for output, clip in zip(decoded, clips, strict=True):
        try:
            total += metric.score(output, clip.audio, clip.text)
        except MissingModelError:
            raise
        except ValueError:  # it cannot be scored; the count says how many were
            continue
    return total


def lower_is_better(column: str) -> bool:
    """Return whether a smaller value in a column of the log is the better one."""
    if not column.startswith("score_"):
        return True
    name = column.removeprefix("score_").partition("@")[0].partition(":")[0]
    return find("metrics", name).better == "lower"
