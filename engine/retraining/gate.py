"""Gate of a retrained version: it must not be worse than the version in use, on old and new held-out rows.

If a version may have been trained on held-out rows, it is favored there, and the report says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypedDict

from engine.registry import gate_report, gate_statistics
from engine.retraining import leakage
from store.core.errors import NotFoundError
from store.core.metric_table import choose_comparison_metric
from store.core.model_schemas import ModelVersion
from store.data import datasets
from store.data.schemas import Dataset
from store.db.database import Queryable
from store.jobs.schemas import SplitFields
from store.registry import gate_candidates, gate_checks, model_versions
from store.registry.gate_candidates import Candidate, Check, format_version_reference
from store.registry.gate_checks import GateConfig
from store.registry.schemas import CheckAnswer, CheckInputs, CheckReport, GateReport
from store.retraining import text as improvement_text
from store.retraining.schemas import Improvement, LeakageEstimate
from store.runs import runs
from store.runs.schemas import Run
from store.training.split import get_split


class TrainingFields(TypedDict):
    """Fields of `GatherConfig`."""

    in_use_run: str
    in_use_unknown: str


def find_version_in_use(db: Queryable, model_id: str, alias: str) -> ModelVersion | None:
    """Return the version that has the alias, or None."""
    number = model_versions.alias_standing(db, model_id, alias)
    return None if number is None else model_versions.find_version(db, model_id, number)


def find_training_run(db: Queryable, version: ModelVersion | None, run_id: str) -> TrainingFields:
    """Return the run of the version in use, unless it is `run_id`, whose config is launched.

    Also returns why the training data of these runs and their ancestors isn't fully known.
    """
    launched = leakage.trace_lineage(db, run_id)
    unknown = "" if launched.whole else _format_gone(launched.runs[0].name if launched.runs else run_id)
    if version is None or version.run_id == run_id:
        return {"in_use_run": "", "in_use_unknown": unknown}
    name = format_version_reference(version)
    if version.run_id is None:
        imported = f"{name} was imported, so its training data is unknown"
        return {"in_use_run": "", "in_use_unknown": imported}
    made_by = leakage.trace_lineage(db, version.run_id)
    return {
        "in_use_run": version.run_id if made_by.runs else "",
        "in_use_unknown": unknown if made_by.whole else _format_gone(name),
    }


def _format_gone(name: str) -> str:
    return f"the training data of {name} was deleted, so overlap is unknown"


def list_compared_runs(db: Queryable, by: TrainingFields, run_id: str) -> list[str]:
    """Return the ids of runs whose rows are compared with new ones; they must not be deleted until then."""
    ends = [end for end in (run_id, by["in_use_run"]) if end]
    return sorted({run.run_id for end in ends for run in leakage.trace_lineage(db, end).runs})


def build_gate(db: Queryable, improvement: Improvement) -> GateConfig:
    """Build a gate with two checks.

    One uses the old run's held-out rows, which keep their part in the new version of its data; the other
    uses new rows that no compared version was trained on.
    """
    facts, config = improvement.facts, improvement.config
    dataset = datasets.get_dataset(db, facts["dataset_id"])
    check = {"check": "not_worse_than", "metric": choose_metric(db, improvement), "margin": config.margin}
    return GateConfig.parse(
        {
            "checks": [
                {**check, "dataset": dataset.dataset_id, "part": choose_old_part(dataset)},
                {**check, "dataset": facts["rows_dataset_id"], "part": "test"},
            ]
        }
    )


def choose_old_part(dataset: Dataset) -> str:
    """Return "test", or "validation" if the run had no test rows."""
    return "test" if dataset.stats.get("parts", {}).get("test") else "validation"


def choose_metric(db: Queryable, improvement: Improvement) -> str:
    """Return the requested metric, or the default of the run's task."""
    run = runs.get_run(db, improvement.config.run)
    rows = datasets.get_dataset(db, improvement.facts["old_dataset_id"])
    return resolve_metric(improvement.config.metric, run, rows)


def resolve_metric(chosen: str, run: Run, rows: Dataset) -> str:
    """Return the chosen metric, or the default of the run's task."""
    return chosen or choose_comparison_metric(task=run.config.get("task", "sft"), format=rows.format)


def judge_candidate(
    db: Queryable, improvement: Improvement, candidate: Candidate, config: GateConfig
) -> GateReport:
    """Return the gate report, with titles that name the rows.

    Missing evaluations are queued by the improvement itself, so the report offers no commands for them.
    """
    reference, alias, holder, checks = gate_checks.build_case(db, candidate, config)
    rows = improvement.facts.get("rows")
    slips = rows.slipping if rows else None
    # old held-out rows that the check assumes were learned from repeats; 0 if not estimated
    slipped = (slips.allowed if isinstance(slips, LeakageEstimate) else 0, 0)
    titled: list[tuple[Check, str, CheckInputs]] = [
        (
            check,
            title + (improvement_text.NO_TEST if check["part"] == "validation" else ""),
            {**evidence, "slipped": learned},
        )
        for (check, _, evidence), title, learned in zip(checks, improvement_text.CHECKS, slipped, strict=True)
    ]
    report = gate_report.build_gate_report(reference, alias, holder, titled)
    for line in report.checks:
        line.command = line.gather = None
    favours = (
        explain_leakage(db, improvement.config.run, candidate),
        explain_leakage_on_new_rows(improvement, candidate),
    )
    report = adjust_for_leakage(report, favours)
    return replace(report, sentence=improvement_text.describe_outcome(report))


def explain_leakage(db: Queryable, run_id: str, candidate: Candidate) -> str:
    """Return why the version in use may have been trained on old held-out rows, or "".

    Those rows are held out by the split of the run `run_id`; "" if the version's own run has the same
    split.
    """
    holder = candidate.holder
    if holder is None or holder.run_id == run_id:
        return ""
    name, why = (
        gate_candidates.format_version_reference(holder),
        "may have been trained on rows held out here, which favors it",
    )
    if holder.run_id is None:
        return f"{name} was imported, and {why}"
    try:
        other = runs.get_run(db, holder.run_id)
        if _find_split(db, other) == _find_split(db, runs.get_run(db, run_id)):
            return ""
    except NotFoundError:
        return f"the run of {name} is gone, and {why}"
    return f"{name} was trained by {other.name}, which {why}"


def explain_leakage_on_new_rows(improvement: Improvement, candidate: Candidate) -> str:
    """Return why the version in use may have been trained on new held-out rows, or "".

    New rows were only compared with the training data of the version in use when they were gathered.
    """
    holder, beside = candidate.holder, improvement.facts.get("gathered_beside")
    if holder is None or beside in (None, gate_candidates.format_version_reference(holder)):
        return ""
    if holder.run_id == improvement.config.run:
        return ""
    name = gate_candidates.format_version_reference(holder)
    return (
        f"{name} came into use after the rows were gathered and may have been trained on some, which "
        "favors it"
    )


def _find_split(db: Queryable, run: Run) -> tuple[str, SplitFields]:
    dealt = datasets.get_split_fields(datasets.get_dataset(db, run.dataset_id))
    return run.dataset_id, get_split(run.config, dealt)


def adjust_for_leakage(report: GateReport, favours: Sequence[str]) -> GateReport:
    """Change failed checks on which the version in use is favored to inconclusive; passed checks stay passed.

    `favours` has the reason for each check, or "".
    """
    checks: list[CheckReport] = []
    for check, why in zip(report.checks, favours, strict=True):
        answer: CheckAnswer = "cant_tell" if why and check.answer == "failed" else check.answer
        title = f"{check.title} ({why})" if why else check.title
        checks.append(replace(check, answer=answer, title=title))
    return replace(
        report,
        checks=checks,
        answer=gate_statistics.combine_answers([check.answer for check in checks]),
    )
