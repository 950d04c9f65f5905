"""One batch: what codec and discriminators lose by it, and the gradients that follow."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from audiotok.data.batches import Batch
from audiotok.training import losses
from audiotok.training.machine import Casting
from audiotok.training.players import LATENT, Players
from audiotok.training.recipe import Recipe
from audiotok.training.schedule import draw_keep
from audiotok.training.targets import Targets

JUDGED = ("adversarial", "feature_matching")  # losses that discriminators give
KNOWN = (*losses.RECONSTRUCTION, *JUDGED, *LATENT)


def check_losses(recipe: Recipe) -> None:
    """Raises ValueError where losses are unknown, or what they need is not in the recipe."""
    unknown = sorted(set(recipe.loss) - set(KNOWN))
    if unknown:
        raise ValueError(f"[loss]: unknown {unknown}; known: {', '.join(KNOWN)}")
    for name, there, table in (
        ("adversarial", recipe.discriminators, "discriminators"),
        ("feature_matching", recipe.discriminators, "discriminators"),
        ("distillation", recipe.distillation.teachers, "distillation.teachers"),
    ):
        if name in recipe.loss and not there:
            raise ValueError(f"[loss] {name} needs a table [{table}.NAME]")
    if recipe.discriminators and not set(JUDGED) & set(recipe.loss):
        raise ValueError("[discriminators] play no part: set loss.adversarial, feature_matching")
    stray = sorted(set(recipe.loss_from) - (set(recipe.loss) & set(losses.RECONSTRUCTION)))
    if stray:
        raise ValueError(f"[loss_from]: {stray} are no reconstruction losses in [loss]")
    if not set(recipe.loss) & set(losses.RECONSTRUCTION):
        raise ValueError(f"[loss]: none of {', '.join(losses.RECONSTRUCTION)}")


class Step:
    """Runs batches through the players of a recipe.

    Codec and discriminators learn from one forward pass of the discriminators over real and made
    waves: the codec's loss goes back to the wave, the discriminators' to their own weights.

    Args:
        recipe: what to weigh.
        players: who learns.
        targets: for distillation, or None.
        cast: makes the context that networks run in (mixed precision).
        rank: of this process.
    """

    def __init__(
        self,
        recipe: Recipe,
        players: Players,
        targets: Targets | None,
        *,
        cast: Casting,
        rank: int = 0,
    ) -> None:
        self.recipe, self.players, self.targets = recipe, players, targets
        self.cast, self.rank = cast, rank
        self.own = [p for p in players.codec.parameters() if p.requires_grad]
        self.theirs = list(players.judges.parameters()) if players.judges else []

    def __call__(self, batch: Batch, step: int, part: int) -> dict[str, Tensor]:
        """Add the gradients of one batch to `.grad` of both players.

        Args:
            batch: on the players' device.
            step: of the run.
            part: of the step, where gradients accumulate.

        Returns:
            Unweighted losses by name, detached.

        Raises:
            ValueError: the loss is not finite; names the recordings.
        """
        recipe, codec = self.recipe, self.players.codec
        seed = (recipe.train.seed, step, part, self.rank)
        keep = draw_keep(len(batch), codec.codebooks, recipe.train, seed=seed)
        with self.cast():
            made, quantized = codec(batch.wave, keep.to(batch.wave.device))
            if self.targets is not None and "distillation" in recipe.loss:
                hidden = {"distillation": self.targets.loss(quantized, batch)}
            else:
                hidden = {}
        if "commitment" in recipe.loss:
            hidden["commitment"] = quantized.losses["commitment"]
        made = made.float()
        outer = {
            name: self._asked(name, made, batch.clean, keep)
            for name in losses.RECONSTRUCTION
            if name in recipe.loss
        }
        judged = self._judge(made, batch.clean, step, seed)
        outer |= {k: v for k, v in judged.items() if k in recipe.loss}
        self._check(outer | hidden, made, batch, step)
        self._backward(outer, hidden, made)
        return {k: v.detach() for k, v in (outer | hidden | judged).items()}

    def _asked(self, name: str, made: Tensor, wave: Tensor, keep: Tensor) -> Tensor:
        """A reconstruction loss, of the crops that use enough codebooks to be asked for it."""
        enough = (keep >= self.recipe.loss_from.get(name, 1)).to(made.device)
        if not enough.any():
            return 0 * made.sum()
        if not enough.all():
            made, wave = made[enough], wave[enough]
        return losses.RECONSTRUCTION[name](made, wave, rate=self.players.codec.sample_rate)

    def _judge(
        self, made: Tensor, wave: Tensor, step: int, seed: Sequence[int]
    ) -> dict[str, Tensor]:
        """What the discriminators say; their own gradients are added here."""
        judges, options = self.players.judges, self.recipe.adversary
        if judges is None or step < options.start:
            return {}
        length = round(options.seconds * self.players.codec.sample_rate) or made.shape[2]
        if length < made.shape[2]:
            random = torch.Generator().manual_seed(hash((*seed, 1)) & 0x7FFFFFFF)
            start = int(torch.randint(made.shape[2] - length + 1, (), generator=random))
            made, wave = made[:, :, start : start + length], wave[:, :, start : start + length]
        learn = step % options.every == 0
        heard = step >= options.start + options.delay
        if not learn and not heard:
            return {}
        with self.cast():
            theirs, real = judges(made if heard else made.detach()), judges(wave)
        theirs, real = ([opinion.float() for opinion in side] for side in (theirs, real))
        found: dict[str, Tensor] = {}
        if learn:
            loss = losses.discriminator(theirs, real, gan=options.kind, reduce=options.reduce)
            # Kept for the codec's turn. The wave itself gets no gradient of this loss.
            slopes = torch.autograd.grad(
                loss / self.recipe.train.accumulate, self.theirs, retain_graph=True
            )
            for weight, slope in zip(self.theirs, slopes, strict=True):
                weight.grad = slope if weight.grad is None else weight.grad + slope
            found["discriminator"] = loss
        if heard:
            found["adversarial"] = losses.generator(theirs, gan=options.kind, reduce=options.reduce)
            found["feature_matching"] = losses.feature_matching(
                theirs,
                real,
                relative=options.relative,
                scores=options.scores,
                reduce=options.reduce,
            )
        return found

    def _check(self, terms: dict[str, Tensor], made: Tensor, batch: Batch, step: int) -> None:
        bad = [name for name, value in terms.items() if not torch.isfinite(value)]
        if not bad:
            return
        spoilt = [i for i, wave in enumerate(made) if not torch.isfinite(wave).all()]
        names = [
            f"{self.name(batch.recordings[i])} at sample {batch.starts[i]}"
            for i in spoilt or range(len(batch))
        ]
        value = terms[bad[0]].item()
        raise ValueError(
            f"step {step}: the loss {bad[0]!r} is {value} on {', '.join(names[:4])}"
            + (f" and {len(names) - 4} more" if len(names) > 4 else "")
            + "; run again to go on from the last checkpoint, at a lower train.rate"
        )

    def name(self, recording: int) -> str:
        """How an error names a recording; the loop sets it to its path."""
        return f"recording {recording}"

    def _backward(self, outer: dict[str, Tensor], hidden: dict[str, Tensor], made: Tensor) -> None:
        weights, balancer = self.recipe.loss, self.players.balancer
        share = 1 / self.recipe.train.accumulate
        inner = sum((weights[k] * v for k, v in hidden.items()), made.new_zeros(()))
        if balancer is None:
            total = inner + sum(weights[k] * v for k, v in outer.items())
            torch.autograd.backward(share * total, inputs=self.own)
            return
        slope = balancer.gradient(outer, made)
        ends, slopes = [made], [share * slope]
        if inner.requires_grad:
            ends.append(share * inner)
            slopes.append(torch.ones_like(inner))
        torch.autograd.backward(ends, slopes, inputs=self.own)
