"""What keys have used today, when a gateway starts: as the one before it told last, and what its log has
since.

A gateway tells every other second how it stands, with the place that its log had then. What was answered
afterwards has its line, so that a kill costs a quota nothing; only what a full disk kept out of the log is
lost with it.
"""

from __future__ import annotations

import logging
from typing import Any

from engine.serving.gateway.records.log_files import DAY, LogFiles
from engine.serving.gateway.requests.keys import day_of
from store.documents.tables.endpoint_state import EndpointState, KeyUse, LogPlace

log = logging.getLogger(__name__)

BEGINNING: LogPlace = {"number": 0, "size": 0}
SLACK = 1.0  # s: the clock of files is coarser
NOT_ADMITTED = "requests_per_minute"  # refused before it counts as a request


def at_start(before: EndpointState | None, files: LogFiles, now: float) -> list[KeyUse]:
    """Of all keys. Where nobody told anything, the whole of today is read anew."""
    used: dict[str, KeyUse] = {use["key_id"]: {**use} for use in before["keys"]} if before else {}
    told_at = before["at"] if before else 0.0
    place = before.get("counted") if before else BEGINNING
    try:
        for line in files.since(place, max(told_at, now - now % DAY) - SLACK) if place else ():
            _add(used, line, told_at, day_of(now))
    except (OSError, ValueError, KeyError, TypeError):  # no line of ours: nobody is kept out for it
        log.exception("The log could not be read on: what keys used since %s is not all counted", told_at)
    return list(used.values())


def _add(used: dict[str, KeyUse], line: Any, told_at: float, today: str) -> None:
    """Count one line; one of nobody's quota, or of before they said whose, counts nothing."""
    key_id = line.get("key_id")
    if key_id is None:
        return
    at, end = line["at"], line["at"] + line["seconds"]
    if day_of(end) != today:
        return
    use = used.get(key_id)
    if use is None or use["day"] != today:
        use = used[key_id] = {"key_id": key_id, "day": today, "tokens": 0, "requests": 0, "used_at": at}
    use["tokens"] += line["tokens"]
    if at > told_at and line["error"] != NOT_ADMITTED:  # others are counted when they come
        use["requests"] += 1
        use["used_at"] = max(use["used_at"], at)
