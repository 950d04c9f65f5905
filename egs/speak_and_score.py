"""Score generated speech (words, quality, voice) beside the codec's decoded recordings.

python egs/speak_and_score.py MODEL CORPUS [--rest MODEL]
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import numpy as np

from audiotok import Corpus, Error, find, load
from audiotok.evaluation import Score
from audiotok.lm import Reader, load_model
from audiotok.lm.generate import Sampling, generate, predict_codebooks


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("model", "corpus", "--rest"):
        parser.add_argument(name)
    # Of a prompt: frames to go on from.
    for name, usual in (("--count", 10), ("--frames", 250), ("--prompt", 0)):
        parser.add_argument(name, type=int, default=usual)
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument("--recognizer", default="")  # faster_whisper:PATH
    chosen = parser.parse_args()
    model, layout = load_model(chosen.model)
    second, rows = load_model(chosen.rest) if chosen.rest else (None, layout)
    codec = load(layout.codec)
    validation = (each for each in Corpus(chosen.corpus) if each.row["split"] == "dev")
    most = chosen.frames if model.text or model.config.phones else 1 << 30
    entries = [each for each in validation if chosen.prompt < each.tokens.frames <= most]
    wanted = ["dnsmos", "distillmos", "speaker"] + ["wer"] * (not chosen.prompt)
    metrics = {n: find("metrics", n)(models={"recognizer": chosen.recognizer}) for n in wanted}
    totals: dict[str, dict[str, Score]] = {"model": {}, "codec": {}}
    for i, entry in enumerate(entries[:: max(1, len(entries) // chosen.count)][: chosen.count]):
        words, codes = str(entry.row.get("text", "")), entry.tokens.codes
        text, reader = (
            words if model.text else "",
            Reader.of(words) if model.config.phones else None,
        )
        prompt = codes[:, : chosen.prompt] if chosen.prompt else None
        begin = None if prompt is None else prompt[: len(layout.sizes)]
        options: Any = {"prompt": begin, "reader": reader, "text": text, "longest": chosen.frames}
        options["sampling"] = Sampling(temperature=chosen.temperature, top_k=40, seed=i)
        full = layout.decode(np.hstack(list(generate(model, layout, **options))))
        if second is not None:
            full = predict_codebooks(
                second, rows, full, text=reader.timed() if reader else text, prompt=prompt
            )
        reference = codec.decode(entry.tokens)
        for name, each in zip(totals, (full, codes[: len(rows.sizes)]), strict=True):
            audio = codec.decode(rows.tokens(each))
            audio.save(f"spoken_{i}_{name}.wav", force=True)
            output = audio[chosen.prompt * codec.frame_size :]
            for metric, scorer in metrics.items():
                total = totals[name].get(metric, Score(0, 0))
                try:
                    totals[name][metric] = total + scorer.score(output, reference, words)
                except (ImportError, ValueError) as error:
                    print(f"{i} {name} {metric}: {error}")
    for name, scores in totals.items():
        print(name, {metric: round(score.value, 3) for metric, score in scores.items()})


if __name__ == "__main__":
    try:
        main()
    except (Error, OSError, ValueError) as error:
        sys.exit(f"error {error}")
