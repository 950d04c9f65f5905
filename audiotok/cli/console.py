"""Output of the command line: results on stdout; warnings and errors on stderr, a line each."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from typing import Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from audiotok._platform import console as platform_console
from audiotok._platform.console import UsageError, error, labelled, one_line, plain, stderr_console
from audiotok._platform.errors import Error
from audiotok.cli.system import explained

stdout_console = Console()


class _StderrHandler(logging.Handler):
    """Log handler that prints one line a record on stderr, above a progress bar if there is one.

    A warning that follows itself word for word, as of a table that is read again, is shown once.
    """

    def __init__(self) -> None:
        super().__init__()
        self._last = ""

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        label = record.levelname.lower()
        text = as_options(one_line(record.getMessage()))
        if text == self._last and record.levelno == logging.WARNING:
            return
        self._last = text
        stderr_console.print(labelled(label, "yellow", text), soft_wrap=True)


def set_up() -> None:
    """Send the package's warnings to stderr, and word its errors with options.

    Repeated calls change nothing.
    """
    logging.getLogger("audiotok").handlers = [_StderrHandler()]
    platform_console.reword = as_options


OPTIONS = {
    "context=SECONDS": "--context SECONDS",
    "load(..., backend='onnx')": "--backend onnx",
    "keep_changed=True": "--keep-changed",
    "out=F": "--out F",
    "retry_quarantined=True": "--retry-quarantined",
    "split=True": "--channels split",
}
"""Argument in the message of a library error -> the option that stands for it."""


def as_options(message: str) -> str:
    """Return the message of a library error with the options that stand for its arguments."""
    message = re.sub(r"\b(force|commands|rings)=True\b", r"--\1", message)
    for argument, option in OPTIONS.items():
        message = message.replace(argument, option)
    message = re.sub(r"\b(?:audiotok\.)?load\('([^']*)'\)", r"--codec \1", message)
    return re.sub(r"\btokens\.first\((\d+)\)", r"--codebooks \1", message)


def as_json(value: Any) -> None:
    """Print a value as JSON on stdout."""
    print(json.dumps(value, indent=1))


def line(text: str) -> None:
    """Print a line on stdout."""
    stdout_console.print(Text(plain(text)), soft_wrap=True)


def facts(pairs: dict[str, Any], *, console: Console = stdout_console) -> None:
    """Print names and values, a line each, on stdout or another console; tables by their parts."""
    parts = {k: v if isinstance(v, dict) else {"": v} for k, v in pairs.items()}
    pairs = {
        " ".join(filter(None, (k, n))): v for k, part in parts.items() for n, v in part.items()
    }
    width = max(map(len, pairs), default=0)
    for key, value in pairs.items():
        console.print(
            Text.assemble((f"{key:{width}}", "cyan"), "  ", plain(str(value))), soft_wrap=True
        )


def estimated(facts: dict[str, Any]) -> dict[str, str]:
    """Return the results of `training.estimate` as names and values to print."""
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
    """Return the report of encoding a file (of `encode_file`) as names and values to print."""
    streams = f"{row['streams']} x " if row["streams"] > 1 else ""
    factor = row["took"] / max(row["seconds"], 1e-9)
    return {
        "file": row["target"],
        "duration": f"{row['seconds']:.3f} s",
        "frames": row["frames"],
        **({"latents of": f"{streams}{row['width']}"} if row["width"] else {}),
        **({} if row["width"] else {"codebooks": f"{streams}{row['codebooks']}"}),
        "nominal rate": f"{row['nominal_kbps']:.3f} kbps",
        "real rate": f"{row['file_kbps'] or 0:.3f} kbps (the whole .tok file)",
        "time": f"{row['took']:.3f} s",
        "speed": f"{row['speed']:.1f}x real time (factor {factor:.4f})",
        **side_information(row),
    }


def side_information(row: dict[str, Any]) -> dict[str, str]:
    """Return what the decoder of a file was given beside the tokens, to print; {} for nothing."""
    key = "side_information"
    return {"side information": row[key]} if key in row else {}


def roundtrip(result: dict[str, Any]) -> dict[str, Any]:
    """Return the result of `evaluation.roundtrip` as names and values to print."""
    decoded = result["decode"]
    return {
        **encoding(result["encode"]),
        "decoded": f"{decoded['target']} ({decoded['speed']:.1f}x real time)",
        "picture": result["picture"] or "not drawn",
        **side_information(decoded),
        **result["scores"],
    }


def damaged(row: dict[str, Any]) -> str:
    """Return a row of `verify --json` as a sentence."""
    text = "; ".join(row["damage"])
    text = text if row["file"] in text else f"{row['file']}: {text}"
    return f"{text} ({row['recoverable_seconds']:.2f} s can be recovered)"


def report(
    rows: list[dict[str, Any]], skipped: int, failed: int, past: str, *, quiet: bool = False
) -> None:
    """Print the result of a batch, whose errors have been printed as they occurred.

    Args:
        rows: a report of each file that was written.
        skipped: number of files that were up to date.
        failed: number of files that failed.
        past: the verb, "encoded" or "decoded".
        quiet: whether to print nothing on stdout.
    """
    if failed and len(rows) + skipped + failed > 1:
        stderr_console.print(f"{failed} of {len(rows) + skipped + failed} failed", highlight=False)
    if quiet:
        return
    if len(rows) == 1:
        facts(encoding(rows[0]))
    elif rows:
        seconds = sum(row["seconds"] for row in rows)
        line(f"{past} {len(rows)} files, {seconds / 60:.1f} minutes of audio")
    if skipped:
        line(f"{skipped} done already, skipped")


def entry(kind: str, name: str, description: str) -> None:
    """Print a line of a list on stdout: kind, name and description."""
    stdout_console.print(
        Text.assemble((f"{kind:7}", "dim"), (plain(name), "cyan"), "  ", plain(description)),
        soft_wrap=True,
    )


VERDICTS = {"pass": "green", "fail": "red"}


def finding(check: str, verdict: str, text: str) -> None:
    """Print the result of a conformance check, a line on stdout."""
    style = VERDICTS.get(verdict, "yellow")
    stdout_console.print(
        Text.assemble((f"{check:16}", "cyan"), (f"{verdict:16}", style), plain(text)),
        soft_wrap=True,
    )


def certificate(name: str, fingerprint: str, failed: list[str], untried: list[str]) -> None:
    """Print whether a codec passed all conformance checks.

    Args:
        name: of the codec.
        fingerprint: of its weights.
        failed: names of the checks that it failed.
        untried: names of the checks that could not be tried.
    """
    word, style = ("conforms", "green") if not failed else ("does not conform", "red")
    if untried and not failed:
        word, style = "conforms as far as it could be tried", "yellow"
    why = f": {', '.join(failed)}" if failed else ""
    why += f"; not tried: {', '.join(untried)}" if untried else ""
    stdout_console.print(Text.assemble(plain(f"{name} ({fingerprint}) "), (word, style), why))


def codecs(rows: list[dict[str, Any]]) -> None:
    """Print tables of codecs, within 80 columns but for addresses: sizes, kinds, and weights."""
    sizes = _table(
        "name", "rate>", "frames/s>", "codebooks>", "kbps>", "M>", "all M>", "causal", "here"
    )
    kinds = _table("name", "encoder", "decoder", "quantizer", "training", "domain")
    for row in rows:
        teacher = f" ({row['teacher']})" if row["teacher"] else ""
        sizes.add_row(
            row["name"],
            f"{row['sample_rate']}",
            f"{row['frame_rate']:.4g}",
            f"{row['codebooks']}" if row["codebooks"] else "latents",
            f"{round(row['kbps'], 3):.3g}",
            f"{row['parameters'] / 1e6:.1f}",
            f"{row['parameters_with_codebooks'] / 1e6:.1f}",
            "yes" if row["causal"] else "no",
            "yes" if row["weights"] else "no",
        )
        kinds.add_row(
            row["name"],
            *(row[key] or "" for key in ("encoder", "decoder", "quantizer")),
            f"{row['training'] or ''}{teacher}",
            row["domain"] or "",
        )
    stdout_console.print(sizes)
    stdout_console.print(WORDS)
    stdout_console.print(kinds)
    stdout_console.print("\n Licences of published weights, and where they are:\n")
    for row in rows:
        if row["licence"]:
            words = f" {row['name']:21} {row['licence']:25} {row['published']}"
            stdout_console.print(plain(words.rstrip()), soft_wrap=True)


WORDS = """\
 M: million parameters that are learnt by gradient, as authors count them.
 all M: with the entries of codebooks that are moving averages, which they leave
 out. here: whether the weights are on this machine.
"""


def _table(*names: str) -> Table:
    """Return a table with these columns; those whose name ends in > hold numbers."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    for name in names:
        number = name.endswith(">")
        table.add_column(
            name.removesuffix(">"),
            justify="right" if number else "left",
            no_wrap=number or name == "name",
        )
    return table


def outcome(app: Callable[..., Any]) -> int:
    """Run a typer app and return its exit code; print errors as one line on stderr."""
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
    except (Error, ValueError, OSError, ImportError) as problem:
        # Exported codecs run without torch, so it may be missing where this command needs it.
        no_torch = isinstance(problem, ModuleNotFoundError) and problem.name == "torch"
        error(
            f"this needs torch ({problem}): pip install torch" if no_torch else explained(problem)
        )
        return 1
    except Exception as problem:
        # A usage error of click, told by its attributes: typer from 0.16 on has a click of its own.
        code, text = getattr(problem, "exit_code", None), getattr(problem, "format_message", None)
        if code is None or text is None:
            raise
        context = getattr(problem, "ctx", None)
        message = text()
        if message:  # it is empty for a command without arguments, whose help is printed already
            error(f"{message} See `{context.command_path if context else 'audiotok'} --help`.")
        return code


NAME = 26  # columns of a name; a longer one is cut at its start
CELL = 16  # columns of a value with its interval
REASONS = 12  # the most reasons for missing scores that are printed


def bench(results: Any) -> None:
    """Print tables of `results.Results`, a row a codec, and a line for each missing score."""
    ran = [metric for metric in results.metrics if not metric.not_run]
    of = {(mean.subject, mean.metric): mean for mean in results.means}
    columns = max(1, (stdout_console.width - NAME - 6) // CELL)
    for first in range(0, len(ran), columns):
        metrics = ran[first : first + columns]
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
        table.add_column("codec", no_wrap=True)
        table.add_column("kbps", justify="right", no_wrap=True)
        for metric in metrics:
            unit = f", {metric.unit}" if metric.unit else ""
            table.add_column(f"{metric.name}{unit}", justify="right")
        for subject in results.subjects:
            name = plain(subject.name)
            name = name if len(name) <= NAME else f"…{name[1 - NAME :]}"
            rate = "" if subject.kbps is None else f"{subject.kbps:.2f}"
            table.add_row(
                Text(name), rate, *(_mean(of.get((subject.name, m.name))) for m in metrics)
            )
        stdout_console.print(table)
    for subject in results.subjects:
        if subject.side_information:
            line(f"{subject.name}: side information: {subject.side_information}")
    for metric in results.metrics:
        if metric.not_run:
            line(f"{metric.name}: not run: {metric.not_run}")
    _not_scored(results)
    _findings(results)


def _not_scored(results: Any) -> None:
    """Print a line for each reason of missing scores, without files that could not be read.

    Those have been reported when they were read.
    """
    ran = [metric.name for metric in results.metrics if not metric.not_run]
    reasons: dict[str, dict[str, list[str]]] = {}
    for mean in results.means:
        for reason, count in mean.failed.items():
            if mean.metric in ran and not reason.startswith("not read: "):
                whose = f"{mean.subject} ({count})"
                reasons.setdefault(reason, {}).setdefault(whose, []).append(mean.metric)
    lines = []
    for reason, rows in reasons.items():
        metrics = dict.fromkeys(metric for some in rows.values() for metric in some)
        missing = "nothing" if len(metrics) == len(ran) > 1 else f"no {', '.join(metrics)}"
        lines.append(f"{missing} of {', '.join(rows)}: {reason}")
    for text in lines[:REASONS]:
        line(text)
    if len(lines) > REASONS:
        line(f"... and {len(lines) - REASONS} other reasons: the report has them all")


def _findings(results: Any) -> None:
    """Print a table for each task, a column a codec, and a line for each reason of no value."""
    tasks: dict[str, dict[tuple[str, str], dict[str, str]]] = {}
    missing: dict[tuple[str, str], list[str]] = {}
    for result in results.findings:
        if result.value is None:
            whose = missing.setdefault((result.task, result.note), [])
            whose.append(f"{result.name} of {result.subject}")
        else:
            rows = tasks.setdefault(result.task, {})
            rows.setdefault((result.name, result.unit), {})[result.subject] = f"{result.value:.4g}"
    for (task, note), whose in missing.items():
        more = f" and {len(whose) - 1} others" if len(whose) > 1 else ""
        line(f"{task}, {whose[0]}{more}: {note}")
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
        stdout_console.print(table)


def _mean(mean: Any) -> str:
    """Return a mean with half the width of its interval, and its count if scores are missing."""
    if mean is None or mean.level is None:
        return "failed"
    if mean.value is None:
        return "∞" if mean.level > 0 else "-∞"
    spread = (mean.high - mean.low) / 2
    left_out = sum(mean.failed.values()) + sum(mean.infinite.values())
    return f"{mean.value:.3f} ±{spread:.3f}" + (f" (n={mean.n})" if left_out else "")
