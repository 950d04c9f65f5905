"""Layouts: every composition has an exact inverse, and what is damaged is never lost in silence."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audiotok._platform.registry import find, names
from audiotok.lm.bpe import learn_pieces
from audiotok.lm.layout import DecodeStream, EncodeStream, Grammar, Layout, LayoutError
from audiotok.lm.layout.base import END, NONE, PAD
from audiotok.lm.layout.runs import collapse, expand
from audiotok.tokens.tokens import Tokens

PATTERNS = [name for name in names("patterns") if find("patterns", name)]
SIZES = (5, 3, 4)


def some_codes(random: np.random.Generator, layout: Layout, frames: int) -> np.ndarray:
    """Codes with runs in them."""
    each = [random.integers(0, size, frames) for size in layout.sizes]
    lengths = random.integers(1, 6, frames)
    return np.repeat(np.array(each).reshape(len(each), frames), lengths, 1)[:, :frames]


# CI has the library; without it everything else is still tried.
KINDS = ("", "bpe", "unigram") if find_spec("tokenizers") else ("",)


Spec = dict[str, Any]


@st.composite
def specs(draw: st.DrawFn) -> Spec:
    """What `built` makes a layout of (beartype draws at random, which a strategy must not)."""
    pattern = draw(st.sampled_from(PATTERNS))
    k = draw(st.integers(2 if pattern == "semantic_first" else 1, 3))
    runs = draw(st.sampled_from(["keep", "drop", "durations"]))
    options: dict[str, Any] = {}
    books = k + (runs == "durations")
    if pattern == "semantic_first":
        options = {"semantic": draw(st.integers(1, books - 1))}
    if pattern in ("delay", "coarse_first") and books > 1 and draw(st.booleans()):
        rest = draw(st.lists(st.integers(0, 3), min_size=books - 1, max_size=books - 1))
        options = {"delays": [0, *rest] if pattern == "delay" else rest}
    return {
        "pattern": pattern,
        "sizes": SIZES[:k],
        "runs": runs,
        "options": options,
        "longest": draw(st.sampled_from([1, 2, 8])),
        "kind": draw(st.sampled_from(KINDS)),
        "offset": draw(st.sampled_from([0, 7])),
        "seed": draw(st.integers(0, 1000)),
        "frames": draw(st.integers(0, 20)),
    }


LEARNED: dict[str, Layout] = {}


def built(spec: Spec) -> Layout:
    names = ("pattern", "sizes", "runs", "options", "longest")
    layout = Layout(**{name: spec[name] for name in names})
    if not layout.serial:
        return layout
    if spec["kind"]:
        key = repr(spec["kind"]) + repr(layout)
        if key not in LEARNED:
            random = np.random.default_rng(0)
            codes = [some_codes(random, layout, n) for n in (40, 0, 7, 60)]
            size = int(layout.firsts[-1]) + NONE + 25
            LEARNED[key] = learn_pieces(layout, codes, size=size, kind=spec["kind"])
        layout = LEARNED[key]
    return replace(layout, offset=spec["offset"])


def laid(spec: Spec) -> tuple[Layout, np.ndarray]:
    layout = built(spec)
    return layout, some_codes(np.random.default_rng(spec["seed"]), layout, spec["frames"])


def expected(layout: Layout, codes: np.ndarray) -> np.ndarray:
    return collapse(codes)[0] if layout.runs == "drop" else codes


@settings(deadline=None, max_examples=300)
@given(specs(), st.booleans(), st.integers(0, 3))
def test_every_composition_has_an_exact_inverse(spec: Spec, marks: bool, padding: int):
    layout, codes = laid(spec)
    ids = layout.encode(codes, marks=marks)
    assert ids.max(initial=0) < max(layout.vocabulary)
    if marks:
        pad = np.full((*ids.shape[:-1], padding), layout.special("pad"))
        ids = np.concatenate([ids, pad], -1)
    assert np.array_equal(layout.decode(ids, marks=marks), expected(layout, codes))
    assert layout.exact == (layout.runs != "drop")


@settings(deadline=None, max_examples=200)
@given(specs(), st.data())
def test_what_is_cut_short_says_so_and_keeps_what_is_whole(spec: Spec, data: st.DataObject):
    layout, codes = laid(spec)
    ids = layout.encode(codes)
    cut = ids[..., : data.draw(st.integers(0, ids.shape[-1] - 1))]
    with pytest.raises(LayoutError):
        layout.decode(cut)
    kept, lost, problems = layout.repair(cut)
    assert problems
    whole = expected(layout, codes)
    assert np.array_equal(kept, whole[: len(kept), : kept.shape[1]])
    if not layout.serial or layout.learned is None:
        # Every code is either in what was kept or counted as lost.
        stands = kept.size
        if layout.runs == "durations":
            rows = layout.ordered(kept) if len(kept) == len(whole) else kept
            stands = rows.size
            if kept.shape[1] and layout.longest > 1:  # a run that was cut in two may be one again
                return
        assert stands + lost == (cut - layout.offset >= NONE).sum()


@settings(deadline=None, max_examples=300)
@given(specs(), st.data())
def test_one_wrong_id_is_found_or_decodes_as_another_recording(spec: Spec, data: st.DataObject):
    layout, codes = laid(spec)
    ids = layout.encode(codes)
    place = tuple(data.draw(st.integers(0, n - 1)) for n in ids.shape)
    wrong = ids.copy()
    wrong[place] = data.draw(st.integers(-2, max(layout.vocabulary) + 2))
    if wrong[place] == ids[place]:
        return
    kept, _, problems = layout.repair(wrong)
    if problems:
        with pytest.raises(LayoutError):
            layout.decode(wrong)
    else:  # another code, of the same codebook: nothing could tell
        assert kept.shape[0] == codes.shape[0]
        if layout.runs == "keep" and layout.learned is None:
            assert kept.shape == codes.shape
            assert (kept != codes).sum() == 1
    # Up to the wrong place a frame-by-frame order keeps what it has.
    if layout.order.streams and layout.learned is None and layout.runs == "keep":
        delay = 0 if layout.serial else int(layout.order.delays.max())  # pyright: ignore
        step = place[-1] - 1
        whole = step // len(layout.books) if layout.serial else step - delay
        upto = max(0, min(whole, codes.shape[1]))
        assert np.array_equal(kept[:, :upto], codes[: len(kept), :upto])


@settings(deadline=None, max_examples=200)
@given(specs(), st.lists(st.integers(0, 9), max_size=9), st.lists(st.integers(0, 9), max_size=20))
def test_streams_give_what_the_whole_gives(spec: Spec, cuts: list[int], other: list[int]):
    layout, codes = laid(spec)
    whole = layout.encode(codes)
    stream = EncodeStream(layout)
    parts = [stream.push(piece) for piece in pieces(codes, cuts)]
    assert np.array_equal(np.concatenate([*parts, stream.finish()], -1), whole)
    back = DecodeStream(layout)
    heard = [back.push(piece) for piece in pieces(whole, other)]
    assert np.array_equal(np.concatenate([*heard, back.finish()], 1), expected(layout, codes))
    with pytest.raises(LayoutError):
        _heard(layout, pieces(whole[..., :-1], other))


def _heard(layout: Layout, parts: list[np.ndarray]) -> None:
    stream = DecodeStream(layout)
    for part in parts:
        stream.push(part)
    stream.finish()


def pieces(x: np.ndarray, sizes: list[int]) -> list[np.ndarray]:
    made = []
    for size in sizes:
        made.append(x[..., :size])
        x = x[..., size:]
    return [*made, x]


@settings(deadline=None, max_examples=150)
@given(specs())
def test_the_grammar_accepts_what_is_encoded(spec: Spec):
    layout, codes = laid(spec)
    grammar = Grammar(layout)
    for column in layout.encode(codes).T:
        assert not grammar.done
        grammar.push(column)
    assert grammar.done


@settings(deadline=None, max_examples=200)
@given(specs(), st.integers(0, 10_000), st.integers(1, 25))
def test_whatever_the_grammar_lets_through_decodes(spec: Spec, seed: int, length: int):
    layout = built(spec)
    random = np.random.default_rng(seed)
    grammar, made = Grammar(layout), []
    while not grammar.done:
        legal = grammar.legal()
        if len(made) > length:  # then end as soon as may be
            ends = legal.copy()
            row = ends if layout.serial else ends[0]
            end = layout.special("end") if layout.serial else END
            if row[end]:
                row[:] = False
                row[end] = True
            legal = ends
        if layout.serial:
            column: Any = random.choice(np.flatnonzero(legal))
        else:
            column = grammar.settle(np.array([random.choice(np.flatnonzero(row)) for row in legal]))
        made.append(column)
        grammar.push(column)
    ids = np.stack(made, -1)
    codes = layout.decode(ids)
    assert len(codes) == len(layout.sizes)
    assert set(np.atleast_1d(grammar.legal().sum(-1)).tolist()) == {1}  # nothing but pad


@settings(deadline=None, max_examples=100)
@given(specs(), st.data())
def test_the_grammar_refuses_what_is_not_legal(spec: Spec, data: st.DataObject):
    layout, codes = laid(spec)
    grammar = Grammar(layout)
    columns = layout.encode(codes).T
    upto = data.draw(st.integers(0, len(columns) - 1))
    for column in columns[:upto]:
        grammar.push(column)
    illegal = np.argwhere(~grammar.legal())
    at = data.draw(st.sampled_from(illegal.tolist()))
    column = np.array(columns[upto])
    column[tuple(at[:-1])] = at[-1]
    if np.array_equal(column, columns[upto]):
        # `pad` in a row that ends with the first one: `settle` puts it there, after the draw that
        # `legal` is of.
        assert (at[1], column[0]) == (PAD, END)
        assert np.array_equal(grammar.settle(column), column)
        grammar.push(column)
    else:
        with pytest.raises(LayoutError):
            grammar.push(column)


@settings(deadline=None)
@given(specs())
def test_a_layout_travels_as_json(spec: Spec):
    layout = built(spec)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "layout.json"
        layout.save(path)
        assert Layout.load(path) == layout


@given(st.integers(0, 30), st.integers(1, 9) | st.none(), st.integers(0, 99))
def test_runs_collapse_and_expand(frames: int, longest: int | None, seed: int):
    codes = np.random.default_rng(seed).integers(0, 2, (2, frames))
    kept, lengths = collapse(codes, longest)
    assert np.array_equal(expand(kept, lengths), codes)
    assert longest is None or lengths.max(initial=0) <= longest
    if longest is None:
        assert (kept[:, 1:] != kept[:, :-1]).any(0).all()


# Steps at which each (frame, codebook) is, as audiocraft 1.4.0a2's pattern providers give them
# (facebookresearch/audiocraft, audiocraft/modules/codebooks_patterns.py at 896ec7c; its first,
# empty, step left out), for 4 frames. Figures from running its DelayedPatternProvider(3) and
# (3, [0, 4, 4]), ParallelPatternProvider(3), UnrolledPatternProvider(3), CoarseFirstPattern(3) and
# (3, [0, 2]), MusicLMPattern(4, 2).
TABLES = {
    ("delay", 3, ()): [[0, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 5]],
    ("delay", 3, (("delays", (0, 4, 4)),)): [[0, 1, 2, 3], [4, 5, 6, 7], [4, 5, 6, 7]],
    ("parallel", 3, ()): [[0, 1, 2, 3]] * 3,
    ("flat", 3, ()): [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8, 11]],
    ("coarse_first", 3, ()): [[0, 1, 2, 3], [4, 5, 6, 7], [4, 5, 6, 7]],
    ("coarse_first", 3, (("delays", (0, 2)),)): [[0, 1, 2, 3], [4, 5, 6, 7], [6, 7, 8, 9]],
    ("semantic_first", 4, (("semantic", 2),)): [
        [0, 2, 4, 6],
        [1, 3, 5, 7],
        [8, 10, 12, 14],
        [9, 11, 13, 15],
    ],
}


@pytest.mark.parametrize(("name", "codebooks", "options"), TABLES)
def test_patterns_are_audiocrafts(name: str, codebooks: int, options: tuple[Any, ...]):
    pattern = find("patterns", name)(codebooks, **dict(options))
    table = np.array(TABLES[name, codebooks, options])
    assert np.array_equal(pattern.passes(4), table)
    assert pattern.steps(4) == table.max() + 1
    cells = pattern.cells(4)
    for q in range(codebooks):
        for f in range(4):
            row = 0 if pattern.rows == 1 else q
            assert cells[row, table[q, f]] == q * 4 + f
    assert pattern.mask(4).sum() == 4 * codebooks


def test_vall_e_predicts_the_first_codebook_code_by_code_and_the_others_at_one_stroke():
    pattern = find("patterns", "ar_nar")(3)
    assert pattern.passes(4).tolist() == [[0, 1, 2, 3], [4] * 4, [5] * 4]
    assert pattern.cells(4)[0].tolist() == list(range(12))


@pytest.mark.parametrize("name", PATTERNS)
def test_streaming_patterns_are_those_that_wait_for_no_later_frame(name: str):
    pattern = find("patterns", name)(3)
    longer, shorter = pattern.passes(9), pattern.passes(5)
    assert pattern.streams == np.array_equal(longer[:, :5], shorter)


def test_errors_say_what_is_wrong(tmp_path: Path):
    layout = Layout(sizes=(4, 4))
    with pytest.raises(LayoutError, match="code 4 of codebook 1, which has 0 to 3"):
        layout.encode(np.array([[0], [4]]))
    with pytest.raises(LayoutError, match="not those of 2 codebooks"):
        layout.encode(np.zeros((1, 3), np.int64))
    with pytest.raises(LayoutError, match="integers"):
        layout.encode(np.zeros((2, 3)))
    with pytest.raises(LayoutError, match=r"\[2, 3\]"):
        layout.repair(np.zeros((2, 3), np.int64))
    with pytest.raises(LayoutError, match="one row"):
        Layout(sizes=(4, 4), pattern="delay", offset=3)
    with pytest.raises(ValueError, match="Did you mean 'delay'"):
        Layout(sizes=(4, 4), pattern="delya")
    with pytest.raises(LayoutError, match="unexpected keyword"):
        Layout(sizes=(4, 4), options={"delays": [0, 1]})
    for content in ("", "[]", '{"version": 1}', '{"version": 1, "sizes": [3], "new": 1}'):
        (tmp_path / "bad.json").write_text(content)
        with pytest.raises(LayoutError, match=r"bad\.json"):
            Layout.load(tmp_path / "bad.json")
    (tmp_path / "new.json").write_text('{"version": 9}')
    with pytest.raises(LayoutError, match="version 9"):
        Layout.load(tmp_path / "new.json")


def test_a_layout_of_tokens_gives_tokens_back():
    codes = np.random.default_rng(0).integers(0, 16, (4, 10))
    tokens = Tokens(
        codes=codes,
        size=16,
        codec="speech",
        fingerprint="0" * 16,
        sample_rate=16000,
        frame_size=320,
        samples=3100,
        original_rate=16000,
        original_samples=3100,
    )
    layout = Layout.of(tokens, codebooks=2, pattern="delay")
    ids = layout.encode(tokens)
    assert layout.tokens(layout.decode(ids), samples=3100) == tokens.first(2)
    other = replace(tokens, fingerprint="1" * 16)
    with pytest.raises(LayoutError, match="1111"):
        layout.encode(other)
    assert Layout.of(tokens).names()[NONE] == "<|a0_0000|>"
    assert len(Layout.of(tokens, runs="durations").names()) == NONE + 64 + 32
