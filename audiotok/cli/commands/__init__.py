"""Commands of the command line, one file each; `__main__` finds them."""
