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
PARTS = {preset: p for p in names("codecs") for preset in find("codecs", p).presets or [p]}
SMALL = dict(reversed([(part, size) for part, of in SIZES.items() for size in of]))
SMALL |= dict(reversed([*TOKENIZERS, *LATENTS]))


def certificate(name: str, most: float) -> dict[str, Any]:
    """Verdicts of a codec as numbers, and what failed."""
    part = PARTS[name]
    if shipped_codec(name):
        codec, size = load(name), "weights that ship"
    else:
        codec, size = made(part, SMALL[part]), "small size"
        config = find("codecs", part).presets.get(name)
        if config is not None:
            with torch.device("meta"):
                whole = find("codecs", part)(config)
            if whole.parameters_total <= most * 1e6:
                codec, size = made(part, config), "full size"
        codec.name = name
    torch.set_num_threads(1)
    recording = Audio.load(RECORDING)
    checks = list(conform(codec, recording[: SECONDS * recording.rate]))
    verdicts = [check.verdict for check in checks]
    bad = [f"{one.check}: {one.message}" for one in checks if one.verdict in ("fail", "not tried")]
    row = {verdict: verdicts.count(verdict) for verdict in VERDICTS}
    return {"row": {"of": size, **row}, "bad": "; ".join(bad)}


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
    kept = json.loads(given.json.read_text("utf-8")) if given.json.exists() else {"scores": {}}
    for name in given.codecs or PARTS:
        command = [sys.executable, __file__, name, "--one", "--most", f"{given.most:g}"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{name}: {done.stderr}")
        found = json.loads(done.stdout.splitlines()[-1])
        print(name, found, flush=True)
        scores = kept["scores"] | {name: found["row"]}
        kept = {
            "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "machine": machine(),
            "commit": commit(ROOT),
            "command": f"python tests/bench/certificates.py --most {given.most:g}",
            **{key: text for key, text in kept.items() if key.endswith(" fails")},
            **({f"{name} fails": found["bad"]} if found["bad"] else {}),
            "scores": {key: scores[key] for key in PARTS if key in scores},
        }
        given.json.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
