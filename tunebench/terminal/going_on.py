"""What goes on after screens and engine have ended, so that nobody is surprised by it."""

from __future__ import annotations

import contextlib

from store.contract.home import Home
from store.contract.jobdir import read_json
from store.contract.process_record import read_record
from tunebench.terminal.output import say


def answering(home: Home) -> list[str]:
    """The names of endpoints whose gateway is there, whether an engine runs or not."""
    names = []
    for folder in home.endpoints.glob("*"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # half written or half deleted
            record = read_record(folder / "gateway.json")
            if record and record.process():
                names.append(str(read_json(folder / "config.json")["name"]))
    return sorted(names)


def say_what_answers(home: Home) -> None:
    """To whoever has stopped the engine."""
    names = answering(home)
    if names:
        subject = f"The endpoint {names[0]} goes" if len(names) == 1 else f"{', '.join(names)} go"
        say(f"{subject} on answering; stop with: tunebench endpoint stop NAME")
