"""Examples in docstrings run, with a small codec where they name one."""

from __future__ import annotations

import copy
import doctest
import importlib
import io
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from commandline import audiotok as command
from commandline import noise, small
from torch.utils.data import DataLoader

import audiotok
from audiotok._platform.errors import MissingLibraryError
from audiotok.audio import _torchaudio
from audiotok.codecs.checkpoint import load
from audiotok.corpus import Corpus
from audiotok.lm.layout import Layout
from audiotok.lm.layout.base import END
from audiotok.lm.modalities import Modalities
from audiotok.lm.packing import Packed

ROOT = Path(__file__).parents[2]
MODULES = [
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for file in sorted((ROOT / "audiotok").rglob("*.py"))
    if ">>> " in file.read_text("utf-8")
]
CODEC = load(small())
SAMPLES = noise(1.2).T  # [1 t]
PIECES = [SAMPLES[:, :5000], SAMPLES[:, 5000:]]
TOKENS = CODEC.encode(audiotok.Audio(torch.from_numpy(SAMPLES.copy()), 16000))
LAYOUT = Layout.of(TOKENS)
Names = dict[str, Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that examples name: recordings, a corpus, an export of it."""
    folder = tmp_path_factory.mktemp("doctests")
    audio = audiotok.Audio.load(ROOT / "egs/data/reading.flac")
    for name in ("in.wav", "ten hours.flac", "reading.flac"):
        audio.save(folder / name)
    lines = ["id\tpath\ttext"]
    for i in range(20):
        audio[i * 4800 : (i + 5) * 4800].save(folder / f"{i}.wav")
        lines.append(f"talk-{i}\t{i}.wav\tsomething")
    listing, corpus, rows = folder / "talks.tsv", folder / "tokens", folder / "ids"
    listing.write_text("\n".join(lines), "utf-8")
    options = ("--codec", small(), "-j", "1", "--shard-mb", "0.001")
    built = command("corpus", "build", listing, "-o", corpus, *options)
    assert built.code == 0, built.err
    made = command("export-corpus", corpus, "--to", "npy", "--pattern", "flat", "-o", rows)
    assert made.code == 0, made.err
    return folder


def _pieces(as_tensor: bool) -> Names:
    first, second = map(torch.from_numpy, PIECES) if as_tensor else PIECES
    return {"codec": CODEC, "piece": first, "piece_of_other_length": second[:, :4000]}


@contextmanager
def _stream() -> Iterator[Names]:
    player = SimpleNamespace(play=lambda samples: samples)
    pieces = [torch.from_numpy(piece) for piece in PIECES]
    yield {**_pieces(True), "microphone": pieces, "loudspeaker": player}


@contextmanager
def _codec() -> Iterator[Names]:
    yield {"codec": CODEC, "samples": SAMPLES}


@contextmanager
def _exported() -> Iterator[Names]:
    """An export as `audiotok.load` gives it, run by torch, which takes no minutes to write."""
    from test_backends import as_exported

    exported = as_exported(CODEC, rings=True)
    package = SimpleNamespace(load=lambda path, backend: exported)
    samples = np.repeat(SAMPLES, 3, axis=1)  # at 48 kHz
    yield {**_pieces(False), "audiotok": package, "samples": samples}


@contextmanager
def _served() -> Iterator[Names]:
    """A server on another port than the example's, which may be taken."""
    pytest.importorskip("fastapi")
    from serving import serving

    from audiotok.serving import client

    with serving() as server:
        yield {
            "Client": lambda _: client.Client(server.url),
            "samples": SAMPLES,
            "microphone": PIECES,
        }


class _Logits:
    """Logits of a model that likes all ids alike: 0, but where they are set anew."""

    def __setitem__(self, where: np.ndarray, value: float) -> None:
        self.values = np.where(where, value, 0.0)

    def sample(self) -> int:
        """Return `end` where it may come, else the first id that may."""
        return END if self.values[END] == 0 else int(self.values.argmax())


@contextmanager
def _layout() -> Iterator[Names]:
    """A layout, what it codes, a model, and a tokenizer that says what it is told."""
    yield {
        "layout": LAYOUT,
        "tokens": TOKENS,
        "codes": TOKENS.codes,
        "inf": math.inf,
        "logits": _Logits(),
        "sample": _Logits.sample,
        "tokenizer": SimpleNamespace(apply_chat_template=lambda messages: messages[0]["content"]),
    }


@contextmanager
def _modalities() -> Iterator[Names]:
    """Modalities of units and images, and what they code."""
    space = Modalities.of(40, {"units": LAYOUT, "image": 64})
    given = {"Modalities": Modalities, "Layout": Layout, "space": space, "tokens": TOKENS}
    yield {**given, "pixels": np.arange(9)}


@contextmanager
def _frozen() -> Iterator[Names]:
    """Two copies of a tiny language model with random weights, and an example."""
    _torchaudio.load()  # transformers imports torchaudio, which may not load by itself
    transformers: Any = pytest.importorskip("transformers")
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    config = transformers.LlamaConfig(vocab_size=40, num_attention_heads=2, **sizes)
    model = transformers.LlamaForCausalLM(config)
    layout = Layout(sizes=(9,))
    space = Modalities.of(40, {"units": layout, "image": 1024})
    yield {
        "Modalities": Modalities,
        "layout": layout,
        "model": model,
        "another_copy": copy.deepcopy(model),
        "examples": [space.example([[3], ("image", np.arange(5))])],
    }


@contextmanager
def _corpus() -> Iterator[Names]:
    yield {"Corpus": Corpus, "rank": 0, "world": 1}


class _TwoBatches(Packed):
    """Dataset whose batches end after two, as those of a training go on for ever."""

    def batches(self, *arguments: Any, **options: Any) -> Iterator[torch.Tensor]:
        """See `Packed.batches`."""
        return islice(super().batches(*arguments, **options), 2)


@contextmanager
def _packed() -> Iterator[Names]:
    data = _TwoBatches("ids", context=8)
    yield {"rank": 0, "world": 1, "DataLoader": DataLoader, "data": data, "first": 0}


@contextmanager
def _file() -> Iterator[Names]:
    yield {"file": io.BytesIO(b"data"), "consume": len}


@contextmanager
def _transformers() -> Iterator[Names]:
    pytest.importorskip("transformers")
    yield {"wave": SAMPLES[0]}


@contextmanager
def _nothing() -> Iterator[Names]:
    yield {}


GIVEN: dict[str, Callable[[], Any]] = {
    "audiotok._platform.signals": _file,
    "audiotok.codecs.models.base": _codec,
    "audiotok.codecs.transformers": _transformers,
    "audiotok.corpus.base": _corpus,
    "audiotok.lm.frozen": _frozen,
    "audiotok.lm.interleave": _layout,
    "audiotok.lm.layout.grammar": _layout,
    "audiotok.lm.layout.sequence": _layout,
    "audiotok.lm.modalities": _modalities,
    "audiotok.lm.packing": _packed,
    "audiotok.runtime.exported": _exported,
    "audiotok.runtime.stream": _stream,
    "audiotok.serving.client": _served,
}
"""Module -> what its examples take for granted."""


class _Lenient(doctest.OutputChecker):
    """An example that states no output may print any; one that fails still fails."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        return not want or super().check_output(want, got, optionflags)


@pytest.mark.parametrize("module", MODULES)
def test_examples(module: str, folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(folder)
    try:
        known = importlib.import_module(module)
    except MissingLibraryError as error:  # transformers, which tests do without
        pytest.skip(str(error))
    runner = doctest.DocTestRunner(_Lenient(), optionflags=doctest.ELLIPSIS)
    found = [t for t in doctest.DocTestFinder().find(known, module) if t.examples]
    assert found
    for test in found:
        report: list[str] = []
        with GIVEN.get(module, _nothing)() as names:
            test.globs.update(names)
            runner.run(test, out=report.append)
        assert not runner.failures, "".join(report)


def test_an_example_that_fails_is_noticed():
    parser = doctest.DocTestParser()
    for text, failures in ((">>> 1 / 0\n", 1), (">>> 1\n2\n", 1), (">>> 1\n", 0)):
        runner = doctest.DocTestRunner(_Lenient())
        runner.run(parser.get_doctest(text, {}, "example", None, None), out=lambda _: None)
        assert runner.failures == failures
