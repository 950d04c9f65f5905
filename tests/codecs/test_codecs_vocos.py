"""Vocos decodes EnCodec's tokens as its own package does, under each of its conditions."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from contracts import assert_close, noise
from test_codecs_oracles import encodec_pair, imported
from torch import Tensor

from audiotok.codecs.checkpoint import load
from audiotok.codecs.models import encodec
from audiotok.codecs.models.base import Codec, WrongTokensError
from audiotok.codecs.models.vocos import Config, Vocos

SMALL = Config(encoder=8, size=64, codebooks=(1, 2, 4, 8), decoder=48, blocks=3)


@torch.no_grad()
def weights(config: Config, encoder: Any = None) -> tuple[dict[str, Tensor], Any, Any]:
    """Random ones under the published names, and backbone and head of vocos that have them."""
    with imported("vocos.models", "vocos.heads") as (models, heads):
        torch.manual_seed(0)
        backbone = models.VocosBackbone(
            config.latent,
            config.decoder,
            config.expansion * config.decoder,
            config.blocks,
            adanorm_num_embeddings=len(config.codebooks),
        ).eval()
        head = heads.ISTFTHead(config.decoder, 320 * config.window, 320, padding="same").eval()
    for parameter in backbone.parameters():  # also those that begin as ones and zeros
        parameter.add_(0.1 * torch.randn_like(parameter))
    books = torch.randn(config.codebooks[-1] * config.size, config.latent)
    state = {"feature_extractor.codebook_weights": books}
    parts: dict[str, Any] = {"backbone.": backbone, "head.": head}
    if encoder is not None:
        parts["feature_extractor.encodec."] = encoder
        layers = encoder.quantizer.vq.layers[: config.codebooks[-1]]
        state["feature_extractor.codebook_weights"] = torch.cat([x.codebook for x in layers])
    for prefix, part in parts.items():
        state |= {prefix + name: value.clone() for name, value in part.state_dict().items()}
    return state, backbone, head


def loaded(state: dict[str, Tensor], folder: Path) -> Codec:
    torch.save(state, folder / "vocos.bin")
    codec = load(folder / "vocos.bin")
    assert isinstance(codec, Vocos)
    return codec


@pytest.fixture(scope="module")
def trio(tmp_path_factory: pytest.TempPathFactory) -> tuple[Codec, Codec, Any, Any]:
    """Vocos with EnCodec's encoder, that EnCodec, and vocos' backbone and head."""
    theirs, codec = encodec_pair(encodec.Config(width=8, codebooks=8, size=64))
    state, backbone, head = weights(SMALL, theirs)
    vocos = loaded(state, tmp_path_factory.mktemp("vocos"))
    assert vocos.config == SMALL
    return vocos, codec, backbone, head


@torch.no_grad()
def decoded(
    table: Tensor, size: int, backbone: Any, head: Any, codes: Tensor, which: int
) -> Tensor:
    """What vocos' `codes_to_features` and `decode` do, without the class that downloads."""
    index = codes + size * torch.arange(len(codes))[:, None]
    features = torch.nn.functional.embedding(index, table).sum(0).T[None]
    return head(backbone(features, bandwidth_id=torch.tensor([which])))


def table_of(codec: Codec) -> Tensor:
    return torch.cat([b for name, b in codec.named_buffers() if name.endswith(".entries")])


def test_tokens_of_encodec_decode_as_vocos_decodes_them(trio: tuple[Codec, Codec, Any, Any]):
    """Two, four, eight, sixteen codebooks, in small one to eight, are a condition each."""
    vocos, codec, backbone, head = trio
    frame = codec.frame_size
    heard = []
    for samples in (50 * frame, 41 * frame + 1, 20 * frame - 1, 7 * frame + 99, 3):
        whole = codec.encode(noise(codec, samples))
        for which, codebooks in enumerate(SMALL.codebooks):
            tokens = whole.first(codebooks)
            codes = torch.from_numpy(tokens.codes.copy())
            want = decoded(table_of(vocos), 64, backbone, head, codes, which)
            made = vocos.decode(tokens)
            assert len(made) == samples
            assert_close(made.samples, want[:, :samples], 1e-4)
            heard.append(made.samples)
    assert not torch.allclose(heard[0], heard[1], atol=1e-3)


def test_a_number_between_takes_the_condition_above(trio: tuple[Codec, Codec, Any, Any]):
    vocos, codec, backbone, head = trio
    tokens = codec.encode(noise(codec, 9000), codebooks=3)
    codes = torch.from_numpy(tokens.codes.copy())
    want = decoded(table_of(vocos), 64, backbone, head, codes, 2)
    assert_close(vocos.decode(tokens).samples, want[:, :9000], 1e-4)


def test_it_encodes_as_encodec(trio: tuple[Codec, Codec, Any, Any]):
    vocos, codec, *_ = trio
    for samples in (20_000, 12_345, 1):
        mine, theirs = (c.encode(noise(codec, samples)) for c in (vocos, codec))
        assert np.mean(mine.codes == theirs.codes) > 0.999


def test_threads_may_hear_different_codebooks(trio: tuple[Codec, Codec, Any, Any]):
    """The condition is no state of the module."""
    vocos, codec, *_ = trio
    whole = codec.encode(noise(codec, 30_000))
    jobs = [whole.first(n) for n in (1, 8, 2, 4, 8, 1)]
    alone = [vocos.decode(tokens).samples for tokens in jobs]
    with ThreadPoolExecutor(3) as workers:
        for one, other in zip(workers.map(vocos.decode, jobs), alone, strict=True):
            assert torch.equal(one.samples, other)


def test_in_training_each_recording_has_its_condition(trio: tuple[Codec, Codec, Any, Any]):
    vocos = trio[0]
    wave = torch.stack([noise(vocos, 30 * vocos.frame_size, seed=i).samples for i in range(2)])
    with torch.no_grad():
        made, _ = vocos(wave, torch.tensor([8, 2]))
        for i, keep in enumerate((8, 2)):
            alone, _ = vocos(wave[i : i + 1], torch.tensor([keep]))
            assert_close(made[i : i + 1], alone)


def test_tokens_that_are_not_for_it(trio: tuple[Codec, Codec, Any, Any]):
    vocos, codec, *_ = trio
    tokens = codec.encode(noise(codec, 5000))
    known = Vocos(replace(SMALL, encodec=codec.fingerprint))
    known.check_tokens(tokens)
    cases = [
        (vocos, replace(tokens, codec="mimi"), "tokens of codec 'mimi', not 'vocos'"),
        (vocos, replace(tokens, sample_rate=48000), "is of another rate or frame than vocos"),
        (
            known,
            replace(tokens, fingerprint="ab"),
            r"of other weights of 'encodec' \(ab; this vocos",
        ),
        (
            vocos,
            replace(tokens, codes=np.repeat(tokens.codes, 2, 0)),
            r"tokens of 16 codebooks; vocos decodes up to 8: give it tokens.first\(8\)",
        ),
    ]
    for codec, wrong, said in cases:
        with pytest.raises(WrongTokensError, match=said):
            codec.decode(wrong)


@pytest.mark.slow
def test_the_published_file_only_decodes(tmp_path: Path):
    """At its full size: it holds no encoder, and the decoder is vocos'."""
    config = Vocos.presets["vocos_encodec_24khz"]
    state, backbone, head = weights(config)
    vocos = loaded(state, tmp_path)
    assert (vocos.name, vocos.config) == ("vocos_encodec_24khz", config)
    counts = [sum(p.numel() for p in part.parameters()) for part in (vocos, backbone, head)]
    assert counts[0] == counts[1] + counts[2] == 7_984_258
    audio = noise(vocos, 24_000)
    with pytest.raises(ValueError, match="only decode: encode with 'encodec_24khz'"):
        vocos.encode(audio)
    with torch.no_grad():
        codec = encodec.Encodec().eval().requires_grad_(False)
    for which, codebooks in enumerate(config.codebooks):
        tokens = codec.encode(noise(codec, 30_001 + which), codebooks=codebooks)
        codes = torch.from_numpy(tokens.codes.copy())
        want = decoded(
            state["feature_extractor.codebook_weights"], 1024, backbone, head, codes, which
        )
        assert_close(vocos.decode(tokens).samples, want[:, : tokens.samples], 1e-4)
