"""The codecs there are, their weights, and how to get one."""
