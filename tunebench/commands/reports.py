"""Runs and imports as the command line shows them, for people and as documents."""

from __future__ import annotations

from typing import Any

from store.contract.errors import from_dict
from store.http.client import Client
from store.queries import metrics
from store.queries.runs import runs
from tunebench.terminal.output import out, plural, print_json, print_rows, say

SUMMARY = (
    *("run_id", "name", "status", "model", "method", "dataset_name", "created_at", "last_step"),
    *("base_eval_loss", "best_eval_loss", "best_step", "last_train_loss"),
)


def summary(run: dict[str, Any]) -> dict[str, Any]:
    """The fields of a run that a list shows."""
    return {key: run[key] for key in SUMMARY} | {"gain": (run["verdict"] or {}).get("gain")}


def run_document(client: Client, run: dict[str, Any]) -> dict[str, Any]:
    """All that is known of a run but its curves: the row, metric summaries, alerts."""
    return {
        **run,
        "metrics": {row["name"]: row for row in metrics.summaries(client, [run["run_id"]])},
        "alerts": runs.alerts(client, run["run_id"]),
    }


def number(value: float | None, digits: int = 3) -> str:
    """A loss for people; a dash where there is none yet."""
    return "–" if value is None else f"{value:.{digits}f}"


def gain_text(gain: dict[str, Any] | None) -> str:
    """A gain with its 95% interval, where there are rows enough for one, and n."""
    if not gain:
        return "–"
    if gain["low"] is None:
        return f"{gain['value']:+.3f} (n {gain['n']})"
    return f"{gain['value']:+.3f} ({gain['low']:+.3f} to {gain['high']:+.3f}, n {gain['n']})"


def print_runs(found: list[dict[str, Any]], total: int) -> None:
    """A table of runs; says so where it is cut."""
    rows = [
        [
            run["name"],
            run["status"],
            run["method"],
            run["dataset_name"],
            number(run["base_eval_loss"]),
            number(run["best_eval_loss"]),
            gain_text((run["verdict"] or {}).get("gain")),
            run["run_id"],
        ]
        for run in found
    ]
    columns = ["name", "status", "method", "data set", "base loss", "best loss", "gain (nats a token)", "id"]
    print_rows(columns, rows, f"{len(found):,} of {plural(total, 'run')}")


def print_run(run: dict[str, Any]) -> None:
    """One run: what it is, how it stands, and its verdict."""
    out.print(f"{run['name']}  {run['status']}  {run['run_id']}", markup=False, soft_wrap=True)
    rows = [
        ["model", run["model"]],
        ["data set", run["dataset_name"]],
        ["method", run["method"]],
        ["steps", run["last_step"]],
        ["validation loss of the base", number(run["base_eval_loss"])],
        ["best validation loss", _best(run)],
    ]
    print_rows(["", ""], [row for row in rows if row[1] is not None])
    verdict = run["verdict"] or {}
    for part in (verdict, verdict.get("forgetting") or {}):
        for sentence in (part["headline"], *part["sentences"]) if part else ():
            out.print(sentence, markup=False, soft_wrap=True)
    if run["error"]:
        say(str(from_dict(run["error"])))


def _best(run: dict[str, Any]) -> str | None:
    """The lowest validation loss with its step; None before a validation gave a number."""
    if run["best_eval_loss"] is None or run["best_step"] is None:
        return None
    return f"{number(run['best_eval_loss'])} at step {run['best_step']:,}"


def restored_loss(client: Client, run: dict[str, Any]) -> float | None:
    """Validation loss of the weights that the run ended with; None before it has ended."""
    stopped = run["facts"].get("stopped")
    if not stopped:
        return None
    table = client.query(
        "SELECT value FROM metric WHERE run_id = $1 AND name = 'eval/loss' AND step = $2",
        [run["run_id"], stopped["restored_step"]],
    )
    return float(table["value"][0].as_py()) if table.num_rows else None


def print_sample(client: Client, run_id: str, as_json: bool) -> None:
    """How the sample experiment ended: base and tuned validation loss, gain, its interval."""
    run = runs.get_run(client, run_id)
    if not as_json:
        print_run(run)
        return
    verdict = run["verdict"] or {}
    gain = verdict.get("gain") or {}
    print_json(
        {
            "run_id": run_id,
            "status": run["status"],
            "base_validation_loss": run["base_eval_loss"],
            "tuned_validation_loss": restored_loss(client, run),
            "gain": gain.get("value"),
            "gain_low": gain.get("low"),
            "gain_high": gain.get("high"),
            "gain_rows": gain.get("n"),
            "gain_split": gain.get("split"),
            "gain_unit": gain.get("unit"),
            "state": verdict.get("state"),
            "headline": verdict.get("headline"),
            "error": run["error"],
        }
    )
