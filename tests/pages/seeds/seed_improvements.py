"""A home folder with improvements in every state, and models at each point on the way to their first one.

`trec` is in production and served, has an improvement of every state and one for each answer of its checks;
`fresh` has feedback and none yet; nothing came back to `silent`; `bare` has no alias; `many` has 200.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, get_args

from store.core.home import Home
from store.core.rating_schemas import RoundSystem
from store.db.database import Transaction
from store.db.records import to_json
from store.evaluation.schemas import EvaluationCounts, EvaluationDetails
from store.registry import model_versions
from store.registry.schemas import CheckAnswer
from store.retraining.config import ImproveConfig
from store.retraining.schemas import ImprovementState
from tests.pages.seeds.made_once import made_once
from tests.unit.desk import Desk
from tests.unit.registering import finished_run, register
from tests.unit.store_samples import row_of

NOW = datetime(2027, 1, 15, 9, 0)
ENDPOINT = "ep-support"
MARGIN = 0.02
CHANGES: dict[CheckAnswer, tuple[float, float, float]] = {
    "passed": (0.061, 0.018, 0.104),
    "failed": (-0.14, -0.19, -0.09),
    "cant_tell": (0.01, -0.05, 0.07),
}


@made_once
def seed_improvements(path: Path) -> Home:
    """The home folder."""
    desk = Desk(path)
    desk.add_dataset("D")
    desk.add_dataset("D with new rows")
    desk.add_dataset("New rows", "g")
    finished_run(desk, task="classification", method="lora")
    finished_run(desk, "run-2", task="classification", method="lora")
    for place, model in enumerate(("trec", "fresh", "silent", "bare", "many")):
        register(desk, model, text=f"weights of {place}")
        if model != "bare":
            desk("promote", version=f"{model}@1", reason="The first.")
    register(desk, "trec", text="better weights")
    with desk.database.transaction() as tx:
        facts = {
            "rows": {"train": 4906, "validation": 545, "test": 500}, "run_seconds": 240.0, "device": "cpu",
            "device_name": "A processor",
        }  # fmt: skip
        tx.execute("UPDATE dataset SET row_count = 5997 WHERE dataset_id = 'data-D with new rows'")
        tx.execute("UPDATE run SET facts = ? WHERE run_id = 'run-1'", [to_json(facts)])
        _endpoint(tx, ENDPOINT, "Support <b>", "trec")
        _endpoint(tx, "ep-fresh", "Fresh", "fresh")
        _feedback(tx, ENDPOINT, "trec@1", corrections=3, labels=140)
        _feedback(tx, "ep-fresh", "fresh@1", corrections=1, labels=39)
        _round(tx)
        for side in ("old", "new"):
            for who in ("own", "other"):
                _evaluation(tx, f"e-{side}-{who}", 0.91 if who == "own" else 0.85)
        for place, state in enumerate(get_args(ImprovementState)):
            _improvement(tx, "trec", state, at=NOW + timedelta(hours=place), facts=_facts_of(state))
        for place, answer in enumerate(CHANGES):
            facts = {**_facts_of("deciding"), "gate": gate(answer)}
            at = NOW + timedelta(days=1, hours=place)
            _improvement(tx, "trec", "deciding", at=at, facts=facts, improvement_id=f"i-asked-{answer}")
        _improvement(tx, "many", "declined", at=NOW, facts=_facts_of("declined"), improvement_id="i-many")
        tx.execute(
            "INSERT INTO improvement"
            " SELECT improvement.* REPLACE (improvement_id || '-' || i AS improvement_id)"
            " FROM improvement, range(199) r(i) WHERE improvement_id = 'i-many'"
        )
    desk.database.close()
    return desk.home


def _endpoint(tx: Transaction, endpoint_id: str, name: str, model: str) -> None:
    settings = {"models": [{"name": model, "routes": [{"subject": f"{model}@production"}]}]}
    tx.execute(
        "INSERT INTO endpoint VALUES (?, ?, 'running', ?, ?, 'owner', 'Olga', ?)",
        [endpoint_id, name, NOW, to_json(settings), NOW],
    )


def _feedback(tx: Transaction, endpoint_id: str, version: str, *, corrections: int, labels: int) -> None:
    """Each of a request of its own; the log has no texts of one in ten."""
    asked = {"id": endpoint_id, "at": NOW, "version": version, "n": corrections + labels}
    tx.execute(
        "INSERT INTO request BY NAME SELECT $id AS endpoint_id, i AS place, $id || '-' || i AS request_id,"
        " $at AS asked_at, 'chat' AS kind, 'trec' AS model, $version AS version, 'live' AS role,"
        " 200 AS status, 0.1 AS seconds, false AS abstained, 12 AS input_characters, 'HUM' AS output,"
        ' CASE WHEN i % 10 <> 9 THEN \'[{"role": "user", "content": "Who was she?"}]\' END::JSON AS messages,'
        " 0 AS redacted FROM range($n) r(i)",
        asked,
    )
    tx.execute(
        "INSERT INTO feedback SELECT 'f-' || $id || i, $id || '-' || i, $id, $at, 'owner',"
        " CASE WHEN i < $corrections THEN 'correction' ELSE 'label' END, NULL, 'ENTY', '', $version, 'live',"
        " NULL, NULL, false, true, $at, 'trec', NULL, NULL FROM range($n) r(i)",
        asked | {"corrections": corrections},
    )


def _round(tx: Transaction) -> None:
    details = {"rows": 50, "drawn": 50, "named": 0, "left_out": 0, "empty": 0, "same": 0, "gold": 0}
    config = to_json({"protocol": "correction", "overlap": 1})
    row = ["round-1", "What is it?", "", "correction", config, to_json([row_of(RoundSystem, name="trec")])]
    row += ["open", None, 50, to_json(details | {"notices": []}), "owner", "Olga", NOW, None, None]
    tx.execute(f"INSERT INTO rating_round VALUES ({', '.join('?' * len(row))})", row)


def _evaluation(tx: Transaction, evaluation_id: str, value: float) -> None:
    figure = {
        "metric": "eval/accuracy", "unit": "share", "better": "higher", "estimator": "accuracy", "why": "",
        "bounds": [0.0, 1.0], "labels": [], "value": value, "low": value - 0.03, "high": value + 0.03,
        "n": 300, "groups": None, "rows": 300, "empty": 0, "failed": "", "details": {},
        "unscored": {"count": 0, "reasons": {}, "examples": []},
    }  # fmt: skip
    config = {"metrics": [{"metric": "accuracy"}], "confidence": 0.95}
    details = row_of(EvaluationDetails, counts=row_of(EvaluationCounts), notices=[], probes=[], seconds={})
    row = [evaluation_id, evaluation_id, "", "trec@2", None, "tuned", "data-D", "D", "f", "test", 300]
    row += [to_json(config), to_json([figure]), to_json(details), NOW]
    places = ", ".join("?" * len(row))
    tx.execute(
        "INSERT INTO evaluation (evaluation_id, name, notes, model, run_id, checkpoint, dataset_id,"
        " dataset_name, data_fingerprint, part, n, config, figures, details, created_at)"
        f" VALUES ({places})",
        row,
    )


def gate(answer: CheckAnswer) -> dict[str, Any]:
    """What the checks of an improvement say: old rows passed, new rows as asked."""
    checks = [
        _check("Not worse on the old rows", "old", "passed"),
        _check("Not worse on the new rows", "new", answer),
    ]
    return {
        "reference": "trec@2", "alias": "production", "holder": "trec@1", "answer": answer, "checks": checks,
        "sentence": "trec@2 beside trec@1, on the same rows.",
    }  # fmt: skip


def _check(title: str, side: str, answer: CheckAnswer) -> dict[str, Any]:
    value, low, high = CHANGES[answer]
    return {
        "check": "not_worse_than", "title": title, "answer": answer, "limit": -MARGIN, "unit": "share",
        "sentence": f"accuracy: on {side} rows.", "other": "trec@1",
        "value": {"value": value, "low": low, "high": high, "n": 300},
        "evaluations": [f"e-{side}-own", f"e-{side}-other"],
    }  # fmt: skip


def _facts_of(state: ImprovementState) -> dict[str, Any]:
    """What each step left, up to that of a state."""
    steps: list[tuple[ImprovementState, dict[str, Any]]] = [
        ("labelling", {}),
        ("gathering", {"old_dataset_id": "data-D", "gather_job": "job-gather", "holder": "trec@1"}),
        ("joining", {
            "rows_dataset_id": "data-New rows", "join_job": "job-join",
            "rows": {
                "asked": 143, "train": 91, "held_out": 38, "held_out_random": False,
                "only_train": 5, "corrects": 2,
                "left_out": {"the log has no text of the request": 13, "asks what a held-out row asks": 1},
                "again": {
                    "rows": 61, "times": {"0": 9, "1": 40, "2": 12}, "random": 0,
                    "left_out": {"answered differently since": 3},
                },
            },
        }),
        ("training", {"dataset_id": "data-D with new rows", "run_id": "run-2"}),
        ("registering", {"register_job": "job-register"}),
        ("measuring", {"version": "trec@2", "evaluation_jobs": [
            "e-old-own", "e-old-other", "e-new-own", "e-new-other",
        ]}),
        ("deciding", {"gate": gate("passed")}),
    ]  # fmt: skip
    facts: dict[str, Any] = {}
    last = {"promoted": "deciding", "declined": "deciding", "stopped": "joining", "failed": "training"}
    last["waiting"] = "gathering"
    for step, left in steps:
        if step != "labelling" or state == "labelling":
            facts |= left
        if step == last.get(state, state):
            break
    if state == "waiting":
        left_out = {"the log has no text of the request": 4}
        facts["rows"] = {
            **{"asked": 16, "train": 8, "held_out": 4, "held_out_random": False, "left_out": left_out},
            **{"only_train": 1, "corrects": 0},
        }
    return facts


def _improvement(
    tx: Transaction,
    model: str,
    state: ImprovementState,
    *,
    at: datetime,
    facts: dict[str, Any],
    improvement_id: str = "",
) -> None:
    rows: dict[str, Any] = {"source": "feedback", "endpoint": ENDPOINT}
    if state == "labelling":
        rows = {"source": "round", "round": "round-1"}
    config = ImproveConfig.parse({"model": model, "rows": [rows], "metric": "accuracy", "margin": MARGIN})
    troubles = {
        "failed": ("OutOfMemory", "The run ran out of memory.", "Take a smaller batch."),
        "waiting": (
            "TooFewRows",
            "12 of 16 new rows are usable; at least 20 are needed.",
            "Have more corrected.",
        ),
    }
    trouble = dict(zip(("error", "message", "fix"), troubles.get(state, ()), strict=False)) or None
    failed_at = {"failed": "training", "waiting": "gathering"}.get(state)
    ended = state in ("promoted", "declined", "stopped")
    row = [
        improvement_id or f"i-{state}", model_versions.get_model(tx, model).model_id, "production",
        f"{model} {at:%d %b} <i>{state}</i>", to_json(config.document()), state,
        failed_at, to_json(facts),
        to_json(trouble) if trouble else None, state == "measuring", "owner", "Olga", at, at,
        at if ended else None, "Olga" if ended else None, "As good, and knows more." if ended else "",
    ]  # fmt: skip
    tx.execute(f"INSERT INTO improvement VALUES ({', '.join('?' * len(row))})", row)
