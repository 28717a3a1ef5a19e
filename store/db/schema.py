"""The tables of the experiment store, as ordered migrations: one file each in `migrations`, by its name.

A migration is applied in one transaction with its record in `migration`; it is never edited once it
has been released, a change is a new one. All times are TIMESTAMP in UTC; JSON columns hold documents
whose shape the schemas and configs of `store` give.
"""

from __future__ import annotations

from pathlib import Path

# Closed to all SQL of requests.
# closed to all SQL of requests
SECRET_TABLES = frozenset({"account", "invitation", "session", "api_token", "endpoint_key", "webhook_secret"})

FOLDER = Path(__file__).parent / "migrations"

# name, "0001 the spine" of 0001_the_spine.sql -> the statements of its file
MIGRATIONS: tuple[tuple[str, str], ...] = tuple(
    (file.stem.replace("_", " "), file.read_text(encoding="utf-8")) for file in sorted(FOLDER.glob("*.sql"))
)
