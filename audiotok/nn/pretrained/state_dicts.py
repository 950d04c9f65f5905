"""How other programs name a codec's weights, and what those weights are called here.

A codec file lists a `Dialect` for each program that has published weights for it:

    their file -> foreign.read -> plain tensors, weight normalisation folded, under their names
               -> the dialect that knows most of its `marks` among those names
               -> prepare, ignored, rules, tensors -> tensors under our names -> sizes -> Config

Rules are a script of substitutions, as in sed: each is tried on every name, in turn.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Weights = dict[str, Tensor]
Rule = tuple[str, str | Callable[[re.Match[str]], str]]


class DialectError(ValueError):
    """Weights that do not fit the codec they are for; one line that says which."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Dialect:
    """How one program names the weights of a codec.

    Attributes:
        source: the program, and its version: "encodec 0.1.1".
        marks: names that weights of this kind have; where several dialects find all of theirs,
            the one with the most marks is meant.
        rules: pattern and replacement, as in `re.sub`, applied one after the other to each name.
            Several names that become `x#0`, `x#1`, ... are concatenated to `x` along axis 0.
        sizes: what tensors under our names, and the facts that came with the file (DAC's keyword
            arguments, Hugging Face's config.json, or nothing), say of the codec's Config: fields
            and values. A preset that agrees with all of them is the codec; without one, other
            fields keep their defaults.
        ignored: patterns of their names that mean nothing here (averages for training,
            discriminators, modules that nothing runs).
        tensors: pattern of our names (with `#0`, `#1`), and what is done to such a tensor.
        prepare: what rules cannot say, done to all tensors under their names before anything else.
    """

    source: str
    marks: Sequence[str]
    rules: Sequence[Rule]
    sizes: Callable[[Weights, Mapping[str, Any]], dict[str, Any]]
    ignored: Sequence[str] = ()
    tensors: Sequence[tuple[str, Callable[[Tensor], Tensor]]] = ()
    prepare: Callable[[Weights], Weights] | None = None

    def knows(self, names: Iterable[str]) -> bool:
        """Whether all marks are among these names."""
        return set(self.marks) <= set(names)

    def rename(self, name: str) -> str:
        """Our name of a tensor."""
        for pattern, replacement in self.rules:
            name = re.sub(pattern, replacement, name)
        return name

    def translate(self, theirs: Weights) -> tuple[Weights, dict[str, str]]:
        """Tensors under our names, and their name of each (of the first, if concatenated).

        Raises:
            DialectError: two tensors of one name, or parts of one that are not 0, 1, ...
        """
        if self.prepare:
            theirs = self.prepare(dict(theirs))
        renamed: Weights = {}
        origin: dict[str, str] = {}
        for name, tensor in theirs.items():
            if any(re.search(pattern, name) for pattern in self.ignored):
                continue
            ours = self.rename(name)
            if ours in renamed:
                raise DialectError(f"{origin[ours]} and {name} are both {ours}")
            for pattern, change in self.tensors:
                if re.search(pattern, ours):
                    tensor = change(tensor)
            renamed[ours], origin[ours] = tensor, name
        return _concatenated(renamed), {
            ours.partition("#")[0]: name
            for ours, name in origin.items()
            if ours.partition("#")[2] in ("", "0")
        }


def _concatenated(renamed: Weights) -> Weights:
    """`x#0`, `x#1`, ... become `x`."""
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in renamed.items():
        whole, _, number = name.partition("#")
        parts.setdefault(whole, {})[number] = tensor
    joined: Weights = {}
    for name, pieces in parts.items():
        if list(pieces) == [""]:
            joined[name] = pieces[""].contiguous()
            continue
        order = [str(i) for i in range(len(pieces))]
        if sorted(pieces) != sorted(order):
            raise DialectError(f"only some parts of {name} are there")
        try:
            joined[name] = torch.cat([pieces[number] for number in order])
        except RuntimeError:
            shapes = ", ".join(_shape(pieces[number]) for number in order)
            raise DialectError(f"parts of {name} of shapes {shapes}") from None
    return joined


def recognise(dialects: Iterable[Dialect], names: Iterable[str]) -> Dialect | None:
    """The dialect of most marks among those whose marks are all there."""
    there = set(names)
    known = [dialect for dialect in dialects if dialect.knows(there)]
    return max(known, key=lambda dialect: len(dialect.marks), default=None)


def unrecognised(dialects: Iterable[Dialect], names: Sequence[str] | Mapping[str, Any]) -> str:
    """Say why no dialect was recognised: the first names, and what is missing of the nearest one
    if half of its marks are there."""
    there, every = set(names), list(dialects)
    shares = {d: len(there & set(d.marks)) / len(d.marks) for d in every}
    best, said = max(every, key=lambda d: shares[d], default=None), ""
    if best is not None and shares[best] >= 0.5:
        missing = next(mark for mark in best.marks if mark not in there)
        said = f"nearest: {best.source}, but {missing} is missing; "
    few = ", ".join(list(names)[:3])
    known = "; ".join(dict.fromkeys(d.source for d in every))
    return f"weights of no codec here ({few} ...); {said}known: {known}"


def check(weights: Weights, wanted: Mapping[str, Tensor], origin: Mapping[str, str]) -> None:
    """That `weights` are exactly the tensors `wanted`; `origin` gives their names of ours.

    Raises:
        DialectError: some are missing, unexpected or of another shape; one line, with the first
            three of each.
    """
    shapes = [
        f"{origin.get(name, name)} is {_shape(weights[name])}, not {_shape(wanted[name])}"
        for name in wanted.keys() & weights.keys()
        if weights[name].shape != wanted[name].shape
    ]
    groups = {
        "missing": sorted(wanted.keys() - weights.keys(), key=_natural),
        "unexpected": [
            origin.get(name, name) for name in sorted(weights.keys() - wanted.keys(), key=_natural)
        ],
        "wrong shape": sorted(shapes, key=_natural),
    }
    said = [f"{what}: {_few(found)}" for what, found in groups.items() if found]
    if said:
        raise DialectError("; ".join(said))


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _natural(name: str) -> list[Any]:
    """Sorts layer 9 before layer 10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"


# -- what dialects of several codecs share ---------------------------------------------------------

SEANET: Sequence[Rule] = (
    # EnCodec's names of a SEANet, which SpeechTokenizer, WavTokenizer and Mimi took over.
    (r"^(encoder|decoder)\.model\.", r"\1.layers."),
    (r"\.conv(tr)?\.conv(tr)?\.", ".conv."),
    (r"\.block\.(\d+)\.", r".body.layers.\1."),
    (r"\.shortcut\.conv\.", ".shortcut.layers.0.conv."),
)

EUCLIDEAN: Sequence[Rule] = (
    # Its residual quantizer, with codebooks learnt by moving averages.
    (r"^quantizer\.(vq\.)?layers\.(\d+)\._?codebook\.embed$", r"quantizer.stages.\2.entries"),
    (r"^quantizer\.(vq\.)?layers\.(\d+)\._?codebook\.cluster_size$", r"quantizer.stages.\2.usage"),
)

AVERAGES: Sequence[str] = (
    # Where those are in training: whether they began, and sums whose means are the entries.
    r"\._?codebook\.(inited|embed_avg)$",
)


def fair_share(usage: Tensor) -> Tensor:
    """Counts of each entry as `Euclidean.usage` has them: 1 is a fair share; 0 before training."""
    return usage / usage.mean() if usage.any() else usage


def squeeze(weight: Tensor) -> Tensor:
    """The matrix of a convolution of one tap."""
    return weight.squeeze(2) if weight.dim() == 3 and weight.shape[2] == 1 else weight


def taps_first(weight: Tensor) -> Tensor:
    """A depthwise convolution's `[d 1 k]` as `Depthwise` has it, `[k d]`."""
    return weight[:, 0].T if weight.dim() == 3 else weight


def sample_rate(about: Mapping[str, Any]) -> dict[str, int]:
    """What came with a file says of `Config.sample_rate`, if it does."""
    hz = about.get("sample_rate", about.get("sampling_rate"))  # DAC's name, Hugging Face's
    return {"sample_rate": hz} if isinstance(hz, int) else {}


def count(weights: Mapping[str, Tensor], pattern: str) -> int:
    """How many names match a pattern whole: codebooks, blocks."""
    return sum(re.fullmatch(pattern, name) is not None for name in weights)


def encoder_strides(weights: Mapping[str, Tensor]) -> tuple[int, ...]:
    """Strides of a convolutional encoder: all its convolutions but the first and the last are two
    strides wide.

    Raises:
        KeyError: there are no such convolutions.
    """
    found = (re.fullmatch(r"encoder\.layers\.(\d+)\.conv\.weight", name) for name in weights)
    convs = [name[0] for name in sorted((m for m in found if m), key=lambda m: int(m[1]))]
    if len(convs) < 3:
        raise KeyError("encoder.layers.3.conv.weight")
    return tuple(weights[name].shape[2] // 2 for name in convs[1:-1])
