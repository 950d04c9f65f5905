"""Sizes of every codec and decoder: a number with a part where a count is due is refused."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
import torch
from torch import nn

from audiotok._platform.errors import InputError
from audiotok._platform.registry import find, names
from audiotok.codecs.models.speech import Speech

KINDS = [
    pytest.param(kind, id=f"{family}/{name}")
    for family in ("codecs", "decoders")
    for name in names(family)
    if (kind := find(family, name))
]


def with_parts(value: Any) -> Any:
    """A count with a half more, or a list of which one is so; None of all else."""
    if isinstance(value, bool) or value in ((), None):
        return None
    if isinstance(value, int):
        return value + 0.5
    if isinstance(value, tuple) and all(isinstance(each, int) for each in value):
        return (*value[:-1], value[-1] + 0.5)
    return None


def changed(sizes: Any, name: str, value: Any) -> Any:
    """Sizes with another value of one, past what tests and the dataclass itself check."""
    other = copy.copy(sizes)
    object.__setattr__(other, name, value)
    return other


@pytest.mark.parametrize("kind", KINDS)
def test_a_count_with_a_part_is_refused_in_a_line(kind: type[Any]):
    sizes, tried = kind.config_type(), 0
    for field in dataclasses.fields(sizes):
        value = with_parts(getattr(sizes, field.name))
        if value is None:
            continue
        tried += 1
        with pytest.raises(InputError) as refused, torch.device("meta"):
            kind(changed(sizes, field.name, value))
        assert str(refused.value) == f"{field.name} {value}: whole numbers are needed"
    assert tried


def test_there_are_no_sizes_before_they_are_set():
    codec = Speech.__new__(Speech)
    nn.Module.__init__(codec)
    assert not hasattr(codec, "config")
