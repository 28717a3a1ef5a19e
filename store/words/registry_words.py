"""What a registering or a promotion came to, in sentences that screens and command line share."""

from __future__ import annotations

from datetime import datetime

from store.documents.shipping.version import ModelVersion
from store.documents.tables.command_answers import AliasMoved
from store.documents.tables.job import Job


def registered_sentence(version: ModelVersion, job: Job) -> str:
    """`version`: that which the job made, or which has the same content."""
    reference = f"{version['name']}@{version['version']}"
    if version["created_at"] >= job["created_at"]:
        return f"{reference} is registered."
    return f"{reference} has the same content already: no other version was made."


def promoted_sentence(moved: AliasMoved) -> str:
    """Whose place was taken is said, as two may promote at once and know nothing of each other."""
    done = f"{moved['reference']} is {moved['alias']} now"
    if (replaced := moved["replaced"]) is None:
        return f"{done}."
    at = datetime.fromisoformat(replaced["moved_at"])
    return (
        f"{done}, in place of {replaced['reference']}, which {replaced['moved_by_name']} made"
        f" {moved['alias']} on {at:%d %b %Y at %H:%M:%S} UTC."
    )
