"""What is said of a store that lacks commits: in the log, on the command line, on the overview."""

from __future__ import annotations

from datetime import UTC, datetime

from store.documents.tables.lost_commits import LostCommits

MAX_TABLES = 8
SAID_SECONDS = 7 * 24 * 3600.0
FIX = (
    "Put back a copy of the home folder that has them, or import and run again what is missing. The file"
    " tunebench.duckdb.wal was cut, damaged or removed, or tunebench.duckdb is an older copy."
)


def lost_words(lost: LostCommits) -> str:
    """How much is missing, and of what."""
    commits = f"{lost['commits']:,} commit{'' if lost['commits'] == 1 else 's'}"
    lead = f"The store lacks the last {commits} that were made"
    if lost["first_at"] is None or lost["last_at"] is None:
        return f"{lead}; what they changed is not known."
    tables = sorted(lost["rows"].items(), key=lambda entry: (-entry[1], entry[0]))
    listed = ", ".join(f"{count:,} of {table}" for table, count in tables[:MAX_TABLES])
    more = f" and of {len(tables) - MAX_TABLES} more tables" if len(tables) > MAX_TABLES else ""
    of_how_many = "" if lost["understood"] == lost["commits"] else f" (known of {lost['understood']:,})"
    between = f"from {_moment(lost['first_at'])} to {_moment(lost['last_at'])} UTC"
    return f"{lead}, {between}: rows added, changed or removed{of_how_many}: {listed}{more}."


def recent_loss(lost: LostCommits | None, now: float) -> str:
    """What screens and command line say for a week after it was found; empty where nothing is."""
    if lost is None or abs(now - lost["found_at"]) > SAID_SECONDS:
        return ""
    return f"{lost_words(lost)} {FIX}"


def _moment(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S}"
