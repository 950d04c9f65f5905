"""Layers, quantizers and base network of codecs, and pretrained weights of other programs."""
