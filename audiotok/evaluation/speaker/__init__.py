"""Speaker encoders that turn speech into a vector of the speaker, one encoder a file."""
