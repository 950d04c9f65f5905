"""Every quantizer in every backbone that lets it be chosen: it works, or one line says why not."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from commandline import audiotok

from audiotok._platform.errors import InputError
from audiotok._platform.registry import find, shipped
from audiotok.codecs.checkpoint import load, save
from audiotok.codecs.models.discretised import Discretised
from audiotok.codecs.models.kmeans import KmeansConfig
from audiotok.nn.quantizer import check_type, types_of
from audiotok.training.components import new_codec, sized
from audiotok.training.recipe import read_recipe

ROOT = Path(__file__).parents[2]
SMALL: dict[str, dict[str, Any]] = {
    "speech": {
        "encoder": 16,
        "encoder_blocks": 2,
        "decoder": 16,
        "decoder_blocks": 2,
        "heads": 2,
        "semantic": 8,
    },
    "encodec": {"width": 2, "lstm": 1, "strides": [2, 4]},
    "dac": {"encoder": 2, "decoder": 16, "strides": [2, 4]},
    "speechtokenizer": {"width": 2, "lstm": 1, "strides": [2, 4], "semantic": 8},
    "wavtokenizer": {
        "encoder": 2,
        "lstm": 1,
        "decoder": 16,
        "blocks": 1,
        "groups": 4,
        "strides": [2, 4],
    },
}
OPTIONS: dict[str, dict[str, Any]] = {
    "grouped_rvq": {"groups": [[16, 1], [16, 2]], "size": 8},
    "fsq": {"levels": [4, 4]},
    "grvq": {"size": 8},
    "agrvq": {"codebooks": 1, "size": 4},
    "multi_scale_rvq": {"size": 8},
    "probabilistic_rvq": {"codebooks": 2, "size": 8},
    "rvq": {"size": 8},
}
REFUSED = {"segment_rvq": "codes segments, and this network has latents"}


def built(backbone: str, quantizer: str, **options: Any) -> Any:
    """A small codec of a backbone with a quantizer, as a recipe makes it."""
    torch.manual_seed(0)
    chosen = {"quantizer": quantizer, "quantizer_options": options}
    return sized(find("codecs", backbone), SMALL[backbone] | {"latent": 32} | chosen, "config")


@pytest.mark.parametrize("quantizer", shipped("quantizers"))
@pytest.mark.parametrize("backbone", SMALL)
def test_every_quantizer_works_in_every_backbone(backbone: str, quantizer: str, tmp_path: Path):
    options = OPTIONS.get(quantizer, {})
    if quantizer in REFUSED:
        with pytest.raises(ValueError, match=REFUSED[quantizer]):
            built(backbone, quantizer)
        return
    codec = built(backbone, quantizer, **options)
    codec.split_weights()
    codec.train()
    wave = torch.randn(2, 1, 12 * codec.frame_size, generator=torch.Generator().manual_seed(0)) / 9
    output, quantized = codec(wave)[:2]
    loss = (output - wave[..., : output.shape[2]]).square().mean() + sum(quantized.losses.values())
    loss.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in codec.parameters())
    codec.fold_weights()
    codec.eval().requires_grad_(False)
    short = wave[1, :, : 5 * codec.frame_size + 3]
    tokens = codec.encode(wave[0], codec.sample_rate)
    both = codec.encode_batch([wave[0], short], codec.sample_rate)
    assert (both[0].codes == tokens.codes).all()
    assert len(codec.decode(both[1])) == short.shape[1]
    codec.decode(tokens.first(1))
    save(codec, tmp_path / "codec.safetensors", dtype=torch.float32)
    again = load(tmp_path / "codec.safetensors")
    assert (again.encode(wave[0], codec.sample_rate).codes == tokens.codes).all()
    assert again.fingerprint == codec.fingerprint


@pytest.mark.parametrize("backbone", SMALL)
def test_every_backbone_without_a_quantizer_gives_latents(backbone: str, tmp_path: Path):
    codec = built(backbone, "none")
    assert (codec.kind, codec.sizes, codec.codebooks) == ("latents", (), 0)
    codec.eval().requires_grad_(False)
    rate = codec.sample_rate
    wave = torch.randn(1, 12 * codec.frame_size, generator=torch.Generator().manual_seed(0)) / 9
    short = wave[:, : 5 * codec.frame_size + 3]
    tokens: Any = codec.encode(wave, rate)
    assert tokens.width == codec.width
    both = codec.encode_batch([wave, short], rate)
    assert both[0] == tokens
    assert len(codec.decode(both[1])) == short.shape[1]
    save(codec, tmp_path / "codec.safetensors", dtype=torch.float32)
    assert load(tmp_path / "codec.safetensors").encode(wave, rate) == tokens


def test_no_quantizer_is_learnt_for_latents():
    with pytest.raises(InputError, match="'none' makes no codes: name a quantizer"):
        Discretised(replace(Discretised.config_type(), quantizer="none"))


BAD: list[tuple[dict[str, Any], str]] = [
    ({"quantizer": "fsk"}, "fsq"),
    ({"quantizer": "fsq", "quantizer_options": {"size": 3}}, "no option 'size'; it has levels"),
    ({"quantizer": "rvq", "quantizer_options": {"features": 3}}, "no option 'features'"),
    ({"quantizer": "simvq", "quantizer_options": {"size": "many"}}, "must be an integer"),
    ({"quantizer": "simvq", "quantizer_options": {"size": True}}, "must be an integer"),
    ({"quantizer": "bsq", "quantizer_options": {"entropy": "x"}}, "must be a number"),
    ({"quantizer": "fsq", "quantizer_options": {"levels": 5}}, "must be a list"),
    ({"quantizer": "fsq", "quantizer_options": {"levels": ["a"]}}, "quantizer 'fsq': "),
    ({"quantizer": "split_rvq", "quantizer_options": {"part": "x"}}, "cannot be chosen"),
    ({"quantizer": 3}, "'quantizer' must be text, not 3"),
    (
        {"quantizer": "rvq", "quantizer_options": {"kind": "euclidian"}},
        "quantizer 'rvq': 'kind' must be 'euclidean' or 'factorised', not 'euclidian'",
    ),
    ({"quantizer": "fsq", "quantizer_options": {"rule": "symetric"}}, "'rule' must be 'symmetric'"),
    ({"quantizer": "rvq", "quantizer_options": {"size": 0}}, "'size' must be an integer of at "),
    ({"quantizer": "rvq", "quantizer_options": {"size": [8, "a"]}}, "or a list, not .8, 'a'."),
    ({"quantizer": "rvq", "quantizer_options": {"codebooks": 0}}, "must be at least 1, not 0"),
    ({"quantizer": "rvq", "quantizer_options": {"early": -1}}, "must be at least 0, not -1"),
    ({"quantizer": "bsq", "quantizer_options": {"bits": -2}}, "must be at least 1, not -2"),
    ({"quantizer": "bsq", "quantizer_options": {"entropy": float("nan")}}, "a number, not nan"),
    ({"quantizer": "fsq", "quantizer_options": {"levels": [0]}}, "part must be at least 1, not 0"),
    ({"quantizer": "cosine_vq", "quantizer_options": {"mask": "x"}}, "must be an integer, not 'x'"),
    ({"quantizer": "none", "quantizer_options": {"size": 3}}, "no options: leave out size"),
    ({"quantizer": "none", "codebooks": 3}, "'none' is chosen: leave it out$"),
    ({"codebooks": 0}, "codebooks.* must be at least 1"),
    ({"quantizer": "fsq", "codebooks": 3}, r"\[config\]: codebooks=3 is of quantizer 'rvq', and"),
    ({"quantizer": "simvq", "size": 64}, r"\[config\]: size=64 is of quantizer 'rvq', and 'simvq'"),
]


@pytest.mark.parametrize(("chosen", "message"), BAD)
@pytest.mark.parametrize("backbone", SMALL)
def test_choices_that_there_are_not_are_one_line(
    backbone: str, chosen: dict[str, Any], message: str
):
    with pytest.raises(ValueError, match=message) as raised:
        sized(find("codecs", backbone), SMALL[backbone] | {"latent": 32} | chosen, "config")
    assert "\n" not in str(raised.value)


def test_what_annotations_allow_is_taken():
    assert built("encodec", "rvq", codebooks=2, size=[64, 32]).sizes == (64, 32)
    assert built("speech", "cosine_vq", size=8, mask=None).codebooks == 1
    chosen = {"quantizer": "simvq", "quantizer_options": {"size": 64}, "size": 64, "codebooks": 1}
    codec = sized(find("codecs", "speech"), SMALL["speech"] | {"latent": 32} | chosen, "config")
    assert codec.sizes == (64,)
    check_type("layers", [1, "mean"], types_of(KmeansConfig)["layers"])
    with pytest.raises(InputError, match="each part must be an integer or 'mean', not 'men'"):
        check_type("layers", [1, "men"], types_of(KmeansConfig)["layers"])


@pytest.mark.parametrize("family", ["codecs", "decoders", "discriminators", "quantizers"])
def test_types_of_all_options_are_known_and_fit_their_defaults(family: str):
    for name in shipped(family):
        kind = find(family, name)
        of = kind.__init__ if family == "quantizers" else getattr(kind, "config_type", None)
        for option in inspect.signature(of).parameters.values() if of else ():
            if (
                option.name not in ("self", "features", "part")
                and option.kind != option.VAR_KEYWORD
            ):
                hint = types_of(of)[option.name]
                factory = isinstance(option.default, type) or "factory" in repr(option.default)
                check_type(f"{name} {option.name}", {} if factory else option.default, hint)


@pytest.mark.parametrize(
    ("name", "sizes", "message"),
    [
        ("wavtokenizer", {"groups": 0}, r"^\[config\]: no Wavtokenizer of groups=0: .*by zero"),
        ("dac", {"encoder": -4}, r"^\[config\]: no Dac of encoder=-4: "),
    ],
)
def test_sizes_that_no_network_has_are_one_line(name: str, sizes: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message) as raised:
        sized(find("codecs", name), sizes, "config")
    assert "\n" not in str(raised.value)


def test_segments_have_their_own_codebooks():
    sizes = {**SMALL["encodec"], "segment": 80, "stride": 72, "causal": False, "group_norm": True}
    sized(find("codecs", "encodec"), sizes, "config")
    with pytest.raises(ValueError, match="segments have residual codebooks"):
        sized(find("codecs", "encodec"), sizes | {"quantizer": "fsq"}, "config")


# Tables of a recipe, and what may be inside them.
TABLES = {
    "speech_tiny": [
        *("config", "config.quantizer_options", "loss", "loss_from", "loss_start", "models"),
        *("discriminators", "distillation", "distillation.teachers", "data", "train"),
        "distillation.teachers.whisper",
    ],
    "dac_16k_tiny": ["config.quantizer_options", "discriminators.mpd", "discriminators"],
    "encodec_16k_tiny": ["config.quantizer_options"],
    "speechtokenizer_tiny": ["config.quantizer_options", "distillation.teachers.hubert"],
    "wavtokenizer_small_tiny": ["config.quantizer_options", "config.strides"],
}


@pytest.mark.parametrize("value", ["true", "3", "0.5", '"text"', '["a"]'])
@pytest.mark.parametrize("recipe", TABLES)
def test_a_table_that_is_none_is_one_line(recipe: str, value: str):
    for table in TABLES[recipe]:
        with pytest.raises(ValueError, match=table.rpartition(".")[2]) as raised:
            new_codec(read_recipe(ROOT / f"recipes/{recipe}.toml", [f"{table}={value}"]))
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("recipe", TABLES)
def test_no_quantizer_options_at_all_is_refused(recipe: str, tmp_path: Path):
    path, setting = ROOT / f"recipes/{recipe}.toml", "config.quantizer_options=false"
    done = audiotok("train", path, "--set", setting, "-o", tmp_path / "run")
    assert done.lines == ["error [config]: 'quantizer_options' must be a table, not False"]
    assert not [*tmp_path.glob("run/[!.]*")]


@pytest.mark.parametrize("name", shipped("quantizers"))
def test_an_option_that_is_a_fraction_takes_one(name: str):
    """Its type is known from its default, which an integer would say wrongly."""
    for option in inspect.signature(find("quantizers", name)).parameters.values():
        if option.annotation == "float":
            assert isinstance(option.default, float), option.name
