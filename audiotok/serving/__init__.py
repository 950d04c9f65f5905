"""Codecs for others: a server, its client, microphones and pipes."""
