"""
Encode a recording and look at its tokens
=========================================

A recording becomes a table of integers: one row for each codebook, one column for each frame.
"""

# %%
# Encode
# ------
# The codec `speech` ships with the package, so nothing is downloaded. Audio of any rate is
# resampled to the codec's 16 kHz.

import matplotlib.pyplot as plt
from IPython.display import Audio as Player

import audiotok

codec = audiotok.load("speech")
audio = audiotok.Audio.load("../../egs/data/reading.flac")[: 4 * 48000]
tokens = codec.encode(audio)
print(tokens)
print(tokens.codes.shape, "codebooks, frames")

# %%
# Look
# ----
# A frame stands for 320 samples, which is 20 ms. The first codebook was distilled from a speech
# recogniser, the later ones refine the sound. Similar entries have similar colours.

figure, axes = plt.subplots(3, figsize=(9, 6), sharex=True, layout="constrained")
audio.plot(axes[0])
audio.plot(axes[1], kind="spectrogram")
tokens.plot(axes[2], embeddings=codec.codebook_embeddings())

# %%
# Listen
# ------
# All eight codebooks are 4 kbps. A prefix of them decodes too, at a lower rate and with a coarser
# sound: here two, 1 kbps.

decoded = codec.decode(tokens)
assert len(decoded) == tokens.samples  # as many samples as went in
Player(decoded.samples.numpy(), rate=decoded.rate)

# %%

coarse = codec.decode(tokens.first(2))
Player(coarse.samples.numpy(), rate=coarse.rate)
