"""Result of the job `export`."""

from __future__ import annotations

from typing import TypedDict


class ExportResult(TypedDict):
    """A file that was written to the home folder's exports, with its data card beside it."""

    path: str
    card_path: str
    name: str  # of the file
    rows: int
    format: str  # messages, prompt_completion, alpaca, sharegpt, csv or parquet
    notices: list[str]  # what an import of the file would not read back
