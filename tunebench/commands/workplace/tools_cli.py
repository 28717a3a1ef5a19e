"""`tunebench tools`: programs that can't be installed beside this project's packages."""

from __future__ import annotations

from typing import Annotated

import typer

from engine.shipping import converter
from tunebench.terminal.connection import Json
from tunebench.terminal.output import errors, print_json, say

tools = typer.Typer(no_args_is_help=True, help="Programs that stand in a folder of their own")


@tools.command()
def install(
    again: Annotated[bool, typer.Option("--again", help="Even where it is there")] = False,
    json: Json = False,
) -> None:
    """Install llama.cpp's converter, which GGUF files are written with."""
    with errors(json):
        there = converter.present() and not again
        folder = converter.folder() if there else converter.install()
        if json:
            print_json({"folder": str(folder), "installed": not there})
        else:
            say(f"The converter {'is' if there else 'was put'} in {folder}.")
