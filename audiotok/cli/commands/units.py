"""`audiotok units`: k-means units of a feature extractor, fitted here or imported."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audiotok._platform.errors import InputError
from audiotok.cli import console as show
from audiotok.cli.commands.base import Device, Force, Json, Threads, limit_threads

if TYPE_CHECKING:
    from audiotok.codecs.models.kmeans import KmeansConfig

PANEL = "Training"

units = typer.Typer(
    no_args_is_help=True, help="K-means units of a pretrained model's features: fit, import."
)
TeacherName = Annotated[
    str, typer.Option(help="Feature extractor: hubert, wavlm, wav2vec2, w2v_bert, whisper ...")
]
Weights = Annotated[str, typer.Option(help="Weights of the extractor: a path, or a name on a hub.")]
Layers = Annotated[
    list[str],
    typer.Option(help="Hidden state, each with a codebook; 0 is the first layer's input; or mean."),
]
Options = Annotated[
    list[str] | None,
    typer.Option("--option", help="Option of the extractor, NAME=VALUE: fill=30, normalise=false."),
]
Centred = Annotated[
    bool,
    typer.Option("--centred", help="Take off each recording's mean, which depends on the speaker."),
]
MeanOf = Annotated[
    int, typer.Option(min=1, help="Neighbouring features whose mean is a frame: 2 gives 25 Hz.")
]
Bundle = Annotated[
    bool,
    typer.Option("--bundle", help="Store the extractor's weights in the file, in half precision."),
]
Out = Annotated[Path, typer.Option("--out", "-o", help="Output .safetensors file.")]


@units.command()
def fit(
    manifest: Annotated[
        str,
        typer.Argument(help="Folder, manifest or archive of recordings, as for `corpus build`."),
    ],
    weights: Weights,
    out: Out,
    teacher: TeacherName = "whisper",
    layer: Layers = ["6"],  # noqa: B006
    size: Annotated[int, typer.Option(min=2, help="Number of units of a layer.")] = 500,
    option: Options = None,
    centred: Centred = False,
    mean_of: MeanOf = 1,
    bundle: Bundle = False,
    split: Annotated[str, typer.Option(help='Split of the recordings; "": all.')] = "train",
    hours: Annotated[
        float, typer.Option(min=0, help="Hours of recordings to draw at random; 0: all.")
    ] = 0,
    recordings: Annotated[
        int, typer.Option(min=0, help="Number of recordings to draw at random; 0: all.")
    ] = 0,
    drop: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Number of principal components left out, the largest first. Default: the "
            "extractor's, 16 for whisper, whose largest say how long ago a recording began.",
        ),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Passes over the features.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0,
    cache: Annotated[
        Path | None, typer.Option(help="Folder of features. Default: in the cache of weights.")
    ] = None,
    device: Device = "cpu",
    threads: Threads = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Fit units to recordings: mini-batch k-means of a pretrained model's features.

    Features are computed once and kept in the cache: run again after an
    interruption, or with another number of units. The file is a codec without a
    decoder, by its path: `audiotok encode --codec units.safetensors`.

    \b
    Examples:
      audiotok units fit speech.tsv --weights openai/whisper-base -o units.safetensors
      audiotok units fit speech.tsv --teacher hubert --weights facebook/hubert-base-ls960 \\
        --layer 9 --size 1000 --hours 10 -o hubert.safetensors
    """
    from audiotok.codecs.centroids import draw_recordings, fit_units, save_units
    from audiotok.data.manifest import read_manifest
    from audiotok.nn.pretrained.hub import cache_folder

    limit_threads(threads)
    _check_out(out, force)
    config = _config(teacher, weights, layer, option, centred, mean_of, size)
    known = read_manifest(manifest, split=split or None)
    chosen = draw_recordings(known, hours=hours, most=recordings, seed=seed)
    codec, fits = fit_units(
        chosen,
        config,
        cache=cache or cache_folder() / "features",
        bundle=bundle,
        drop=drop,
        rounds=rounds,
        seed=seed,
        device=device,
    )
    save_units(codec, out)
    card: dict[str, Any] = {"file": str(out), "fingerprint": codec.fingerprint}
    card |= codec.card["units"]
    if as_json:
        show.as_json(card)
        return
    layers = card.pop("layers")
    show.facts(card)
    for row, each in zip(layers, fits, strict=True):
        show.line(
            f"layer {row['layer']}: {each.used} of {size} units used (perplexity "
            f"{each.perplexity:.1f}), inertia {each.inertia:.4g} a frame, "
            f"{100 * each.explained:.1f} % of the variance explained"
        )


@units.command("import")
def import_(
    centroids: Annotated[
        list[Path],
        typer.Argument(help="Centroids [k d] of each layer: .npy, or .safetensors of one tensor."),
    ],
    weights: Weights,
    out: Out,
    teacher: TeacherName = "hubert",
    layer: Layers = ["6"],  # noqa: B006
    option: Options = None,
    centred: Centred = False,
    mean_of: MeanOf = 1,
    bundle: Bundle = False,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Write a codec of centroids that another program fitted, as fairseq or textlesslib.

    Pickles are not read, as they may run code; the message says how one that you
    trust is converted. fairseq's HuBERT base takes --option normalise=false.

    \b
    Examples:
      audiotok units import km100.npy --weights facebook/hubert-base-ls960 --layer 6 \\
        --option normalise=false -o km100.safetensors
    """
    from audiotok.codecs.centroids import import_units, save_units
    from audiotok.codecs.checkpoint import describe

    _check_out(out, force)
    config = _config(teacher, weights, layer, option, centred, mean_of, 1)
    save_units(import_units(centroids, config, bundle=bundle), out)
    facts = describe(out)
    show.as_json(facts) if as_json else show.facts(facts)


def _config(
    teacher: str,
    weights: str,
    layers: list[str],
    options: list[str] | None,
    centred: bool,
    mean_of: int,
    size: int,
) -> KmeansConfig:
    """Return the settings of units; their options are read as JSON, else as text."""
    from audiotok.codecs.models.kmeans import KmeansConfig

    return KmeansConfig(
        teacher=teacher,
        weights=weights,
        layers=[_layer(each) for each in layers],
        options=dict(map(_option, options or ())),
        centred=centred,
        mean_of=mean_of,
        size=size,
    )


def _layer(text: str) -> Any:
    """Return a layer that is a number, or "mean"."""
    if text != "mean" and not text.isdecimal():
        raise show.UsageError(f"--layer {text}: a number from 0, or mean")
    return text if text == "mean" else int(text)


def _option(text: str) -> tuple[str, Any]:
    """Return name and value of an option."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise show.UsageError(f"--option {text}: give NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _check_out(out: Path, force: bool) -> None:
    """Raise unless the output may be written."""
    if out.suffix != ".safetensors":
        raise show.UsageError(f"{out}: not a .safetensors file")
    if os.path.lexists(out) and not force:
        raise InputError(f"{out}: exists already; --force overwrites it")
