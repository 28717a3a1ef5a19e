"""Whether two runs can be held against each other row by row."""

from __future__ import annotations

from store.documents.tables.run import Run
from store.documents.verdicts.verdict import Gain

LOSS_FIELDS = ("task", "loss_type", "beta", "label_smoothing")  # of which the size of a loss depends


def gain_of(run: Run) -> Gain:
    """The gain of a run that has one."""
    gain = run["verdict"] and run["verdict"]["gain"]
    assert gain
    return gain


def apart(run: Run, other: Run) -> str:
    """Why two runs can't be compared row by row, or ""."""
    if run["data_fingerprint"] != other["data_fingerprint"]:
        return "they were trained on different data"
    differing = [field for field in LOSS_FIELDS if run["config"].get(field) != other["config"].get(field)]
    if "task" in differing or (differing and run["config"].get("task") == "dpo"):
        return f"their losses mean different things ({', '.join(differing)} differ)"
    if gain_of(run)["split"] != gain_of(other)["split"]:
        return "one was judged on test rows, the other on validation rows"
    return ""
