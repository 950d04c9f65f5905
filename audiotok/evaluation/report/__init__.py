"""The report of a bench: one HTML page that needs nothing else, Markdown, CSV and Parquet."""

from audiotok.evaluation.report.write import write_report as write_report
