"""Runs and imports as the command line shows them, for people and as documents."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TypedDict

from engine.diagnostics.phrasing import plural
from store.contract.errors import from_dict
from store.documents.figures.estimate import Estimate
from store.documents.figures.metric import MetricSummary
from store.documents.shipping.bias_details import BiasCheck
from store.documents.tables.alert import Alert
from store.documents.tables.run import Run
from store.documents.verdicts.verdict import Gain, GainParts
from store.http.client import Client
from store.queries import metrics
from store.queries.bias import checks
from store.queries.runs import runs
from tunebench.terminal.output import out, print_json, print_rows, say


class RunSummary(TypedDict):
    """The fields of a run that a list shows."""

    run_id: str
    name: str
    status: str
    model: str
    method: str
    dataset_name: str
    created_at: datetime
    last_step: int | None
    base_eval_loss: float | None
    best_eval_loss: float | None
    best_step: int | None
    last_train_loss: float | None
    gain: Gain | None
    gain_parts: GainParts | None


class RunDocument(Run):
    """All that is known of a run but its curves."""

    metrics: dict[str, MetricSummary]  # by name
    alerts: list[Alert]
    bias: BiasCheck | None  # the newest


def summary(run: Run) -> RunSummary:
    """What a list shows of a run."""
    return {
        "run_id": run["run_id"],
        "name": run["name"],
        "status": run["status"],
        "model": run["model"],
        "method": run["method"],
        "dataset_name": run["dataset_name"],
        "created_at": run["created_at"],
        "last_step": run["last_step"],
        "base_eval_loss": run["base_eval_loss"],
        "best_eval_loss": run["best_eval_loss"],
        "best_step": run["best_step"],
        "last_train_loss": run["last_train_loss"],
        "gain": _gain(run),
        "gain_parts": _parts(run),
    }


def _parts(run: Run) -> GainParts | None:
    verdict = run["verdict"]
    return verdict.get("parts") if verdict else None


def _gain(run: Run) -> Gain | None:
    verdict = run["verdict"]
    return verdict["gain"] if verdict else None


def run_document(client: Client, run: Run) -> RunDocument:
    """The row, metric summaries, alerts, the newest bias check."""
    return {
        **run,
        "metrics": {row["name"]: row for row in metrics.summaries(client, [run["run_id"]])},
        "alerts": runs.alerts(client, run["run_id"]),
        "bias": checks.newest(client, run_id=run["run_id"]),
    }


def loss_text(loss: float | None) -> str:
    """A loss for people; a dash where there is none yet."""
    return "–" if loss is None else f"{loss:.3f}"


def gain_text(gain: Estimate | None) -> str:
    """A gain with its 95% interval, where there are rows enough for one, and n."""
    if not gain:
        return "–"
    if gain["low"] is None:
        return f"{gain['value']:+.3f} (n {gain['n']})"
    return f"{gain['value']:+.3f} ({gain['low']:+.3f} to {gain['high']:+.3f}, n {gain['n']})"


def print_runs(listed: Sequence[Run], total: int) -> None:
    """A table of runs; says so where it is cut."""
    rows = [
        [
            run["name"],
            run["status"],
            run["method"],
            run["dataset_name"],
            loss_text(run["base_eval_loss"]),
            loss_text(run["best_eval_loss"]),
            gain_text(_gain(run)),
            gain_text((parts := _parts(run)) and parts["question"]),
            run["run_id"],
        ]
        for run in listed
    ]
    columns = ["name", "status", "method", "data set", "base loss", "best loss"]
    columns += ["gain (nats a token)", "of it the question", "id"]
    print_rows(columns, rows, f"{len(listed):,} of {plural(total, 'run')}")


def print_run(run: Run) -> None:
    """One run: what it is, how it stands, and its verdict."""
    out.print(f"{run['name']}  {run['status']}  {run['run_id']}", markup=False, soft_wrap=True)
    rows: list[list[object]] = [
        ["model", run["model"]],
        ["data set", run["dataset_name"]],
        ["method", run["method"]],
        ["steps", run["last_step"]],
        ["validation loss of the base", loss_text(run["base_eval_loss"])],
        ["best validation loss", _best(run)],
    ]
    print_rows(["", ""], [row for row in rows if row[1] is not None])
    verdict = run["verdict"]
    for part in (verdict, verdict.get("forgetting") if verdict else None):
        for sentence in (part["headline"], *part["sentences"]) if part else ():
            out.print(sentence, markup=False, soft_wrap=True)
    if bundle := run["facts"].get("reproduces"):
        name = bundle["run_name"]
        text = f"Launched from the bundle {bundle['bundle']} of the run {name} ({bundle['run_id']})."
        out.print(text, markup=False, soft_wrap=True)
    if run["error"]:
        say(str(from_dict(run["error"])))


def print_bias(client: Client, run_id: str) -> None:
    """What the newest bias check of a run came to; nothing where there is none."""
    if listed := checks.listed(client, run_id=run_id, limit=1):
        out.print(f"Bias: {listed[0]['sentence']}", markup=False, soft_wrap=True)


def _best(run: Run) -> str | None:
    """The lowest validation loss with its step; None before a validation gave a number."""
    if run["best_eval_loss"] is None or run["best_step"] is None:
        return None
    return f"{loss_text(run['best_eval_loss'])} at step {run['best_step']:,}"


def restored_loss(client: Client, run: Run) -> float | None:
    """Validation loss of the weights that the run ended with; None before it has ended."""
    stopped = run["facts"].get("stopped")
    if not stopped:
        return None
    step = stopped["restored_step"]
    return None if step is None else metrics.value_at(client, run["run_id"], "eval/loss", step)


def print_sample(client: Client, run_id: str, as_json: bool) -> None:
    """How the sample experiment ended: base and tuned validation loss, gain, its interval."""
    run = runs.get_run(client, run_id)
    if not as_json:
        print_run(run)
        return
    verdict, gain = run["verdict"], _gain(run)
    print_json(
        {
            "run_id": run_id,
            "status": run["status"],
            "base_validation_loss": run["base_eval_loss"],
            "tuned_validation_loss": restored_loss(client, run),
            "gain": gain and gain["value"],
            "gain_low": gain and gain["low"],
            "gain_high": gain and gain["high"],
            "gain_rows": gain and gain["n"],
            "gain_split": gain and gain["split"],
            "gain_unit": gain and gain["unit"],
            "state": verdict and verdict["state"],
            "headline": verdict and verdict["headline"],
            "error": run["error"],
        }
    )
