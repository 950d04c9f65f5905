"""`audiotok units`: k-means units of a feature extractor, and the vectors that they stand for."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audiotok.cli import console as show
from audiotok.cli.commands.base import (
    Device,
    Force,
    Jobs,
    Json,
    Out,
    OutFile,
    Paths,
    Threads,
    check_out,
    limit_threads,
    options_of,
)

if TYPE_CHECKING:
    from audiotok.codecs.models.kmeans import KmeansConfig

PANEL = "Training"

units = typer.Typer(
    no_args_is_help=True, help="K-means units of a pretrained model's features, and their vectors."
)
TeacherName = Annotated[
    str,
    typer.Option(help="Feature extractor: beats, hubert, wavlm, wav2vec2, w2v_bert, whisper ..."),
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


@units.command()
def fit(
    manifest: Annotated[
        str,
        typer.Argument(help="Folder, manifest or archive of recordings, as for `corpus build`."),
    ],
    weights: Weights,
    out: OutFile,
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
    check_out(out, force)
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
    out: OutFile,
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

    check_out(out, force)
    config = _config(teacher, weights, layer, option, centred, mean_of, 1)
    save_units(import_units(centroids, config, bundle=bundle), out)
    facts = describe(out)
    show.as_json(facts) if as_json else show.facts(facts)


@units.command()
def vectors(
    paths: Paths,
    codec: Annotated[str, typer.Option("--codec", help="Units: a file of `units fit`.")],
    out: Out = None,
    jobs: Jobs = 1,
    device: Device = "cpu",
    threads: Threads = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Write the features that units are made of, with the means of recordings left in.

    One .tok file of latents a recording, float32 [d f]. Any codec has such latents;
    those of k-means units are the vectors of Vec-Tok.

    \b
    Examples:
      audiotok units vectors recordings/ --codec units.safetensors -o vectors/
    """
    from audiotok.cli.vectors import is_vectors, vectors_codec, vectors_writer
    from audiotok.runtime.batch.plan import AUDIO, plan
    from audiotok.runtime.batch.processes import imports_of
    from audiotok.runtime.batch.run import run

    limit_threads(threads)
    planned = plan(paths, out, suffixes=AUDIO, suffix=".tok", makes=[".tok"])
    model = vectors_codec(codec, device)

    def done(_: Path, target: Path) -> bool:
        return not force and is_vectors(model, target)

    build = partial(vectors_writer, codec, device, force=force)
    report = run(build, planned, done=done, jobs=jobs, verb="vectors", imports=imports_of("torch"))
    if as_json:
        show.as_json(report.rows())
    else:
        show.line(f"vectors of {len(report.finished)} recordings, {len(report.skipped)} skipped")
    if report.errors:
        raise typer.Exit(1)


@units.command()
def inverse(
    codec: Annotated[Path, typer.Argument(help="Units: a file of `units fit`.")],
    manifest: Annotated[
        str,
        typer.Argument(help="Folder, manifest or archive of recordings, as for `corpus build`."),
    ],
    out: OutFile,
    split: Annotated[str, typer.Option(help='Split to learn from; "": all.')] = "train",
    held_out: Annotated[
        str, typer.Option(help='Split that the error is measured on; "": none.')
    ] = "dev",
    hours: Annotated[
        float, typer.Option(min=0, help="Hours of recordings to draw at random; 0: all.")
    ] = 0,
    recordings: Annotated[
        int, typer.Option(min=1, help="Number of held-out recordings to draw at most.")
    ] = 60,
    steps: Annotated[int, typer.Option(min=1, help="Steps of training.")] = 2000,
    width: Annotated[int, typer.Option(min=1, help="Width of the network.")] = 320,
    depth: Annotated[int, typer.Option(min=0, help="Number of its blocks.")] = 6,
    batch: Annotated[int, typer.Option(min=1, help="Stretches of a step.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0,
    cache: Annotated[
        Path | None, typer.Option(help="Folder of features. Default: in the cache of weights.")
    ] = None,
    threads: Threads = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Train inverse k-means: a network that recovers vectors from units, given a prompt.

    Its error stands beside that of centroids, as shares of the variance, on
    recordings that it did not learn from.

    \b
    Examples:
      audiotok units inverse units.safetensors speech.tsv --hours 4 -o inverse.safetensors
    """
    from audiotok.cli.vectors import vectors_codec
    from audiotok.codecs.centroids import draw_recordings
    from audiotok.codecs.inverse_fit import InverseTraining, fit_inverse, measure_inverse
    from audiotok.codecs.inverse_kmeans import save_inverse
    from audiotok.data.manifest import read_manifest
    from audiotok.nn.pretrained.hub import cache_folder

    limit_threads(threads)
    check_out(out, force)
    known = vectors_codec(str(codec), "cpu", centred=True)
    features = cache or cache_folder() / "features"
    training = InverseTraining(steps=steps, width=width, depth=depth, batch=batch, seed=seed)
    chosen = draw_recordings(read_manifest(manifest, split=split or None), hours=hours, seed=seed)
    model = fit_inverse(chosen, known, training, cache=features)
    facts: dict[str, Any] = {"file": str(out), "units": known.fingerprint, "learnt": len(chosen)}
    if held_out:
        others = draw_recordings(read_manifest(manifest, split=held_out), most=recordings)
        facts |= asdict(measure_inverse(model, others, known, cache=features))
    save_inverse(model, out, card={**asdict(training), **facts})
    show.as_json(facts) if as_json else show.facts(facts)


@units.command()
def recover(
    tokens: Annotated[Path, typer.Argument(help=".tok file of units.")],
    inverse: Annotated[Path, typer.Option(help="Network: a file of `units inverse`.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Output .tok file of vectors.")],
    prompt: Annotated[
        Path | None, typer.Option(help="Vectors of the voice: a file of `units vectors`.")
    ] = None,
    device: Device = "cpu",
    force: Force = False,
) -> None:
    """Recover the vectors that units stand for, in the voice of a prompt.

    \b
    Examples:
      audiotok units recover reading.tok --inverse inverse.safetensors \\
        --prompt voice.tok -o vectors.tok
    """
    from audiotok.codecs.inverse_kmeans import load_inverse
    from audiotok.tokens.latents import Latents
    from audiotok.tokens.tokens import Tokens

    check_out(out, force, ".tok")
    given = None if prompt is None else Latents.load(prompt)
    load_inverse(inverse, device=device).recover(Tokens.load(tokens), given).save(out, force=force)
    show.line(str(out))


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
        options=options_of(options),
        centred=centred,
        mean_of=mean_of,
        size=size,
    )


def _layer(text: str) -> Any:
    """Return a layer that is a number, or "mean"."""
    if text != "mean" and not text.isdecimal():
        raise show.UsageError(f"--layer {text}: a number from 0, or mean")
    return text if text == "mean" else int(text)
