"""Files in and out: decoded, resampled, read and written by pieces, complete or not there."""
