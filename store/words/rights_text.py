"""The matrix of requests and roles as a table of docs/team.md."""

from __future__ import annotations

from store.contract.rights import TABLES, Needs
from store.contract.roles import RIGHTS
from store.documents.tables.person import Right

HEAD = "| request | nobody | viewer | rater | member | admin |"
_SHOWN = {"route": "", "command": "command ", "ask": "ask ", "query": "query ", "tool": "tool "}


def markdown() -> str:
    """The table: for each surface and right a row of names, and for each role yes where it may."""
    lines = [HEAD, "|---|---|---|---|---|---|"]
    for surface, table in TABLES.items():
        by_needs: dict[Needs, list[str]] = {}
        for name, needs in table.items():
            if needs not in ("name", "door"):  # a name has a row of its own; the door is no person
                by_needs.setdefault(needs, []).append(name)
        for needs, names in by_needs.items():
            listed = f"{_SHOWN[surface]}{', '.join(f'`{name}`' for name in names)}"
            cells = [
                "yes" if needs == "nobody" else "",
                *(_cell(needs, rights) for rights in RIGHTS.values()),
            ]
            lines.append(f"| {listed} | {' | '.join(cells)} |")
    return "".join(f"{line}\n" for line in lines)


def _cell(needs: Needs, rights: frozenset[Right]) -> str:
    return "yes" if needs == "nobody" or needs in rights else ""
