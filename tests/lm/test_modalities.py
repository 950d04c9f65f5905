"""Tokens of several modalities in one space of ids, which a frozen language model learns."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from contracts import noise
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from audiotok import load
from audiotok._platform.errors import InputError
from audiotok.audio import _torchaudio
from audiotok.lm.frozen import (
    ExtendedHead,
    extend_model,
    fingerprint,
    fit_rows,
    load_rows,
    rows_in,
    save_rows,
)
from audiotok.lm.layout import Layout, LayoutError
from audiotok.lm.modalities import Modalities, collate

TEXT = 40
UNITS = Layout(sizes=(30,), runs="durations", longest=4)
SPACE = Modalities.of(TEXT, {"units": UNITS, "image": 12, "dmel": Layout(sizes=(3, 3, 3))})


def llama(*, tied: bool = False, seed: int = 0, **fields: Any) -> Any:
    """A tiny Llama with random weights."""
    _torchaudio.load()  # transformers imports torchaudio, which may not load by itself
    transformers: Any = pytest.importorskip("transformers")
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=TEXT,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        tie_word_embeddings=tied,
        **fields,
    )
    return transformers.LlamaForCausalLM(config).eval()


# -- ids ------------------------------------------------------------------------------------------


def test_ids_of_modalities_follow_one_another_and_never_meet():
    assert [layout.offset for layout in SPACE.layouts.values()] == [40, 79, 96]
    assert SPACE.size == 110
    codes = {"units": np.arange(30)[None], "image": np.arange(12)[None]}
    codes["dmel"] = np.arange(3)[None].repeat(3, 0)
    seen = [set(SPACE.encode(name, each).tolist()) for name, each in codes.items()]
    assert len(set.union(*seen)) == sum(map(len, seen))
    assert min(set.union(*seen)) >= TEXT
    assert max(set.union(*seen)) < SPACE.size


@settings(deadline=None)
@given(st.lists(st.sampled_from(["text", *SPACE.layouts]), max_size=6), st.integers(0, 99))
def test_sequences_of_all_modalities_come_apart(names: list[str], seed: int):
    random = np.random.default_rng(seed)
    parts: list[Any] = []
    for name in names:
        n = int(random.integers(1, 9))
        if name == "text":
            parts.append(random.integers(0, TEXT, n))
        else:
            sizes = SPACE.layouts[name].sizes
            parts.append((name, np.stack([random.integers(0, size, n) for size in sizes])))
    example = SPACE.example(parts, learned=["image", "text"])
    segments = SPACE.split(example.ids)
    wanted: list[tuple[str, np.ndarray]] = []
    for part in parts:
        if isinstance(part, tuple):
            wanted.append(part)
        elif wanted and wanted[-1][0] == "text":  # texts that follow each other are one
            wanted[-1] = ("text", np.concatenate([wanted[-1][1], part]))
        else:
            wanted.append(("text", part))
    assert [s.name for s in segments] == [name for name, _ in wanted]
    assert all(np.array_equal(s.values, v) for s, (_, v) in zip(segments, wanted, strict=True))
    image = (example.ids >= 79) & (example.ids < 96)
    assert np.array_equal(example.learned, image | (example.ids < TEXT))


def test_what_no_modality_has_is_refused():
    speech = load("speech").encode(noise(load("speech"), 8000)).first(1)
    space = Modalities.of(TEXT, {"speech": Layout.of(speech)})
    assert np.array_equal(space.split(space.encode("speech", speech))[0].values, speech.codes)
    for act, says in (
        (lambda: SPACE.encode("image", np.array([12])), "code 12 of codebook 0, which has 0 to 11"),
        (lambda: SPACE.encode("video", np.array([1])), "no modality 'video': there are units, ima"),
        (lambda: SPACE.example([[TEXT]]), "text ids are 0 to 39"),
        (lambda: SPACE.example([[-1]]), "text ids are 0 to 39"),
        (lambda: SPACE.example([np.array([0.5])]), "text ids are 0 to 39"),
        (lambda: SPACE.example([[1]], learned=["words"]), "no modality 'words'"),
        (lambda: SPACE.split(np.array([SPACE.size])), "id 110: there are 0 to 109"),
        (lambda: SPACE.split(np.array([3, -2])), "id -2: there are 0 to 109"),
        (lambda: SPACE.split(np.array([0.5])), r"ids are integers \[n\], not float64"),
        (lambda: SPACE.split(np.array([1, 50])), "id 50 at 1 is outside `begin` and `end`"),
        (lambda: SPACE.split(SPACE.encode("image", np.array([1, 2]))[:-1]), "cut short"),
        (
            lambda: space.encode("speech", replace(speech, fingerprint="0" * 16)),
            "was given tokens of speech 0000000000000000",
        ),
        (lambda: space.encode("speech", replace(speech, codec="mimi")), "was given tokens of mimi"),
    ):
        with pytest.raises(LayoutError, match=says):
            act()


def test_modalities_that_cannot_be_are_refused():
    units, image = SPACE.layouts["units"], SPACE.layouts["image"]
    for kinds, says in (
        ({"text": 5}, "modality 'text': a name is a word, and not 'text'"),
        ({"two words": 5}, "modality 'two words'"),
        ({"a": 0}, r"codebooks of \[0\] entries"),
        ({"a": Layout(sizes=(4, 4), pattern="delay")}, "'a': delay has ids in several rows"),
        ({}, "0 modalities"),
    ):
        with pytest.raises(LayoutError, match=says):
            Modalities.of(TEXT, kinds)  # pyright: ignore[reportArgumentType]
    for layouts in ({"units": units, "image": replace(image, offset=78)}, {"image": image}):
        with pytest.raises(LayoutError, match="where those before end at"):
            Modalities(TEXT, layouts)


def test_modalities_travel_as_json(tmp_path: Path):
    SPACE.save(tmp_path / "m.json")
    assert Modalities.load(tmp_path / "m.json") == SPACE
    content = json.loads((tmp_path / "m.json").read_text())
    content["modalities"]["image"]["offset"] = 50
    for text, says in (
        (json.dumps(content), r"m\.json: no modalities: modality 'image': its ids begin at 50"),
        (json.dumps({**content, "version": 2}), "version 2; this audiotok reads 1"),
        ("[]", "no modalities"),
        ("{", "not JSON"),
    ):
        (tmp_path / "m.json").write_text(text)
        with pytest.raises(LayoutError, match=says):
            Modalities.load(tmp_path / "m.json")
    with pytest.raises(LayoutError, match="cannot be read: No such file"):
        Modalities.load(tmp_path / "none.json")


# -- the frozen model -----------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_logits_of_text_do_not_change_by_a_bit(tied: bool, dtype: torch.dtype):
    model = llama(tied=tied).to(dtype)
    ids = torch.randint(0, TEXT, (3, 50))
    with torch.no_grad():
        before = model(ids).logits
        extend_model(model, SPACE)
        after = model(ids).logits
    assert after.shape == (3, 50, SPACE.size)
    assert torch.equal(after[..., :TEXT], before)
    assert after[..., TEXT:].std() < before.std()  # new ids are about as likely as an average one
    assert rows_in(model) == TEXT
    batch = collate([SPACE.example([[1, 2], ("image", np.arange(12))])])
    model(**batch).loss.backward()
    with torch.no_grad():  # and a step of training does not change them either
        for each in model.parameters():
            if each.grad is not None:
                each -= each.grad
        assert torch.equal(model(ids).logits[..., :TEXT], before)


def test_gradients_reach_new_rows_only():
    model = llama(tied=True)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    extend_model(model, SPACE)
    example = SPACE.example([[1, 2], ("image", np.array([3, 7])), ("units", np.array([4, 4, 9]))])
    model(**collate([example])).loss.backward()
    trained = {name for name, each in model.named_parameters() if each.grad is not None}
    assert trained == {"model.embed_tokens.new", "lm_head.new"}
    rows = model.model.embed_tokens.new.grad.abs().sum(1)
    used = example.ids[:-1] - TEXT
    assert set(torch.nonzero(rows)[:, 0].tolist()) == set(used[used >= 0].tolist())
    fit_rows(model, [example], steps=2)
    after = model.state_dict()
    for key, value in state.items():
        name = key.replace("embed_tokens.", "embed_tokens.own.").replace("head.", "head.own.")
        assert torch.equal(after[name], value)


def test_a_sample_of_two_modalities_is_learnt_by_new_rows_alone():
    model = llama(initializer_range=0.3)  # random, but a network that mixes what it is given
    extend_model(model, SPACE)
    random = np.random.default_rng(0)
    units, image = random.integers(0, 30, 10), random.integers(0, 12, 6)
    example = SPACE.example([[7, 8], ("units", units), ("image", image)], learned=SPACE.layouts)
    losses = fit_rows(model, [example], steps=200, rate=0.1)
    assert losses[0] > 3.5
    assert losses[-1] < 0.1
    ids = torch.from_numpy(example.ids)[None]
    with torch.no_grad():
        guessed = model(ids).logits.argmax(-1)[0, 1:-1]
    assert torch.equal(guessed, ids[0, 2:])  # all but the first after the text, and that too
    spoken = model.generate(ids[:, :2], max_new_tokens=ids.shape[1] - 2, do_sample=False)
    segments = SPACE.split(spoken[0].numpy())
    assert [s.name for s in segments] == ["text", "units", "image"]
    assert np.array_equal(segments[1].values[0], units)
    assert np.array_equal(segments[2].values[0], image)


def test_transformers_trainer_trains_the_rows(tmp_path: Path):
    model = llama()
    extend_model(model, SPACE)
    transformers: Any = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    options = transformers.TrainingArguments(
        str(tmp_path),
        max_steps=3,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        remove_unused_columns=False,
        disable_tqdm=True,
    )
    examples = [SPACE.example([[i], ("image", np.arange(i, 12))]) for i in range(6)]
    before = model.lm_head.new.detach().clone()
    own = model.lm_head.own.weight.detach().clone()
    transformers.Trainer(model, options, train_dataset=examples, data_collator=collate).train()
    assert not torch.equal(model.lm_head.new, before)
    assert torch.equal(model.lm_head.own.weight, own)


def test_rows_are_saved_alone_and_go_with_their_model_only(tmp_path: Path):
    model = llama()
    known = fingerprint(model)
    extend_model(model, SPACE, seed=3)
    assert fingerprint(model) == known == fingerprint(llama().to(torch.bfloat16))
    tied = llama(tied=True)
    known = fingerprint(tied)
    extend_model(tied, SPACE)
    tied.tie_weights()  # by a library, again: its own matrices are one already
    assert fingerprint(tied) == known
    example = SPACE.example([[1], ("image", np.arange(5))])
    fit_rows(model, [example], steps=3)
    save_rows(model, tmp_path / "rows")
    assert {file.name for file in (tmp_path / "rows").iterdir()} == {
        "rows.safetensors",
        "modalities.json",
    }
    assert (tmp_path / "rows/rows.safetensors").stat().st_size < 2 * 70 * 32 * 4 + 500
    other = llama()
    assert load_rows(other, tmp_path / "rows") == SPACE
    batch = collate([example])
    with torch.no_grad():
        assert torch.equal(other(**batch).logits, model(**batch).logits)
    save_rows(model, tmp_path / "rows")  # in place of the earlier ones
    with pytest.raises(InputError, match=r"rows of model \w{16}, and this one is \w{16}"):
        load_rows(llama(seed=1), tmp_path / "rows")
    with pytest.raises(InputError, match="extended already"):
        load_rows(other, tmp_path / "rows")
    with pytest.raises(InputError, match="none: no rows of `save_rows`"):
        load_rows(llama(), tmp_path / "none")
    save_file({"input": torch.zeros(3, 32)}, tmp_path / "rows/rows.safetensors")
    unchanged = llama()
    with pytest.raises(InputError, match=r"rows of other shapes .* need, \(70, 32\)"):
        load_rows(unchanged, tmp_path / "rows")
    assert not isinstance(unchanged.get_output_embeddings(), ExtendedHead)
    (tmp_path / "rows/modalities.json").write_text("[]")
    with pytest.raises(InputError, match="damaged rows"):
        load_rows(unchanged, tmp_path / "rows")
    save_rows(model, tmp_path / "rows")
    (tmp_path / "rows/rows.safetensors").write_bytes(b"x")
    with pytest.raises(InputError, match="damaged rows"):
        load_rows(llama(), tmp_path / "rows")
    (tmp_path / "full").mkdir()
    with pytest.raises(InputError, match="holds no rows of `save_rows`: choose another"):
        save_rows(model, tmp_path / "full")


def test_models_that_cannot_be_extended_are_refused(tmp_path: Path):
    model = llama()
    with pytest.raises(InputError, match="after 41 text ids, and the model has 40"):
        extend_model(model, Modalities.of(41, {"image": 5}))
    with pytest.raises(InputError, match="the model has no new rows"):
        save_rows(model, tmp_path / "rows")
    with pytest.raises(InputError, match="Linear has no embedding and output layer"):
        extend_model(torch.nn.Linear(2, 2), SPACE)
    extend_model(model, SPACE)
    assert isinstance(model.get_output_embeddings(), ExtendedHead)
    with pytest.raises(InputError, match="no examples"):
        fit_rows(model, [], steps=1)
