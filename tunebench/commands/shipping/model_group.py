"""`tunebench model …`: the group of commands about models that leave the house."""

from __future__ import annotations

import typer

model = typer.Typer(no_args_is_help=True, help="Registered models: aliases, gates, exports with their proof")
