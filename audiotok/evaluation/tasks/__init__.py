"""Tasks that evaluate the codes of a codec, one task a file."""
