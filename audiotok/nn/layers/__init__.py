"""Building blocks: each runs over a whole signal or a piece at a time, with the same result."""
