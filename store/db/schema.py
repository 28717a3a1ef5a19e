"""Tables of the experiment store as ordered migrations, one file each in `migrations`, sorted by name.

A migration is applied in one transaction together with its record in `migration`. It is never edited after
its release; a change is a new migration. All times are TIMESTAMP in UTC; JSON columns hold documents defined
by the schemas and configs of `store`.
"""

from __future__ import annotations

from pathlib import Path

# Not readable by SQL from requests.
SECRET_TABLES = frozenset({"account", "invitation", "session", "api_token", "endpoint_key", "webhook_secret"})

FOLDER = Path(__file__).parent / "migrations"

# (name, such as "0001 the spine" for 0001_the_spine.sql; statements of the file)
MIGRATIONS: tuple[tuple[str, str], ...] = tuple(
    (file.stem.replace("_", " "), file.read_text(encoding="utf-8")) for file in sorted(FOLDER.glob("*.sql"))
)
