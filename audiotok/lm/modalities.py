"""A text model that is frozen learns tokens of other modalities, as new ids after its own.

    0 ... text - 1 | units: marks, codes | image: marks, codes | ...

Each modality has a `Layout` with its own offset, so it keeps its marks, runs and pieces. Ids of a
modality stand between its `begin` and its `end`; everything below `text` is the text model's.

Source: TEAL (Yang et al. 2023, arXiv:2311.04589).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from audiotok._platform import jsonfile
from audiotok._platform.atomic import atomic_file
from audiotok._platform.errors import InputError
from audiotok.lm.interleave import TrainingExample
from audiotok.lm.layout import Layout, LayoutError
from audiotok.tokens.tokens import Tokens

VERSION = 1
TEXT = "text"

Part = Sequence[int] | np.ndarray | tuple[str, Any]
"""Ids of a text, or the name of a modality and its codes."""


class ModalitySegment(NamedTuple):
    """Stretch of a sequence that is of one modality.

    Attributes:
        name: the modality; "text" for the text model's own ids.
        values: ids of a text `[n]`, or codes `[k f]`.
    """

    name: str
    values: np.ndarray


@dataclass(frozen=True)
class Modalities:
    """Modalities in the id space of a text model.

    `Modalities.of` gives each modality its offset.

    Attributes:
        text: number of ids of the text model, which come first.
        layouts: the layout of each modality by name, with its offset.

    Raises:
        LayoutError: ids of two modalities overlap or leave a gap, a layout of several rows, or a
            name that cannot be used.
    """

    text: int
    layouts: Mapping[str, Layout]

    def __post_init__(self) -> None:
        if self.text < 1 or not self.layouts:
            raise LayoutError(
                f"{self.text} text ids and {len(self.layouts)} modalities: neither may be 0"
            )
        first = self.text
        for name, layout in self.layouts.items():
            if name == TEXT or not name.isidentifier():
                raise LayoutError(f"modality {name!r}: a name is a word, and not {TEXT!r}")
            if not layout.serial:
                raise LayoutError(f"modality {name!r}: {layout.pattern} has ids in several rows")
            if layout.offset != first:
                raise LayoutError(
                    f"modality {name!r}: its ids begin at {layout.offset}, where those before end "
                    f"at {first}"
                )
            first = layout.vocabulary[0]

    @classmethod
    def of(cls, text: int, kinds: Mapping[str, Layout | int]) -> Modalities:
        """Return modalities whose ids follow those of a text model, in the order given.

        >>> space = Modalities.of(32_000, {"units": Layout(sizes=(500,), runs="drop"), "image": 64})
        >>> space.layouts["image"].offset
        32505

        Args:
            text: number of ids of the text model: rows of its embedding, of which the tokenizer may
                use fewer.
            kinds: a layout of each modality; or the number of its tokens, whose codes are `[1 n]`.

        Raises:
            LayoutError: a name or a layout that cannot be used.
        """
        layouts: dict[str, Layout] = {}
        first = text
        for name, kind in kinds.items():
            layout = kind if isinstance(kind, Layout) else Layout(sizes=(kind,))
            if not layout.serial:
                raise LayoutError(f"modality {name!r}: {layout.pattern} has ids in several rows")
            layouts[name] = replace(layout, offset=first)
            first = layouts[name].vocabulary[0]
        return cls(text, layouts)

    @property
    def size(self) -> int:
        """Number of all ids, those of the text included."""
        return max(layout.vocabulary[0] for layout in self.layouts.values())

    def layout(self, name: str) -> Layout:
        """Return the layout of a modality.

        Raises:
            LayoutError: there is no such modality.
        """
        if name not in self.layouts:
            raise LayoutError(f"no modality {name!r}: there are {', '.join(self.layouts)}")
        return self.layouts[name]

    def encode(self, name: str, codes: Tokens | np.ndarray) -> np.ndarray:
        """Return the ids `[n]` of the codes of a modality, `begin` and `end` included.

        Args:
            name: the modality.
            codes: tokens, or codes `[k f]`; `[n]` where there is a single codebook.

        Raises:
            LayoutError: no such modality, codes out of range, or tokens of another codec or of
                other weights than the layout's.
        """
        layout = self.layout(name)
        if not isinstance(codes, Tokens) and np.ndim(codes) == 1:
            codes = np.asarray(codes)[None]
        return layout.encode(codes)

    def example(
        self, parts: Sequence[Part], *, learned: Collection[str] | None = None
    ) -> TrainingExample:
        """Return parts of several modalities as one sequence.

        >>> space.example([[5, 17], ("units", tokens), ("image", pixels)], learned=["image"])

        Args:
            parts: ids of the text, or the name of a modality and its codes.
            learned: modalities that the loss is on, "text" among them; all if None.

        Raises:
            LayoutError: text ids that are not the text model's, or as `encode`.
        """
        if learned is not None:
            for name in sorted(set(learned) - {TEXT}):
                self.layout(name)
        segments = [self._ids(part) for part in parts]
        masks = [np.full(len(s.values), learned is None or s.name in learned) for s in segments]
        return TrainingExample(
            np.concatenate([np.zeros(0, np.int64), *(s.values for s in segments)]),
            np.concatenate([np.zeros(0, bool), *masks]),
        )

    def _ids(self, part: Part) -> ModalitySegment:
        """Return the ids of a part, checked."""
        if isinstance(part, tuple) and isinstance(part[0], str):
            return ModalitySegment(part[0], self.encode(part[0], cast("Any", part[1])))
        ids = np.asarray(part)
        if ids.size and (ids.dtype.kind not in "iu" or ids.min() < 0 or ids.max() >= self.text):
            raise LayoutError(f"text ids are 0 to {self.text - 1}")
        return ModalitySegment(TEXT, ids.astype(np.int64))

    def split(self, ids: np.ndarray) -> list[ModalitySegment]:
        """Return the text and the codes in a sequence, in order: the inverse of `example`.

        Texts that follow each other are one.

        Args:
            ids: ids `[n]`.

        Raises:
            LayoutError: ids that no modality has, or a modality that is cut short or damaged.
        """
        ids = np.asarray(ids)
        if ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu"):
            raise LayoutError(f"ids are integers [n], not {ids.dtype} {list(ids.shape)}")
        if ids.size and (ids.min() < 0 or ids.max() >= self.size):
            bad = ids[(ids < 0) | (ids >= self.size)][0]
            raise LayoutError(f"id {bad}: there are 0 to {self.size - 1}")
        begins = {layout.special("begin"): name for name, layout in self.layouts.items()}
        segments, at = [], 0
        while at < len(ids):
            name = TEXT if ids[at] < self.text else begins.get(int(ids[at]), "")
            if not name:
                raise LayoutError(f"id {ids[at]} at {at} is outside `begin` and `end`")
            if name == TEXT:
                ends = np.flatnonzero(ids[at:] >= self.text)
                stop = at + int(ends[0]) if len(ends) else len(ids)
                segments.append(ModalitySegment(name, ids[at:stop].astype(np.int64)))
            else:
                layout = self.layouts[name]
                ends = np.flatnonzero(ids[at:] == layout.special("end"))
                stop = at + int(ends[0]) + 1 if len(ends) else len(ids)
                segments.append(ModalitySegment(name, layout.decode(ids[at:stop])))
            at = stop
        return segments

    def save(self, path: str | Path) -> None:
        """Write text size, names, offsets and layouts as JSON, completely or not at all."""
        with atomic_file(Path(path)) as part:
            part.write_text(json.dumps(self.facts(), indent=1, ensure_ascii=True) + "\n", "utf-8")

    def facts(self) -> dict[str, Any]:
        """Return text size, names, offsets and layouts as JSON."""
        layouts = {name: asdict(layout) for name, layout in self.layouts.items()}
        return {"version": VERSION, "text": self.text, "modalities": layouts}

    @classmethod
    def load(cls, path: str | Path) -> Modalities:
        """Read modalities that `save` wrote.

        Raises:
            LayoutError: no such file, one of another kind, or ranges of ids that overlap.
        """
        try:
            content = jsonfile.parse(Path(path).read_bytes(), str(path))
        except OSError as error:
            raise LayoutError(f"{path}: cannot be read: {error.strerror}") from None
        except ValueError as error:
            raise LayoutError(f"{error}") from None
        return cls.from_facts(content, str(path))

    @classmethod
    def from_facts(cls, facts: Any, where: str) -> Modalities:
        """Return the modalities of `facts`.

        Args:
            facts: JSON.
            where: the file, for messages.

        Raises:
            LayoutError: they are no such facts.
        """
        try:
            if facts["version"] != VERSION:
                raise InputError(f"version {facts['version']}; this audiotok reads {VERSION}")
            layouts = {
                name: Layout(**{**layout, "sizes": tuple(layout["sizes"])})
                for name, layout in facts["modalities"].items()
            }
            return cls(jsonfile.whole(facts["text"], "text", least=1), layouts)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise LayoutError(f"{where}: no modalities: {error}") from None


def collate(examples: Sequence[TrainingExample], *, pad: int = 0) -> dict[str, Tensor]:
    """Return examples as a batch for a model of transformers, padded at their ends.

    Args:
        examples: sequences of `Modalities.example`, `tts`, `asr` or `interleaved`.
        pad: any id; no loss is on padding, and it is not attended to.

    Returns:
        `input_ids`, `attention_mask` and `labels`, each `[b n]`.
    """
    longest = max((len(each.ids) for each in examples), default=0)
    ids = np.full((len(examples), longest), pad)
    labels = np.full((len(examples), longest), -100)
    mask = np.zeros((len(examples), longest), np.int64)
    for row, each in enumerate(examples):
        ids[row, : len(each.ids)] = each.ids
        labels[row, : len(each.ids)] = each.labels
        mask[row, : len(each.ids)] = 1
    parts = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    return {name: torch.from_numpy(part) for name, part in parts.items()}
