"""Facts that a run began with, kept in last.pt, and changes to them when it is resumed.

begun = Begun.of(recipe, config=codec.config, processes=2)
changed = begun.check(saved, path, fixed=("codec", "config"))    # or raises ValueError
state |= begun.state()                                           # into the next last.pt
"""

from __future__ import annotations

import hashlib
import json
import logging
import pickle
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from audiotok._platform.errors import InputError
from audiotok._platform.optional import version
from audiotok.data.recording import Recording
from audiotok.training.recipe import Train

log = logging.getLogger("audiotok")

KEY = "begun"  # key in a training checkpoint
IDLE = (
    "train.start_from",
    "train.init_from_data",
    "model.entries",
)  # matter only at the beginning of a run
BEST = ("train.best", "loss", "validation data", "data.validate", "train.clips")


@dataclass
class RunFacts:
    """Facts that a run began with, as plain values by dotted names ("train.rate").

    Attributes:
        facts: values by name.
        defaults: values of the options that a recipe and a config need not give.
    """

    facts: dict[str, Any] = field(default_factory=dict)
    defaults: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, recipe: Any, *, config: Any = None, **facts: Any) -> RunFacts:
        """Return the facts of a recipe, of the package and of torch.

        Args:
            recipe: any dataclass.
            config: all sizes of the model, in place of the recipe's `config`.
            **facts: further facts by name.
        """
        table = asdict(recipe) | ({} if config is None else {"config": asdict(config)})
        named_facts = {name.replace("_", " "): value for name, value in facts.items()}
        code = {"code": f"{version('audiotok')} {_code()}", "torch": torch.__version__}
        plain = json.loads(json.dumps({**table, **named_facts, **code}, default=str))
        usual = _defaults(recipe) | ({} if config is None else {"config": _defaults(config)})
        return cls(_flat(plain, ""), _flat(json.loads(json.dumps(usual, default=str)), ""))

    def state(self) -> dict[str, str]:
        """Return the facts as a training checkpoint keeps them."""
        return {KEY: json.dumps(self.facts)}

    def check(
        self, saved: Mapping[str, Any], path: Path, *, fixed: Sequence[str], say: bool = True
    ) -> dict[str, str]:
        """Compare the facts of a training checkpoint with these, and log a line for each change.

        Args:
            saved: the checkpoint.
            path: path of the checkpoint, for messages.
            fixed: names, or first parts of names, of facts that a run cannot change, though it may
                gain or lose all of them.
            say: whether to log the lines; one process of several does.

        Returns:
            Names of the facts that changed -> a line on each.

        Raises:
            ValueError: a fact changed that a run cannot change.
        """
        if KEY not in saved:
            if say:
                log.warning(
                    "%s: of an older audiotok, which kept no recipe in it: goes on, but whether "
                    "recipe and data are the same cannot be told",
                    path,
                )
            return {}
        before: dict[str, Any] = json.loads(saved[KEY])
        names = [name for name in {**before, **self.facts} if self._differs(name, before)]
        lines = {name: self._line(name, before) for name in names}
        kept = [part for part in fixed if _has(before, part) and _has(self.facts, part)]
        wrong = [lines[name] for name in names if _within(name, kept)]
        if wrong:
            more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
            raise InputError(
                f"{path}: not a run of this recipe ({'; '.join(wrong[:3])}{more}), which cannot "
                "change on the way; train into another folder"
            )
        for name in names if say else ():
            idle = ": of no effect, since the run has begun" if name in IDLE else ""
            log.warning("%s: %s%s", path, lines[name], idle)
        if say and chosen_anew(names):
            log.warning("%s: the best weights are chosen anew, as they are judged otherwise", path)
        return lines

    def _differs(self, name: str, before: Mapping[str, Any]) -> bool:
        """Return whether a fact changed; an option missing in one and off in the other did not,
        nor one that an older audiotok did not have and that is at its default."""
        old, new = before.get(name), self.facts.get(name)
        if name not in before and name in self.defaults and new == self.defaults[name]:
            return False
        return old != new and bool(old or new or (name in before and name in self.facts))

    def _line(self, name: str, before: Mapping[str, Any]) -> str:
        return f"{name} was {_shown(before, name)}, now {_shown(self.facts, name)}"


def chosen_anew(changed: Iterable[str]) -> bool:
    """Return whether the best weights so far were chosen by another criterion."""
    return any(_within(name, BEST) for name in changed)


def data_of(recordings: Sequence[Recording]) -> str:
    """Return a description of a list of recordings: their number and the start of their digest."""
    return f"{len(recordings)} recordings ({data_digest(recordings)[:8]})"


def data_digest(recordings: Sequence[Recording]) -> str:
    """Return a SHA-256 of order, file names, sizes, fields and stretches, in hexadecimal.

    It stays the same if a folder is moved.
    """
    digest = hashlib.sha256()
    for recording in recordings:
        locator = recording.locator
        name = Path(locator.path).name if locator.is_file else locator.name
        fields = {k: v for k, v in recording.columns().items() if k != "path"}
        try:
            size = Path(locator.local).stat().st_size if locator.local else -1
        except OSError:
            size = -1  # reading the recording will raise
        facts = [name, size, fields, *(locator.stretch or ())]
        digest.update(json.dumps(facts, sort_keys=True).encode())
    return digest.hexdigest()


def load_state(path: Path, device: str | torch.device = "cpu") -> Any:
    """Read the state that a run wrote with torch.

    Args:
        path: the file.
        device: device on which to place the tensors.

    Raises:
        ValueError: it is damaged, or no such file.
    """
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except (RuntimeError, ValueError, EOFError, pickle.UnpicklingError):
        raise InputError(
            f"{path}: damaged, or not written by a run; put a copy in its place, or move it away "
            "to begin anew"
        ) from None


def retune(optimizer: torch.optim.Optimizer, options: Train) -> None:
    """Set the options of an optimizer of `adamw` to the recipe's, in place of the saved ones."""
    for group in optimizer.param_groups:
        group["betas"] = options.betas
    optimizer.param_groups[0]["weight_decay"] = options.weight_decay


@cache
def _code() -> str:
    """Return eight hexadecimal digits of a digest of the package's source."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        digest.update(str(file.relative_to(root)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:8]


def _defaults(options: Any) -> dict[str, Any]:
    """Return the options of a dataclass, and of those in it, that have a default, with that."""
    defaults: dict[str, Any] = {}
    for option in fields(options):
        value = getattr(options, option.name)
        if is_dataclass(value):
            defaults[option.name] = _defaults(value)
        elif option.default is not MISSING:
            defaults[option.name] = option.default
        elif option.default_factory is not MISSING:
            defaults[option.name] = option.default_factory()
    return defaults


def _flat(value: Any, name: str) -> dict[str, Any]:
    """Return nested tables as values by dotted names; an empty table is the value "empty"."""
    if not isinstance(value, dict):
        return {name: value}
    if not value and "." in name:
        return {name: "empty"}
    values: dict[str, Any] = {}
    for key, inner in value.items():
        values |= _flat(inner, f"{name}.{key}" if name else key)
    return values


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
