"""The command line: commands, what they print, and the jobs that they run on files."""
