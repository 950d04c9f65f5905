"""ASR models (recognizers) that transcribe recordings, one engine a file."""
