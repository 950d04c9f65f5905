"""Modules of a training run: codec, discriminators and optimizers, built from a recipe."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from audiotok._platform.errors import Error, InputError, in_one_line
from audiotok._platform.registry import find
from audiotok._platform.shapes import Wave
from audiotok.codecs.checkpoint import load
from audiotok.codecs.models.base import Codec
from audiotok.nn.quantizer import NONE, USUAL, check_type, types_of
from audiotok.training.balancer import Balancer
from audiotok.training.initial import scale_encoder
from audiotok.training.recipe import Recipe, Train
from audiotok.training.recognizer import Recognizer
from audiotok.training.resynthesis import LEARNT, Resynthesis

# Losses that do not depend on the output waveform.
OF_CODEBOOKS = ("commitment", "distillation", "consistency", "view_distillation")
LATENT = (*OF_CODEBOOKS, *LEARNT)


def sized(kind: Any, sizes: dict[str, Any], where: str) -> Any:
    """Build a part from its class and the sizes that differ from its defaults.

    Args:
        kind: class of the part, with a `config_type`.
        sizes: fields of the `Config` -> values.
        where: table of the recipe, for error messages.

    Raises:
        ValueError: the `Config` has no such field, none of this value, or one that the chosen
            quantizer has no use for; or no network has these sizes.
    """
    if not hasattr(kind, "config_type"):
        raise InputError(f"[{where}]: {kind.__name__} has no sizes, and cannot be trained")
    config = kind.config_type()
    unknown = set(sizes) - set(vars(config))
    if unknown:
        raise InputError(f"[{where}]: unknown {sorted(unknown)}; known: {', '.join(vars(config))}")
    hints = types_of(kind.config_type)
    for key, value in sizes.items():
        check_type(f"[{where}]: {key!r}", value, hints.get(key, Any))
    # TOML has lists where a Config has tuples.
    fixed = {key: _frozen(value) for key, value in sizes.items()}
    try:
        part = kind(replace(config, **fixed))
    except Error:
        raise
    except (ArithmeticError, IndexError, RuntimeError, TypeError, ValueError) as error:
        given = ", ".join(f"{key}={value!r}" for key, value in sizes.items())
        why = f"no {kind.__name__} of {given}: {in_one_line(error)}"
        raise InputError(f"[{where}]: {why}") from None
    if (quantizer := sizes.get("quantizer", USUAL)) != USUAL:
        actual = {"codebooks": {part.codebooks}, "size": {*part.sizes}, "code_width": set()}
        for key in sizes.keys() & actual.keys():
            if actual[key] != {sizes[key]}:
                then = "" if quantizer == NONE else ", and say it in quantizer_options"
                raise InputError(
                    f"[{where}]: {key}={sizes[key]} is of quantizer {USUAL!r}, and {quantizer!r} "
                    f"is chosen: leave it out{then}"
                )
    return part


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def new_codec(recipe: Recipe, resynthesis: Resynthesis | None = None) -> Codec:
    """Build the recipe's codec, with new weights or those of `train.start_from`.

    Args:
        recipe: the recipe.
        resynthesis: what a decoder apart learns from; None for a codec.

    Raises:
        ValueError: sizes, weights or `train.keep` do not fit the codec, it decodes to another rate
            than it encodes, or the recipe asks something of codebooks that it does not have.
    """
    torch.manual_seed(recipe.train.seed)
    if resynthesis:
        codec: Codec = resynthesis.vocoder(recipe.config)
    else:
        codec = sized(find("codecs", recipe.codec), recipe.config, "config")
    codec.check_one_rate()  # losses compare what comes out with what went in
    if codec.width:
        _check_latents(recipe, codec)
    if recipe.train.init_from_data and (
        recipe.train.start_from or "encoder" in recipe.train.frozen
    ):
        raise InputError("[train] init_from_data: for an encoder with new weights that is trained")
    shares, n = recipe.train.keep, codec.codebooks
    if shares and not (len(shares) == n and min(shares) >= 0 < sum(shares) < math.inf):
        raise InputError(f"[train] keep: a share for each of {n} codebooks is needed")
    if recipe.train.start_from:
        initial = load(recipe.train.start_from)
        try:
            codec.load_state_dict(initial.state_dict())
        except RuntimeError as error:
            what = _difference(codec, initial) or " ".join(str(error).split())[:200]
            raise InputError(f"train.start_from: {recipe.train.start_from}: {what}") from None
        codec.former_fingerprints = initial.former_fingerprints
    codec.split_weights()
    return codec


def _check_latents(recipe: Recipe, codec: Codec) -> None:
    """Raise unless a recipe can train a codec of latents: one that decodes, by no codebooks."""
    codec.check_decodes()
    asked = {
        **{f"[loss] {name}": name in recipe.used_losses for name in OF_CODEBOOKS},
        "[loss_from]": recipe.loss_from,
        "[train] keep": recipe.train.keep,
        "[train] codebooks": recipe.train.codebooks,
    }
    for what in (name for name, value in asked.items() if value):
        raise InputError(
            f"{what}: asks for codebooks, and {codec.name} gives latents of {codec.width} numbers "
            "and has none; leave it out"
        )


def _difference(codec: Codec, initial: Codec) -> str:
    """Return how the weights' codec differs from the recipe's; "" if sizes do not tell."""
    if initial.name != codec.name:
        return f"weights of {initial.name}, and the recipe's codec is {codec.name}"
    wanted, given = asdict(codec.config), asdict(initial.config)
    differing = [
        f"{name} {given[name]} instead of {wanted[name]}"
        for name in wanted
        if given.get(name) != wanted[name]
    ]
    if not differing:
        return ""
    return f"other sizes ({', '.join(differing)}); give them in the recipe's [config]"


def freeze(codec: Codec, parts: Sequence[str]) -> None:
    """Exclude some parts of a codec from training.

    Args:
        codec: the codec, in training mode.
        parts: names of its modules ("encoder", or "quantizer.parts.1" for one within another);
            codebooks in them are not updated either.

    Raises:
        ValueError: the codec has no such part, or nothing is left to train.
    """
    known = [name for name, _ in codec.named_children()]
    every = {name for name, _ in codec.named_modules()} - {""}
    for part in parts:
        if part not in every:
            raise InputError(f"[train] frozen: {codec.name} has no {part!r}; {', '.join(known)}")
        codec.get_submodule(part).eval().requires_grad_(False)
    if not any(weight.requires_grad for weight in codec.parameters()):
        raise InputError("[train] frozen: nothing is left to train")


class Discriminators(nn.Module):
    """Discriminators of a recipe as one module, with one optimizer.

    Args:
        sizes: name of a discriminator -> sizes that differ from its defaults.
    """

    def __init__(self, sizes: dict[str, dict[str, Any]]) -> None:
        super().__init__()
        self.members = nn.ModuleDict(
            {
                name: sized(find("discriminators", name), given, f"discriminators.{name}")
                for name, given in sizes.items()
            }
        )

    def forward(self, wave: Tensor) -> list[Any]:
        """Return the outputs of every sub-discriminator on waves `[b c t]`."""
        return [output for member in self.members.values() for output in member(wave)]


class TrainingModules:
    """Modules and optimizers of a run, and the state of them that a checkpoint keeps.

    Args:
        recipe: the training recipe.
        device: a torch device.

    Attributes:
        codec: the codec in training.
        average: the codec with the moving average of its weights, which is validated and saved.
        resynthesis: what a decoder apart learns from, or None.
        optimizer: optimizer of the codec.
        discriminators: the discriminators, or None.
        discriminator_optimizer: their optimizer, or None.
        recognizer: what reads the codec's output, or None; see `add_recognizer`.
        recognizer_optimizer: its optimizer, or None.
        balancer: balancer of the losses at the output, or None.
        started_from: fingerprint of the weights of `train.start_from`; "" for new ones.
    """

    def __init__(self, recipe: Recipe, device: torch.device | str) -> None:
        options = recipe.train
        self.resynthesis = Resynthesis(recipe, device) if recipe.tokenizer else None
        self.codec = new_codec(recipe, self.resynthesis).to(device).train()
        # If training does not change the codes, the codec keeps its former fingerprints.
        self._initial = self.codec.fingerprint, self.codec.former_fingerprints
        freeze(self.codec, options.frozen)
        self.average = copy.deepcopy(self.codec).eval().requires_grad_(False)
        self.optimizer = adamw(self.codec, options)
        self.discriminators: Discriminators | None = None
        self.discriminator_optimizer: torch.optim.AdamW | None = None
        if recipe.used_discriminators:
            self.discriminators = Discriminators(recipe.used_discriminators).to(device)
            self.discriminator_optimizer = adamw(self.discriminators, options)
        self.recognizer: Recognizer | None = None
        self.recognizer_optimizer: torch.optim.AdamW | None = None
        shares = {k: w for k, w in recipe.used_losses.items() if k not in LATENT}
        self.balancer = Balancer(shares) if options.balance else None
        self._recipe = recipe
        self.started_from = self._initial[0] if options.start_from else ""

    def add_recognizer(self, alphabet: str) -> None:
        """Add a new recogniser of the characters of an alphabet, for the loss `ctc`.

        The random state of the run stays as it is, so that a codec without it gets the same crops.
        """
        recipe, device = self._recipe, self.codec.device
        with torch.random.fork_rng(devices=[]):
            recognizer = Recognizer(self.codec.sample_rate, alphabet, recipe.ctc)
        self.recognizer = recognizer.to(device)
        self.recognizer_optimizer = adamw(self.recognizer, recipe.train)

    def others(self) -> list[tuple[str, nn.Module, torch.optim.Optimizer, float]]:
        """Return what learns beside the codec: the column of its gradient's norm, the module, its
        optimizer and its highest learning rate."""
        recipe = self._recipe
        critics = self.discriminators, self.discriminator_optimizer, recipe.adversary.rate
        reader = self.recognizer, self.recognizer_optimizer, recipe.ctc.rate
        named = {"gradient_judges": critics, "gradient_recognizer": reader}
        return [
            (name, module, optimizer, rate or recipe.train.rate)
            for name, (module, optimizer, rate) in named.items()
            if module is not None and optimizer is not None
        ]

    def scale_encoder(self, wave: Wave) -> None:
        """Scale the first weights of the encoder on a batch; see `initial.scale_encoder`."""
        scale_encoder(self.codec, wave)
        self.average.load_state_dict(self.codec.state_dict())

    def follow(self, step: int) -> None:
        """Update the averaged weights after a step of the codec."""
        follow(self.average, self.codec, step, self._recipe.train.ema)

    def averaged(self) -> Codec:
        """Return a new codec with the averaged weights and weight normalisation folded in, as it is
        saved; it keeps its former fingerprints if training did not change the codes."""
        # Not a copy: copies share the class that weight normalisation makes for them, and folding
        # the weights of one would change all. The random state of the run must stay the same.
        with torch.random.fork_rng(devices=[]):
            codec = type(self.average)(self.average.config)
        codec.split_weights()
        codec.load_state_dict(self.average.state_dict())
        codec.fold_weights()
        fingerprint, former = self._initial
        if codec.fingerprint == fingerprint:
            codec.former_fingerprints = former
        return codec

    def _parts(self) -> dict[str, Any]:
        """Return the parts with state by their keys in a checkpoint."""
        parts = {
            "codec": self.codec,
            "average": self.average,
            "optimizer": self.optimizer,
            "judges": self.discriminators,
            "judging": self.discriminator_optimizer,
            "balancer": self.balancer,
            "recognizer": self.recognizer,
            "recognizing": self.recognizer_optimizer,
        }
        return {name: part for name, part in parts.items() if part is not None}

    def state_dict(self) -> dict[str, Any]:
        """Return the state that a resumed run needs."""
        return {name: part.state_dict() for name, part in self._parts().items()}

    def load_state_dict(self, state: dict[str, Any], path: Path) -> None:
        """Set codec, average, optimizers and all that learns beside them to those of a checkpoint.

        Discriminators and recogniser, with their optimizers, and a balancer that it lacks stay new.

        Args:
            state: a state of `state_dict`.
            path: the checkpoint, for error messages.

        Raises:
            ValueError: the state is of another codec or of other sizes.
        """
        for name, part in self._parts().items():
            if name not in state and name not in ("codec", "average", "optimizer"):
                continue
            try:
                part.load_state_dict(state[name])
            except (RuntimeError, ValueError, KeyError) as error:
                text = " ".join(str(error).split())[:200]
                raise InputError(
                    f"{path}: not a run of this recipe ({name}: {text}); use another output folder"
                ) from None


@torch.no_grad()
def follow(average: nn.Module, module: nn.Module, step: int, decay: float) -> None:
    """Update a moving average of a module's weights; faster at first, to forget the random start.

    Args:
        average: module with the averaged weights.
        module: module whose weights are averaged.
        step: number of the step, from 0.
        decay: decay of the average, approached from below in the first steps.
    """
    decay = min(decay, (step + 1) / (step + 10))
    for averaged, current in zip(average.parameters(), module.parameters(), strict=True):
        if current.requires_grad:
            averaged.lerp_(current, 1 - decay)
        else:  # a copy is exact, whereas lerp turns -0 into +0
            averaged.copy_(current)
    for averaged, current in zip(average.buffers(), module.buffers(), strict=True):
        averaged.copy_(current)


def adamw(module: nn.Module, options: Train) -> torch.optim.AdamW:
    """Return AdamW over a module, without weight decay of biases, gains and norms."""
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
