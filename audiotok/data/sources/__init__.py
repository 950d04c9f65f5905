"""Ways to say which recordings there are: a folder, a manifest, a data directory, an archive."""
