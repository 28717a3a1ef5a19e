"""The verdict on a model that was mixed from a run's and its base's, not trained: the same figures on the
same rows, and no word of a course.

Pure: arrays in, a JSON document out.
"""

from __future__ import annotations

from typing import Any

from engine.diagnostics.verdicts import verdict

Document = dict[str, Any]


def judge(*, alpha: float, of: str, **evidence: Any) -> Document:
    """As `verdict.judge` without `eval_rows`, `train_curve` and `stopped`; overfitting is null. of: the name
    of the run whose model lies at α 1."""
    stopped = {"reason": "mixed", "step": 0, "restored_step": None}
    found = verdict.judge(**evidence, eval_rows=[], train_curve=[], stopped=stopped)
    course = found["overfitting"]["sentence"]
    where = f"It lies at α {alpha:g} on the way from the base model (0) to “{of}” (1). Nothing was trained."
    sentences = [where, *(said for said in found["sentences"] if said != course)]
    return found | {"overfitting": None, "sentences": sentences, "advice": []}


def without_advice(found: Document) -> Document:
    """Advice is for the run that it was mixed from: there is nothing here to train otherwise."""
    if "forgetting" in found:
        found["forgetting"] = found["forgetting"] | {"advice": []}
    return found | {"advice": []}
