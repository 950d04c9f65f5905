"""Speech and text in one sequence come apart again, and mixtures keep their shares."""

from __future__ import annotations

import re
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audiotok.audio import _torchaudio
from audiotok.lm.bpe import extend_tokenizer, resize_embeddings
from audiotok.lm.interleave import (
    Mixture,
    TimedWord,
    alternating,
    asr,
    codes_as_text,
    interleaved,
    split_alternating,
    split_joined,
    tts,
)
from audiotok.lm.layout import Layout, LayoutError

LAYOUT = Layout(sizes=(6, 5), offset=300)
EOS = 299


def write(text: str) -> list[int]:
    return list(text.encode())


def codes_of(frames: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 5, (2, frames))


def test_speech_is_learned_from_text_and_text_from_speech():
    codes = codes_of(4)
    spoken, heard = (f(LAYOUT, write, "abc", codes, eos=EOS) for f in (tts, asr))
    assert spoken.ids[:3].tolist() == [97, 98, 99]
    assert spoken.learned.tolist() == [False] * 3 + [True] * 11
    assert spoken.labels[:3].tolist() == [-100] * 3
    assert heard.learned.tolist() == [False] * 10 + [True] * 4
    one, two, end = split_joined(LAYOUT, spoken.ids)
    assert (one.tolist(), end.tolist()) == (write("abc"), [EOS])
    assert np.array_equal(two, codes)


@settings(deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=12), st.integers(0, 99), st.booleans())
def test_spans_follow_one_another_and_come_apart(lengths: list[int], seed: int, loud: bool):
    edges = np.cumsum([0, *lengths]).tolist()
    words = [TimedWord(f"w{i}", a, b) for i, (a, b) in enumerate(pairwise(edges))]
    codes = codes_of(edges[-1], seed)
    made = interleaved(
        LAYOUT, write, words, codes, eos=EOS, spoken=float(loud), span=(1, 3), seed=seed
    )
    parts = split_joined(LAYOUT, made.ids[:-1])
    at = 0  # word that each part begins with
    for i, part in enumerate(parts):
        if (i % 2 == 0) == loud:
            ends = [j for j in range(at, len(words) + 1) if edges[j] - edges[at] == part.shape[1]]
            assert np.array_equal(part, codes[:, edges[at] : edges[at] + part.shape[1]])
            following = bytes(parts[i + 1].tolist()).decode().split() if i + 1 < len(parts) else []
            at = int(following[0][1:]) if following else len(words)
            assert at in ends
        else:
            words_between = bytes(part.tolist()).decode().split()
            assert words_between == [word.text for word in words[at : at + len(words_between)]]
            at += len(words_between)
    assert at == len(words)


def test_words_that_do_not_fit_are_refused():
    for words in ([], [TimedWord("a", 0, 2), TimedWord("b", 9, 10)]):
        with pytest.raises(LayoutError, match="words at frames"):
            interleaved(LAYOUT, write, words, codes_of(4), eos=EOS)


@given(st.integers(0, 40), st.integers(0, 20), st.integers(1, 5), st.integers(1, 9))
def test_alternating_streams_untangle(text: int, frames: int, texts: int, count: int):
    codes = codes_of(frames)
    ids = alternating(range(text), LAYOUT.encode(codes), texts=texts, codes=count)
    one, two = split_alternating(LAYOUT, ids)
    assert one.tolist() == list(range(text))
    assert np.array_equal(two, codes)
    if text >= texts:
        assert ids[:texts].tolist() == list(range(texts))
        assert ids[texts] >= LAYOUT.offset


def test_damaged_speech_is_an_error():
    ids = tts(LAYOUT, write, "abc", codes_of(4), eos=EOS).ids
    with pytest.raises(LayoutError, match="cut short"):
        split_joined(LAYOUT, ids[:-3])
    with pytest.raises(LayoutError, match="outside"):
        split_joined(LAYOUT, ids[5:])


# As Qwen's (ChatML) and Llama 3's tokenizers have them, without their system prompts.
TEMPLATES = {
    "qwen": (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    "llama": (
        "{{ '<|begin_of_text|>' }}{% for m in messages %}{{ '<|start_header_id|>' + m.role + "
        "'<|end_header_id|>\n\n' + m.content | trim + '<|eot_id|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
        "{% endif %}"
    ),
}


def text_tokenizer(kind: str) -> Any:
    """Byte-level BPE with the marks of a chat, as both families have it."""
    tokenizers: Any = pytest.importorskip("tokenizers")
    _torchaudio.load()  # transformers imports torchaudio, which may not load by itself
    transformers: Any = pytest.importorskip("transformers")
    inner = tokenizers.Tokenizer(tokenizers.models.BPE())
    inner.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = tokenizers.decoders.ByteLevel()
    marks = sorted(set(re.findall(r"<\|\w+\|>", TEMPLATES[kind])))
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(["What did he say? He said good morning."] * 3, trainer)
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=inner)
    fast.add_special_tokens({"additional_special_tokens": marks})
    fast.chat_template = TEMPLATES[kind]
    return fast


@pytest.mark.parametrize("kind", TEMPLATES)
def test_a_chat_of_text_and_speech_is_read_and_learned_by_a_llama(kind: str, tmp_path: Path):
    fast = text_tokenizer(kind)
    transformers, before = import_module("transformers"), len(fast)
    layout = extend_tokenizer(fast, Layout(sizes=(6, 5)))
    assert layout.offset == before
    assert len(fast) == layout.vocabulary[0]
    codes = codes_of(7)
    question = f"What did he say?{codes_as_text(layout, codes)}"
    messages = [
        {"role": "user", "content": question},
        {"role": "assistant", "content": "He said good morning."},
    ]
    text = fast.apply_chat_template(messages, tokenize=False)
    ids = fast.apply_chat_template(messages, return_dict=False)
    parts = split_joined(layout, np.array(ids))
    assert np.array_equal(parts[1], codes)
    assert fast.decode(parts[0]) + codes_as_text(layout, codes) + fast.decode(parts[2]) == text
    asked = fast.apply_chat_template(messages[:1], add_generation_prompt=True, return_dict=False)
    assert ids[: len(asked)] == asked

    for tied in (False, True):
        torch.manual_seed(0)
        sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
        model = transformers.LlamaForCausalLM(
            transformers.LlamaConfig(
                **sizes, vocab_size=before, num_attention_heads=2, tie_word_embeddings=tied
            )
        )
        old = torch.tensor([[5, 9, 17, 3]])
        with torch.no_grad():
            known = model(old).logits
            resize_embeddings(model, layout.vocabulary[0])
            logits = model(old).logits
        assert torch.allclose(logits[..., :before], known, atol=1e-6)
        new = logits[..., before:]
        assert (new.mean() - known.mean()).abs() < known.std()  # as likely as an average id
        assert new.std() < known.std()
        labels = torch.tensor([[-100] * len(asked) + ids[len(asked) :]])
        optimizer, losses = torch.optim.AdamW(model.parameters(), 1e-2), []
        for _ in range(20):
            loss = model(torch.tensor([ids]), labels=labels).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        assert losses[-1] < losses[0] / 2
        with pytest.raises(ValueError, match="none is taken away"):
            resize_embeddings(model, 10)

    fast.save_pretrained(tmp_path)
    again = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert again.apply_chat_template(messages, return_dict=False) == ids


@given(st.lists(st.floats(0.05, 9), min_size=1, max_size=4), st.integers(1, 200))
def test_shares_are_exact_at_any_point(shares: list[float], count: int):
    names = [str(i) for i in range(len(shares))]
    chosen = dict(zip(names, shares, strict=True))
    mixture = Mixture({name: iter([name] * 500) for name in names}, chosen)
    drawn = [next(mixture) for _ in range(count)]
    for name, share in chosen.items():
        assert abs(drawn.count(name) - share / sum(shares) * count) <= max(1, len(shares) - 1)
    again = Mixture({name: iter([name] * 500) for name in names}, chosen)
    again.load_state_dict(mixture.state_dict())
    assert [next(again) for _ in range(9)] == [next(mixture) for _ in range(9)]
    with pytest.raises(ValueError, match="shares"):
        Mixture({"a": iter([1])}, {"b": 1.0})
