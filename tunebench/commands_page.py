"""Page of all commands with arguments and options, from their help.

python -m tunebench.commands_page > docs/commands.md
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import typer

from tunebench.cli import cli

HEAD = (
    "# Commands\n\nEverything the app does, for scripts and CI. `tunebench COMMAND --help` prints the same"
    " text as this page, which\n`make docs` generates from the code. With `--json` a command prints one"
    " JSON document to stdout, also for errors;\n`up`, `engine`, `screens` and `mcp`, which keep running,"
    " don't have it, and `sql` has `--format json`.\n\nExit codes: 0 success, 1 failed, 2 bad input, 3 not"
    " found, 4 no engine, 5 not allowed now, 6 cancelled or lost,\n7 a condition was not met (`--fail-…`,"
    " a gate, an export's parity) or a figure was not reproduced,\n130 interrupted.\n"
)
EVERYWHERE = {"help", "json"}


def format_page() -> str:
    """Return the page: an index, then each command by name."""
    commands = sorted(_list_commands("tunebench", typer.main.get_command(cli)))
    parts = [HEAD, "| command | |", "|---|---|"]
    for name, command in commands:
        sentence = re.split(r"(?<=[.;]) ", _read_help(command), maxsplit=1)[0].rstrip(".;")
        parts.append(f"| [`{name}`](#{name.replace(' ', '-')}) | {_format_cell(sentence)} |")
    parts += [_format_command(name, command) for name, command in commands]
    return "\n".join([*parts, ""])


def _list_commands(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    """Yield all commands of a group by their full names.

    Depending on its version, Typer has its own classes of commands and options, or click's: both have what
    is read here.
    """
    parts: Mapping[str, Any] | None = getattr(command, "commands", None)
    if parts is None:
        yield name, command
    for part, inner in (parts or {}).items():
        yield from _list_commands(f"{name} {part}", inner)


def _read_help(command: Any) -> str:
    return " ".join((command.help or "").split())


def _format_command(name: str, command: Any) -> str:
    given = [part for part in command.params if part.name not in EVERYWHERE]
    arguments = [_format_value(part) for part in given if not _is_option(part)]
    options = ["[OPTIONS]"] if any(map(_is_option, given)) else []
    lines = ["", f"## {name}", _read_help(command), "", f"`{' '.join([name, *arguments, *options])}`"]
    if given:
        lines += ["", "| argument or option | default | |", "|---|---|---|", *map(_format_parameter, given)]
    return "\n".join(lines)


def _is_option(part: Any) -> bool:
    return bool(part.opts[0].startswith("-"))


def _format_value(part: Any) -> str:
    """Format a value as in a usage line: several with an ellipsis, an optional argument in brackets."""
    text = part.opts[-1].lstrip("-").replace("_", "-").upper() + ("…" if part.nargs != 1 else "")
    return text if part.required or _is_option(part) else f"[{text}]"


def _format_parameter(part: Any) -> str:
    if _is_option(part):
        names = ", ".join(f"`{name}`" for name in (*part.opts, *part.secondary_opts))
        names += "" if part.is_flag else f" {_format_value(part)}"
    else:
        names = f"`{_format_value(part)}`"
    return f"| {names} | {_format_default(part)} | {_format_cell(part.help or '')} |"


def _format_default(part: Any) -> str:
    """Format the default: of a switch that is on, the option; empty if omitting it means none."""
    if part.required:
        return "required"
    if part.default in (None, "", False) or callable(part.default):
        return ""
    return f"`{part.opts[0] if part.default is True else part.default}`"


def _format_cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    print(format_page(), end="")
