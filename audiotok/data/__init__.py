"""What a codec trains on: recordings as crops, batches and a teacher's features."""
