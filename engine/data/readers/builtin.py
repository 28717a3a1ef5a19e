"""The built-in data set: rows that this machine's own Python documentation gives, without a network."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from engine.data.readers import python_docs
from engine.data.readers.raw_rows import Reader, ReadRow, SourceProblem, skipped
from store.contract.errors import DataError

SECONDS = 120
LABEL = "module"  # the column that is kept as the label of each row


class BuiltinReader(Reader):
    """Rows `{"prompt", "completion", "module"}`; the line is the row's number in the order of the names."""

    name = "json"
    unit = "rows"

    def __init__(self) -> None:
        super().__init__()
        self.columns = ["prompt", "completion", "module"]
        output = _ask_python()
        self.bytes = len(output)
        self._rows: list[dict[str, str]] = json.loads(output)
        self.total = len(self._rows)
        self._done = 0
        version = ".".join(map(str, sys.version_info[:3]))
        self.problems.append(
            SourceProblem(None, f"Made from the documentation inside Python {version}.", True)
        )

    def rows(self) -> Iterator[ReadRow]:
        for number, row in enumerate(self._rows, 1):
            self._done = number
            reason = row.get("reason")
            yield number, skipped(reason, f"{row['prompt']} {row['completion']}") if reason else dict(row)

    def position(self) -> float:
        return self._done


def _ask_python() -> bytes:
    """The rows as JSON, from an isolated process: importing all of the library may do anything to it.

    It sees no display, no input, and none of the user's start-up files (-I -S).
    """
    script = Path(python_docs.__file__)
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-X", "utf8", str(script)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env={"PATH": "/usr/bin:/bin", "TERM": "dumb"},
            timeout=SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise DataError(
            f"{sys.executable} could not list its own documentation ({type(error).__name__}).",
            fix="Check that this Python runs by itself.",
            field="source",
        ) from error
    return done.stdout
