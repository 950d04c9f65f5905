"""Facts that a run began with, kept in last.pt, and the changes to them when it goes on.

begun = Begun.of(recipe, config=codec.config, processes=2)
changed = begun.check(saved, path, fixed=("codec", "config"))    # or refuses
state |= begun.state()                                           # into the next last.pt
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch

from audiotok._platform.optional import version
from audiotok.data.manifest import Recording
from audiotok.training.recipe import Train

log = logging.getLogger("audiotok")

KEY = "begun"  # of a training checkpoint
IDLE = ("train.start_from", "model.entries")  # play a part only at the beginning
BEST = ("train.best", "loss", "validation data", "data.validate", "train.clips")


@dataclass
class Begun:
    """The facts that a run began with, as plain values by dotted names ("train.rate")."""

    facts: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, recipe: Any, *, config: Any = None, **facts: Any) -> Begun:
        """Of a recipe.

        Args:
            recipe: any dataclass.
            config: sizes as they came out, in the place of the recipe's `config`.
            facts: what else there is to know, by name.
        """
        table = asdict(recipe) | ({} if config is None else {"config": asdict(config)})
        told = {name.replace("_", " "): value for name, value in facts.items()}
        code = {"code": f"{version('audiotok')} {_code()}", "torch": torch.__version__}
        plain = json.loads(json.dumps({**table, **told, **code}, default=str))
        return cls(_flat(plain, ""))

    def state(self) -> dict[str, str]:
        """Return the facts as a training checkpoint keeps them."""
        return {KEY: json.dumps(self.facts)}

    def check(
        self, saved: Mapping[str, Any], path: Path, *, fixed: Sequence[str], say: bool = True
    ) -> list[str]:
        """Hold a training checkpoint against this: a line is logged for each thing that changed.

        Args:
            saved: the checkpoint.
            path: where it is from.
            fixed: names, or beginnings of names, of what a run cannot change, though it may gain
                or lose it all.
            say: whether to log the lines; one process of several does.

        Returns:
            the names of what changed.

        Raises:
            ValueError: something changed that a run cannot change.
        """
        if KEY not in saved:
            if say:
                log.warning(
                    "%s: of an older audiotok, which kept no recipe in it: goes on, but whether "
                    "recipe and data are the same cannot be told",
                    path,
                )
            return []
        before: dict[str, Any] = json.loads(saved[KEY])
        names = [name for name in {**before, **self.facts} if self._differs(name, before)]
        lines = {name: self._line(name, before) for name in names}
        kept = [part for part in fixed if _has(before, part) and _has(self.facts, part)]
        wrong = [lines[name] for name in names if _within(name, kept)]
        if wrong:
            more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
            raise ValueError(
                f"{path}: not a run of this recipe ({'; '.join(wrong[:3])}{more}), which cannot "
                "change on the way; train into another folder"
            )
        for name in names if say else ():
            idle = ": of no effect, since the run has begun" if name in IDLE else ""
            log.warning("%s: %s%s", path, lines[name], idle)
        if say and chosen_anew(names):
            log.warning("%s: the best weights are chosen anew, as they are judged otherwise", path)
        return names

    def _differs(self, name: str, before: Mapping[str, Any]) -> bool:
        """An option that one of them has not, and that is off in the other, is none."""
        one, other = before.get(name), self.facts.get(name)
        return one != other and bool(one or other or (name in before and name in self.facts))

    def _line(self, name: str, before: Mapping[str, Any]) -> str:
        return f"{name} was {_shown(before, name)}, now {_shown(self.facts, name)}"


def chosen_anew(changed: Iterable[str]) -> bool:
    """Return whether the best weights so far were judged by something else."""
    return any(_within(name, BEST) for name in changed)


def data_of(recordings: Sequence[Recording]) -> str:
    """Return what names a list of recordings: how many, and a digest of their order, file names,
    sizes and fields. A folder that was moved has the same."""
    digest = hashlib.sha256()
    for recording in recordings:
        fields = {k: v for k, v in recording.fields.items() if k != "path"}
        try:
            size = recording.path.stat().st_size
        except OSError:
            size = -1  # whoever reads it will say so
        digest.update(json.dumps([recording.path.name, size, fields], sort_keys=True).encode())
    return f"{len(recordings)} recordings ({digest.hexdigest()[:8]})"


def retune(optimizer: torch.optim.Optimizer | None, options: Train) -> None:
    """Give an optimizer of `players.adamw` the options of the recipe: its state came with those it
    was saved with."""
    if optimizer is None:
        return
    for group in optimizer.param_groups:
        group["betas"] = options.betas
    optimizer.param_groups[0]["weight_decay"] = options.weight_decay


@cache
def _code() -> str:
    """Eight digits of the package's own source."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        digest.update(str(file.relative_to(root)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:8]


def _flat(value: Any, name: str) -> dict[str, Any]:
    """Values by dotted names; a table without any is there all the same."""
    if not isinstance(value, dict):
        return {name: value}
    if not value and "." in name:
        return {name: "empty"}
    made: dict[str, Any] = {}
    for key, inner in value.items():
        made |= _flat(inner, f"{name}.{key}" if name else key)
    return made


def _within(name: str, parts: Sequence[str]) -> bool:
    return any(name == part or name.startswith(f"{part}.") for part in parts)


def _has(facts: Mapping[str, Any], part: str) -> bool:
    return any(_within(name, [part]) for name in facts)


def _shown(facts: Mapping[str, Any], name: str) -> str:
    if name not in facts:
        return "not there"
    value = facts[name]
    text = value if isinstance(value, str) and value else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
