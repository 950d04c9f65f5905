"""Packed contexts: every id once, in an order that can be gone on with anywhere."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from test_exporters import corpus  # noqa: F401  a fixture
from torch.utils.data import DataLoader

from audiotok._platform.registry import find
from audiotok.corpus import Corpus
from audiotok.lm import packing
from audiotok.lm.exporters.base import export
from audiotok.lm.layout import Layout
from audiotok.lm.packing import Packed

N = 16


@pytest.fixture(scope="module")
def folder(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    out = tmp_path_factory.mktemp("packed") / "ids"
    export(find("exporters", "npy"), corpus, out)
    return out


def read(data: Packed) -> list[list[int]]:
    return [context.tolist() for context in data]


def test_contexts_are_the_corpus_end_to_end(folder: Path, corpus: Corpus):  # noqa: F811
    layout = Layout.load(folder / "layout.json")
    got = iter(read(Packed(folder, context=N, shuffle=False)))
    for shard in corpus.shards:
        ids = np.concatenate([layout.encode(entry.tokens.codes) for entry in shard])
        for start in range(0, len(ids) - N, N):
            assert next(got) == ids[start : start + N + 1].tolist()
    assert next(got, None) is None


def test_a_shard_of_whole_contexts_gives_its_last_one(folder: Path):
    ids = np.load(sorted(folder.glob("*.ids"))[0] / "ids.npy")
    assert read(Packed(folder, context=len(ids) - 1, shuffle=False))[0] == ids.tolist()


def test_shuffling_changes_order_alone_and_epochs_differ(folder: Path):
    data = Packed(folder, context=N, seed=1)
    first, second = read(data), read(data)
    assert first != second
    assert first == read(Packed(folder, context=N, seed=1))
    assert first != read(Packed(folder, context=N, seed=2))
    plain = read(Packed(folder, context=N, shuffle=False))
    assert len(plain) == len(first)


def test_it_goes_on_where_it_was(folder: Path):
    whole = Packed(folder, context=N, seed=3)
    two = read(whole) + read(whole)
    for stop in (0, 1, 7, len(two) // 2 - 1, len(two) // 2, len(two) // 2 + 3):
        data = Packed(folder, context=N, seed=3)
        epoch = len(two) // 2
        if stop >= epoch:
            read(data)
        list(islice(data, stop % epoch if stop >= epoch else stop))
        state = data.state_dict()
        again = Packed(folder, context=N, seed=3)
        again.load_state_dict(state)
        rest = read(again) + (read(again) if stop < epoch else [])
        assert rest == two[stop:]
    with pytest.raises(ValueError, match="another seed"):
        Packed(folder, context=N, seed=4).load_state_dict(whole.state_dict())


def test_any_number_of_contexts_is_passed_over(folder: Path):
    whole = Packed(folder, context=N, seed=3)
    two = read(whole) + read(whole)
    for stop in (0, 1, 7, len(two) // 2 - 1, len(two) // 2, len(two) - 2):
        data = Packed(folder, context=N, seed=3)
        data.seek(stop)
        assert read(data) == two[stop : len(two) // (1 + (stop < len(two) // 2))]
    with pytest.raises(ValueError, match="less than 1000001 ids"):
        Packed(folder, context=1000000).seek(0)


def test_processes_and_workers_share_the_shards(folder: Path):
    every = sorted(read(Packed(folder, context=N, shuffle=False)))
    ranks = [read(Packed(folder, context=N, shuffle=False, rank=r, world=3)) for r in range(3)]
    assert sorted(context for rank in ranks for context in rank) == every
    loader = DataLoader(Packed(folder, context=N, shuffle=False), batch_size=None, num_workers=2)
    assert sorted(x.tolist() for x in loader) == every
    with pytest.raises(ValueError, match="readers"):
        read(Packed(folder, context=N, world=99))


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_go_on_where_they_were(folder: Path, workers: int, monkeypatch: pytest.MonkeyPatch):
    """By messages of 4 batches of 2: a place within a message, at its edge, and epochs later."""
    monkeypatch.setattr(packing, "MESSAGE", 8 * N)
    data = Packed(folder, context=N, seed=3)
    epoch = len(read(data))
    whole = list(islice(data.batches(2, workers=workers), epoch + 9))
    assert whole[0].shape == (2, N + 1)
    assert whole[0].dtype == torch.int64
    for stop in (0, 3, 4, 5, 8, 11, epoch):
        again = data.batches(2, workers=workers, skip=stop)
        assert all(map(torch.equal, islice(again, 9), whole[stop : stop + 9]))


def test_batches_are_the_contexts_of_each_epoch(folder: Path):
    data, other = (Packed(folder, context=N, seed=3) for _ in range(2))
    two = read(other) + read(other)
    made = islice(data.batches(2), len(two) // 2)
    assert [ids.tolist() for batch in made for ids in batch] == two[: len(two) // 2 * 2]
    with pytest.raises(ValueError, match="batch 0"):
        next(data.batches(0))


def test_workers_read_each_context_once_an_epoch(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """Both workers' first epoch, as long as neither begins its second."""
    monkeypatch.setattr(packing, "MESSAGE", N)
    every = {tuple(ids) for ids in read(Packed(folder, context=N, seed=3))}
    made = islice(Packed(folder, context=N, seed=3).batches(1, workers=2), len(every) // 2)
    got = [tuple(ids[0].tolist()) for ids in made]
    assert len(set(got)) == len(got)
    assert set(got) <= every


def test_bad_exports_are_named(folder: Path, tmp_path: Path):
    with pytest.raises(ValueError, match="no export"):
        Packed(tmp_path, context=N)
    with pytest.raises(ValueError, match="context 0, rank 0 of 1"):
        Packed(folder, context=0)
    assert next(iter(Packed(folder, context=N))).dtype == torch.int64
