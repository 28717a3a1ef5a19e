"""How DuckDB is opened, and shut off from all files but the store's: for the engine, and for the processes of
statements that people write.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb

from store.contract.errors import StateError


def connect(path: Path | str, memory: int, **config: Any) -> duckdb.DuckDBPyConnection:
    """The database file `path`, or ":memory:"; `memory` in bytes, `config` of DuckDB. Raises StateError."""
    try:
        return duckdb.connect(
            str(path),
            config={
                "memory_limit": f"{memory // 2**20}MiB",
                "python_enable_replacements": False,  # SQL never sees variables of this process
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
                **config,
            },
        )
    except duckdb.Error as error:
        if "lock on file" in str(error):
            raise StateError(
                f"Another process has the store {path} open.",
                fix="Stop the other engine, or set TUNEBENCH_HOME to another folder.",
            ) from error
        why = f"The store {path} can't be opened: {str(error).splitlines()[0]}"
        if "WAL" in why:  # what is written since the log was last merged into the file
            raise StateError(
                why,
                fix=f"Put a copy of the home folder back. Or move {path}.wal away: the engine then starts"
                " without what is in it alone, and says what that is.",
            ) from error
        raise StateError(
            why,
            fix="Put a copy of it back, or move the file away to begin with an empty store.",
        ) from error


def confine(root: duckdb.DuckDBPyConnection, folders: Sequence[Path]) -> None:
    """No file outside `folders` can be reached, and no setting be changed, from here on."""
    listed = ", ".join("'" + f"{folder}/".replace("'", "''") + "'" for folder in folders)
    root.execute(f"SET allowed_directories = [{listed}]")
    root.execute("SET enable_external_access = false")
    root.execute("SET lock_configuration = true")
