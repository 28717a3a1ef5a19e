"""What a feature adds to the command line and to the tools of agents."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import typer

from store.core.features import load_features, resolve_name
from store.http.client import Client
from store.runs.schemas import Run


def _print_nothing(client: Client, run: Run) -> None:
    pass


def _know_nothing(client: Client, run_id: str) -> Mapping[str, Any]:
    return {}


@dataclass(frozen=True)
class TerminalFeature:
    """As `FEATURE` in `tunebench/commands/<name>.py`. register: adds its commands. print_run: what it says of
    a run that `show` prints. describe_run: the fields that a run's document has of it. tools:
    "module:Class" of the classes with its tools for agents, which are imported where agents ask.
    """

    register: Callable[[typer.Typer], None]
    print_run: Callable[[Client, Run], None] = _print_nothing
    describe_run: Callable[[Client, str], Mapping[str, Any]] = _know_nothing
    tools: tuple[str, ...] = ()


def load_terminal_features() -> Mapping[str, TerminalFeature]:
    """What the features add, by their names."""
    features: Mapping[str, TerminalFeature] = load_features("tunebench.commands")
    return features


def load_feature_tools() -> list[Any]:
    """The classes with the tools of the features, in the order of these."""
    return [resolve_name(each) for feature in load_terminal_features().values() for each in feature.tools]
