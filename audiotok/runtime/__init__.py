"""A signal through a network a step at a time, alone or beside others."""
