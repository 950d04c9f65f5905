"""Runtime: sessions, streams and batches that run a codec in steps, in torch or exported."""
