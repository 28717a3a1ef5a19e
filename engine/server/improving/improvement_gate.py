"""What an improvement's version is measured by: it has to be not worse than the one in use, on the old rows
that judge and on the new ones."""

from __future__ import annotations

from collections.abc import Sequence

from engine.diagnostics.gates import decide, judge
from store.catalog.metric_table import compared_by
from store.config.shipping.gate_config import GateConfig
from store.config.training.train_config import split_of
from store.contract.errors import NotFoundError
from store.db.database import Queryable
from store.documents.shipping.gate import CheckAnswer, CheckEvidence, CheckReport, GateReport
from store.documents.tables.dataset import Dataset
from store.documents.tables.improvement import Improvement
from store.documents.tables.job_order import SplitFields
from store.documents.tables.run import Run
from store.queries.data import datasets
from store.queries.runs import runs
from store.queries.shipping import gate_candidates, gate_evidence
from store.queries.shipping.gate_candidates import Candidate, Check
from store.words import improvement_words


def gate(db: Queryable, improvement: Improvement) -> GateConfig:
    """Two checks: on the rows that judged the old run, which keep their part in the new version of its data,
    and on the new rows that nobody trained on."""
    facts, config = improvement["facts"], improvement["config"]
    dataset = datasets.get_dataset(db, facts["dataset_id"])
    check = {"check": "not_worse_than", "metric": metric(db, improvement), "margin": config["margin"]}
    return GateConfig.parse(
        {
            "checks": [
                {**check, "dataset": dataset["dataset_id"], "part": old_part(dataset)},
                {**check, "dataset": facts["rows_dataset_id"], "part": "test"},
            ]
        }
    )


def old_part(dataset: Dataset) -> str:
    """Test; validation where the run had no test rows."""
    return "test" if dataset["stats"].get("parts", {}).get("test") else "validation"


def metric(db: Queryable, improvement: Improvement) -> str:
    """As it was asked for, or else that of the run's task."""
    run = runs.get_run(db, improvement["config"]["run"])
    rows = datasets.get_dataset(db, improvement["facts"]["old_dataset_id"])
    return metric_of(improvement["config"]["metric"], run, rows)


def metric_of(chosen: str, run: Run, rows: Dataset) -> str:
    """The one that was chosen, or else that of the run's task."""
    return chosen or compared_by(task=run["config"].get("task", "sft"), format=rows["format"])


def judged(db: Queryable, improvement: Improvement, candidate: Candidate, config: GateConfig) -> GateReport:
    """The report, with titles that say which rows; what an evaluation lacks, the improvement itself makes."""
    reference, alias, holder, checks = gate_evidence.case_of(db, candidate, config)
    slipped = (_slipped(improvement), 0)
    titled: list[tuple[Check, str, CheckEvidence]] = [
        (
            check,
            title + (improvement_words.NO_TEST if check["part"] == "validation" else ""),
            {**evidence, "slipped": learned},
        )
        for (check, _, evidence), title, learned in zip(
            checks, improvement_words.CHECKS, slipped, strict=True
        )
    ]
    report = judge.report(reference, alias, holder, titled)
    for line in report["checks"]:
        line.pop("command", None)
        line.pop("gather", None)
    favours = favour(db, improvement["config"]["run"], candidate), favour_on_new(improvement, candidate)
    report = fair(report, favours)
    return {**report, "sentence": improvement_words.measured(report)}


def _slipped(improvement: Improvement) -> int:
    """Old rows that judge and that the new version may have learned from repeats, as many as the check allows
    for; 0 where nobody counted, or none can."""
    rows = improvement["facts"].get("rows")
    slips = rows.get("slipping") if rows else None
    return slips["allowed"] if slips else 0


def favour(db: Queryable, run_id: str, candidate: Candidate) -> str:
    """Why the version in use may have been trained on old rows that judge, which keep the part that the run
    of `run_id` dealt them; "" where its run dealt the same rows alike."""
    holder = candidate.holder
    if holder is None or holder["run_id"] == run_id:
        return ""
    name, why = gate_candidates.name_of(holder), "may have trained on rows that judge here: it is favoured"
    if holder["run_id"] is None:
        return f"{name} was imported, and {why}"
    try:
        other = runs.get_run(db, holder["run_id"])
        if _deal(db, other) == _deal(db, runs.get_run(db, run_id)):
            return ""
    except NotFoundError:
        return f"the run of {name} is gone, and {why}"
    return f"{name} was trained by {other['name']}, which {why}"


def favour_on_new(improvement: Improvement, candidate: Candidate) -> str:
    """Why the version in use may have been trained on new rows that judge, which were compared with what
    trained the one that was in use when they were gathered; "" where that is it."""
    holder, beside = candidate.holder, improvement["facts"].get("gathered_beside")
    if holder is None or beside in (None, gate_candidates.name_of(holder)):
        return ""
    if holder["run_id"] == improvement["config"]["run"]:
        return ""
    name = gate_candidates.name_of(holder)
    return f"{name} came into use after they were gathered and may have trained on some: it is favoured"


def _deal(db: Queryable, run: Run) -> tuple[str, SplitFields]:
    return run["dataset_id"], split_of(run["config"], datasets.get_dataset(db, run["dataset_id"]))


def fair(report: GateReport, favours: Sequence[str]) -> GateReport:
    """Where the version in use is favoured on the rows of a check, a worse figure there tells nothing; one
    that passes all the same has passed. favours: why, of each check; "" where it is not."""
    checks: list[CheckReport] = []
    for check, why in zip(report["checks"], favours, strict=True):
        answer: CheckAnswer = "cant_tell" if why and check["answer"] == "failed" else check["answer"]
        title = f"{check['title']} ({why})" if why else check["title"]
        checks.append({**check, "answer": answer, "title": title})
    return {**report, "checks": checks, "answer": decide.all_of([check["answer"] for check in checks])}
