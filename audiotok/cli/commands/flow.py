"""`audiotok flow`: a decoder by flow matching, of the tokens of one tokenizer."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from audiotok.cli import console as show
from audiotok.cli.commands.base import (
    Force,
    Json,
    OutFile,
    Threads,
    check_out,
    check_splits,
    limit_threads,
)

PANEL = "Training"


def flow(
    tokenizer: Annotated[str, typer.Argument(help="Tokenizer: a name, or a checkpoint.")],
    manifest: Annotated[
        str,
        typer.Argument(help="Folder, manifest or archive of recordings, as for `corpus build`."),
    ],
    out: OutFile,
    codec: Annotated[
        str, typer.Option(help="Codec whose latents it makes, and whose decoder it has.")
    ] = "speech",
    split: Annotated[str, typer.Option(help='Split to learn from; "": all.')] = "train",
    held_out: Annotated[
        str, typer.Option(help='Split that the loss is measured on; "": none.')
    ] = "dev",
    hours: Annotated[
        float, typer.Option(min=0, help="Hours of recordings to draw at random; 0: all.")
    ] = 1,
    recordings: Annotated[
        int, typer.Option(min=1, help="Number of held-out recordings to draw at most.")
    ] = 60,
    steps: Annotated[int, typer.Option(min=1, help="Steps of training.")] = 2000,
    batch: Annotated[int, typer.Option(min=1, help="Stretches of a step.")] = 16,
    seconds: Annotated[float, typer.Option(help="Length of a stretch in seconds.")] = 2.0,
    width: Annotated[int, typer.Option(min=1, help="Width of the network.")] = 256,
    blocks: Annotated[int, typer.Option(min=1, help="Number of its blocks.")] = 6,
    entries: Annotated[
        bool,
        typer.Option("--entries", help="Begin with the entries of the tokenizer's codebooks."),
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0,
    threads: Threads = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Train a decoder by flow matching: tokens to latents of a codec, whose decoder makes sound.

    Tokenizer and codec stay as they are. The file is a decoder of the tokenizer's
    tokens: `audiotok decode --decoder flow.safetensors`. Same seed, same sound.

    \b
    Examples:
      audiotok flow units speech.tsv -o flow.safetensors
      audiotok decode talk.tok --decoder flow.safetensors --seed 1 --condition steps=32
    """
    from audiotok.codecs.centroids import draw_recordings
    from audiotok.codecs.checkpoint import load, save
    from audiotok.codecs.decoders.flow import Config
    from audiotok.codecs.flow_fit import FlowTraining, fit_flow, flow_loss, flow_pairs
    from audiotok.data.manifest import read_manifest

    limit_threads(threads)
    check_out(out, force)
    check_splits(split, held_out)
    training = FlowTraining(steps=steps, batch=batch, seconds=seconds, entries=entries, seed=seed)
    tokens, target = load(tokenizer), load(codec)
    chosen = draw_recordings(read_manifest(manifest, split=split or None), hours=hours, seed=seed)
    pairs = flow_pairs(tokens, target, chosen)
    model = fit_flow(pairs, tokens, target, Config(width=width, blocks=blocks), training)
    facts: dict[str, Any] = dict(model.card["flow"])
    if held_out:
        others = draw_recordings(read_manifest(manifest, split=held_out), most=recordings)
        facts["loss_held_out"] = flow_loss(model, flow_pairs(tokens, target, others), training)
    save(model, out, card={"flow": facts})
    facts = {"file": str(out), **facts}
    show.as_json(facts) if as_json else show.facts(facts)
