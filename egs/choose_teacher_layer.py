"""Choose a teacher's layer: the accuracy of linear phone probes on each hidden state and the mean.

    python egs/choose_teacher_layer.py PHONES.tsv DATA WEIGHTS [--teacher whisper] [--limit 250]

Columns of PHONES.tsv: path (audio up to 30 s, in DATA), speaker, phone, start, end (seconds).
Accuracy is on held-out speakers; the offset, mean / r.m.s., is the cosine over time of a constant.
"""

from __future__ import annotations

import argparse
import csv
import random
import sys
from itertools import groupby
from pathlib import Path

import torch
from rich.progress import track

from audiotok import Audio, Error, find
from audiotok.evaluation import probe


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("phones", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("weights")
    parser.add_argument("--teacher", default="whisper")
    parser.add_argument("--limit", type=int, default=250)
    given = parser.parse_args()
    teacher = find("teachers", given.teacher).load(given.weights)
    with given.phones.open(encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t"))
    phones, speakers = (sorted({row[of] for row in rows}) for of in ("phone", "speaker"))
    spoken = {path: list(of) for path, of in groupby(rows, key=lambda row: row["path"])}
    features, labels, groups = [], [], []
    for path in track(random.Random(0).sample(sorted(spoken), min(given.limit, len(spoken)))):
        wave = Audio.load(given.data / path).mono().resample(teacher.sample_rate).samples
        states = teacher.hidden(wave)[:, 0]
        label = torch.full(states.shape[1:2], -1)
        for row in spoken[path]:  # the frames whose middle lies in the phone
            first, last = (round(float(row[at]) * teacher.frame_rate) for at in ("start", "end"))
            label[first:last] = phones.index(row["phone"])
        features.append(torch.cat([states, states.mean(0, keepdim=True)])[:, label >= 0].half())
        labels.append(label[label >= 0])
        groups.append(torch.full_like(labels[-1], speakers.index(spoken[path][0]["speaker"])))
    print(f"{teacher.name} {teacher.fingerprint}, {len(features)} recordings")
    print("| layer | accuracy | 95 % | chance | offset |\n|---|---|---|---|---|")
    for layer, x in enumerate(torch.cat(features, 1).float()):
        result = probe(x, torch.cat(labels), torch.cat(groups))
        offset = (x.mean(0).abs() / x.square().mean(0).sqrt()).mean()
        name = str(layer) if layer <= teacher.layers else "mean"
        interval = f"{result.low:.3f}-{result.high:.3f} | {result.chance:.3f}"
        print(f"| {name} | {result.accuracy:.3f} | {interval} | {offset:.3f} |")


if __name__ == "__main__":
    try:
        main()
    except (Error, OSError, ValueError) as error:
        sys.exit(f"error {error}")
