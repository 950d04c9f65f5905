#!/usr/bin/env bash
# transformers 5.24.0: the decoder of X-codec 2 and NeuCodec attends without positions.
#
# Its class has rotary embeddings (Xcodec2RotaryEmbedding, rope_theta in the config), so one expects
# attention that knows how far apart two frames are, as in Llama, and a port that turns queries and
# keys by their frame. But the angles are those of the number of the head (position_ids counts heads;
# a comment beside it calls this non-standard): all frames of a head are turned alike, and a turn that
# query and key share leaves their product as it is. So the transformer takes frames as a set, whose
# order comes in by the convolutions around it alone; a port that turns by frame computes something
# else, and one without any rotation the same.
#
# Seen 2026-11-30, Linux x86-64, Python 3.11:
#   rotation left out: largest change of the output, over its largest value
#   Xcodec2Decoder  4e-06
#   LlamaModel      1.4e+00
#   frames in reverse order, through the transformer: 6e-07 from the output in reverse order
#
# Exits with 0 as long as this is so, with 1 when it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.24.0 numpy==2.2.6
cd "$work"
export HF_HUB_OFFLINE=1
"$work/venv/bin/python" -W ignore - <<'PYTHON'
import sys

import torch
import transformers
from transformers import LlamaConfig, LlamaModel, Wav2Vec2BertConfig, Xcodec2Config
from transformers.models.xcodec2.modeling_xcodec2 import Xcodec2Decoder

SIZES = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 16}


class Unturned(torch.nn.Module):
    """Rotary embedding of angle zero."""

    def forward(self, x, position_ids):
        shape = (1, position_ids.shape[1], HEADS["head_dim"])
        return torch.ones(shape), torch.zeros(shape)


def change(model, run):
    """Return the largest change of an output without rotation, over its largest value."""
    before = run(model)
    model.rotary_emb = Unturned()
    return float((run(model) - before).abs().max() / before.abs().max())


print(f"transformers {transformers.__version__}, torch {torch.__version__}")
torch.manual_seed(0)
semantic = Wav2Vec2BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2)
options = {"semantic_model_config": semantic, "attn_implementation": "eager"}
xcodec = Xcodec2Decoder(Xcodec2Config(**SIZES, **HEADS, **options)).eval()
llama = LlamaModel(LlamaConfig(**SIZES, **HEADS, vocab_size=8)).eval()
for model in (xcodec, llama):  # weights large enough for attention to matter
    for weight in model.parameters():
        if weight.dim() == 2:
            torch.nn.init.normal_(weight, std=0.3)
frames = torch.randn(1, 50, 96)
with torch.no_grad():
    turns = xcodec.rotary_emb(frames, torch.arange(4)[None])

    def through(x):
        for layer in xcodec.layers:
            x = layer(x, position_embeddings=turns)
        return x

    x = frames[..., :64]
    reverse = float((through(x.flip(1)).flip(1) - through(x)).abs().max() / through(x).abs().max())
    ours = change(xcodec, lambda model: model(frames))
    theirs = change(llama, lambda model: model(inputs_embeds=x).last_hidden_state)
print("rotation left out: largest change of the output, over its largest value")
print(f"Xcodec2Decoder  {ours:.0e}\nLlamaModel      {theirs:.1e}")
print(f"frames in reverse order, through the transformer: {reverse:.0e} from the output in reverse order")
same = ours < 1e-4 and reverse < 1e-4 and theirs > 0.1
print("as described" if same else "this has changed")
sys.exit(not same)
PYTHON
