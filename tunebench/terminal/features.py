"""Declarations of features to the command line and to agents."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import typer

from store.core.features import load_features, resolve_name
from store.http.client import Client
from store.runs.schemas import Run


@dataclass(frozen=True)
class TerminalFeature:
    """Declaration of a feature, `FEATURE` in `tunebench/commands/<name>.py`.

    register: adds its commands. print_run: prints its part of a run for `show`. describe_run: returns its
    fields of a run's document. tools: "module:Class" of its classes of agent tools, imported only for
    agents.
    """

    register: Callable[[typer.Typer], None]
    print_run: Callable[[Client, Run], None] = lambda client, run: None
    describe_run: Callable[[Client, str], Mapping[str, Any]] = lambda client, run_id: {}
    tools: tuple[str, ...] = ()


def load_terminal_features() -> Mapping[str, TerminalFeature]:
    """Return the features' declarations to the command line, by name."""
    features: Mapping[str, TerminalFeature] = load_features("tunebench.commands")
    return features


def load_feature_tools() -> list[Any]:
    """Return the classes of agent tools, in the order of the features."""
    return [resolve_name(each) for feature in load_terminal_features().values() for each in feature.tools]
