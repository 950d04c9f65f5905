"""`audiotok conform`: conformance checks of a codec."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from audiotok.cli import console as show
from audiotok.cli.commands.base import Device, Json, Threads, TorchOr, limit_threads

PANEL = "Codecs and files"


def conform(
    codec: Annotated[
        str, typer.Argument(help="Name of a codec, path of a checkpoint, or code: my_module:codec.")
    ],
    audio: Annotated[
        Path | None, typer.Option(help="Recording to test with, at least 3 s long. Default: noise.")
    ] = None,
    backend: TorchOr = "torch",
    device: Device = "cpu",
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Run all conformance checks on a codec, shipped or yours, and print a certificate.

    The checks: weights, round trip, length, determinism, batch, chunk, stream,
    receptive field, dtype, device. Exit code 1 if one fails, or cannot be tried
    because the codec lacks what it needs.

    \b
    Examples:
      audiotok conform speech
      audiotok conform runs/mine/best.safetensors --audio talk.wav
      audiotok conform my_module:codec
    """
    from audiotok.audio.audio import Audio
    from audiotok.codecs.conformance import conform as run_checks
    from audiotok.codecs.external import imported, is_import
    from audiotok.codecs.load import load_in_backend
    from audiotok.codecs.models.base import Codec

    limit_threads(threads)
    model: Any = imported(codec) if is_import(codec) else None
    if model is None or isinstance(model, Codec):
        model = load_in_backend(codec, device, backend)
    recording = Audio.load(audio, end=30) if audio else None
    findings = []
    for finding in run_checks(model, recording):
        findings.append(finding)
        if not as_json:
            show.finding(finding.check, finding.verdict, finding.message)
    failed = [finding.check for finding in findings if finding.verdict == "fail"]
    untried = [finding.check for finding in findings if finding.verdict == "not tried"]
    fingerprint = getattr(model, "fingerprint", "no fingerprint")
    if as_json:
        rows = [asdict(finding) for finding in findings]
        summary = {
            "codec": model.name,
            "fingerprint": fingerprint,
            "conforms": not (failed or untried),
        }
        show.as_json(summary | {"findings": rows})
    else:
        show.certificate(model.name, fingerprint, failed, untried)
    if failed or untried:
        raise typer.Exit(1)
