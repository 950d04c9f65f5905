"""Many files, one after the other or side by side, past the bad ones."""
