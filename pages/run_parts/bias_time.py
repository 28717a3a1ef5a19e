"""How long a bias check with the built-in pairs takes, before it is asked for."""

from __future__ import annotations

import os

from pages.shared import quantities

PAIRS = 184  # built-in ones
CORE_SECONDS, PARAMETERS = 40.0, 135e6  # of one core, for the pairs and a model of so many parameters
MOST_CORES = 4  # more of them hardly help


def takes(parameters: int | None, *, gpu: bool) -> str:
    """ "about a minute or two", "about 2 min": base and tuned model, one after the other."""
    if not parameters or gpu:
        return "about a minute or two"
    cores = min(os.cpu_count() or 1, MOST_CORES)
    return f"about {quantities.span(2 * CORE_SECONDS * parameters / PARAMETERS / cores)}"
