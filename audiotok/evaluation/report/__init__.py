"""Report of a bench: one self-contained HTML page, Markdown, CSV and Parquet."""

from audiotok.evaluation.report.write import write_report

__all__ = ["write_report"]
