"""`audiotok discretise`: a quantizer learnt on latents of a frozen codec."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from audiotok.cli import console as show
from audiotok.cli.commands.base import (
    Device,
    Force,
    Json,
    OutFile,
    Threads,
    check_out,
    check_splits,
    limit_threads,
    options_of,
)

PANEL = "Training"


def discretise(
    codec: Annotated[
        str, typer.Argument(help="Codec of latents, or one whose codebooks are to be replaced.")
    ],
    manifest: Annotated[
        str,
        typer.Argument(help="Folder, manifest or archive of recordings, as for `corpus build`."),
    ],
    out: OutFile,
    quantizer: Annotated[str, typer.Option(help="Quantizer: rvq, fsq, simvq ...")] = "rvq",
    option: Annotated[
        list[str] | None,
        typer.Option("--option", help="Option of the quantizer, NAME=VALUE: levels=[8,5,5,5]."),
    ] = None,
    split: Annotated[str, typer.Option(help='Split to learn from; "": all.')] = "train",
    held_out: Annotated[
        str, typer.Option(help='Split that the error is measured on; "": none.')
    ] = "dev",
    hours: Annotated[
        float, typer.Option(min=0, help="Hours of recordings to draw at random; 0: all.")
    ] = 1,
    steps: Annotated[int, typer.Option(min=1, help="Steps of training.")] = 2000,
    batch: Annotated[int, typer.Option(min=1, help="Frames of a step.")] = 1024,
    rate: Annotated[float, typer.Option(help="Learning rate at first.")] = 1e-2,
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0,
    device: Device = "cpu",
    threads: Threads = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Learn codes for a codec whose encoder and decoder stay as they are.

    Latents of recordings are computed once, and a quantizer is trained to
    restore them; bins of a Gaussian (gaussian_bins) need no training. The error
    is a share of the variance of latents. The file is a codec by its path:
    `audiotok encode --codec codes.safetensors`.

    \b
    Examples:
      audiotok discretise vibevoice_acoustic speech.tsv -o codes.safetensors \\
        --option codebooks=8 --option size=1024
      audiotok discretise speech speech.tsv -o bins.safetensors \\
        --quantizer gaussian_bins --option levels=4
    """
    import torch

    from audiotok.codecs.centroids import draw_recordings
    from audiotok.codecs.checkpoint import load, save
    from audiotok.codecs.quantizer_fit import QuantizerTraining, frames_of, lost_share
    from audiotok.codecs.quantizer_fit import discretise as learn
    from audiotok.data.manifest import read_manifest

    limit_threads(threads)
    check_out(out, force)
    check_splits(split, held_out)
    training = QuantizerTraining(steps=steps, batch=batch, rate=rate, seed=seed)
    base = load(codec, device=device)
    known = read_manifest(manifest, split=split or None)
    chosen = draw_recordings(known, hours=hours, seed=seed)
    latents = frames_of(base, chosen)
    learnt = learn(base, latents, quantizer, options_of(option), training)
    facts: dict[str, Any] = {**learnt.card["discretised"], "recordings": len(chosen)}
    if held_out:
        others = draw_recordings(read_manifest(manifest, split=held_out), hours=hours, seed=seed)
        facts["held_out"] = len(others)
        facts["lost_held_out"] = lost_share(learnt.quantizer, frames_of(base, others))
    # Single precision, so that its latents stay those of the codec, to the bit.
    save(learnt, out, card={"discretised": facts}, dtype=torch.float32)
    facts = {"file": str(out), "kbps": round(learnt.kbps, 4), **facts}
    show.as_json(facts) if as_json else show.facts(facts)
