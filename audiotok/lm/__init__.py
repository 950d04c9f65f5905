"""Language models over codec codes: vocabularies, layouts, exports, training and generation."""
