"""Teachers: models whose features a codec is distilled from; one file each."""
