"""Units beside codecs: what their codes say, what pieces gain a language model, their certificates.

    python tests/bench/units.py bench FOLDER [--name SUBJECT=LABEL ...] [--facts KEY=TEXT ...]
    python tests/bench/units.py pieces LABEL=CORPUS ... -o RUNS [--runs keep drop] [--sizes 0 2048]
    python tests/bench/units.py plot docs/results/units_pieces.json PICTURE
    python tests/bench/units.py certificates [LABEL=]CODEC ... [--audio RECORDING]

All but `plot` write a table that the documentation shows (`--json FILE`). `bench`: from the
results of `audiotok bench recipes/bench_units.toml -o FOLDER`. `pieces`: a language model of one
size, trained by `audiotok lm train recipes/lm_units.toml` on each corpus, layout and vocabulary; a
step takes as many seconds of audio in each, so that pieces cost less time. Bits a second of the
recordings of `--split`, which none has learnt from, also by a 3-gram of whole recordings, and how
many less than without pieces, 95 % by a bootstrap over recordings. A layout that drops repeats
keeps no durations, so its bits compare with its own alone. `certificates`: the verdicts of
`audiotok conform`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from itertools import product, takewhile
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from clips import ROOT, commit, machine, shown

from audiotok import Corpus
from audiotok.evaluation.probes.statistics import bootstrap
from audiotok.lm import Layout, LmData, Ngram, Recordings, bits_of, learn_pieces, load_model

# Columns of the table of a bench: task, name of its finding, column.
FINDINGS = (
    ("dasb", "phone right, x-vector head", "phones right, %"),
    ("dasb", "phone right, linear head", "phones right, linear head, %"),
    ("dasb", "keyword right, x-vector head", "words right, %"),
    ("dasb", "speaker right, x-vector head", "speakers right, %"),
    ("nearest", "speaker of the nearest recording", "speaker of the nearest, %"),
    ("information", "information of codebook 1 on phones", "bits on phones, codebook 1"),
    ("information", "phones right, from the code of codebook 1", "phones right, codebook 1, %"),
    ("information", "speakers right, from a second of codebook 1", "speakers, codebook 1, %"),
    ("stab_robustness", "codes unchanged: noise at 20 dB SNR", "unchanged in noise at 20 dB, %"),
    ("stab_robustness", "codes unchanged: gain -6 dB", "unchanged at -6 dB, %"),
    ("stab_invariance", "alike for the text's sake", "alike for the text's sake, points"),
    ("stab_language", "trigram entropy rate", "trigram, bits a code"),
    ("stab_compressibility", "BPE length after 500 merges", "length after 500 merges, %"),
    ("text_alignment", "information on the text", "bits a character on the text"),
    ("text_alignment", "WER*", "WER*, %"),
)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    what = options.add_subparsers(dest="what", required=True)
    bench = what.add_parser("bench")
    bench.add_argument("folder", type=Path)
    bench.add_argument("--name", nargs="*", default=[], help="SUBJECT=LABEL")
    pieces = what.add_parser("pieces")
    pieces.add_argument("corpora", nargs="+", help="LABEL=CORPUS")
    pieces.add_argument("-o", "--out", type=Path, required=True, help="folder of the runs")
    pieces.add_argument("--runs", nargs="+", default=["keep", "drop"])
    pieces.add_argument(
        "--sizes", nargs="+", type=int, default=[0, 1024, 2048, 4096], help="0: no pieces"
    )
    pieces.add_argument("--models", nargs="*", help="LABEL-RUNS-SIZE to train, others count only")
    pieces.add_argument("--split", default="test", help="split that is scored")
    pieces.add_argument("--set", nargs="*", default=[], help="further settings of the recipe")
    plot = what.add_parser("plot")
    plot.add_argument("stored", type=Path)
    plot.add_argument("picture", type=Path)
    certificates = what.add_parser("certificates")
    certificates.add_argument("codecs", nargs="+")
    certificates.add_argument("--audio", default=str(ROOT / "egs/data/reading.flac"))
    for one in (bench, pieces, certificates):
        one.add_argument("--facts", nargs="*", default=[], help="KEY=TEXT, stored beside")
        one.add_argument("--json", type=Path, help="file to write")
    given = options.parse_args()
    if given.what == "plot":
        _plot(json.loads(given.stored.read_text("utf-8")), given.picture)
        return
    scores = {"bench": _bench, "pieces": _pieces, "certificates": _certificates}[given.what](given)
    kept = takewhile(lambda word: word not in ("--facts", "--json"), sys.argv[1:])
    stored = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(),
        "commit": commit(ROOT),
        "command": f"python tests/bench/units.py {shown([*kept])}",
        **dict(fact.split("=", 1) for fact in given.facts),
        **scores,
    }
    text = json.dumps(stored, indent=1) + "\n"
    print(text)
    if given.json:
        given.json.write_text(text, "utf-8")


def _bench(given: argparse.Namespace) -> dict[str, Any]:
    """Scores and intervals of each subject of a bench."""
    labels = dict(name.rsplit("=", 1) for name in given.name)
    results = json.loads((given.folder / "results.json").read_text("utf-8"))
    scores: dict[str, dict[str, float]] = {}
    intervals: dict[str, dict[str, list[float]]] = {}
    for task, start, column in FINDINGS:
        for subject in (one["name"] for one in results["subjects"]):
            label = labels.get(subject, subject)
            found = [
                finding
                for finding in results["findings"]
                if (finding["subject"], finding["task"]) == (subject, task)
                and finding["name"].startswith(start)
                and finding["value"] is not None
            ]
            for finding in found[-1:]:  # of all codebooks, where there is one of each
                scores.setdefault(label, {})[column] = finding["value"]
                if finding["low"] is not None:
                    intervals.setdefault(label, {})[column] = [finding["low"], finding["high"]]
    return {"scores": scores, "intervals": intervals}


def _pieces(given: argparse.Namespace) -> dict[str, Any]:
    """Bits a second of each layout by a 3-gram and by a transformer, and what pieces gain."""
    scores: dict[str, dict[str, float]] = {}
    intervals: dict[str, dict[str, list[float]]] = {}
    for label, corpus in (one.split("=", 1) for one in given.corpora):
        plain: dict[str, np.ndarray] = {}
        for runs, size in product(given.runs, given.sizes):
            name = f"{label}, runs {runs}" + (f", {size} ids" if size else "")
            row, bits, seconds = _counted(corpus, runs, size, given.split)
            found = {"3-gram, bits a second": bits}
            out = given.out / f"{label}-{runs}-{size}"
            if given.models is None or out.name in given.models:
                settings = [f"layout.runs={runs}", f"layout.pieces={size}", *given.set]
                _train(corpus, out, settings)
                weights = out / "best.safetensors"
                more, found["model, bits a second"] = _scored(weights, corpus, given.split)
                row |= more
            if not size:
                plain = found
            gains = {
                f"{key}, less": plain[key] - found[key] for key in found if size and key in plain
            }
            figures = {**found, **gains}
            row |= {key: each.sum() / seconds.sum() for key, each in figures.items()}
            scores[name] = row
            intervals[name] = {key: [*bootstrap(each, seconds)] for key, each in figures.items()}
    return {"scores": scores, "intervals": intervals}


def _counted(
    corpus: str, runs: Any, size: int, split: str
) -> tuple[dict[str, float], np.ndarray, np.ndarray]:
    """Return figures of a layout, and bits by a 3-gram and seconds of each recording."""
    source = Corpus(corpus)
    codes: dict[str, list[np.ndarray]] = {"train": [], split: []}
    for entry in source:
        if entry.row["split"] in codes:
            codes[entry.row["split"]].append(entry.tokens.codes[:1])
    layout = Layout.of(source, codebooks=1, runs=runs)
    if size:
        layout = learn_pieces(layout, codes["train"], size=size)
    model = Ngram(layout.vocabulary[0]).fit(layout.encode(each) for each in codes["train"])
    ids = [layout.encode(each) for each in codes[split]]
    bits = np.array([model.bits(each) for each in ids])
    seconds = np.array([each.shape[1] for each in codes[split]]) / source.frame_rate
    return {"ids a second": sum(map(len, ids)) / seconds.sum()}, bits, seconds


def _train(corpus: str, out: Path, settings: Sequence[str]) -> None:
    """Train a model, or go on with it; one that is done stays as it is."""
    recipe = ROOT / "recipes/lm_units.toml"
    fixed = ["layout.codebooks=1", "layout.pattern=flat", "model.entries=false"]
    run(
        *("lm", "train", str(recipe), "-o", str(out), "--threads", "1"),
        *pairs([f"data.corpus={json.dumps(corpus)}", *fixed, *settings]),
    )


def _scored(weights: Path, corpus: str, split: str) -> tuple[dict[str, float], np.ndarray]:
    """Return the size of a model, and the bits of each recording."""
    model, layout = load_model(weights)
    recordings = Recordings(Corpus(corpus), split, LmData(corpus=corpus, frames=250))
    parts = (recordings.segments(i) for i in range(len(recordings)))
    bits = [sum(bits for bits, _ in bits_of(model, layout, each)) for each in parts]
    return {"parameters, M": sum(p.numel() for p in model.parameters()) / 1e6}, np.array(bits)


def _certificates(given: argparse.Namespace) -> dict[str, Any]:
    """Number of checks by verdict of each codec, and what a failed one says."""
    scores, failures = {}, {}
    for codec in given.codecs:
        label, _, name = codec.rpartition("=")
        done = run("conform", name, "--audio", given.audio, "--threads", "1", "--json", check=False)
        checks = json.loads(done)["findings"]
        verdicts = [check["verdict"] for check in checks]
        label = label or name
        scores[label] = {v: verdicts.count(v) for v in ("pass", "fail", "does not apply")}
        bad = [f"{one['check']}: {one['message']}" for one in checks if one["verdict"] == "fail"]
        failures |= {f"{label} fails": "; ".join(bad)} if bad else {}
    return {**failures, "scores": scores}


def _plot(stored: dict[str, Any], picture: Path) -> None:
    """Bits a second of each layout and vocabulary, with their intervals."""
    layouts: dict[str, list[tuple[int, str]]] = {}
    for name in stored["scores"]:
        layout, _, size = name.removesuffix(" ids").partition(", runs ")
        runs, _, size = size.partition(", ")
        layouts.setdefault(f"{layout}, runs {runs}", []).append((int(size or 0), name))
    figure, axes = plt.subplots(1, len(layouts), figsize=(3 * len(layouts), 3), layout="tight")
    for axis, (layout, rows) in zip(np.atleast_1d(axes), layouts.items(), strict=True):
        for key in ("3-gram, bits a second", "model, bits a second"):
            known = [(size, name) for size, name in sorted(rows) if key in stored["scores"][name]]
            if not known:
                continue
            low, high = np.array([stored["intervals"][name][key] for _, name in known]).T
            middle = np.array([stored["scores"][name][key] for _, name in known])
            at = [str(size or "none") for size, _ in known]
            axis.errorbar(at, middle, [middle - low, high - middle], fmt="o-", capsize=3, label=key)
        axis.set(title=layout, xlabel="ids with pieces", ylim=(0, None))
    np.atleast_1d(axes)[0].legend()
    figure.savefig(picture, metadata={"Date": None})


def pairs(settings: Iterable[str]) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


def run(*arguments: str, check: bool = True) -> str:
    """Run audiotok; return what it prints."""
    command = [sys.executable, "-m", "audiotok", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=check)
    return done.stdout


if __name__ == "__main__":
    main()
