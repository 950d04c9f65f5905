"""Interpolate the decoders of two checkpoints that give the same codes, weight by weight.

    python egs/mix_decoders.py BEFORE.safetensors AFTER.safetensors 0.75 OUT.safetensors

A decoder that was fine-tuned from another is in the same basin of the loss, so weights between the
two are about as good as either and keep some of the strengths of each (Wortsman et al. 2022,
arXiv:2109.01903, for classifiers). Here one decoder has the better waveforms, and the other the
better sound (recipes/README.md).
"""

from __future__ import annotations

import sys

import torch

from audiotok import Error, load
from audiotok.codecs import read_card, save


def mix(before: str, after: str, share: float, out: str) -> None:
    """Write a checkpoint with the common encoder and a weighted mean of the two decoders.

    Args:
        before: the first checkpoint.
        after: the second checkpoint.
        share: weight of the second decoder, from 0 to 1.
        out: the checkpoint to write.

    Raises:
        ValueError: the two do not give the same codes, or the share is out of range.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"a share is 0 to 1, not {share}")
    codec, second = load(before), load(after)
    mixed, others, decoder = codec.state_dict(), second.state_dict(), codec.decoder_fingerprint
    for name, weight in mixed.items():
        if name.startswith("decoder."):
            mixed[name] = torch.lerp(weight, others[name], share)
        elif not torch.equal(weight, others[name]):
            raise ValueError(f"{before} and {after} give other codes ({name} differs)")
    codec.load_state_dict(mixed)
    card = read_card(after)["card"]
    card["mixed"] = f"{share:g} of {second.decoder_fingerprint}, {1 - share:g} of {decoder}"
    save(codec, out, card=card)
    mixture = load(out)
    print(f"{out}: codes {mixture.fingerprint}, decoder {mixture.decoder_fingerprint}")


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    try:
        mix(sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4])
    except (Error, OSError, ValueError) as error:
        sys.exit(f"error {error}")
