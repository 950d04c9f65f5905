"""Infrastructure that every package uses: files, processes, the console, the part registry."""
