"""The command line: its commands, their output, and the jobs that they run on files.

Nothing in it is for import: public are the commands, their options and their exit codes.
"""

__all__: list[str] = []
