"""Every codec in a small size, with weights for which codes depend on the signal."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import torch
from contracts import noise
from torch import nn

from audiotok._platform.registry import find, names
from audiotok.codecs.models import (
    beats,
    beats_random,
    clam,
    dac,
    discretised,
    dmel,
    dualcodec,
    encodec,
    fish_s2,
    glm4_voice,
    hificodec,
    ichigo,
    kmeans,
    longcat,
    mimi,
    moss,
    nanocodec,
    pocket_tts,
    qwen3_tts_12hz,
    s3,
    snac,
    speechtokenizer,
    stable_codec,
    tadicodec,
    units,
    vibevoice,
    vocos,
    voxcpm,
    voxtral,
    wavtokenizer,
    xcodec,
    xcodec2,
)
from audiotok.codecs.models.base import Codec
from audiotok.codecs.models.kmeans import Kmeans
from audiotok.codecs.models.speech import Config
from audiotok.nn.clusters import kmeans as cluster

SMALL = Config(
    encoder=32,
    encoder_blocks=3,
    decoder=32,
    decoder_blocks=2,
    window=5,
    heads=2,
    latent=16,
    codebooks=4,
    size=64,
    semantic=8,
)
FOLDED = replace(
    SMALL,
    frame_size=640,
    fold=2,
    semantic_features=4,
    semantic_encoder=16,
    semantic_blocks=2,
    quantizer="grouped_rvq",
    quantizer_options={"groups": [[4, 1], [12, 3]], "size": 64, "shielded": 1},
)
# The published networks in small sizes; an odd stride such as 5 is where DAC crops too much.
TINY: dict[str, Any] = {"strides": (2, 4, 5), "latent": 16, "size": 64}
HEARING: dict[str, Any] = {
    "encoder": 4,
    "decoder": 32,
    "strides": (8, 5, 4, 2),
    "acoustic": 8,
    "codebooks": 3,
    "size": 64,
    "semantic": 16,
    "layers": 2,
    "heads": 2,
    "hidden": 24,
    "extractor": 8,
    "positions": 16,
    "groups": 4,
}
BOTH: dict[str, Any] = {
    "encoder": 2,
    "strides": (16, 20),
    "width": 64,
    "semantic": 16,
    "semantic_blocks": 1,
    "semantic_heads": 2,
    "semantic_hidden": 24,
    "semantic_kernel": 5,
    "semantic_before": 9,
    "semantic_after": 3,
    "blocks": 1,
    "heads": 2,
    "hidden": 24,
}
SIZES: dict[str, list[Any]] = {
    "speech": [
        Config(),
        SMALL,
        FOLDED,
        replace(SMALL, sample_rate=24000, frame_size=480, semantic=0),
    ],
    "encodec": [
        encodec.Config(width=4, codebooks=3, **TINY),
        encodec.Config(width=4, codebooks=2, causal=False, shortcut=False, **TINY),
        encodec.Config(
            width=4, codebooks=2, channels=2, causal=False, group_norm=True, kernel=5, **TINY
        ),
        encodec.Config(
            width=4,
            codebooks=1,
            channels=2,
            causal=False,
            group_norm=True,
            segment=1200,
            stride=1160,
            **TINY,
        ),
    ],
    "speechtokenizer": [
        speechtokenizer.Config(width=4, codebooks=3, semantic=8, **TINY),
        speechtokenizer.Config(width=4, codebooks=2, semantic=8, snake=True, **TINY),
    ],
    "dac": [dac.Config(encoder=4, decoder=32, codebooks=3, code_width=4, **TINY)],
    "wavtokenizer": [wavtokenizer.Config(encoder=4, decoder=32, blocks=2, groups=4, **TINY)],
    "mimi": [
        mimi.Config(
            width=4,
            strides=(2, 4, 5),
            latent=16,
            blocks=2,
            heads=2,
            window=6,
            hidden=32,
            codebooks=4,
            size=64,
            code_width=8,
        )
    ],
    "qwen3_tts_12hz": [
        qwen3_tts_12hz.Config(
            width=4,
            strides=(2, 4, 5),
            latent=16,
            blocks=2,
            heads=2,
            window=6,
            hidden=32,
            codebooks=4,
            size=64,
            code_width=8,
            doublings=(2, 2),
            decoder=16,
            decoder_strides=(5, 4),
            decoder_latent=24,
            decoder_width=12,
            decoder_blocks=2,
            decoder_head=6,
            decoder_heads=4,
            decoder_key_heads=2,
            decoder_window=5,
            decoder_hidden=20,
        )
    ],
    "fish_s2": [
        fish_s2.Config(
            encoder=4,
            decoder=16,
            strides=(2, 5),
            encoder_blocks=1,
            encoder_window=7,
            latent=16,
            halvings=(2, 2),
            blocks=1,
            window=5,
            codebooks=4,
            size=32,
            semantic_size=64,
            code_width=4,
        )
    ],
    "hificodec": [hificodec.Config(encoder=8, decoder=32, strides=(2, 4, 5), size=64)],
    "nanocodec": [nanocodec.Config(encoder=4, decoder=40, strides=(2, 3, 6))],
    "longcat": [
        longcat.Config(
            encoder=4,
            latent=16,
            size=8,
            code_width=4,
            semantic=64,
            layers=1,
            semantic_size=64,
            segment=20,
            decoder=32,
            decoder_strides=strides,
        )
        for strides in ((8, 6, 5, 4), (8, 6, 6, 5))
    ],
    "moss": [
        moss.Config(
            encoder=((20, 64, 1, 64), (2, 64, 2, 24)),
            decoder=((2, 64, 1, 128), (20, 64, 2, 20)),
            sample_rate=4000,
            seconds=0.1,
            latent=16,
            codebooks=3,
            size=64,
            code_width=4,
        )
    ],
    "snac": [
        snac.Config(encoder=4, decoder=32, strides=(2, 4, 5), size=64, code_width=4),
        snac.Config(
            encoder=4,
            decoder=32,
            strides=(2, 3),
            size=64,
            code_width=4,
            spans=(8, 4, 2, 1),
            window=16,
        ),
    ],
    "stable_codec": [
        stable_codec.Config(
            patch=10, widths=(16, 16), depths=(1, 1), earlier=2, later=3, layout="4x729_1000bps"
        )
    ],
    "xcodec": [
        xcodec.Config(**HEARING),
        xcodec.Config(**{**HEARING, "strides": (8, 5, 4, 2, 3)}, sample_rate=24000, code_width=6),
    ],
    "xcodec2": [
        xcodec2.Config(levels=(4, 3, 5), **BOTH),
        xcodec2.Config(levels=(4, 4), decoded_rate=24000, centred=False, **BOTH),
    ],
    "dualcodec": [
        dualcodec.Config(
            encoder=2,
            decoder=32,
            strides=strides,
            latent=16,
            codebooks=3,
            size=32,
            code_width=4,
            semantic_size=64,
            semantic=12,
            blocks=1,
            hidden=24,
            teacher=16,
            teacher_blocks=1,
            teacher_heads=2,
            teacher_hidden=24,
            teacher_kernel=5,
            teacher_before=9,
            teacher_after=3,
        )
        for strides in ((4, 5, 6, 4), (8, 5, 12))
    ],
    "voxtral": [
        voxtral.Config(
            patch=10,
            patch_kernel=5,
            width=32,
            hidden=24,
            head=8,
            heads=4,
            key_heads=2,
            blocks=(1, 1, 2, 1),
            decoder_blocks=(1, 2, 1, 1),
            semantic=12,
            size=64,
            acoustic=4,
        )
    ],
    "clam": [
        clam.Config(
            hop=40,
            window=160,
            fft=256,
            bands=12,
            width=8,
            strides=(2, 2),
            blocks=1,
            latent=6,
            codebooks=3,
            size=16,
            vocoder_width=16,
            vocoder_blocks=2,  # Griffin-Lim turns phases with any rounding: test_codecs_clam.py
        )
    ],
    "vocos": [vocos.Config(encoder=4, decoder=32, blocks=2, codebooks=(1, 3), **TINY)],
}
LISTENER = {"width": 32, "layers": 2, "heads": 2}  # a Whisper
TOKENIZERS = [  # without a decoder
    (
        "beats",
        beats.Config(
            width=16,
            layers=2,
            heads=2,
            hidden=24,
            patch_width=12,
            kernel=6,
            groups=4,
            buckets=8,
            farthest=30,
            code_width=6,
            size=64,
        ),
    ),
    ("beats_random", beats_random.Config()),
    ("beats_random", beats_random.Config(seed=1, steps=2, bands=32, width=8, size=64)),
    ("dmel", dmel.Config()),
    ("dmel", dmel.Config(frame_size=50, window=100, fft=128, bands=10)),
    (
        "glm4_voice",
        glm4_voice.Config(bands=80, width=16, heads=2, layers=1, size=64, block=40, segment=100),
    ),
    (
        "ichigo",
        ichigo.Config(width=16, heads=2, layers=1, segment=20, code_width=4, size=33, mask=32),
    ),
    ("s3", s3.Config(bands=80, width=16, heads=2, layers=1, size=64)),
    ("s3", s3.Config(stride=2, width=16, heads=2, layers=2, memory=7, rounded=4)),
    ("tadicodec", tadicodec.Config(bands=20, width=16, blocks=2, heads=2, bits=8)),
    ("units", units.Config(width=16, heads=2, layers=1, adapter=16, blocks=1)),
    ("units", units.Config(pool=1, width=16, heads=2, layers=1, adapter=16, bands=20)),
    ("kmeans", kmeans.KmeansConfig(layers=(2,), size=40, network=LISTENER)),
    (
        "kmeans",
        kmeans.KmeansConfig(layers=(1, "mean"), size=9, centred=True, mean_of=2, network=LISTENER),
    ),
]
LATENTS = [  # of no codes
    (
        "pocket_tts",
        pocket_tts.Config(
            width=4,
            strides=(4, 5),
            halving=8,
            latent=16,
            blocks=2,
            heads=2,
            window=20,
            hidden=32,
            features=8,
        ),
    ),
    ("voxcpm", voxcpm.Config(encoder=4, decoder=32, strides=(2, 5, 4), features=7)),
    ("vibevoice", vibevoice.Config(width=4, strides=(4, 5, 8), depths=(1, 2, 1, 2), features=9)),
    (
        "vibevoice",
        vibevoice.Config(width=4, strides=(4, 40), depths=(1, 1, 2), features=6, decodes=False),
    ),
]
UNQUANTIZED = [  # of no codes, by the choice of their quantizer
    ("speech", replace(SMALL, quantizer="none")),
    ("encodec", encodec.Config(width=4, latent=16, strides=(4, 5), lstm=1, quantizer="none")),
]
ALONE = {name for name, _ in [*TOKENIZERS, *LATENTS]}
SIZES["discretised"] = [
    discretised.Config(
        sizes=asdict(SMALL),
        features=16,
        quantizer="simvq",
        quantizer_options={"size": 64},
    ),
    discretised.Config(
        codec="pocket_tts",
        sizes=asdict(LATENTS[0][1]),
        features=8,
        quantizer_options={"codebooks": 3, "size": 64},
    ),
]
CODECS = [
    (name, config)
    for name in sorted({*names("codecs")} - ALONE)
    for config in SIZES.get(name, [None])
]


def ready(codec: Codec) -> Codec:
    """Return the codec in eval mode, without gradients."""
    return codec.eval().requires_grad_(False)


@torch.no_grad()
def spread(codec: Codec) -> None:
    """Scale a codec's weights, and initialize its codebooks from latents of noise, in place.

    Otherwise all frames of a new codec are near-ties with the same code.
    """
    for module in codec.encoder.modules() if codec.name != "dac" else ():
        if isinstance(module, nn.Conv1d) and module.bias is not None:
            module.weight.mul_(1.8)
            module.bias.mul_(0.1)
    codec.train()
    waves = torch.stack([noise(codec, 40 * codec.frame_size, seed=i).samples for i in range(4)])
    codec.quantizer(codec.latents(waves))


@torch.no_grad()
def enliven(codec: Codec) -> None:
    """Set the gains of new branches, which are all but silent, in place."""
    for name, parameter in codec.named_parameters():
        if name.endswith("scale"):
            parameter.fill_(0.5)


@torch.no_grad()
def centre(codec: Kmeans) -> None:
    """Set the centroids of units to those of features of noise, in place."""
    latent = codec.eval().latents(noise(codec, 80_000).samples[None])[0].T
    parts = latent.split(codec.teacher.width, 1)
    codec.set_centroids([cluster(part, codec.config.size) for part in parts])


def is_large(codec: Codec) -> bool:
    """Return whether a codec has more than a million parameters."""
    return codec.parameters_total > 1e6


def made(name: str, config: Any) -> Codec:
    """Return a codec of a name and a configuration, in eval mode, its weights always the same."""
    torch.manual_seed(0)
    codec = find("codecs", name)(config)
    if name == "kmeans":
        centre(codec)
    elif name in {latents for latents, _ in LATENTS}:
        enliven(codec)
    elif name not in ("speech", "beats_random", "dmel", "units"):
        spread(codec)
    return ready(codec)
