"""What executes an exported codec."""
