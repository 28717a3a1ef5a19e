"""`python -m tunebench.commands_page > docs/commands.md`: every command with its arguments and options, as
the command line itself describes them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import typer

from tunebench.cli import cli

HEAD = """# Commands

All that the screens do, for scripts and CI. `tunebench COMMAND --help` says the same as this page, which
`make docs` draws from the code. With `--json` a command prints one JSON document on stdout, an error too;
`up`, `engine`, `screens` and `mcp`, which stay, have none, and `sql` has `--format json`.

Exit codes: 0 done, 1 failed, 2 bad input, 3 not found, 4 no engine, 5 not allowed now, 6 cancelled or lost,
7 a condition not held (`--fail-…`, a gate, an export's parity) or a figure that didn't come back,
130 interrupted.
"""
EVERYWHERE = {"help", "json"}


def format_page() -> str:
    """The page: an index, then each command by its name."""
    commands = sorted(_list_commands("tunebench", typer.main.get_command(cli)))
    parts = [HEAD, "| command | |", "|---|---|"]
    for name, command in commands:
        parts.append(f"| [`{name}`](#{name.replace(' ', '-')}) | {_format_cell(_summarize(command))} |")
    parts += [_format_command(name, command) for name, command in commands]
    return "\n".join([*parts, ""])


def _list_commands(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    """Of a group all that it has, by their whole names. Typer has classes of its own for commands and
    options, or click's, by its version: both have what is read here."""
    parts: Mapping[str, Any] | None = getattr(command, "commands", None)
    if parts is None:
        yield name, command
    for part, inner in (parts or {}).items():
        yield from _list_commands(f"{name} {part}", inner)


def _summarize(command: Any) -> str:
    """The first sentence of its help."""
    return re.split(r"(?<=[.;]) ", _read_help(command), maxsplit=1)[0].rstrip(".;")


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
    """As a usage line has it: several values with dots, an optional argument in brackets."""
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
    """Of a switch that is on the option that says so; nothing where leaving it out means nothing."""
    if part.required:
        return "required"
    if part.default in (None, "", False) or callable(part.default):
        return ""
    return f"`{part.opts[0] if part.default is True else part.default}`"


def _format_cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    print(format_page(), end="")
