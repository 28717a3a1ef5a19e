"""Record `answers.json.xz` again: `python -m tests.unit.golden.record`.

Run it only when an answer is meant to change, and give the reason in the commit. It prints the name of
every part that differs. Each query is called with the arguments of its recorded calls; a query without any
is called with values from the pools. `home.tar.xz` is never recorded again: a home folder must stay
readable as it is.
"""

from __future__ import annotations

import lzma
import tempfile
from pathlib import Path
from typing import Any

from store.db.named_query import load_queries
from tests.unit.golden.files import read_files
from tests.unit.golden.homes import ANSWERS, name_queries, open_store, read_answers, spell, unpack_home
from tests.unit.golden.pools import list_calls, make_own_pools, make_pools
from tests.unit.golden.questions import ask, read_tables


def record(folder: Path, recorded: dict[str, Any]) -> dict[str, Any]:
    """All answers of the golden home as today's version gives them."""
    home = unpack_home(folder)
    recorded_calls = recorded.get("queries", {})
    files = read_files(home)
    database = open_store(home)
    try:
        pools, own = make_pools(database), make_own_pools(database)
        queries = load_queries()
        calls: dict[str, Any] = {}
        for key, name in sorted(name_queries(queries).items()):
            if key in recorded_calls:
                listed = [call["arguments"] for call in recorded_calls[key]]
            else:
                listed = list_calls(key, queries[name], pools, own)
            calls[key] = [
                {"arguments": arguments, "answer": ask(database, home, queries[name], arguments)}
                for arguments in listed
            ]
        return {"tables": read_tables(database), "queries": calls, "files": files}
    finally:
        database.close()


def name_differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Name every part that differs."""
    return [
        f"{part}: {name}"
        for part in new
        for name in sorted({*new[part], *old.get(part, {})})
        if spell(new[part].get(name)) != spell(old.get(part, {}).get(name))
    ]


def main() -> None:
    """Record, and print what changed."""
    old = read_answers() if ANSWERS.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        new = record(Path(folder) / "home", old)
    ANSWERS.write_bytes(lzma.compress(spell(new).encode(), preset=9 | lzma.PRESET_EXTREME))
    print("\n".join(name_differences(old, new)))


if __name__ == "__main__":
    main()
