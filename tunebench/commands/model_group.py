"""`tunebench model …`: the group of commands about models that leave the house."""

from __future__ import annotations

import typer

model = typer.Typer(no_args_is_help=True, help="Registered models: aliases, gates, and exports with their proof")
    no_args_is_help=True, help="Registered models with aliases and gates, and exports with their proof"
)
