"""What the command line says: results on stdout, one line for each thing to know on stderr."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from audiotok._platform.console import UsageError, error, labelled, one_line, plain, said

shown = Console()


class Warned(logging.Handler):
    """Log records as one line each on stderr, above a progress bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        label = record.levelname.lower()
        said.print(labelled(label, "yellow", one_line(record.getMessage())), soft_wrap=True)


def log_to_stderr() -> None:
    """Sends the package's warnings to stderr; repeating it changes nothing."""
    logging.getLogger("audiotok").handlers = [Warned()]


def as_json(value: Any) -> None:
    """JSON on stdout."""
    print(json.dumps(value, indent=1))


def line(text: str) -> None:
    """A line on stdout."""
    shown.print(Text(plain(text)), soft_wrap=True)


def facts(pairs: dict[str, Any], *, console: Console = shown) -> None:
    """Names and values on stdout, a line each."""
    width = max(map(len, pairs), default=0)
    for key, value in pairs.items():
        console.print(
            Text.assemble((f"{key:{width}}", "cyan"), "  ", plain(str(value))), soft_wrap=True
        )


def estimated(facts: dict[str, Any]) -> dict[str, str]:
    """What `train.estimate` measured, in words."""
    f = facts
    return {
        "codec": f["codec"],
        "parameters": f"{f['parameters']:,} (encoder {f['encoder']:,}, decoder {f['decoder']:,})",
        "discriminators": f"{f['discriminators']:,} parameters",
        "forward pass": f"{f['gflops_per_second_of_audio']:.2f} GFLOP per second of audio",
        "discriminators'": f"{f['gflops_of_discriminators']:.2f} GFLOP per second of audio",
        "kept for gradients": f"{f['mb_per_second_of_audio']:.1f} MB per second of audio",
        "weights, optimizers": f"{f['mb_of_weights_and_optimizers']:.0f} MB",
        "a step": f"{f['seconds_a_step']:.3f} s on {f['device']}",
        "speed": f"{f['audio_seconds_a_second']:.1f} s of audio a second",
        "the whole run": f"{f['hours']:.2f} h for {f['hours_of_audio']:.1f} h of audio",
    }


def encoding(row: dict[str, Any]) -> dict[str, Any]:
    """A row of `runtime.files.Made` in words."""
    streams = f"{row['streams']} x " if row["streams"] > 1 else ""
    return {
        "file": row["target"],
        "duration": f"{row['seconds']:.3f} s",
        "frames": row["frames"],
        "codebooks": f"{streams}{row['codebooks']}",
        "nominal rate": f"{row['nominal_kbps']:.3f} kbps",
        "real rate": f"{row['file_kbps'] or 0:.3f} kbps (the whole .tok file)",
        "time": f"{row['took']:.3f} s",
        "speed": f"{row['speed']:.1f}x real time (factor {1 / max(row['speed'], 1e-9):.4f})",
    }


def roundtrip(result: dict[str, Any]) -> dict[str, Any]:
    """What `evaluation.roundtrip.roundtrip` returns, in words."""
    decoded = result["decode"]
    return {
        **encoding(result["encode"]),
        "decoded": f"{decoded['target']} ({decoded['speed']:.1f}x real time)",
        "picture": result["picture"] or "not drawn",
        **result["scores"],
    }


def damaged(row: dict[str, Any]) -> str:
    """A row of `verify --json` in words."""
    text = "; ".join(row["damage"])
    text = text if row["file"] in text else f"{row['file']}: {text}"
    return f"{text} ({row['recoverable_seconds']:.2f} s can be recovered)"


def report(
    made: list[dict[str, Any]], skipped: int, failed: int, past: str, *, quiet: bool = False
) -> None:
    """What came of a batch; its errors were said as they came. Quiet: nothing on stdout."""
    if failed and len(made) + skipped + failed > 1:
        said.print(f"{failed} of {len(made) + skipped + failed} failed", highlight=False)
    if quiet:
        return
    if len(made) == 1:
        facts(encoding(made[0]))
    elif made:
        seconds = sum(row["seconds"] for row in made)
        line(f"{past} {len(made)} files, {seconds / 60:.1f} minutes of audio")
    if skipped:
        line(f"{skipped} done already, skipped")


def entry(kind: str, name: str, about: str) -> None:
    """A line of a list on stdout."""
    shown.print(
        Text.assemble((f"{kind:7}", "dim"), (plain(name), "cyan"), "  ", plain(about)),
        soft_wrap=True,
    )


VERDICTS = {"pass": "green", "fail": "red"}


def finding(check: str, verdict: str, text: str) -> None:
    """What a check came to, a line on stdout."""
    style = VERDICTS.get(verdict, "yellow")
    shown.print(
        Text.assemble((f"{check:16}", "cyan"), (f"{verdict:16}", style), plain(text)),
        soft_wrap=True,
    )


def certificate(name: str, fingerprint: str, failed: list[str]) -> None:
    """What all checks came to."""
    word, style = ("conforms", "green") if not failed else ("does not conform", "red")
    why = f": {', '.join(failed)}" if failed else ""
    shown.print(Text.assemble(plain(f"{name} ({fingerprint}) "), (word, style), why))


def codecs(rows: list[dict[str, Any]]) -> None:
    """A table of codecs, within 80 columns."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    table.add_column("name", no_wrap=True)
    for name in ("rate", "frames/s", "codebooks", "kbps", "params"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("causal", "weights"):
        table.add_column(name)
    for row in rows:
        table.add_row(
            row["name"],
            f"{row['sample_rate']}",
            f"{row['frame_rate']:.4g}",
            f"{row['codebooks']}",
            f"{row['kbps']:.3g}",
            f"{row['parameters'] / 1e6:.1f} M",
            "yes" if row["causal"] else "no",
            "yes" if row["weights"] else "no",
        )
    shown.print(table)


def outcome(app: Callable[..., Any]) -> int:
    """Runs a typer app and gives its exit code; what goes wrong is one line on stderr."""
    try:
        return app(standalone_mode=False, prog_name="audiotok") or 0
    except typer.Exit as end:
        return end.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except UsageError as problem:
        error(problem)
        return 2
    except BrokenPipeError:
        raise
    except (ValueError, OSError, ImportError) as problem:
        # Exported codecs run where torch is not installed; this does not.
        bare = isinstance(problem, ModuleNotFoundError) and problem.name == "torch"
        error(f"this needs torch ({problem}): pip install torch" if bare else problem)
        return 1
    except Exception as problem:
        # A usage error of click's; typer from 0.16 on brings a click of its own.
        code, text = getattr(problem, "exit_code", None), getattr(problem, "format_message", None)
        if code is None or text is None:
            raise
        context = getattr(problem, "ctx", None)
        asked = text()
        if asked:  # else it was no arguments, and help is there already
            error(f"{asked} See `{context.command_path if context else 'audiotok'} --help`.")
        return code


NAME = 26  # columns of a name; of a longer one the end is shown
CELL = 16  # columns of a value with its interval
REASONS = 12  # why something has no score, at most so many


def bench(results: Any) -> None:
    """Tables of `results.Results`, a row a subject, and a line for each thing that has no score."""
    ran = [about for about in results.metrics if not about.not_run]
    of = {(mean.subject, mean.metric): mean for mean in results.means}
    abreast = max(1, (shown.width - NAME - 6) // CELL)
    for first in range(0, len(ran), abreast):
        some = ran[first : first + abreast]
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
        table.add_column("codec", no_wrap=True)
        table.add_column("kbps", justify="right", no_wrap=True)
        for about in some:
            unit = f", {about.unit}" if about.unit else ""
            table.add_column(f"{about.name}{unit}", justify="right")
        for subject in results.subjects:
            name = plain(subject.name)
            name = name if len(name) <= NAME else f"…{name[1 - NAME :]}"
            rate = "" if subject.kbps is None else f"{subject.kbps:.2f}"
            table.add_row(Text(name), rate, *(_mean(of.get((subject.name, m.name))) for m in some))
        shown.print(table)
    for about in results.metrics:
        if about.not_run:
            line(f"{about.name}: not run: {about.not_run}")
    _not_scored(results)
    _findings(results)


def _not_scored(results: Any) -> None:
    """A line for each reason; of what could not be read there was one when it came up."""
    ran = [about.name for about in results.metrics if not about.not_run]
    reasons: dict[str, dict[str, list[str]]] = {}
    for mean in results.means:
        for reason, count in mean.failed.items():
            if mean.metric in ran and not reason.startswith("not read: "):
                whose = f"{mean.subject} ({count})"
                reasons.setdefault(reason, {}).setdefault(whose, []).append(mean.metric)
    lines = []
    for reason, rows in reasons.items():
        metrics = dict.fromkeys(metric for some in rows.values() for metric in some)
        what = "nothing" if len(metrics) == len(ran) > 1 else f"no {', '.join(metrics)}"
        lines.append(f"{what} of {', '.join(rows)}: {reason}")
    for text in lines[:REASONS]:
        line(text)
    if len(lines) > REASONS:
        line(f"... and {len(lines) - REASONS} other reasons: the report has them all")


def _findings(results: Any) -> None:
    """A table for each task, a column a codec, and a line for each thing that was not found."""
    tasks: dict[str, dict[tuple[str, str], dict[str, str]]] = {}
    for found in results.findings:
        if found.value is None:
            line(f"{found.task}, {found.name} of {found.subject}: {found.note}")
        else:
            rows = tasks.setdefault(found.task, {})
            rows.setdefault((found.name, found.unit), {})[found.subject] = f"{found.value:.4g}"
    for task, rows in tasks.items():
        subjects = list(dict.fromkeys(subject for row in rows.values() for subject in row))
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
        table.add_column(Text(plain(task)))
        for subject in subjects:
            table.add_column(Text(plain(subject)), justify="right")
        for (name, unit), row in rows.items():
            label = f"{name}, {unit}" if unit else name
            cells = (row.get(subject, "") for subject in subjects)
            table.add_row(Text(plain(label)), *cells)
        shown.print(table)


def _mean(mean: Any) -> str:
    """A value with half of its interval, and how many it leaves out."""
    if mean is None or mean.value is None:
        return "failed"
    spread = (mean.high - mean.low) / 2
    left_out = sum(mean.failed.values())
    return f"{mean.value:.3f} ±{spread:.3f}" + (f" (n={mean.n})" if left_out else "")
