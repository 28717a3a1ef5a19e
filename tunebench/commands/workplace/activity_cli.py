"""`tunebench activity`: who did what, and when."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from engine.diagnostics.phrasing import plural
from store.catalog.actions import action_of, kinds
from store.contract.errors import ConfigError, NotFoundError
from store.documents.tables.activity import Activity, PersonName
from store.queries import activity as queries
from store.queries.activity import ActivityFilter
from tunebench.terminal.connection import Json, connect
from tunebench.terminal.output import errors, print_json, print_rows


def activity(
    by: Annotated[str, typer.Option(help="A person, by id or name")] = "",
    kind: Annotated[str, typer.Option(help="Kind of action: Launched, Deleted, …")] = "",
    search: Annotated[str, typer.Option(help="Part of the name of a thing, or of a detail")] = "",
    days: Annotated[int, typer.Option(min=0, help="Not longer ago; 0 is at any time")] = 0,
    mentions: Annotated[str, typer.Option(help="Comments that name this person by @")] = "",
    limit: Annotated[int, typer.Option(min=1)] = 50,
    json: Json = False,
) -> None:
    """List who did what, newest first."""
    with errors(json):
        client = connect()
        people = queries.names(client)
        which = ActivityFilter(
            person_id=_person(people, by, "by"),
            commands=_commands(kind),
            search=search,
            days=days,
            mentions=_person(people, mentions, "mentions"),
        )
        total, lines = queries.listed(client, which, limit=limit)
        if json:
            print_json({"activity": lines, "total": total})
            return
        footer = plural(total, "line") if total == len(lines) else f"{len(lines)} of {plural(total, 'line')}"
        print_rows(["when (UTC)", "who", "did", "what", "detail"], [_row(line) for line in lines], footer)


def _row(line: Activity) -> list[str]:
    did = action_of(line["command"]).words
    comment = line["comment"] if line["command"] == "comment" else None
    detail = " ".join((comment or line["detail"]).split())
    return [f"{line['done_at']:%Y-%m-%d %H:%M}", line["person_name"], did, line["subject_name"], detail]


def _person(people: Sequence[PersonName], name: str, field: str) -> str:
    """The id of a person by id or name. Raises NotFoundError, ConfigError where several have the name."""
    if not name:
        return ""
    ids = [each["person_id"] for each in people if name in (each["person_id"], each["name"])]
    if not ids:
        there = ", ".join(each["name"] for each in people) or "nobody"
        raise NotFoundError(f"{name!r} has done nothing here.", fix=f"There is {there}.", field=field)
    if len(ids) > 1:
        raise ConfigError(
            f"Several people are named {name!r}.", fix=f"Give an id: {', '.join(ids)}.", field="by"
        )
    return ids[0]


def _commands(kind: str) -> tuple[str, ...]:
    if not kind:
        return ()
    by_kind = {name.lower(): commands for name, commands in kinds().items()}
    if kind.lower() not in by_kind:
        raise ConfigError(
            f"{kind!r} is no kind of action.", fix=f"There are {', '.join(kinds())}.", field="kind"
        )
    return by_kind[kind.lower()]
