"""A language model over codes."""
