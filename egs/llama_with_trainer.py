"""Train a tiny Llama of transformers on codes, with transformers' Trainer, and generate speech.

audiotok export-corpus tokens --to npy -k 2 -o ids; python egs/llama_with_trainer.py ids
"""

from __future__ import annotations

import argparse
import sys
import tempfile

import numpy as np
import torch

import audiotok.codecs.transformers  # before transformers, which imports torchaudio: it can fail
from audiotok.lm import Grammar, Packed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ids", help="an export to npy")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("-o", "--out", default="llama.wav")
    chosen = parser.parse_args()

    from transformers import (  # pyright: ignore[reportMissingImports] - an extra
        LlamaConfig,
        LlamaForCausalLM,
        Trainer,
        TrainingArguments,
    )

    packed = Packed(chosen.ids, context=chosen.context)
    layout = packed.layout
    sizes = LlamaConfig(
        vocab_size=layout.vocabulary[0],
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        eos_token_id=layout.special("end"),
    )
    model = LlamaForCausalLM(sizes)
    options = TrainingArguments(
        tempfile.mkdtemp(), max_steps=chosen.steps, learning_rate=2e-3, use_cpu=True, report_to=[]
    )
    batches = [{"input_ids": ids[:-1], "labels": ids[:-1]} for ids in packed]
    Trainer(model, options, train_dataset=batches).train()  # pyright: ignore

    grammar, ids = Grammar(layout), [layout.special("begin")]
    grammar.push(ids[0])
    while not grammar.done:
        logits = model(torch.tensor([ids[-chosen.context :]])).logits[0, -1].double()
        legal = torch.from_numpy(grammar.legal())
        if len(ids) > 300 and legal[layout.special("end")]:
            legal = torch.arange(len(legal)) == layout.special("end")
        ids.append(int(logits.masked_fill(~legal, -torch.inf).softmax(-1).multinomial(1)))
        grammar.push(ids[-1])
    codec = audiotok.load(layout.codec)
    codec.decode(layout.tokens(layout.decode(np.array(ids)))).save(chosen.out, force=True)


if __name__ == "__main__":
    try:
        main()
    except (audiotok.Error, OSError, ValueError) as error:
        sys.exit(f"error {error}")
