"""What every room stands on: files, processes, the console, names of parts."""
