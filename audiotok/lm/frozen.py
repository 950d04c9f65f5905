"""New ids of a frozen language model: only their embeddings and their output rows are trained.

    ids    < text: the model's own embedding, frozen       logits [text | new]
          >= text: new rows, trained                        own head, frozen | new rows, trained

The model's own matrices stay as they are, in memory too, so logits of text do not change by a bit,
and no gradient reaches anything but the new rows.

>>> space = Modalities.of(rows_in(model), {"units": layout, "image": 1024})
>>> extend_model(model, space)
>>> losses = fit_rows(model, examples, steps=200)     # or transformers' Trainer, with `collate`
>>> save_rows(model, "rows")
>>> space = load_rows(another_copy, "rows")

Source: TEAL (Yang et al. 2023, arXiv:2311.04589).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn
from torch.nn import functional as F

from audiotok._platform import jsonfile
from audiotok._platform.atomic import atomic_folder
from audiotok._platform.errors import InputError
from audiotok.lm.interleave import TrainingExample
from audiotok.lm.modalities import Modalities, collate
from audiotok.nn.finite import check_finite

ROWS, FACTS = "rows.safetensors", "modalities.json"
NAMES = "input", "output"  # the rows of a model
SAMPLE = 4096  # values of a parameter, or rows of an embedding, that are looked at


class ExtendedEmbedding(nn.Module):
    """Embedding of a model's own ids, and of new ones.

    Args:
        own: the model's embedding.
        count: number of its ids.
        rows: embeddings of the new ids `[n d]`.
    """

    def __init__(self, own: nn.Module, count: int, rows: Tensor) -> None:
        super().__init__()
        self.own = own
        self.count = count
        self.new = nn.Parameter(rows)

    def forward(self, ids: Tensor) -> Tensor:
        """Return the embeddings `[... d]` of ids."""
        known = self.own(ids.clamp(max=self.count - 1))
        added = F.embedding((ids - self.count).clamp(min=0), self.new).to(known)
        return torch.where((ids < self.count)[..., None], known, added)


class ExtendedHead(nn.Module):
    """Output layer for a model's own ids, and for new ones.

    Args:
        own: the model's output layer.
        rows: output rows of the new ids `[n d]`.
    """

    def __init__(self, own: nn.Module, rows: Tensor) -> None:
        super().__init__()
        self.own = own
        self.new = nn.Parameter(rows)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the logits `[... v]` of all ids."""
        known = self.own(hidden)
        return torch.cat([known, F.linear(hidden, self.new.to(hidden.dtype)).to(known)], -1)


def rows_in(model: Any) -> int:
    """Return the number of ids that a model has of its own: rows of its embedding.

    Raises:
        InputError: it is no causal language model of transformers.
    """
    embedding, _ = _ends(model)
    own = embedding.own if isinstance(embedding, ExtendedEmbedding) else embedding
    return len(own.weight)  # pyright: ignore[reportArgumentType]


def extend_model(model: Any, space: Modalities, *, seed: int = 0) -> None:
    """Give a model the ids of modalities, and freeze all of it but their rows, in place.

    New rows are float32, drawn around the mean of the model's own with a tenth of their standard
    deviation (Hewitt 2021); input and output rows are apart even where the model's own are tied.

    Args:
        model: a causal language model of transformers.
        space: modalities that follow its ids (`rows_in`).
        seed: random seed of the new rows.

    Raises:
        InputError: the model has another number of ids, is extended already, or is no such model.
    """
    embedding, head = _ends(model)
    if isinstance(embedding, ExtendedEmbedding):
        raise InputError("the model is extended already: name all its modalities at once")
    count = rows_in(model)
    if space.text != count:
        raise InputError(f"modalities after {space.text} text ids, and the model has {count}")
    model.requires_grad_(False)
    random = torch.Generator().manual_seed(seed)
    some = torch.linspace(0, count - 1, min(count, SAMPLE)).long().to(embedding.weight.device)
    new = space.size - count
    inputs = _drawn(embedding(some), new, random)
    outputs = _drawn(head.weight[some.to(head.weight.device)], new, random)
    model.set_input_embeddings(ExtendedEmbedding(embedding, count, inputs))
    _set_head(model, head, ExtendedHead(head, outputs))
    _set_vocabulary(model, space.size)
    model.audiotok_modalities = space


def fit_rows(
    model: Any,
    examples: Sequence[TrainingExample],
    *,
    steps: int,
    batch: int = 8,
    rate: float = 1e-2,
    seed: int = 0,
) -> list[float]:
    """Train the new rows of an extended model, without its dropout.

    Args:
        model: a model of `extend_model`.
        examples: sequences to learn from.
        steps: number of steps.
        batch: sequences of a step.
        rate: learning rate of Adam, which falls to 0 by a cosine.
        seed: random seed of the order.

    Returns:
        The loss of each step in nats an id.

    Raises:
        InputError: the model is not extended, or there are no examples.
    """
    new = list(_new_rows(model).values())
    if not examples:
        raise InputError("no examples to learn from")
    optimiser = torch.optim.Adam(new, rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    random, order, losses = np.random.default_rng(seed), [], []
    was_training = model.training
    model.eval()
    with torch.enable_grad():
        for _ in range(steps):
            if len(order) < min(batch, len(examples)):
                order += random.permutation(len(examples)).tolist()
            chosen, order = order[:batch], order[batch:]
            tensors = collate([examples[i] for i in chosen])
            given = {name: each.to(new[0].device) for name, each in tensors.items()}
            optimiser.zero_grad()
            loss = model(**given).loss
            loss.backward()
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
    model.train(was_training)
    return losses


def save_rows(model: Any, folder: str | Path) -> None:
    """Write the new rows of a model, and the offsets of its modalities, to a folder.

    Nothing of the model's own weights is in it. The folder appears complete, in place of an
    earlier one.

    Args:
        model: a model of `extend_model`.
        folder: the folder: rows.safetensors and modalities.json.

    Raises:
        InputError: the model is not extended.
        NotFiniteError: the training diverged.
    """
    rows = {name: each.detach().cpu().contiguous() for name, each in _new_rows(model).items()}
    check_finite(rows, folder)
    facts = {**model.audiotok_modalities.facts(), "model": fingerprint(model)}
    target = Path(folder)
    if target.exists() and not (target / FACTS).is_file():
        raise InputError(f"{target}: exists, and holds no rows of `save_rows`: choose another")
    with atomic_folder(target) as part:
        (part / ROWS).write_bytes(to_bytes(rows))
        (part / FACTS).write_text(json.dumps(facts, indent=1, ensure_ascii=True) + "\n", "utf-8")


def load_rows(model: Any, folder: str | Path) -> Modalities:
    """Extend a model by the rows that `save_rows` wrote, in place, and return its modalities.

    Args:
        model: the model that they were trained with, not extended.
        folder: the folder.

    Raises:
        InputError: the folder is not there or damaged, or its rows were trained with another model.
    """
    folder = Path(folder)
    try:
        facts = jsonfile.parse((folder / FACTS).read_bytes(), str(folder / FACTS))
        with safe_open(folder / ROWS, "pt") as file:
            rows = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        known = facts.pop("model")
    except OSError as error:
        raise InputError(f"{folder}: no rows of `save_rows` ({error.strerror or error})") from None
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{folder}: damaged rows: {' '.join(str(error).split())}") from None
    space = Modalities.from_facts(facts, str(folder / FACTS))
    check_finite(rows, folder / ROWS)
    if isinstance(_ends(model)[0], ExtendedEmbedding):
        raise InputError("the model is extended already: load rows into one that is not")
    if known != fingerprint(model):
        raise InputError(
            f"{folder}: rows of model {known}, and this one is {fingerprint(model)}: load the model"
            " that they were trained with"
        )
    wanted = space.size - space.text, _ends(model)[0].weight.shape[1]
    if {name: tuple(each.shape) for name, each in rows.items()} != dict.fromkeys(NAMES, wanted):
        raise InputError(f"{folder}: rows of other shapes than its modalities need, {wanted}")
    extend_model(model, space)
    with torch.no_grad():
        for name, each in _new_rows(model).items():
            each.copy_(rows[name])
    return space


def fingerprint(model: Any) -> str:
    """Return sixteen hexadecimal digits that identify a model's own weights, from a sample of each.

    Values are rounded to bfloat16, so that a model is the same in bfloat16 and in float32.
    """
    digest = hashlib.sha256()
    named = {n.replace(".own.", "."): x for n, x in model.named_parameters() if n[-4:] != ".new"}
    for name in sorted(named):
        flat = named[name].detach().flatten()
        some = flat[:: max(1, len(flat) // SAMPLE)].bfloat16().float().cpu().contiguous()
        digest.update(name.encode())
        digest.update(some.numpy())
    return digest.hexdigest()[:16]


def _ends(model: Any) -> tuple[Any, Any]:
    """Return the embedding and the output layer of a model."""
    try:
        embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    except (AttributeError, NotImplementedError):
        embedding = head = None
    if embedding is None or head is None:
        name = type(model).__name__
        raise InputError(f"{name} has no embedding and output layer of a causal language model")
    return embedding, head


def _new_rows(model: Any) -> dict[str, nn.Parameter]:
    """Return the new rows of an extended model by name."""
    embedding, head = _ends(model)
    if not isinstance(embedding, ExtendedEmbedding) or not isinstance(head, ExtendedHead):
        raise InputError("the model has no new rows: `extend_model` gives it some")
    return dict(zip(NAMES, (embedding.new, head.new), strict=True))


@torch.no_grad()
def _drawn(own: Tensor, count: int, random: torch.Generator) -> Tensor:
    """Return rows `[count d]` drawn around the mean of others `[n d]`, in float32."""
    own = own.float()
    noise = torch.randn(count, own.shape[1], generator=random).to(own.device)
    return own.mean(0) + 0.1 * own.std(0) * noise


def _set_head(model: Any, own: nn.Module, new: nn.Module) -> None:
    """Put an output layer in the place of a model's own, under whatever name it has."""
    for module in model.modules():
        for name, child in module.named_children():
            if child is own:
                setattr(module, name, new)
                return
    raise InputError(f"{type(model).__name__}: its output layer is no module of it")


def _set_vocabulary(model: Any, size: int) -> None:
    """Set the number of ids that a model's loss expects.

    Own matrices that are one stay one, but transformers is to tie none again by their old names.
    """
    config = model.config
    for each in (config, config.get_text_config()):
        each.vocab_size = size
        each.tie_word_embeddings = False
