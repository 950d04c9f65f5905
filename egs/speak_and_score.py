"""What a language model says, scored: words, opinion, voice; beside the codec's own copy.

python egs/speak_and_score.py MODEL CORPUS [--rest MODEL]
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from audiotok import load
from audiotok.corpus import Corpus
from audiotok.lm.file import load_model
from audiotok.lm.generate import Sampling, fill_up, generate
from audiotok.lm.phonetic import Reader
from audiotok.metrics.base import Score
from audiotok.registry import find

parser = argparse.ArgumentParser(description=__doc__)
for name in ("model", "corpus", "--rest"):
    parser.add_argument(name)
for name, usual in (("--count", 10), ("--frames", 250), ("--prompt", 0)):  # frames to go on from
    parser.add_argument(name, type=int, default=usual)
parser.add_argument("--temperature", type=float, default=0.8)
parser.add_argument("--recognizer", default="", help="faster_whisper:PATH")
chosen = parser.parse_args()

model, layout = load_model(chosen.model)
second, rows = load_model(chosen.rest) if chosen.rest else (None, layout)
codec = load(layout.codec)
held = (each for each in Corpus(chosen.corpus) if each.row["split"] == "dev")
most = chosen.frames if model.text or model.config.phones else 1 << 30
fits = range(chosen.prompt + 1, most + 1)
entries = [each for each in held if each.tokens.frames in fits]
wanted = ["dnsmos", "distillmos", "speaker", *([] if chosen.prompt else ["wer"])]
metrics = {n: find("metrics", n)(models={"recognizer": chosen.recognizer}) for n in wanted}
totals: dict[str, dict[str, Score]] = {"model": {}, "codec": {}}
for i, entry in enumerate(entries[:: max(1, len(entries) // chosen.count)][: chosen.count]):
    words, codes = str(entry.row.get("text", "")), entry.tokens.codes
    text, reader = words if model.text else "", Reader.of(words) if model.config.phones else None
    prompt = codes[:, : chosen.prompt] if chosen.prompt else None
    begin = codes[: len(layout.sizes), : chosen.prompt] if chosen.prompt else None
    options: Any = {"prompt": begin, "reader": reader, "text": text, "longest": chosen.frames}
    options["sampling"] = Sampling(temperature=chosen.temperature, top_k=40, seed=i)
    made = layout.decode(np.hstack(list(generate(model, layout, **options))))
    told = reader.timed() if reader else text
    made = made if second is None else fill_up(second, rows, made, text=told, prompt=prompt)
    reference = codec.decode(entry.tokens)
    for name, said in (("model", made), ("codec", codes[: len(rows.sizes)])):
        audio = codec.decode(rows.tokens(said))
        audio.save(f"spoken_{i}_{name}.wav", force=True)
        heard = audio[chosen.prompt * codec.frame_size :]
        for metric, judge in metrics.items():
            try:
                done = totals[name].get(metric, Score(0, 0))
                totals[name][metric] = done + judge.score(heard, reference, words)
            except (ImportError, ValueError) as error:
                print(f"{i} {name} {metric}: {error}")
for name, scores in totals.items():
    print(name, {metric: round(score.value, 3) for metric, score in scores.items()})
