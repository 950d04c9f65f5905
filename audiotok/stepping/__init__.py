"""A signal through the graphs of an exported codec, a step at a time, with numpy alone."""
