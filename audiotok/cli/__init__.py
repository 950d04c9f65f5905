"""The command line: its commands, their output, and the jobs that they run on files."""
