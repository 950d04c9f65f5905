"""Audio samples and audio files: decoding, resampling, reading and writing in blocks."""
