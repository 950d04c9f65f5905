"""Training on one batch: losses of codec and discriminators, and their gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from audiotok._platform.errors import InputError
from audiotok.data.batches import Batch
from audiotok.nn.quantizers.base import Quantized
from audiotok.training import losses
from audiotok.training.components import LATENT, TrainingModules
from audiotok.training.distillation import HasFirstLatents, consistency
from audiotok.training.machine import Casting
from audiotok.training.recipe import JUDGED, Recipe
from audiotok.training.recognizer import Transcripts
from audiotok.training.resynthesis import LEARNT
from audiotok.training.schedule import draw_keep
from audiotok.training.targets import Targets

VIEW = "view_distillation"  # `distillation` of the second view of crops
KNOWN = (*losses.RECONSTRUCTION, *JUDGED, "ctc", *LATENT)


def check_losses(recipe: Recipe) -> None:
    """Raise ValueError if losses are unknown, or the recipe lacks what they need."""
    unknown = sorted(set(recipe.loss) - set(KNOWN))
    if unknown:
        raise InputError(f"[loss]: unknown {unknown}; known: {', '.join(KNOWN)}")
    for name, value, table in (
        ("adversarial", recipe.discriminators, "discriminators"),
        ("feature_matching", recipe.discriminators, "discriminators"),
        ("distillation", recipe.distillation.teachers, "distillation.teachers"),
    ):
        if name in recipe.used_losses and not value:
            raise InputError(f"[loss] {name} needs a table [{table}.NAME]")
    if "distillation" in recipe.used_losses and not recipe.distillation.used:
        raise InputError("[loss] distillation needs a teacher of a weight above zero")
    if VIEW in recipe.used_losses and not {"distillation", "consistency"} <= {*recipe.used_losses}:
        raise InputError(f"[loss] {VIEW} needs distillation, and consistency for its second view")
    if recipe.discriminators and not set(JUDGED) & set(recipe.loss):
        raise InputError("[discriminators] play no part: set loss.adversarial, feature_matching")
    unknown_from = sorted(set(recipe.loss_from) - (set(recipe.loss) & set(losses.RECONSTRUCTION)))
    if unknown_from:
        raise InputError(f"[loss_from]: {unknown_from} are no reconstruction losses in [loss]")
    learnt, others = {*recipe.loss} & {*LEARNT}, {*LATENT} - {*LEARNT}
    if learnt and not recipe.tokenizer:
        raise InputError(f"[loss] {min(learnt)} needs a frozen tokenizer: tokenizer = NAME")
    if recipe.tokenizer and (wrong := others & {*recipe.used_losses}):
        raise InputError(f"[loss] {min(wrong)}: trains a tokenizer, and this one is frozen")
    changes = recipe.data.augment
    if recipe.tokenizer and max(changes.gain, changes.flip, changes.band, changes.noise) > 0:
        raise InputError(
            "[data.augment] gain, flip, band and noise must be 0 with a frozen tokenizer: its "
            "tokens are those of recordings as they are"
        )
    if unknown_start := sorted({*recipe.loss_start} - {*recipe.used_losses}):
        raise InputError(f"[loss_start]: {unknown_start} are no losses in [loss]")
    if not set(recipe.loss) & set(losses.RECONSTRUCTION):
        raise InputError(f"[loss]: none of {', '.join(losses.RECONSTRUCTION)}")
    if not recipe.used_losses:
        raise InputError("[loss]: all weights are zero, so nothing would be learnt")


class Step:
    """Forward and backward pass of one batch through codec and discriminators.

    Both learn from one forward pass of the discriminators over recordings and decoded waves: the
    codec's loss is differentiated back to the wave, the discriminators' to their own weights.

    Args:
        recipe: the recipe, with the weights of the losses.
        modules: the modules in training.
        targets: targets of distillation, or None.
        transcripts: texts of the recordings for the loss `ctc`, or None.
        cast: function that makes the autocast context in which networks run.
        rank: rank of this process.
    """

    def __init__(
        self,
        recipe: Recipe,
        modules: TrainingModules,
        targets: Targets | None,
        transcripts: Transcripts | None = None,
        *,
        cast: Casting,
        rank: int = 0,
    ) -> None:
        self.recipe = recipe
        self.modules = modules
        self.targets = targets
        self.transcripts = transcripts
        self.cast = cast
        self.rank = rank
        if "consistency" in recipe.used_losses and not isinstance(modules.codec, HasFirstLatents):
            raise InputError(
                f"[loss] consistency: {modules.codec.name} has no encoder for its first codebook"
            )
        self.codec_weights = [p for p in modules.codec.parameters() if p.requires_grad]
        discriminators = modules.discriminators
        self.discriminator_weights = list(discriminators.parameters()) if discriminators else []

    def __call__(self, batch: Batch, step: int, part: int) -> dict[str, Tensor]:
        """Add the gradients of one batch to `.grad` of the codec's and discriminators' weights.

        Args:
            batch: a batch on the modules' device.
            step: number of the step in the run.
            part: number of the batch in the step, where gradients accumulate.

        Returns:
            Unweighted losses by name, detached.

        Raises:
            ValueError: a loss is not finite; the message names the recordings.
        """
        recipe, codec = self.recipe, self.modules.codec
        used = {k: w for k, w in recipe.used_losses.items() if step >= recipe.loss_start.get(k, 0)}
        seed = (recipe.train.seed, step, part, self.rank)
        # Latents count as one codebook: all of them are always used.
        keep = draw_keep(len(batch), max(1, codec.codebooks), recipe.train, seed=seed)
        with self.cast():
            output, quantized = self._run(batch, keep.to(batch.wave.device), used)
            hidden: dict[str, Tensor] = {}
            targets = self.targets if "distillation" in used else None
            if targets is not None:
                hidden["distillation"] = targets.loss(quantized, batch)
            if "consistency" in used:
                hidden |= self._second_view(quantized, batch, targets if VIEW in used else None)
        if "commitment" in used:
            hidden["commitment"] = self._commitment(quantized)
        hidden |= {name: quantized.losses[name] for name in LEARNT if name in used}
        outer: dict[str, Tensor] = {}
        adversarial: dict[str, Tensor] = {}
        output = None if output is None else output.float()
        if output is not None:
            outer = {
                name: self._reconstruction(name, output, batch.clean, keep)
                for name in losses.RECONSTRUCTION
                if name in used
            }
            adversarial = self._adversarial(output, batch.clean, step, seed)
            adversarial |= self._recognition(output, batch, learns="ctc" in used)
            outer |= {k: v for k, v in adversarial.items() if k in used}
        self._check(outer | hidden, output, batch, step)
        self._backward(outer, hidden, output)
        return {k: v.detach() for k, v in (outer | hidden | adversarial).items()}

    def _run(
        self, batch: Batch, keep: Tensor, used: Mapping[str, float]
    ) -> tuple[Tensor | None, Quantized]:
        """Return what the codec makes of a batch; no waves where no loss needs them."""
        modules = self.modules
        sound = bool({*used} & {*losses.RECONSTRUCTION, *JUDGED, "ctc"})
        if modules.resynthesis is not None:
            return modules.resynthesis(modules.codec, batch, keep, sound=sound)
        if sound:
            return modules.codec(batch.wave, keep)
        return None, modules.codec.quantizer(modules.codec.latents(batch.wave), keep)

    def _second_view(
        self, quantized: Quantized, batch: Batch, targets: Targets | None
    ) -> dict[str, Tensor]:
        """Return `consistency` of a batch with second views, and what distils into them.

        Args:
            quantized: output of the quantizer for the first views.
            batch: the batch.
            targets: targets of `view_distillation`; None without it.
        """
        codec, target = self.modules.codec, quantized.first
        assert isinstance(codec, HasFirstLatents)  # checked before the first step
        assert batch.view is not None
        assert target is not None
        latent = codec.first_latents(batch.view)
        width = latent.shape[1]
        hidden = {"consistency": consistency(latent, target[:, :width], mask=batch.real)}
        if targets is not None:
            # Zeros stand for the features of other codebooks, as they do in what it decodes to.
            whole = F.pad(latent, (0, 0, 0, target.shape[1] - width))
            hidden[VIEW] = targets.loss_of({1: whole}, batch)
        return hidden

    def _commitment(self, quantized: Quantized) -> Tensor:
        """Return the quantizer's commitment loss, or raise if it has none."""
        loss = quantized.losses.get("commitment")
        if loss is None:
            kind = type(self.modules.codec.quantizer).__name__
            raise InputError(f"[loss] commitment: {kind} has none; leave it out of the recipe")
        return loss

    def _reconstruction(self, name: str, output: Tensor, wave: Tensor, keep: Tensor) -> Tensor:
        """Return a reconstruction loss over the crops that use enough codebooks for it."""
        enough = (keep >= self.recipe.loss_from.get(name, 1)).to(output.device)
        if not enough.any():
            return 0 * output.sum()
        if not enough.all():
            output, wave = output[enough], wave[enough]
        return losses.RECONSTRUCTION[name](output, wave, rate=self.modules.codec.sample_rate)

    def _adversarial(
        self, output: Tensor, wave: Tensor, step: int, seed: Sequence[int]
    ) -> dict[str, Tensor]:
        """Return the losses of the discriminators, whose own gradients are added here."""
        discriminators, options = self.modules.discriminators, self.recipe.adversary
        if discriminators is None or step < options.start:
            return {}
        length = round(options.seconds * self.modules.codec.sample_rate) or output.shape[2]
        if length < output.shape[2]:
            random = torch.Generator().manual_seed(hash((*seed, 1)) & 0x7FFFFFFF)
            start = int(torch.randint(output.shape[2] - length + 1, (), generator=random))
            output, wave = output[:, :, start : start + length], wave[:, :, start : start + length]
        discriminators_learn = step % options.every == 0
        codec_learns = step >= options.start + options.delay
        if not discriminators_learn and not codec_learns:
            return {}
        with self.cast():
            fake = discriminators(output if codec_learns else output.detach())
            real = discriminators(wave)
        fake, real = ([one.float() for one in side] for side in (fake, real))
        terms: dict[str, Tensor] = {}
        if discriminators_learn:
            loss = losses.discriminator(fake, real, gan=options.kind, reduce=options.reduce)
            # The graph is kept for the codec's losses. The wave gets no gradient of this loss.
            gradients = torch.autograd.grad(
                loss / self.recipe.train.accumulate, self.discriminator_weights, retain_graph=True
            )
            for weight, gradient in zip(self.discriminator_weights, gradients, strict=True):
                weight.grad = gradient if weight.grad is None else weight.grad + gradient
            terms["discriminator"] = loss
        if codec_learns:
            terms["adversarial"] = losses.generator(fake, gan=options.kind, reduce=options.reduce)
            if "feature_matching" in self.recipe.used_losses:
                terms["feature_matching"] = losses.feature_matching(
                    fake,
                    real,
                    relative=options.relative,
                    scores=options.scores,
                    reduce=options.reduce,
                )
        return terms

    def _recognition(self, output: Tensor, batch: Batch, *, learns: bool) -> dict[str, Tensor]:
        """Return the loss `ctc`, and that of the recordings themselves, over the crops that count.

        The recogniser's own gradients are added here. Until the codec `learns` from it, the
        recogniser does so alone.
        """
        recognizer, transcripts = self.modules.recognizer, self.transcripts
        if recognizer is None or transcripts is None:
            return {}
        weights = list(recognizer.parameters())
        rows, texts = transcripts.of_batch(batch)
        terms: dict[str, Tensor] = {}
        gradients: Sequence[Tensor] = [torch.zeros_like(weight) for weight in weights]
        if rows:
            decoded = (output if learns else output.detach())[rows]
            each = recognizer.losses(torch.cat([decoded, batch.clean[rows]]), [*texts, *texts])
            ctc, original = (half.mean() for half in each.split(len(rows)))
            terms = {"ctc": ctc, "ctc_original": original}
            total = ctc + self.recipe.ctc.original * original
            # The graph is kept for the codec's losses.
            gradients = torch.autograd.grad(
                total / self.recipe.train.accumulate, weights, retain_graph=True
            )
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient if weight.grad is None else weight.grad + gradient
        return terms

    def _check(
        self, terms: dict[str, Tensor], output: Tensor | None, batch: Batch, step: int
    ) -> None:
        bad = [name for name, value in terms.items() if not torch.isfinite(value)]
        if not bad:
            return
        waves = () if output is None else output
        spoilt = [i for i, wave in enumerate(waves) if not torch.isfinite(wave).all()]
        names = [
            f"{self.name(batch.recordings[i])} at sample {batch.starts[i]}"
            for i in spoilt or range(len(batch))
        ]
        value = terms[bad[0]].item()
        raise InputError(
            f"step {step}: the loss {bad[0]!r} is {value} on {', '.join(names[:4])}"
            + (f" and {len(names) - 4} more" if len(names) > 4 else "")
            + "; run again to go on from the last checkpoint, at a lower train.rate"
        )

    def name(self, recording: int) -> str:
        """Return the name of a recording for errors; the loop replaces this by its path."""
        return f"recording {recording}"

    def _backward(
        self, outer: dict[str, Tensor], hidden: dict[str, Tensor], output: Tensor | None
    ) -> None:
        weights, balancer = self.recipe.loss, self.modules.balancer
        share = 1 / self.recipe.train.accumulate
        zero = torch.zeros((), device=self.codec_weights[0].device)
        inner = sum((weights[k] * v for k, v in hidden.items()), zero)
        if balancer is None or output is None:
            total = inner + sum(weights[k] * v for k, v in outer.items())
            torch.autograd.backward(share * total, inputs=self.codec_weights)
            return
        gradient = balancer.gradient(outer, output)
        ends, gradients = [output], [share * gradient]
        if inner.requires_grad:
            ends.append(share * inner)
            gradients.append(torch.ones_like(inner))
        torch.autograd.backward(ends, gradients, inputs=self.codec_weights)
