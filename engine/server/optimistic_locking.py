"""Optimistic locking: of two people who change the same thing, the second overwrites nothing unseen.

The second is told of the first change. A change includes the values as they were read. Without these, as
from scripts, it is made unconditionally.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.server.command import ActivitySubject
from store.core.errors import ConfigError, ConflictError
from store.data.schemas import Dataset
from store.db.database import Queryable
from store.people import activity
from store.runs.schemas import Run

CHANGES = ("edit_run", "rename_dataset", "set_split")
SHORT = 200  # characters of a current value in a message; the screens show all of it


def check_unchanged(
    db: Queryable,
    subject: ActivitySubject,
    seen: Mapping[str, Any] | None,
    present: Dataset | Run,
    wanted: Mapping[str, Any],
) -> None:
    """Check that the fields in `seen` still have these values, or already the wanted ones.

    Raises: ConflictError with who changed a field, when, and its value now; ConfigError (seen) for a field
    that is not changed.
    """
    if seen is None:
        return
    if unknown := sorted(set(seen) - set(wanted)):
        raise ConfigError(
            f"seen has {unknown[0]}, which is not to be changed.",
            fix="Send the previous values of the fields that change.",
            field="seen",
        )
    changed = [
        field for field, value in seen.items() if getattr(present, field) not in (value, wanted[field])
    ]
    if not changed:
        return
    values = ", ".join(
        f"{field.replace('_', ' ')} {_format_value(getattr(present, field))}" for field in changed
    )
    change = activity.find_last(db, subject.kind, subject.id, CHANGES)
    who = f"On {change.done_at:%d %b %Y at %H:%M} UTC {change.person_name}" if change else "Somebody"
    raise ConflictError(
        f"{who} changed {subject.name}.",
        fix=f"Current values: {values}. Keep them, or save again to overwrite them with yours.",
        field=changed[0],
    )


def _format_value(value: Any) -> str:
    text = "empty" if value in (None, "") else f"“{value}”" if isinstance(value, str) else str(value)
    return text if len(text) <= SHORT else f"{text[:SHORT]} …"
