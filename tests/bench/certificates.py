"""Certificates of every codec, as `audiotok conform` gives them.

    python tests/bench/certificates.py [CODEC ...] [--most 260] [--json FILE]

With the weights that ship, or random ones: a codec has its own size, or where that is more than
`--most` million parameters the smallest of tests/sizes.py. Each has a process of its own, and its
verdicts are kept at once: run again for other codecs, and the rest of the file stays.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from clips import RECORDING, ROOT, commit, machine

sys.path.append(str(ROOT / "tests"))
from sizes import LATENTS, SIZES, TOKENIZERS, made

from audiotok import Audio, load
from audiotok._platform.registry import find, names
from audiotok.codecs.catalogue import shipped_codec
from audiotok.codecs.conformance import conform

SECONDS = 5
VERDICTS = ("pass", "fail", "does not apply", "not tried")
CODECS = [name for name in names("codecs") if name != "vocos"]  # it only decodes
PARTS = {preset: name for name in CODECS for preset in find("codecs", name).presets or [name]}
SMALL = dict(reversed([(part, size) for part, of in SIZES.items() for size in of]))
SMALL |= dict(reversed([*TOKENIZERS, *LATENTS]))


def certificate(name: str, most: float) -> dict[str, Any]:
    """The codec that is tried in words, its verdicts as numbers, and what failed."""
    part = PARTS[name]
    if shipped_codec(name):
        codec, label = load(name), name
    else:
        codec, label = made(part, SMALL[part]), f"{name}, small, random weights"
        config = find("codecs", part).presets.get(name)
        if config is not None:
            with torch.device("meta"):
                whole = find("codecs", part)(config)
            if whole.parameters_total <= most * 1e6:
                codec, label = made(part, config), f"{name}, random weights"
        codec.name = name
    if not codec.parameters_total:
        label = name
    torch.set_num_threads(1)
    recording = Audio.load(RECORDING)
    checks = list(conform(codec, recording[: SECONDS * recording.rate]))
    verdicts = [check.verdict for check in checks]
    bad = [f"{one.check}: {one.message}" for one in checks if one.verdict in ("fail", "not tried")]
    row = {"parameters, M": codec.parameters_total / 1e6}
    row |= {verdict: verdicts.count(verdict) for verdict in VERDICTS}
    return {"label": label, "row": row, "bad": "; ".join(bad)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("codecs", nargs="*", metavar="CODEC", choices=[*PARTS, []])
    parser.add_argument("--most", type=float, default=260, help="millions of parameters")
    parser.add_argument("--json", type=Path, default=ROOT / "docs/results/certificates.json")
    parser.add_argument("--one", action="store_true", help="print the verdicts of one codec")
    given = parser.parse_args()
    if given.one:
        print(json.dumps(certificate(given.codecs[0], given.most)))
        return
    order = list(PARTS)
    kept = json.loads(given.json.read_text("utf-8")) if given.json.exists() else {"scores": {}}
    for name in given.codecs or PARTS:
        command = [sys.executable, __file__, name, "--one", "--most", f"{given.most:g}"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{name}: {done.stderr}")
        found = json.loads(done.stdout.splitlines()[-1])
        print(found, flush=True)
        label, bad = found["label"], found["bad"]
        scores = {key: row for key, row in kept["scores"].items() if _name(key) != name}
        scores[label] = found["row"]
        failures = {f"{key} fails": kept.get(f"{key} fails") for key in scores} | {
            f"{label} fails": bad
        }
        kept = {
            "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "machine": machine(),
            "commit": commit(ROOT),
            "command": f"python tests/bench/certificates.py --most {given.most:g}",
            **{key: text for key, text in failures.items() if text},
            "scores": dict(sorted(scores.items(), key=lambda item: order.index(_name(item[0])))),
        }
        given.json.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")


def _name(label: str) -> str:
    return label.partition(",")[0]


if __name__ == "__main__":
    main()
