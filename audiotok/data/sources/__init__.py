"""Sources of recordings: folders, manifests, data directories, archives and datasets."""
