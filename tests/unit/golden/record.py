"""Write `answers.json.xz` anew: `python -m tests.unit.golden.record`.

Only when an answer is MEANT to change, and then with the reason in the commit. What differs is named for each
part; a home folder that was written once must read the same ever after, so `home.tar.xz` is never made anew.
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


def record(folder: Path) -> dict[str, Any]:
    """All answers of the golden home as today's version gives them."""
    home = unpack_home(folder)
    files = read_files(home)
    database = open_store(home)
    try:
        pools, own = make_pools(database), make_own_pools(database)
        queries = load_queries()
        calls: dict[str, Any] = {}
        for key, name in sorted(name_queries(queries).items()):
            listed = list_calls(key, queries[name], pools, own)
            calls[key] = [
                {"arguments": arguments, "answer": ask(database, home, queries[name], arguments)}
                for arguments in listed
            ]
        return {"tables": read_tables(database), "queries": calls, "files": files}
    finally:
        database.close()


def name_differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What is otherwise than it was, by its name."""
    return [
        f"{part}: {name}"
        for part in new
        for name in sorted({*new[part], *old.get(part, {})})
        if spell(new[part].get(name)) != spell(old.get(part, {}).get(name))
    ]


def main() -> None:
    """Record, and say what changed."""
    old = read_answers() if ANSWERS.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        new = record(Path(folder) / "home")
    ANSWERS.write_bytes(lzma.compress(spell(new).encode(), preset=9 | lzma.PRESET_EXTREME))
    print("\n".join(name_differences(old, new)))


if __name__ == "__main__":
    main()
