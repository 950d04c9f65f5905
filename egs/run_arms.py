"""Train the arms of an experiment with one seed, and score them in pairs on the same recordings.

    python egs/run_arms.py OUT --arm rvq=recipes/ablation_rvq.toml \
        --arm fsq=recipes/ablation_fsq.toml --set data.manifest=data/speech.tsv \
        --data data/speech.tsv --split test --metrics wer,wil,pesq

An arm is NAME=RECIPE, then settings of its own: `none=recipes/x.toml,loss.distillation=0`. Run
again to go on: what is trained stays. OUT/bench has the tables; paired differences are printed,
and stored by `--json FILE` beside the means.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from audiotok import Error
from audiotok.evaluation import Results
from audiotok.training import read_recipe, train


def trained(arm: str, out: Path, given: argparse.Namespace) -> tuple[str, Path]:
    """Train an arm, and return its name and its weights."""
    name, _, rest = arm.partition("=")
    recipe, *own = rest.split(",")
    settings = [*given.set, f"train.seed={given.seed}", *own]
    return name, train(read_recipe(recipe, settings), out / name, device=given.device)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    for option in ("--arm", "--set", "--model"):
        parser.add_argument(option, action="append", default=[])
    for option in ("--data", "--split", "--limit", "--metrics"):
        parser.add_argument(option, required=option in ("--data", "--metrics"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    weights = dict(trained(arm, given.out, given) for arm in given.arm)
    command = [sys.executable, "-m", "audiotok", "bench", "-o", str(given.out / "bench")]
    for path in weights.values():
        command += ["--codec", str(path)]
    for option in ("data", "split", "limit", "metrics"):
        if getattr(given, option):
            command += [f"--{option}", getattr(given, option)]
    for model in given.model:
        command += ["--model", model]
    if code := subprocess.run(command, check=False).returncode:
        sys.exit(code)  # what is wrong is said already
    print(f"\nseed {given.seed}; means, then each pair: difference [95 %]")
    results = Results.load(given.out / "bench/results.json")
    for mean in results.means:
        print(f"{mean.subject} {mean.metric} {mean.value:.4f}")
    for pair in results.pairs:
        span = f"{pair.difference:+.4f} [{pair.low:+.4f}, {pair.high:+.4f}]"
        print(f"{pair.metric}: {pair.a} - {pair.b}: {span}, {pair.n} recordings")
    if given.json:
        names = {str(path): name for name, path in weights.items()}
        given.json.write_text(json.dumps(stored(results, names, given), indent=1) + "\n", "utf-8")


def stored(results: Results, names: dict[str, str], given: argparse.Namespace) -> dict[str, Any]:
    """Return means and paired differences with their intervals, by arm and by pair of arms."""
    found: list[tuple[str, Any, float | None]] = [
        *((names.get(x.subject, x.subject), x, x.value) for x in results.means),
        *(
            (" - ".join(names.get(y, y) for y in (x.a, x.b)), x, x.difference)
            for x in results.pairs
        ),
    ]
    scores: dict[str, dict[str, float]] = {}
    intervals: dict[str, dict[str, list[float]]] = {}
    for row, of, value in found:
        if value is None:
            continue
        scores.setdefault(row, {})[of.metric] = value
        intervals.setdefault(row, {})[of.metric] = [of.low, of.high]
    known = ("date", "machine", "software", "commit")
    return {
        **{key: results.about[key] for key in known if key in results.about},
        "command": f"python egs/run_arms.py, arms {', '.join(names.values())}, --seed {given.seed}",
        "data": f"{max(x.n for x in results.pairs)} recordings of {Path(given.data).name}",
        "scores": scores,
        "intervals": intervals,
    }


if __name__ == "__main__":
    try:
        main()
    except (Error, OSError, ValueError) as error:
        sys.exit(f"error {error}")
