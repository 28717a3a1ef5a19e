"""What screens and command line call the states of an improvement."""

from __future__ import annotations

from store.documents.tables.improvement import ImprovementState

STATE_WORDS: dict[ImprovementState, str] = {
    "labelling": "waits for labels",
    "gathering": "gathering rows",
    "joining": "making the data version",
    "training": "training",
    "registering": "registering",
    "measuring": "measuring",
    "deciding": "waits for a yes",
    "promoted": "promoted",
    "declined": "declined",
    "stopped": "stopped",
    "failed": "failed",
}
