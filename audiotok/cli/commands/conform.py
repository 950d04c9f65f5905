"""`audiotok conform`: whether a codec keeps its promises."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from audiotok.cli import console as show
from audiotok.cli.commands.base import Device, Json

PANEL = "Looking"


def conform(
    codec: Annotated[str, typer.Argument(help="A codec's name, or a checkpoint's path.")],
    audio: Annotated[
        Path | None, typer.Option(help="Audio to try it on, at least 3 s. Default: noise.")
    ] = None,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Try a codec, shipped or yours, on every promise, and print a certificate.

    Weights, round trip, length, determinism, batch, chunk, stream, receptive field, dtype,
    device. Exit code 1 if one is not kept.

    \b
    Examples:
      audiotok conform speech
      audiotok conform runs/mine/best.safetensors --audio talk.wav
    """
    from audiotok.audio.audio import Audio
    from audiotok.codecs.conformance import conform as tried
    from audiotok.codecs.load import load_once

    model = load_once(codec, device)
    heard = Audio.load(audio, end=30) if audio else None
    findings = []
    for finding in tried(model, heard):
        findings.append(finding)
        if not as_json:
            show.finding(finding.check, finding.verdict, finding.said)
    failed = [finding.check for finding in findings if finding.verdict == "fail"]
    if as_json:
        rows = [asdict(finding) for finding in findings]
        about = {"codec": model.name, "fingerprint": model.fingerprint, "conforms": not failed}
        show.as_json(about | {"findings": rows})
    else:
        show.certificate(model.name, model.fingerprint, failed)
    if failed:
        raise typer.Exit(1)
