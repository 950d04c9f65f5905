"""Weights in the repository say what they came from, and nothing of the machine that made them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from safetensors import safe_open

ROOT = Path(__file__).parents[1]
FOLDERS = ("audiotok/codecs/weights", "egs/data")
WEIGHTS = sorted(path for folder in FOLDERS for path in ROOT.glob(f"{folder}/*.safetensors"))


@pytest.mark.parametrize("file", WEIGHTS, ids=lambda path: path.name)
def test_cards_name_no_path_of_a_machine(file: Path):
    with safe_open(file, "pt") as tensors:
        content = tensors.metadata()
    assert content["card"] not in ("", "{}")
    for name, text in content.items():
        assert not re.findall(r'"(?:/|~|[A-Za-z]:\\)[^"]*"', text), name
