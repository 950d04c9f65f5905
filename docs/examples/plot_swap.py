"""
Swap codebooks between two recordings
=====================================

Which codebooks hold the words? Take the first ones from one recording and the rest from another,
decode, and see which of the two the result is like.
"""

# %%
# Two recordings of one length
# ----------------------------

from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Audio as Player

from audiotok import Audio, Tokens, find, load

codec = load("speech")
reading = Audio.load("../../egs/data/reading.flac").resample(codec.sample_rate)
one, other = (codec.encode(reading[start : start + 48000]) for start in (0, 64000))


def swapped(first: Tokens, second: Tokens, codebooks: int) -> Tokens:
    """Return tokens with so many codebooks of the first, and the rest of the second."""
    codes = [first.codes[:codebooks], second.codes[codebooks:]]
    return replace(second, codes=np.concatenate(codes))


# %%
# Which one is it like?
# ---------------------
# The mel distance, in dB, to what each of the two sounds like by itself.

metric = find("metrics", "mel")()
sounds = [codec.decode(one), codec.decode(other)]
counts = range(codec.codebooks + 1)
mixtures = [codec.decode(swapped(one, other, k)) for k in counts]
distances = np.array([[metric.score(m, sound).value for sound in sounds] for m in mixtures])
figure, axes = plt.subplots(figsize=(8, 3.5), layout="constrained")
axes.plot(counts, distances, marker="o", label=["to the first", "to the second"])
axes.set(xlabel="codebooks taken from the first recording", ylabel="mel distance, dB")
axes.legend()
print(distances.round(1))

# %%
# Listen
# ------
# The first codebook of one recording, with seven of the other.

mixed = codec.decode(swapped(one, other, 1))
Player(mixed.samples.numpy(), rate=mixed.rate)

# %%
# Four of each.

mixed = codec.decode(swapped(one, other, 4))
Player(mixed.samples.numpy(), rate=mixed.rate)
