"""Layouts of published language models: exact both ways, as their own code has them, and strict."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from commandline import audiotok
from hypothesis import given, settings
from hypothesis import strategies as st

from audiotok._platform.registry import find, shipped
from audiotok.codecs.load import load
from audiotok.corpus import Corpus
from audiotok.corpus.base import CorpusInfo
from audiotok.corpus.write import row_of, write_corpus
from audiotok.lm import Dialect, Packed
from audiotok.lm.exporters.base import export
from audiotok.lm.id_files import SUFFIXES, layout_for, read_ids, write_ids
from audiotok.lm.layout import (
    DecodeStream,
    EncodeStream,
    Grammar,
    Layout,
    LayoutError,
    find_layout,
)
from audiotok.tokens.codebooks import NoCodesError
from audiotok.tokens.tokens import Tokens

NAMES = shipped("dialects")


def some_codes(layout: Layout, frames: int, seed: int = 0) -> np.ndarray:
    """Codes `[k f]` without a frame of zeros, which is CSM's end."""
    random = np.random.default_rng(seed)
    return np.stack([random.integers(1, size, frames) for size in layout.sizes])


def some_tokens(name: str, frames: int = 6, *, codec: str = "", books: int = 0) -> Tokens:
    """Tokens of the codec of a dialect, which may have more codebooks than it takes."""
    kind = find("dialects", name)
    size = kind.entries + kind.entries[:1] * books
    random = np.random.default_rng(frames)
    return Tokens(
        codes=np.stack([random.integers(1, each, frames) for each in size]),
        size=size,
        codec=codec or kind.codecs[0],
        fingerprint="0" * 16,
        sample_rate=24000,
        frame_size=1920,
        samples=1920 * frames,
        original_rate=24000,
        original_samples=1920 * frames,
    )


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(NAMES),
    frames=st.integers(0, 40),
    marks=st.booleans(),
    seed=st.integers(0, 99),
)
def test_codes_come_back(name: str, frames: int, marks: bool, seed: int):
    layout = Layout.named(name)
    codes = some_codes(layout, frames, seed)
    ids = layout.encode(codes, marks=marks)
    assert ids.min(initial=0) >= 0
    rows = ids if ids.ndim == 2 else ids[None]
    assert all(row.max(initial=0) < n for row, n in zip(rows, layout.vocabulary, strict=True))
    assert np.array_equal(layout.decode(ids, marks=marks), codes)
    repaired = layout.repair(ids, marks=marks)
    assert np.array_equal(repaired.codes, codes)
    assert (repaired.lost, repaired.problems) == (0, ())


@pytest.mark.parametrize("name", NAMES)
def test_any_id_that_is_out_of_place_is_refused(name: str):
    layout = Layout.named(name)
    codes = some_codes(layout, 5)
    ids = layout.encode(codes)
    for at in np.ndindex(*ids.shape):
        for bad in (-1, layout.vocabulary[0] + 7):
            wrong = ids.copy()
            wrong[at] = bad
            with pytest.raises(LayoutError, match=f"^{name}: ") as raised:
                layout.decode(wrong)
            assert "\n" not in str(raised.value)
            whole = layout.repair(wrong).codes
            assert np.array_equal(whole, codes[:, : whole.shape[1]])
    cuts = [ids[..., :-1], ids[..., :0], np.concatenate([ids, ids], -1)]
    for cut in cuts + [ids[..., 1:]] * (name != "csm"):  # which has nothing at its start
        with pytest.raises(LayoutError, match=f"^{name}: "):
            layout.decode(cut)


@pytest.mark.parametrize("name", NAMES)
def test_of_what_was_cut_short_every_whole_frame_is_kept(name: str):
    layout = Layout.named(name)
    codes = some_codes(layout, 20)
    ids = layout.encode(codes)
    step = np.zeros(codes.shape, int)  # of each code, by what changes with it
    for at in np.ndindex(*codes.shape):
        other = codes.copy()
        other[at] = 1 + (codes[at] == 1)
        step[at] = (layout.encode(other) != ids).reshape(-1, ids.shape[-1]).any(0).argmax()
    for length in range(ids.shape[-1]):
        codes_left, lost, problems = layout.repair(ids[..., :length])
        whole = int((step < length).all(0).sum())
        assert np.array_equal(codes_left, codes[:, :whole])
        assert len(problems) >= (length < ids.shape[-1])
        if whole:
            assert lost == (step < length).sum() - codes_left.size


@pytest.mark.parametrize("name", NAMES)
def test_codes_that_do_not_fit_are_refused(name: str):
    layout = Layout.named(name)
    codes = some_codes(layout, 3)
    with pytest.raises(LayoutError, match="frame 1: code"):
        layout.encode(np.where(np.arange(3) == 1, layout.sizes[0], codes))
    with pytest.raises(LayoutError, match="not those of"):
        layout.encode(np.concatenate([codes, codes]))
    with pytest.raises(LayoutError, match="integers"):
        layout.encode(codes.astype(float))
    with pytest.raises(LayoutError, match=f"^{name}: speaks the codes of .*, not of speech$"):
        layout.encode(some_tokens(name, codec="speech"))


@pytest.mark.parametrize("name", NAMES)
def test_a_dialect_of_tokens_knows_their_codec(name: str, tmp_path: Path):
    tokens = some_tokens(name, books=2)
    layout = Layout.named(name, tokens)
    ids = layout.encode(tokens)
    back = layout.tokens(layout.decode(ids), samples=tokens.samples)
    assert back == tokens.first(len(layout.sizes))
    assert layout == find_layout(name, tokens)
    layout.save(tmp_path / "layout.json")
    again = Layout.load(tmp_path / "layout.json")
    assert (type(again), again) == (type(layout), layout)
    assert np.array_equal(again.encode(tokens), ids)
    with pytest.raises(LayoutError, match=f"^{name}: speaks the codes of"):
        Layout.named(name, some_tokens(name, codec="speech"))
    with pytest.raises(LayoutError, match=f"^{name}: takes {len(layout.sizes)} codebooks of"):
        find("dialects", name).of(tokens, codebooks=len(layout.sizes) + 1)
    other = find("dialects", name)(codec=tokens.codec, fingerprint="1" * 16)
    with pytest.raises(LayoutError, match="a layout for"):
        other.encode(tokens)


@pytest.mark.parametrize(
    "fields",
    [
        *({"runs": "drop"}, {"sizes": (3,)}, {"pattern": "delay"}, {"dialect": "other"}),
        *({"offset": -7}, {"offset": True}, {"streams": 2}),
    ],
)
@pytest.mark.parametrize("name", ["orpheus", "dia"])
def test_fields_that_are_not_those_of_the_model_are_refused(name: str, fields: dict[str, Any]):
    with pytest.raises(LayoutError, match=f"^{name}: "):
        Layout.named(name, **fields)


@pytest.mark.parametrize("name", NAMES)
def test_what_makes_models_of_our_own_refuses_a_dialect(name: str):
    layout = Layout.named(name)
    codes = some_codes(layout, 2)
    match = rf"^{name} is the layout of .*: it encodes and decodes for it"
    with pytest.raises(LayoutError, match=match):
        Grammar(layout).legal()
    with pytest.raises(LayoutError, match=match):
        EncodeStream(layout).push(codes)
    with pytest.raises(LayoutError, match=match):
        DecodeStream(layout).push(layout.encode(codes))
    with pytest.raises(LayoutError):
        layout.special("mask")


def test_names_that_there_are_not():
    with pytest.raises(ValueError, match="orpheus"):
        Layout.named("orfeus")
    with pytest.raises(LayoutError, match="no such file, nor one of the layouts chatterbox, csm"):
        find_layout("orfeus")
    with pytest.raises(LayoutError, match="cannot be read"):
        find_layout("no.json")


# -- as their own code has them ---------------------------------------------------------------


def test_orpheus_interleaves_as_its_authors_do():
    """Its data has, of each coarse frame i, l0[i] l1[2i] l2[4i] l2[4i+1] l1[2i+1] l2[4i+2] ..."""
    layout = Layout.named("orpheus")
    codes = some_codes(layout, 4)
    coarse, middle, fine = codes[0], codes[1:3].T.ravel(), codes[3:].T.ravel()
    wanted = [128257]
    for i in range(4):
        frame = [coarse[i], middle[2 * i], fine[4 * i], fine[4 * i + 1]]
        frame += [middle[2 * i + 1], fine[4 * i + 2], fine[4 * i + 3]]
        wanted += [128266 + 4096 * place + code for place, code in enumerate(frame)]
    assert layout.encode(codes).tolist() == [*wanted, 128258]
    text = layout.text(codes)
    assert text == "".join(f"<custom_token_{each - 128256}>" for each in [*wanted, 128258])
    assert np.array_equal(layout.parse(text), codes)
    vyvo = Layout.named("orpheus", offset=64400)
    assert np.array_equal(vyvo.encode(codes), layout.encode(codes) - 128256 + 64400)
    assert vyvo.text(codes) == text


@pytest.mark.parametrize(
    ("name", "word", "first", "ids"),
    [("llasa", "s", 128264, 193_800), ("neutts", "speech", 128262, 193_798)],
)
def test_one_code_a_frame_is_one_word(name: str, word: str, first: int, ids: int):
    layout = Layout.named(name)
    codes = np.array([[0, 123, 65535]])
    wanted = [128260, first, first + 123, first + 65535, 128261]
    assert layout.encode(codes).tolist() == wanted
    assert layout.vocabulary == (ids,)
    said = f"<|{word}_0|><|{word}_123|><|{word}_65535|>"
    assert layout.text(codes, marks=False) == said
    assert layout.text(codes) == f"<|SPEECH_GENERATION_START|>{said}<|SPEECH_GENERATION_END|>"
    assert np.array_equal(layout.parse(said, marks=False), codes)
    names = layout.names()
    assert [names[each - 128256] for each in wanted[1:-1]] == said.replace("><", "> <").split()
    for bad in (f"<|{word}_65536|>", "hm", "<", f"<|{word}_1|> "):
        with pytest.raises(LayoutError, match=r"is no code and no mark of this layout$"):
            layout.parse(said + bad, marks=False)
    with pytest.raises(LayoutError, match=rf"^{name}: position 1: id 128256"):
        layout.parse(said[: said.index(">") + 1] + names[0], marks=False)


def test_chatterbox_has_marks_above_its_codes():
    layout = Layout.named("chatterbox")
    assert layout.encode(np.array([[0, 6560]])).tolist() == [6561, 0, 6560, 6562]
    with pytest.raises(LayoutError, match="without a form as text"):
        layout.text(np.array([[0]]))


def test_qwen3_tts_has_marks_in_its_first_row():
    layout = Layout.named("qwen3_tts")
    codes = some_codes(layout, 3)
    ids = layout.encode(codes)
    assert ids[0].tolist() == [2149, *codes[0], 2150]
    assert not ids[1:, [0, -1]].any()
    assert np.array_equal(ids[:, 1:-1], codes)


def test_dia_is_as_its_processor_makes_it(monkeypatch: pytest.MonkeyPatch):
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    import_module("audiotok.audio._torchaudio").load()
    processing = import_module("transformers.models.dia.processing_dia").DiaProcessor
    layout = Layout.named("dia")
    codes = some_codes(layout, 20)

    def of_their_own(generation: bool) -> np.ndarray:
        """What `DiaProcessor` does to the codes of one recording."""
        tokenizer = SimpleNamespace(
            config=SimpleNamespace(downsampling_ratios=[2, 4, 8, 8]),
            device="cpu",
            encode=lambda wave: SimpleNamespace(audio_codes=torch.from_numpy(codes)[None]),
        )
        mask = torch.ones(1, 20 * 512)
        given = {"padding_mask": mask, "input_values": torch.zeros(1, 1, 20 * 512)}
        kind = type("", (), {"hop_length": 512, "__call__": lambda *_, **__: given})
        stub = SimpleNamespace(audio_tokenizer=tokenizer, feature_extractor=kind())
        options = {**processing.audio_kwargs, "generation": generation}
        made, _ = processing._process_audio(stub, None, **options)
        ids = made["decoder_input_ids"]
        steps = made["decoder_attention_mask"].shape[-1]
        indices = processing.build_indices(1, steps, 9, options["delay_pattern"])
        prefill = torch.full((1, steps, 9), options["pad_token_id"])
        prefill[:, : ids.shape[1]] = ids
        marks = options["pad_token_id"], options["bos_token_id"]
        return processing.apply_audio_delay(prefill, *marks, indices)[0].T.numpy()

    ids = layout.encode(codes)
    assert np.array_equal(of_their_own(generation=False), ids)
    # A prompt is the same without its end.
    prompt = of_their_own(generation=True)
    assert np.array_equal(prompt[:, :21], ids[:, :21])
    # And back, as `batch_decode` cuts it out.
    indices = processing.build_indices(
        1, ids.shape[1], 9, list(find("dialects", "dia").delays), revert=True
    )
    steps = torch.from_numpy(ids.T.copy())[None]
    reverted = processing.apply_audio_delay(steps, -1, -1, indices)[0].T.numpy()
    begin = (ids[0] == 1026).sum()
    end = ids.shape[1] - (ids[0] == 1025).sum() - 1
    assert np.array_equal(reverted[:, begin:end], codes)
    assert np.array_equal(layout.decode(ids), codes)


def test_musicgen_is_as_its_model_delays_it():
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    import_module("audiotok.audio._torchaudio").load()
    model = import_module("transformers.models.musicgen.modeling_musicgen").MusicgenForCausalLM
    layout = Layout.named("musicgen")
    codes = some_codes(layout, 12)
    stub = SimpleNamespace(num_codebooks=4, config=SimpleNamespace(audio_channels=1))
    begun = torch.from_numpy(np.pad(codes, ((0, 0), (1, 0)), constant_values=2048))
    _, mask = model.build_delay_pattern_mask(stub, begun, 2048, max_length=12 + 1 + 3)
    assert np.array_equal(mask.numpy(), layout.encode(codes))


def test_moshi_is_as_its_model_delays_it():
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    import_module("audiotok.audio._torchaudio").load()
    module = import_module("transformers.models.moshi.modeling_moshi")
    layout = Layout.named("moshi")
    codes = some_codes(layout, 12)
    build = module.MoshiForConditionalGeneration.build_delay_pattern_mask
    _, mask = build(None, torch.from_numpy(codes)[None], 2048, 2048, max_length=13)
    assert np.array_equal(mask[0].numpy(), layout.encode(codes))


def test_csm_is_as_its_model_merges_it():
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    import_module("audiotok.audio._torchaudio").load()
    module = import_module("transformers.models.csm.modeling_csm")
    layout = Layout.named("csm")
    codes = some_codes(layout, 5)
    tables = torch.nn.Embedding(32 * 2051, 2)
    offsets = torch.arange(32) * 2051
    config = SimpleNamespace(
        audio_token_id=7, audio_eos_token_id=8, codebook_eos_token_id=0, num_codebooks=32
    )
    stub = SimpleNamespace(
        config=config,
        embed_text_tokens=torch.nn.Embedding(9, 2),
        backbone_model=SimpleNamespace(
            embed_tokens=lambda ids: tables(ids + offsets).sum(dim=-2),
        ),
        codec_model=SimpleNamespace(
            encode=lambda wave: SimpleNamespace(audio_codes=torch.from_numpy(codes)[None]),
            get_audio_codes_mask=lambda mask: torch.ones(1, 5, dtype=torch.bool),
            config=None,
        ),
    )
    ids = torch.tensor([[1, 2, *[7] * 5, 8]])
    merged = module.CsmForConditionalGeneration._merge_input_ids_with_input_values(
        stub,
        input_ids=ids,
        input_values=torch.zeros(1, 1, 9600),
        input_values_cutoffs=torch.tensor([[9600]]),
        labels=ids,
    )
    assert np.array_equal(merged["labels"][0, 2:].T.numpy(), layout.encode(codes))
    with pytest.raises(LayoutError, match="frame 1 has the codes that mean `end`"):
        layout.encode(codes * (np.arange(5) != 1))


# -- of a corpus, and from the command line ----------------------------------------------------


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Corpus]:
    made = {}
    for name in NAMES:
        tokens = [some_tokens(name, frames) for frames in (0, 3, 9)]
        about = CorpusInfo(tokens[0].codec, "0" * 16, tokens[0].sizes, 24000, 1920, 1, ())
        folder = tmp_path_factory.mktemp(name) / "corpus"
        rows = (row_of(f"r{i}", each, 0, {"text": "hm"}) for i, each in enumerate(tokens))
        write_corpus(folder, about, zip(rows, tokens, strict=True), limit=100)
        made[name] = Corpus(folder)
    return made


@pytest.mark.parametrize("name", NAMES)
def test_corpora_are_exported_by_name(name: str, corpora: dict[str, Corpus], tmp_path: Path):
    corpus, out = corpora[name], tmp_path / "out"
    options = ("--to", "jsonl", "--layout", name, "-o", out)
    done = audiotok("export-corpus", corpus.location, *options)
    assert done.code == 0, done.err
    layout = Layout.load(out / "layout.json")
    texts = [file.read_text("utf-8") for file in sorted(out.glob("*.jsonl"))]
    lines = [json.loads(line) for line in "".join(texts).splitlines()]
    assert len(lines) == 3
    for line in lines:
        codes = np.array(line["codes"], np.int64).reshape(len(layout.sizes), -1)
        assert np.array_equal(layout.decode(np.array(line["ids"])), codes)
        if isinstance(layout, Dialect) and layout.written:
            assert np.array_equal(layout.parse(line["audio"]), codes)
        else:
            assert "audio" not in line
    assert audiotok("export-corpus", corpus.location, *options).code == 0  # it goes on
    other = corpora["dia" if name != "dia" else "csm"]
    done = audiotok("export-corpus", other.location, *options[:-1], tmp_path / "other")
    assert (done.code, f"error {name}: speaks the codes of" in done.err) == (1, True)
    with pytest.raises(LayoutError, match="speaks the codes of"):
        export(find("exporters", "jsonl"), other, tmp_path / "o", layout=Layout.named(name))


def test_ids_of_a_dialect_are_packed(corpora: dict[str, Corpus], tmp_path: Path):
    layout = Layout.named("orpheus", corpora["orpheus"])
    export(find("exporters", "npy"), corpora["orpheus"], tmp_path / "ids", layout=layout)
    data = Packed(tmp_path / "ids", context=16, seed=0)
    assert data.layout == layout
    assert next(iter(data.batches(1))).max() < layout.vocabulary[0]


def test_recordings_become_ids_by_name(tmp_path: Path):
    tokens = some_tokens("orpheus")
    tok, ids, text = (tmp_path / f"x.{suffix}" for suffix in ("tok", "npy", "txt"))
    tokens.save(tok)
    layout = Layout.named("orpheus", tokens)
    assert audiotok("lm", "ids", tok, "--layout", "orpheus", "-o", ids).code == 0
    assert np.array_equal(np.load(ids), layout.encode(tokens))
    assert audiotok("lm", "ids", tok, "--layout", "orpheus", "-o", text).code == 0
    assert text.read_text() == layout.text(tokens)
    done = audiotok("lm", "ids", tok, "--layout", "dia", "-o", tmp_path / "no.npy")
    assert done.lines == ["error dia: speaks the codes of dac_44khz, not of snac_24khz"]
    done = audiotok("lm", "ids", ids, "--layout", "orpheus", "-o", tmp_path / "no.tok")
    assert done.lines == ["error orpheus: speaks the codes of snac_24khz, not of speech"]
    for held, out in ((tok, "no.tok"), (tok, "no.json"), (ids, "no.npy")):
        done = audiotok("lm", "ids", held, "--layout", "orpheus", "-o", tmp_path / out)
        assert (done.code, len(done.lines)) == (2, 1)
        assert f"{out}: {held} becomes ." in done.err
    assert not list(tmp_path.glob("no.*"))


def test_files_of_ids_come_back(tmp_path: Path):
    """As `lm ids` reads what a model wrote; its codec's weights are not here."""
    tokens = some_tokens("llasa")
    layout = Layout.named("llasa", tokens)
    for suffix in SUFFIXES:
        file = tmp_path / f"x{suffix}"
        write_ids(layout, tokens, file)
        assert read_ids(layout, file) == tokens
    (tmp_path / "x.txt").write_text("<|s_1|>")
    with pytest.raises(LayoutError, match=r"x\.txt: llasa: it does not start with 128260"):
        read_ids(layout, tmp_path / "x.txt")
    (tmp_path / "x.npy").write_bytes(b"x")
    with pytest.raises(ValueError, match="no ids that can be read"):
        read_ids(layout, tmp_path / "x.npy")
    with pytest.raises(LayoutError, match="without a form as text"):
        write_ids(Layout.named("csm"), some_tokens("csm"), tmp_path / "y.txt")
    assert not (tmp_path / "y.txt").exists()


def test_a_file_of_a_layout_for_any_weights_is_for_those_of_its_codec(tmp_path: Path):
    kind = find("codecs", "snac")
    codec = kind(kind.presets["snac_24khz"])
    codec.name = "snac_24khz"
    Layout.named("orpheus", offset=64_400).save(tmp_path / "any.json")
    layout = layout_for(tmp_path / "any.json", codec)
    assert (layout.codec, layout.fingerprint) == ("snac_24khz", codec.fingerprint)
    assert layout.offset == 64_400
    with pytest.raises(LayoutError, match="speaks the codes of snac_24khz, not of speech"):
        layout_for(tmp_path / "any.json", load("speech"))


@pytest.mark.parametrize("layout", [Layout.named("moshi"), Layout(sizes=(2048,) * 8)])
def test_two_channels_are_not_taken_for_one(layout: Layout):
    """Of each would be half of the codebooks."""
    tokens = replace(some_tokens("moshi"), streams=2, channels=2, size=2048)
    codes = np.concatenate([tokens.codes, tokens.codes])
    stereo = replace(tokens, codes=codes)
    with pytest.raises(LayoutError, match="2 channels, and the layout is of 1"):
        layout.encode(stereo)
    with pytest.raises(LayoutError, match="takes one channel, not 2"):
        Layout.named("moshi", stereo)
    both = Layout.of(stereo)
    assert (both.streams, both.sizes) == (2, (2048,) * 16)
    assert both.tokens(both.decode(both.encode(stereo))) == stereo


def test_a_codec_of_latents_has_no_layout():
    latents = SimpleNamespace(codec="mimi", width=32, sizes=(), streams=1)
    with pytest.raises(NoCodesError, match="a layout of ids"):
        Layout.named("moshi", latents)
