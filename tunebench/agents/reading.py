"""Tools that read: runs, data sets, evaluations, models, and statements of SQL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import Field

from engine.diagnostics.data.findings import findings
from engine.diagnostics.verdicts import run_figures
from store.catalog.signals import GROUPS
from store.contract.calendar import spelled_out
from store.documents.figures.figure import Figure
from store.documents.tables.run import Run
from store.documents.verdicts.verdict import read_verdict
from store.http.client import Client
from store.queries import jobs
from store.queries.data import datasets, quality, versions
from store.queries.evaluations import evaluations
from store.queries.runs import runs
from store.queries.shipping import listed_versions
from tunebench.agents.answers import MOST_LISTED, figure_words

Limit = Annotated[int, Field(ge=1, le=MOST_LISTED, description="Entries at most")]
SQL_ROWS = 200
Connect = Callable[[], Client]


class ReadTools:
    """The tools over one engine; `connect` gives its client or raises."""

    def __init__(self, connect: Connect) -> None:
        self.connect = connect

    def list_runs(self, search: str = "", status: str = "", limit: Limit = 20) -> object:
        """Runs, newest first, each with its status and its gain over the base model with the 95% interval.
        search: part of a run's, model's or data set's name. status: queued, preparing, training, evaluating,
        finished, failed, cancelled or lost."""
        client, statuses = self.connect(), (status,) if status else ()
        listed = runs.list_runs(client, search=search, statuses=statuses, limit=limit)
        total = runs.count_runs(client, search=search, statuses=statuses)
        return {"total": total, "shown": len(listed), "runs": [_line(run) for run in listed]}

    def get_run(self, run: str) -> object:
        """One run by id or name: what it trained, and its verdict: every figure with its 95% interval and n,
        and whether it can be told from noise; what it forgot; what to try next; its warnings."""
        client = self.connect()
        row = runs.get_run(client, run)
        verdict = read_verdict(row["verdict"])
        document: dict[str, Any] = {
            **_line(row),
            "notes": row["notes"],
            "config": row["config"],
            "error": row["error"],
            "warnings": [alert["message"] for alert in runs.alerts(client, row["run_id"])],
            "from_bundle": row["facts"].get("reproduces"),
            "verdict": None,
        }
        if verdict is not None:
            forgetting = verdict["forgetting"]
            document["verdict"] = {
                "state": verdict["state"],
                "headline": verdict["headline"],
                "sentences": verdict["sentences"],
                "forgetting": [forgetting["headline"], *forgetting["sentences"]] if forgetting else None,
                "figures": [figure_words(figure) for figure in run_figures.figures_of(verdict)],
                "advice": [{"text": piece["text"], "change": piece["change"]} for piece in verdict["advice"]],
            }
        return document

    def run_status(self, run: str) -> object:
        """How far a run is: its status, its progress, the seconds that are left, its error."""
        client = self.connect()
        row = runs.get_run(client, run)
        return {
            "run_id": row["run_id"],
            "name": row["name"],
            "status": row["status"],
            "done": row["progress_done"],
            "of": row["progress_total"],
            "unit": row["progress_unit"],
            "message": row["progress_message"],
            "seconds_left": row["eta_seconds"],
            "last_step": row["last_step"],
            "last_validation_loss": row["last_eval_loss"],
            "error": row["error"],
            "waiting_before_it": _before(client, row),
        }

    def list_datasets(self, limit: Limit = 50) -> object:
        """Data sets with their rows, duplicates and format."""
        rows = datasets.list_datasets(self.connect())
        listed = [
            {
                "dataset_id": row["dataset_id"],
                "name": row["name"],
                "kind": row["kind"],
                "format": row["format"],
                "rows": row["row_count"],
                "repeated_rows": row["duplicate_count"],
                "made_from": row["parent_id"],
            }
            for row in rows[:limit]
        ]
        return {"total": len(rows), "shown": len(listed), "datasets": listed}

    def get_dataset(self, dataset: str) -> object:
        """One data set by id or name: what it is, how it is split, what was found in it (each finding with
        the rows it rests on), its versions and the runs that use it."""
        client = self.connect()
        row = datasets.get_dataset(client, dataset)
        measured = quality.signals(client, row["fingerprint"])
        return {
            "dataset_id": row["dataset_id"],
            "name": row["name"],
            "kind": row["kind"],
            "format": row["format"],
            "rows": row["row_count"],
            "rows_not_taken": row["skipped_count"],
            "labels": row["stats"]["labels"],
            "split": {name: row[name] for name in ("split_by", "validation_size", "test_size")},
            "measured": sorted(measured),
            "not_measured": sorted(set(GROUPS) - set(measured)),
            "findings": [
                {"severity": finding.severity, "title": finding.title, "rests_on": finding.measure}
                for finding in findings(row, measured, GROUPS)
            ],
            "versions": [
                {
                    "dataset_id": version["dataset_id"],
                    "name": version["name"],
                    "rows": version["row_count"],
                    "made_by": version["titles"],
                    "runs": [run["name"] for run in version["runs"]],
                }
                for version in versions.tree(client, row["dataset_id"])
            ],
        }

    def list_evaluations(self, run: str = "", limit: Limit = 20) -> object:
        """Evaluations, newest first, of one run or of all, each with its figures and their 95% intervals."""
        client = self.connect()
        run_id = runs.get_run(client, run)["run_id"] if run else None
        listed = evaluations.list_evaluations(client, run_id=run_id, limit=limit)
        return {
            "shown": len(listed),
            "may_be_more": len(listed) == limit,
            "evaluations": [
                {
                    "evaluation_id": row["evaluation_id"],
                    "name": row["name"],
                    "run_id": row["run_id"],
                    "model": row["model"],
                    "dataset": row["dataset_name"],
                    "part": row["part"],
                    "rows": row["n"],
                    "figures": [_figure(figure) for figure in row["figures"]],
                }
                for row in listed
            ],
        }

    def get_evaluation(self, evaluation: str) -> object:
        """One evaluation by id or name: figures with intervals, rows that could not be scored, notices."""
        row = evaluations.get(self.connect(), evaluation)
        return {
            "evaluation_id": row["evaluation_id"],
            "name": row["name"],
            "notes": row["notes"],
            "run_id": row["run_id"],
            "model": row["model"],
            "checkpoint": row["checkpoint"],
            "dataset": row["dataset_name"],
            "part": row["part"],
            "rows": row["n"],
            "figures": [_figure(figure) for figure in row["figures"]],
            "notices": row["details"]["notices"],
        }

    def list_models(self, limit: Limit = 50) -> object:
        """Base models in the home folder, and registered models with their versions and aliases."""
        client = self.connect()
        here = client.models()
        return {
            "base_models": [
                {"name": model["name"], "parameters": model["parameters"], "ready": model["ready"]}
                for model in here[:limit]
            ],
            "base_models_total": len(here),
            "registered": listed_versions.newest(client, limit),
            "registered_total": listed_versions.count(client),
        }

    def sql(self, statement: str, limit: Annotated[int, Field(ge=1, le=SQL_ROWS)] = 50) -> object:
        """One read-only SQL statement (DuckDB) over the experiment store: run_overview, metric, dataset, job,
        evaluation, model_version, … `SHOW TABLES` lists them. Rows beyond `limit` are left out, and
        counted."""
        table = spelled_out(self.connect().people.query(statement))
        rows = [list(row.values()) for row in table.slice(0, limit).to_pylist()]
        return {"columns": table.column_names, "rows": rows, "shown": len(rows), "total": table.num_rows}


def _line(run: Run) -> dict[str, Any]:
    verdict = read_verdict(run["verdict"])
    gain = next((f for f in run_figures.figures_of(verdict) if f["key"] == "gain"), None) if verdict else None
    return {
        "run_id": run["run_id"],
        "name": run["name"],
        "status": run["status"],
        "model": run["model"],
        "method": run["method"],
        "dataset": run["dataset_name"],
        "launched_at": run["created_at"],
        "gain": figure_words(gain) if gain else "not known",
        "state": verdict["state"] if verdict else None,
    }


def _before(client: Client, run: Run) -> int:
    """Jobs of the queue that were there before it, while it waits."""
    if run["status"] != "queued":
        return 0
    waiting = [job["job_id"] for job in jobs.queue(client)]
    return waiting.index(run["run_id"]) if run["run_id"] in waiting else 0  # it may have begun meanwhile


def _figure(figure: Figure) -> str:
    name, value = figure["metric"].removeprefix("eval/"), figure["value"]
    if value is None:
        return f"{name}: nothing could be scored ({figure['failed'] or 'no usable row'})"
    low, high = figure["low"], figure["high"]
    better = f"{figure['better']} is better"
    if low is None or high is None:
        return f"{name}: {value:.4g} {figure['unit']} (no interval, n {figure['n']:,}; {better})"
    interval = f"95% interval {low:.4g} to {high:.4g}, n {figure['n']:,}"
    return f"{name}: {value:.4g} {figure['unit']} ({interval}; {better})"
