"""State-dict adapters: mappings from other programs' names of weights to ours.

A codec file lists a `StateDictAdapter` for each program that has published weights for it:

    their file -> reader.read -> plain tensors, weight normalisation folded, under their names
               -> the adapter whose `marks` are all among those names, and are the most
               -> prepare, ignored, rules, tensors -> tensors under our names -> sizes -> Config

Rules are a list of substitutions, as in a sed script: each is applied to every name, in order.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from audiotok._platform.errors import Error

Weights = dict[str, Tensor]
Rule = tuple[str, str | Callable[[re.Match[str]], str]]


class StateDictError(Error, ValueError):
    """Error for weights that do not fit their codec; one line that says which."""


@dataclass(frozen=True, kw_only=True, eq=False)
class StateDictAdapter:
    """Adapter from one program's state dict of a codec to ours.

    Attributes:
        source: program and version: "encodec 0.1.1".
        marks: names by which such weights are recognised; where the marks of several adapters are
            all present, the adapter with the most marks is used.
        rules: pattern and replacement, as in `re.sub`, applied one after the other to each name.
            Several names that become `x#0`, `x#1`, ... are concatenated to `x` along axis 0.
        sizes: function from the tensors under our names and the metadata of the file (keyword
            arguments of DAC, config.json of Hugging Face, or nothing) to fields and values of the
            codec's Config. A preset that agrees with all of them is the codec; without one, other
            fields keep their defaults.
        ignored: patterns of their names that have no counterpart here (averages for training,
            discriminators, unused modules).
        tensors: pattern of our names (with `#0`, `#1`), and a function applied to such a tensor.
        prepare: function applied to all tensors under their names before anything else, for what
            rules cannot express.
        beside: files relative to the folder of the weights whose tensors are read too, where they
            are there, by the prefix that their names get.
    """

    source: str
    marks: Sequence[str]
    rules: Sequence[Rule]
    sizes: Callable[[Weights, Mapping[str, Any]], dict[str, Any]]
    ignored: Sequence[str] = ()
    tensors: Sequence[tuple[str, Callable[[Tensor], Tensor]]] = ()
    prepare: Callable[[Weights], Weights] | None = None
    beside: Mapping[str, str] = field(default_factory=dict)

    def knows(self, names: Iterable[str]) -> bool:
        """Return whether all marks are among these names."""
        return set(self.marks) <= set(names)

    def rename(self, name: str) -> str:
        """Return our name of a tensor."""
        for pattern, replacement in self.rules:
            name = re.sub(pattern, replacement, name)
        return name

    def translate(self, theirs: Weights) -> tuple[Weights, dict[str, str]]:
        """Rename and convert a state dict.

        Args:
            theirs: tensors under the names of the other program.

        Returns:
            Tensors under our names, and for each of our names theirs (that of the first part where
            several are concatenated).

        Raises:
            StateDictError: two tensors get the same name, or the parts of one are not 0, 1, ...
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
                raise StateDictError(f"{origin[ours]} and {name} are both {ours}")
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
    """Concatenate `x#0`, `x#1`, ... to `x`."""
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
            raise StateDictError(f"only some parts of {name} are there")
        try:
            joined[name] = torch.cat([pieces[number] for number in order])
        except RuntimeError:
            shapes = ", ".join(_shape(pieces[number]) for number in order)
            raise StateDictError(f"parts of {name} of shapes {shapes}") from None
    return joined


def recognise(
    adapters: Iterable[StateDictAdapter], names: Iterable[str]
) -> StateDictAdapter | None:
    """Return the adapter with the most marks among those whose marks are all present, or None."""
    present = set(names)
    known = [adapter for adapter in adapters if adapter.knows(present)]
    return max(known, key=lambda adapter: len(adapter.marks), default=None)


def unrecognised(
    adapters: Iterable[StateDictAdapter], names: Sequence[str] | Mapping[str, Any]
) -> str:
    """Return a message on why no adapter was recognised.

    It gives the first names, and the first missing mark of the nearest adapter, if at least half
    of its marks are present; else the programs whose weights are known.
    """
    present = set(names)
    every = list(adapters)
    shares = {d: len(present & set(d.marks)) / len(d.marks) for d in every}
    few = f"weights of no codec here ({', '.join(list(names)[:3])} ...)"
    best = max(every, key=lambda d: shares[d], default=None)
    if best is not None and shares[best] >= 0.5:
        missing = next(mark for mark in best.marks if mark not in present)
        return f"{few}; nearest: {best.source}, but {missing} is missing"
    return f"{few}; known: {'; '.join(dict.fromkeys(d.source.partition(',')[0] for d in every))}"


def check(weights: Weights, wanted: Mapping[str, Tensor], origin: Mapping[str, str]) -> None:
    """Raise unless `weights` are exactly the tensors `wanted`, by name and shape.

    Args:
        weights: tensors under our names.
        wanted: state dict of the codec.
        origin: for each of our names that of the other program, for the message.

    Raises:
        StateDictError: tensors are missing, unexpected or of another shape; one line, with the
            first three of each.
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
    problems = [f"{what}: {_few(group)}" for what, group in groups.items() if group]
    if problems:
        raise StateDictError("; ".join(problems))


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _natural(name: str) -> list[Any]:
    """Return a sort key that puts layer 9 before layer 10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"


# -- parts that adapters of several codecs share ---------------------------------------------------

SEANET: Sequence[Rule] = (
    # EnCodec's names of a SEANet, which SpeechTokenizer, WavTokenizer and Mimi share.
    (r"^(encoder|decoder)\.model\.", r"\1.layers."),
    (r"\.conv(tr)?\.conv(tr)?\.", ".conv."),
    (r"\.block\.(\d+)\.", r".body.layers.\1."),
    (r"\.shortcut\.conv\.", ".shortcut.layers.0.conv."),
)

EUCLIDEAN: Sequence[Rule] = (
    # EnCodec's residual quantizer, with codebooks learnt by moving averages.
    (r"^quantizer\.(vq\.)?layers\.(\d+)\._?codebook\.embed$", r"quantizer.stages.\2.entries"),
    (r"^quantizer\.(vq\.)?layers\.(\d+)\._?codebook\.cluster_size$", r"quantizer.stages.\2.usage"),
)

AVERAGES: Sequence[str] = (
    # State of those codebooks for training: an initialisation flag, and sums of latents.
    r"\._?codebook\.(inited|embed_avg)$",
)


def fair_share(usage: Tensor) -> Tensor:
    """Convert counts of entries to `Euclidean.usage`: 1 is a fair share, 0 is before training."""
    return usage / usage.mean() if usage.any() else usage


def squeeze(weight: Tensor) -> Tensor:
    """Return the matrix of a convolution with one tap; other weights as they are."""
    return weight.squeeze(2) if weight.dim() == 3 and weight.shape[2] == 1 else weight


def apart(qkv: Tensor, head: int) -> Tensor:
    """Reorder maps to queries and keys from neighbours (2i, 2i+1) to halves (i, i + head / 2).

    Other programs rotate the pairs of the first kind, and `Attention` those of the second. Queries
    and keys in another order have the same products.

    Args:
        qkv: maps to queries, keys and values, equally many of each, `[rows ...]`.
        head: features of an attention head.
    """
    turned, values = qkv.tensor_split([2 * len(qkv) // 3])
    pairs = turned.unflatten(0, (-1, head // 2, 2))
    return torch.cat([pairs.transpose(1, 2).reshape(turned.shape), values])


def taps_first(weight: Tensor) -> Tensor:
    """Return the weight `[d 1 k]` of a depthwise convolution as `[k d]`, as `Depthwise` has it."""
    return weight[:, 0].T if weight.dim() == 3 else weight


def sample_rate(metadata: Mapping[str, Any]) -> dict[str, int]:
    """Return the field `sample_rate` of a Config if the metadata of a file give it."""
    hz = metadata.get("sample_rate", metadata.get("sampling_rate"))  # DAC's name, Hugging Face's
    return {"sample_rate": hz} if isinstance(hz, int) else {}


def count(weights: Mapping[str, Tensor], pattern: str) -> int:
    """Count the names that match a whole pattern, such as those of codebooks or blocks."""
    return sum(re.fullmatch(pattern, name) is not None for name in weights)


def encoder_strides(weights: Mapping[str, Tensor]) -> tuple[int, ...]:
    """Return the strides of a convolutional encoder, from the sizes of its kernels.

    All its convolutions but the first and the last have kernels of two strides.

    Raises:
        KeyError: there are no such convolutions.
    """
    matches = (re.fullmatch(r"encoder\.layers\.(\d+)\.conv\.weight", name) for name in weights)
    convs = [match[0] for match in sorted((m for m in matches if m), key=lambda m: int(m[1]))]
    if len(convs) < 3:
        raise KeyError("encoder.layers.3.conv.weight")
    return tuple(weights[name].shape[2] // 2 for name in convs[1:-1])


def in_one_chain(tensors: Weights, *, chains: Mapping[str, tuple[str, int]]) -> Weights:
    """Rename layers that DAC and its relatives nest in blocks, numbered as one chain.

        encoder.block.0    encoder.block.1.block.0    encoder.block.1.block.1    encoder.block.2
        encoder.layers.0   encoder.layers.1           encoder.layers.2           encoder.layers.3

    Args:
        tensors: tensors by name; every layer that is numbered has one.
        chains: for the name of each list of blocks that of our chain, and its first number.
    """
    lists = "|".join(map(re.escape, chains))
    layer = re.compile(rf"({lists})\.(\d+)\.(?:block\.(\d+)\.)?")
    positions = {
        name: (match[1], int(match[2]), int(match[3] or 0))
        for name in tensors
        if (match := layer.match(name))
    }
    numbers = {theirs: first for theirs, (_, first) in chains.items()}
    ours: dict[tuple[str, int, int], str] = {}
    for position in sorted(set(positions.values())):
        ours[position] = f"{chains[position[0]][0]}.{numbers[position[0]]}."
        numbers[position[0]] += 1
    return {
        ours[positions[name]] + layer.sub("", name, count=1) if name in positions else name: value
        for name, value in tensors.items()
    }
