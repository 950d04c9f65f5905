"""Validation in training: held-out losses, codebook usage, gradients and metrics."""

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
from audiotok.nn.quantizers.base import Quantized
from audiotok.training.resynthesis import Resynthesis

log = logging.getLogger("audiotok")

Losses = dict[str, Callable[..., Tensor]]


@torch.no_grad()
def held_out_losses(
    codec: Codec,
    wave: Tensor,
    losses: Losses,
    weights: dict[str, float],
    *,
    run: Callable[[Codec], tuple[Tensor, Quantized]] | None = None,
) -> dict[str, float]:
    """Return losses with all codebooks on held-out waves, and the share of entries seen there.

    Latents have no entries. One that is not seen in so few frames (`usage_frames`) need not be
    dead: see `tokens.statistics.EntryUse`.

    Args:
        codec: the codec, in evaluation mode.
        wave: held-out waves `[b c t]`.
        losses: loss functions by name.
        weights: weights of the losses by name.
        run: function that makes waves of a codec in place of `codec(wave)`; its losses count too.

    Returns:
        Columns of log.csv -> values.
    """
    output, quantized = run(codec) if run else codec(wave)
    values = {k: f(output, wave, rate=codec.sample_rate).item() for k, f in losses.items()}
    if run:
        values |= {k: v.item() for k, v in quantized.losses.items() if k in weights}
    return {
        "validation": sum(weights[k] * v for k, v in values.items()),
        **{f"held_{k}": v for k, v in values.items()},
        **({} if run or codec.width else _usage(quantized.codes, codec.sizes)),
    }


def _usage(codes: Tensor, sizes: Sequence[int]) -> dict[str, float]:
    """Return the share of each codebook's entries that codes `[b k f]` use, by column."""
    pairs = zip(codes.unbind(1), sizes, strict=True)
    shares = [len(own.unique()) / size for own, size in pairs]
    return {
        **{f"usage_{i + 1}": share for i, share in enumerate(shares)},
        "usage_min": min(shares),
        "usage_frames": codes[:, 0].numel(),
    }


def stage_gradients(codec: Codec, wave: Tensor) -> dict[str, float]:
    """Return the norm of the gradient that each codebook's commitment loss sends to the encoder.

    A codebook whose norm is zero does not train the encoder (in `encodec` 0.1.1 that holds for all
    but the first).

    Args:
        codec: the codec.
        wave: waves `[b c t]`.

    Returns:
        Columns of log.csv -> norms; empty if the quantizer has no commitment loss.
    """
    with torch.no_grad():
        latent = codec.latents(wave)
    latent = latent.detach().requires_grad_()
    sizes, before = {}, torch.zeros_like(latent)
    for count in range(1, codec.codebooks + 1):
        keep = torch.full((len(wave),), count, device=wave.device)
        loss = codec.quantizer(latent, keep).losses.get("commitment")
        if loss is None:
            return {}
        # The loss is a mean over the codebooks in use; multiplied by their number it is a sum.
        (total,) = torch.autograd.grad(loss * count, latent)
        sizes[f"gradient_stage_{count}"] = (total - before).norm().item()
        before = total
    return sizes


@dataclass(frozen=True)
class HeldOutClip:
    """Held-out recording that is scored, and written to TensorBoard.

    Attributes:
        audio: the recording at the codec's rate.
        text: its transcript; "" where that is not known.
    """

    audio: Audio
    text: str = ""


class ClipScorer:
    """Scorer of held-out recordings, encoded and decoded by a codec.

    Args:
        metrics: names of metrics, with a variant after a colon ("dnsmos:sig").
        models: part of a metric -> name or path of its model.
        codebooks: numbers of codebooks to decode from; all of them if empty.
        resynthesis: what decodes a recording with a decoder apart; None for a codec.

    Raises:
        ValueError: there is no such metric, or no such variant of it.
    """

    def __init__(
        self,
        metrics: Sequence[str],
        models: Mapping[str, str] | None = None,
        codebooks: Sequence[int] = (),
        resynthesis: Resynthesis | None = None,
    ) -> None:
        self._codebooks = codebooks
        self._resynthesis = resynthesis
        self._metrics = {}
        for metric in metrics:
            name, _, option = metric.partition(":")
            self._metrics[metric] = find("metrics", name)(option, models=models)

    def score(
        self, codec: Codec, clips: Sequence[HeldOutClip]
    ) -> tuple[dict[str, float], list[Audio]]:
        """Return pooled scores by column, and the recordings as decoded from all codebooks.

        A column is `score_METRIC`, followed by `@N` for N codebooks where not all are used; its
        `_count` is the amount of data over which the score was pooled. Metrics that cannot run here
        are left out, which is logged once, and so are recordings that a metric cannot score
        (silent, too short, without a transcript).
        """
        values: dict[str, float] = {}
        full: list[Audio] = []
        for count in self._codebooks or (codec.codebooks,):
            decoded = [self._decoded(codec, clip.audio, count) for clip in clips]
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

    def _decoded(self, codec: Codec, audio: Audio, codebooks: int) -> Audio:
        if self._resynthesis is not None:
            return self._resynthesis.decoded(codec, audio, codebooks)
        return codec.decode(codec.encode(audio, codebooks=codebooks))


def _pooled(metric: Metric, decoded: Sequence[Audio], clips: Sequence[HeldOutClip]) -> Score:
    total = Score(0, 0)
    for output, clip in zip(decoded, clips, strict=True):
        try:
            total += metric.score(output, clip.audio, clip.text)
        except MissingModelError:
            raise
        except ValueError:  # a recording that cannot be scored is missing from the count
            continue
    return total


def lower_is_better(column: str) -> bool:
    """Return whether a smaller value in a column of the log is the better one."""
    if not column.startswith("score_"):
        return True
    name = column.removeprefix("score_").partition("@")[0].partition(":")[0]
    return find("metrics", name).better == "lower"
