"""Token corpora in the formats that others train from."""
