"""Exporters of token corpora to the formats that training frameworks read, one file per format."""
