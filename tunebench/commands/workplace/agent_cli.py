"""`tunebench mcp`: the tools that agents of other programs use, over standard input and output."""

from __future__ import annotations

from tunebench.terminal.connection import connect
from tunebench.terminal.output import errors


def mcp() -> None:
    """Serve Tunebench's tools to an agent (Model Context Protocol, stdio), with the rights of your token."""
    from tunebench.agents import server  # takes a second to import, which no other command needs

    with errors():
        server.build(connect).run("stdio")
