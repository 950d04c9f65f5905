"""Training a codec: the losses and the loop."""
