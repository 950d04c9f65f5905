"""`audiotok conform`: conformance checks of a codec."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from audiotok.cli import console as show
from audiotok.cli.commands.base import Device, Json

PANEL = "Codecs and files"


def conform(
    codec: Annotated[str, typer.Argument(help="Name of a codec, or path of a checkpoint.")],
    audio: Annotated[
        Path | None, typer.Option(help="Recording to test with, at least 3 s long. Default: noise.")
    ] = None,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Run all conformance checks on a codec, shipped or yours, and print a certificate.

    The checks: weights, round trip, length, determinism, batch, chunk, stream,
    receptive field, dtype, device. Exit code 1 if one fails.

    \b
    Examples:
      audiotok conform speech
      audiotok conform runs/mine/best.safetensors --audio talk.wav
    """
    from audiotok.audio.audio import Audio
    from audiotok.codecs.conformance import conform as run_checks
    from audiotok.codecs.load import load_once

    model = load_once(codec, device)
    recording = Audio.load(audio, end=30) if audio else None
    findings = []
    for finding in run_checks(model, recording):
        findings.append(finding)
        if not as_json:
            show.finding(finding.check, finding.verdict, finding.message)
    failed = [finding.check for finding in findings if finding.verdict == "fail"]
    if as_json:
        rows = [asdict(finding) for finding in findings]
        summary = {"codec": model.name, "fingerprint": model.fingerprint, "conforms": not failed}
        show.as_json(summary | {"findings": rows})
    else:
        show.certificate(model.name, model.fingerprint, failed)
    if failed:
        raise typer.Exit(1)
