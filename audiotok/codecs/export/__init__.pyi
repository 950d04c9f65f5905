"""Public names of `audiotok.codecs.export`."""

from audiotok.codecs.export.folder import export as export
