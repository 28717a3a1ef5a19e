"""`tunebench mcp`: the tools that agents of other programs use, over standard input and output."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from store.contract.errors import ConfigError
from tunebench.terminal.connection import connect
from tunebench.terminal.output import errors

Files = Annotated[
    list[Path] | None,
    typer.Option(help="A folder whose files agents may import, none without it; may be repeated"),
]


def mcp(files: Files = None) -> None:
    """Serve Tunebench's tools to an agent (Model Context Protocol, stdio), with the rights of your token."""
    import anyio  # with the server they take a second to import, which no other command needs

    from tunebench.agents import messages, server

    with errors():
        for folder in files or []:
            if not folder.is_dir():
                raise ConfigError(f"{folder} is no folder.", fix="Name one that is there.", field="files")
        anyio.run(messages.serve_lines, server.build(connect, files or []))
