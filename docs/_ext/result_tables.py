"""Tables of stored results: JSON and CSV files in docs/results, and benches in egs/data."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from markup import cell, code, table

import audiotok
from audiotok.evaluation.report.base import places

ROOT = Path(__file__).parents[2]
STORED = ROOT / "docs/results"
BENCH = ROOT / "egs/data/bench/results.json"
NONE = "n/a"  # in a cell of which there is no value, or cannot be one
HEADS = {
    "pesq": "PESQ-wb",
    "stoi": "STOI",
    "mel": "mel, dB",
    "si_sdr:aligned": "SI-SDR, dB",
    "speaker": "speaker",
    "wer": "WER, %",
    "cer": "CER, %",
    "distillmos": "DistillMOS",
}


def results(argument: str) -> str:
    """Return a table of stored results, and what is needed to make them again.

    Args:
        argument: name of a file in docs/results without its ending, or `bench` for the bench in
            egs/data; then options: `columns=` names of metrics or columns, `rows=` names of
            subjects, `rows=every:N` of a CSV file every Nth row, `intervals=no`.
    """
    name, *words = argument.split()
    options = dict(word.split("=", 1) for word in words)
    unknown = options.keys() - {"columns", "rows", "intervals"}
    if unknown:
        raise ValueError(f"results: {argument}: unknown options {', '.join(sorted(unknown))}")
    file = stored(name)
    if file.suffix == ".csv":
        return _curves(file, options)
    content = json.loads(file.read_text("utf-8"))
    made = _means(content, options) if "means" in content else _scores(content, options)
    return "\n\n".join(filter(None, [made, _earlier(content), _provenance(content, file)]))


def stored(name: str) -> Path:
    """Return the file of results of a name.

    Raises:
        ValueError: there is none; names those that there are.
    """
    known = {
        path.stem: path for path in sorted(STORED.iterdir()) if path.suffix in (".json", ".csv")
    }
    known["bench"] = BENCH
    if name not in known:
        raise ValueError(f"no results {name!r}; there are {', '.join(known)}")
    return known[name]


def _chosen(known: Iterable[str], option: str | None) -> list[str]:
    """Return the names that an option lists, which must be known; all where it lists none."""
    names = list(dict.fromkeys(known))
    chosen = option.split(",") if option else names
    if not set(chosen) <= set(names):
        raise ValueError(f"no {', '.join(set(chosen) - set(names))}; there are {', '.join(names)}")
    return chosen


def _means(content: dict[str, Any], options: dict[str, str]) -> str:
    """Return the table of a bench: a row a subject, a column a metric, with intervals."""
    means = {(mean["subject"], mean["metric"]): mean for mean in content["means"]}
    subjects = _chosen((mean["subject"] for mean in content["means"]), options.get("rows"))
    metrics = _chosen((mean["metric"] for mean in content["means"]), options.get("columns"))
    rates = {one["name"]: one["kbps"] for one in content.get("subjects", [])}
    digits = {
        metric: places(mean["value"] for (_, name), mean in means.items() if name == metric)
        for metric in metrics
    }
    spans = options.get("intervals") != "no"
    rows = [
        [
            code(subject),
            *([_rate(rates[subject])] if rates else []),
            *(_mean(means.get((subject, metric)), digits[metric], spans) for metric in metrics),
        ]
        for subject in subjects
    ]
    head = ["", *(["kbps"] if rates else []), *(HEADS.get(metric, metric) for metric in metrics)]
    return table(head, rows, left=1)


def _rate(kbps: float | None) -> str:
    return NONE if kbps is None else f"{kbps:.2f}"


def _mean(mean: dict[str, Any] | None, digits: int, spans: bool) -> str:
    """Return a mean with its 95 % interval."""
    if mean is None or mean["value"] is None:
        return "infinite" if mean and mean.get("infinite") else NONE
    value, low, high = (f"{mean[key]:.{digits}f}" for key in ("value", "low", "high"))
    return f"{value}<br>({low}&nbsp;to&nbsp;{high})" if spans else value


def _scores(content: dict[str, Any], options: dict[str, str]) -> str:
    """Return the table of a comparison: a row a variant, a column a quantity."""
    scores = content["scores"]
    variants = _chosen(scores, options.get("rows"))
    quantities = _chosen((key for row in scores.values() for key in row), options.get("columns"))
    stored = content.get("intervals")  # or a sentence on those of a bench
    spans = stored if isinstance(stored, dict) and options.get("intervals") != "no" else {}
    rows = [
        [
            code(variant),
            *(
                _number(scores[variant].get(key)) + _span(spans.get(variant, {}).get(key))
                for key in quantities
            ),
        ]
        for variant in variants
    ]
    return table(["", *map(cell, quantities)], rows, left=1)


def _span(interval: Sequence[float] | None) -> str:
    """Return an interval of 95 % as it stands below its value."""
    return f"<br>({_number(interval[0])}&nbsp;to&nbsp;{_number(interval[1])})" if interval else ""


def _number(value: float | str | None) -> str:
    return NONE if value is None or value == "" else f"{float(value):.4g}"


def _curves(file: Path, options: dict[str, str]) -> str:
    """Return the table of a log."""
    with file.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    columns = _chosen(rows[0], options.get("columns"))
    _, _, every = options.get("rows", "every:1").partition("every:")
    kept = rows[int(every) - 1 :: int(every)]
    cells = [[_entry(row[column]) for column in columns] for row in kept]
    return table([code(column) for column in columns], cells, left=0)


def _entry(text: str) -> str:
    return _number(text) if re.fullmatch(r"[-+.\deE]*", text) else code(text)


def _provenance(content: dict[str, Any], file: Path) -> str:
    """Return what the numbers depend on: command, machine, commit, protocols."""
    about = content.get("about") or {k: v for k, v in content.items() if not isinstance(v, dict)}
    facts = {key: value for key, value in about.items() if key not in ("models", "seed", "version")}
    lines = [f"- {key}: {_fact(key, value)}" for key, value in facts.items()]
    prints = sorted({_fingerprint(one) for one in content.get("subjects", [])} - {""})
    if prints:
        lines.append(f"- weights: {', '.join(prints)}")
    lines += [f"- {HEADS.get(name, name)}: {text}" for name, text in _protocols(content).items()]
    lines += [f"- {key}: {_training(value)}" for key, value in content.get("training", {}).items()]
    lines.append(f"- stored in: `{file.relative_to(ROOT)}`")
    return "\n".join(
        ["<details><summary>How it was measured</summary>", "", *lines, "", "</details>"]
    )


def _fact(key: str, value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(code, value))
    return code(str(value)) if key in ("command", "commit", "data", "recipe") else cell(str(value))


def _fingerprint(subject: dict[str, Any]) -> str:
    """Return the fingerprints of a subject's weights, "" of one that has none."""
    facts = {**subject, **subject.get("facts", {})}
    if "fingerprint" not in facts:
        return ""
    decoder = facts.get("decoder fingerprint")
    family = re.split(r"[@:]", subject["name"])[0]
    return f"{family} {code(facts['fingerprint'])}" + (
        f", decoder {code(decoder)}" if decoder else ""
    )


def _earlier(content: dict[str, Any]) -> str:
    """Return a warning where a codec was measured with other weights than those that ship."""
    prints = {_fingerprint(one) for one in content.get("subjects", [])} - {""}
    lines = []
    for name in ("speech", "music"):
        measured = {text for text in prints if text.startswith(f"{name} ")}
        if not measured:
            continue
        codec = audiotok.load(name)
        facts = {"fingerprint": codec.fingerprint, "decoder fingerprint": codec.decoder_fingerprint}
        shipped = _fingerprint({"name": name, **facts})
        if measured != {shipped}:
            old = ", ".join(sorted(measured))
            lines.append(f"**Of earlier weights** ({old}); those that ship are {shipped}.")
    return "\n\n".join(lines)


def _protocols(content: dict[str, Any]) -> dict[str, str]:
    """Return the protocol of each metric."""
    metrics = content.get("metrics", {})
    if isinstance(metrics, dict):
        return {name: cell(text) for name, text in metrics.items()}
    return {metric["name"]: cell(metric["protocol"]) for metric in metrics}


def _training(facts: dict[str, Any]) -> str:
    """Return the facts about a variant's training in one line."""
    settings = facts.get("settings", [])
    rest = ", ".join(f"{key} {value}" for key, value in facts.items() if key != "settings")
    return rest + (f"; {', '.join(map(code, settings))}" if settings else "")
