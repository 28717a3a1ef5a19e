"""Tasks of lm-evaluation-harness, which is no dependency: whether any can be asked here, and what to do."""

from __future__ import annotations

import importlib.util

MISSING = "Tasks are those of lm-evaluation-harness, which is not installed."
COMMAND = "pip install 'tunebench[tasks]'"
INSTALL = f"Install it with: {COMMAND}; then start Tunebench anew."


def installed() -> bool:
    """Whether the harness can be imported, without importing it."""
    return importlib.util.find_spec("lm_eval") is not None
