"""The verdict on a model that was mixed from a run's and its base's, not trained: the same figures on the
same rows, and no word of a course.

Pure: arrays in, a JSON document out.
"""

from __future__ import annotations

from engine.diagnostics.course.judged_config import JudgedConfig
from engine.diagnostics.course.run_course import RunCourse
from engine.diagnostics.verdicts import verdict
from engine.diagnostics.verdicts.held_out import HeldOut
from store.documents.verdicts.verdict import Verdict

UNTRAINED = RunCourse(stopped={"reason": "mixed", "step": 0, "restored_step": None})


def judge(held_out: HeldOut, config: JudgedConfig, *, alpha: float, of: str) -> Verdict:
    """As `verdict.judge` of a run without a course; overfitting is null. of: the name of the run whose model
    lies at α 1."""
    judged = verdict.judge(held_out, UNTRAINED, config)
    course = judged["overfitting"]["sentence"] if judged["overfitting"] else ""
    where = f"It lies at α {alpha:g} on the way from the base model (0) to “{of}” (1). Nothing was trained."
    sentences = [where, *(sentence for sentence in judged["sentences"] if sentence != course)]
    return {**judged, "overfitting": None, "sentences": sentences, "advice": []}


def without_advice(judged: Verdict) -> Verdict:
    """Advice is for the run that it was mixed from: there is nothing here to train otherwise."""
    forgetting = judged.get("forgetting")
    if forgetting:
        judged["forgetting"] = {**forgetting, "advice": []}
    return {**judged, "advice": []}
