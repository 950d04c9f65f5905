"""Entries of codebooks, of codecs whose quantizers differ, up to an offset."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from commandline import small

from audiotok._platform.registry import find
from audiotok.codecs.checkpoint import load
from audiotok.codecs.embeddings import entries_of
from audiotok.nn.quantizers.base import Quantizer


def codec_of(quantizer: Quantizer) -> SimpleNamespace:
    quantizer.eval()
    return SimpleNamespace(
        sizes=quantizer.sizes,
        codebook_embeddings=lambda: [quantizer.table(i) for i in range(quantizer.codebooks)],
    )


def test_entries_of_a_residual_quantizer_are_those_of_its_stages():
    codec = load(small())
    tables = entries_of(codec)
    assert tables is not None
    assert [len(table) for table in tables] == list(codec.sizes)
    codes = torch.arange(64)[None, None].expand(1, 4, 64)
    for k, table in enumerate(tables):
        whole = codec.quantizer.decode(codes[:, : k + 1])[0].T.detach().numpy()
        less = codec.quantizer.decode(codes[:, :k])[0].T.detach().numpy() if k else 0
        mine = whole - less
        assert np.allclose(table - table[0], mine - mine[0], atol=1e-5)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("rvq", {"codebooks": 3, "size": 16, "kind": "factorised"}),
        ("fsq", {"levels": (4, 3, 5)}),
        ("split_rvq", {"codebooks": 3, "size": 16}),
        ("multi_scale_rvq", {"size": 16}),
        ("grouped_rvq", {"groups": ((16, 2), (16, 1)), "size": 16}),
        ("grvq", {"codebooks": 4, "size": 16}),
    ],
)
def test_every_quantizer_that_decodes_a_prefix_has_entries(name: str, options: dict[str, object]):
    codec = codec_of(find("quantizers", name)(32, **options))
    tables = entries_of(codec)
    assert tables is not None
    assert [len(table) for table in tables] == list(codec.sizes)
    assert all(len(np.unique(table.round(6), axis=0)) > len(table) / 2 for table in tables)


def test_what_has_no_entries_at_hand_says_so():
    assert entries_of(SimpleNamespace(sizes=(64,))) is None  # exported
    many = SimpleNamespace(sizes=(2,) * 65, codebook_embeddings=list)
    large = SimpleNamespace(sizes=(2**16, 2), codebook_embeddings=list)
    assert entries_of(many) is None
    assert entries_of(large) is None
