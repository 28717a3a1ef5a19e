"""`tunebench mcp`: the tools that agents of other programs use, over standard input and output."""

from __future__ import annotations

from store.contract.errors import ConfigError
from tunebench.terminal.connection import connect
from tunebench.terminal.output import errors


def mcp() -> None:
    """Serve Tunebench's tools to an agent (Model Context Protocol, stdio), with the rights of your token."""
    with errors():
        try:
            from tunebench.agents import server
        except ModuleNotFoundError as error:
            if not (error.name or "").startswith("mcp"):
                raise
            raise ConfigError(
                "The package mcp is not installed.", fix="pip install 'tunebench[agents]'", field="mcp"
            ) from error
        server.build(connect).run("stdio")
