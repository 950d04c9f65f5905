"""Decoders apart from their tokenizers: each makes audio of the tokens of a named one."""
