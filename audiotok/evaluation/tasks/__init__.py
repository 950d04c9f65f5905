"""Tasks say what codes of a codec are good for; each file is one."""
