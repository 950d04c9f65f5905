"""Who learns: the codec, its discriminators and their optimizers, built from a recipe."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from audiotok._platform.registry import find
from audiotok.codecs.checkpoint import load
from audiotok.codecs.models.base import Codec
from audiotok.training.balancer import Balancer
from audiotok.training.recipe import Recipe, Train

LATENT = ("commitment", "distillation")  # losses that do not depend on the waveform that came out


def sized(kind: Any, sizes: dict[str, Any], where: str) -> Any:
    """A part from its class and the sizes that differ from its usual ones.

    Raises:
        ValueError: a size that its `Config` does not have.
    """
    config = kind.config_type()
    unknown = set(sizes) - set(vars(config))
    if unknown:
        raise ValueError(f"[{where}]: unknown {sorted(unknown)}; known: {', '.join(vars(config))}")
    # TOML has lists where a Config has tuples.
    fixed = {key: _frozen(value) for key, value in sizes.items()}
    return kind(replace(config, **fixed))


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def new_codec(recipe: Recipe) -> Codec:
    """The recipe's codec, with new weights, or those of `train.start_from`.

    Raises:
        ValueError: sizes, weights or `train.keep` do not fit it.
    """
    torch.manual_seed(recipe.train.seed)
    codec = sized(find("codecs", recipe.codec), recipe.config, "config")
    shares, n = recipe.train.keep, codec.codebooks
    if shares and not (len(shares) == n and min(shares) >= 0 < sum(shares) < math.inf):
        raise ValueError(f"[train] keep: a share for each of {n} codebooks is needed")
    if recipe.train.start_from:
        begin = load(recipe.train.start_from)
        try:
            codec.load_state_dict(begin.state_dict())
        except RuntimeError as error:
            text = " ".join(str(error).split())[:200]
            raise ValueError(f"train.start_from: {recipe.train.start_from}: {text}") from None
        codec.former_fingerprints = begin.former_fingerprints
    codec.split_weights()
    return codec


def freeze(codec: Codec, parts: Sequence[str]) -> None:
    """Keep the weights of some parts of a codec in training as they are.

    Args:
        codec: in training mode.
        parts: names of its modules ("encoder"); their codebooks are not updated either.

    Raises:
        ValueError: it has no such part, or nothing would be left to train.
    """
    known = [name for name, _ in codec.named_children()]
    for part in parts:
        if part not in known:
            raise ValueError(f"[train] frozen: {codec.name} has no {part!r}; {', '.join(known)}")
        codec.get_submodule(part).eval().requires_grad_(False)
    if not any(weight.requires_grad for weight in codec.parameters()):
        raise ValueError("[train] frozen: nothing is left to train")


class Judges(nn.Module):
    """All discriminators as one module, so that they learn, and run in parallel, as one."""

    def __init__(self, sizes: dict[str, dict[str, Any]]) -> None:
        super().__init__()
        self.members = nn.ModuleDict(
            {
                name: sized(find("discriminators", name), given, f"discriminators.{name}")
                for name, given in sizes.items()
            }
        )

    def forward(self, wave: Tensor) -> list[Any]:
        """Opinions of every sub-discriminator on waves `[b c t]`."""
        return [opinion for member in self.members.values() for opinion in member(wave)]


class Players:
    """The modules and optimizers of a run, and what of them a checkpoint keeps.

    Attributes:
        codec: what is trained.
        average: moving average of its weights; what is validated and saved.
        judges: the discriminators, or None.
        balancer: of the losses at the output, or None.
    """

    def __init__(self, recipe: Recipe, device: torch.device | str) -> None:
        options = recipe.train
        self.codec = new_codec(recipe).to(device).train()
        # Codes that training leaves as they are keep the names that they had.
        self._begun = self.codec.fingerprint, self.codec.former_fingerprints
        freeze(self.codec, options.frozen)
        self.average = copy.deepcopy(self.codec).eval().requires_grad_(False)
        self.optimizer = adamw(self.codec, options)
        self.judges = Judges(recipe.discriminators).to(device) if recipe.discriminators else None
        self.judging = adamw(self.judges, options) if self.judges else None
        shares = {k: w for k, w in recipe.loss.items() if k not in LATENT}
        self.balancer = Balancer(shares) if options.balance else None
        self._decay = options.ema

    def follow(self, step: int) -> None:
        """Move the average towards the codec."""
        follow(self.average, self.codec, step, self._decay)

    def averaged(self) -> Codec:
        """The codec with averaged weights, as it is saved."""
        # A new one: copies share the class that weight normalisation made for them, and folding
        # one would take it from all. What is drawn for it must not change the run.
        with torch.random.fork_rng(devices=[]):
            codec = type(self.average)(self.average.config)
        codec.split_weights()
        codec.load_state_dict(self.average.state_dict())
        codec.fold_weights()
        begun, former = self._begun
        if codec.fingerprint == begun:
            codec.former_fingerprints = former
        return codec

    def _parts(self) -> dict[str, Any]:
        every = {
            "codec": self.codec,
            "average": self.average,
            "optimizer": self.optimizer,
            "judges": self.judges,
            "judging": self.judging,
            "balancer": self.balancer,
        }
        return {name: part for name, part in every.items() if part is not None}

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed run needs."""
        return {name: part.state_dict() for name, part in self._parts().items()}

    def load_state_dict(self, state: dict[str, Any], path: Path) -> None:
        """Go on from `state`; discriminators that the recipe adds later begin new.

        Raises:
            ValueError: a state of another codec or other sizes.
        """
        for name, part in self._parts().items():
            if name not in state and name in ("judges", "judging", "balancer"):
                continue
            try:
                part.load_state_dict(state[name])
            except (RuntimeError, ValueError, KeyError) as error:
                text = " ".join(str(error).split())[:200]
                raise ValueError(
                    f"{path}: not a run of this recipe ({name}: {text}); use another --out"
                ) from None


@torch.no_grad()
def follow(average: nn.Module, module: nn.Module, step: int, decay: float) -> None:
    """Move averaged weights towards a module's; quickly at first, to forget the random start."""
    decay = min(decay, (step + 1) / (step + 10))
    for mine, theirs in zip(average.parameters(), module.parameters(), strict=True):
        if theirs.requires_grad:
            mine.lerp_(theirs, 1 - decay)
        else:  # to the bit: between -0 and -0 lies +0
            mine.copy_(theirs)
    for mine, theirs in zip(average.buffers(), module.buffers(), strict=True):
        mine.copy_(theirs)


def adamw(module: nn.Module, options: Train) -> torch.optim.AdamW:
    """AdamW whose decay spares biases, gains and norms."""
    weights = [p for p in module.parameters() if p.requires_grad]
    groups: Iterable[dict[str, Any]] = [
        {"params": [p for p in weights if p.ndim > 1]},
        {"params": [p for p in weights if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        groups,
        lr=options.rate,
        betas=options.betas,
        weight_decay=options.weight_decay,
        fused=True,
    )
