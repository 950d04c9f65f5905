"""In which order a language model sees codes: one file a pattern."""
