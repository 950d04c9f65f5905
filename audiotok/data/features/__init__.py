"""Feature extractors: pretrained models whose features codecs are distilled from, one file each."""
