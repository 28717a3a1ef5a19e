"""With which arguments each query function is asked of the golden home, made of what that home holds."""

from __future__ import annotations

import inspect
import itertools
import json
import random
from collections.abc import Iterator, Mapping
from typing import Any

from store.data.signals import GROUPS
from store.db.database import Database
from store.db.named_query import NamedQuery

MAX_CALLS = 9  # calls with different required arguments, of one query
Pools = Mapping[str, list[Any]]  # name of a parameter -> the arguments that are tried, as JSON has them

ALL_DAY = {"start": "2026-12-01T00:00:00", "end": "2026-12-02T00:00:00"}
ONE_HOUR = {"start": "2026-12-01T06:00:00", "end": "2026-12-01T07:00:00"}
TOPIC = {"conditions": [{"column": "label", "op": "is", "value": "numbers"}]}
LONG = {"conditions": [{"column": "characters", "op": "between", "value": [100, 400]}]}
FILTERS = [{}, {"search": "float"}, {"regex": "^[A-Z]"}, TOPIC, LONG, {"row_ids": [3, 1, 2]}]
SETS = ["data-0mx49j320oscs2", "data-0mx4b881kgh49y"]
WRITTEN = {"expression": "row_id % 7 = 0"}


def list_calls(key: str, query: NamedQuery, pools: Pools, own: Mapping[str, Pools]) -> list[dict[str, Any]]:
    """The arguments of every call of a query; `own` are those that only this query is asked with."""
    mine = {**pools, **own.get(key, {})}
    takes = list(inspect.signature(query.function).parameters.values())[1:]
    needed = [each.name for each in takes if each.default is each.empty]
    left_out = [each.name for each in takes if each.default is not each.empty]
    missing = [name for name in needed if name not in mine]
    assert not missing, f"{key} needs {missing}"
    products = itertools.product(*(mine[name] for name in needed))
    whole = [dict(zip(needed, values, strict=True)) for values in products]
    asked = random.Random(key).sample(whole, MAX_CALLS) if len(whole) > MAX_CALLS else whole
    return asked + list(_vary(asked, {name: mine[name] for name in left_out if name in mine}))


def _vary(asked: list[dict[str, Any]], pools: Pools) -> Iterator[dict[str, Any]]:
    """Some of the calls once more, with each argument that may be left out."""
    for (name, values), call in itertools.product(pools.items(), asked[:2]):
        for value in values:
            yield {**call, name: value}


def make_pools(database: Database) -> Pools:
    """Arguments by the names of parameters: what they mean is the same in nearly all queries."""
    ids = {name: _column(database, table, name) for name, table in ID_COLUMNS.items()}
    runs, jobs, datasets = ids["run_id"], ids["job_id"], ids["dataset_id"]
    versions = [f"topics@{number}" for number in (1, 2, 3)] + ["docs-qa@1", "topics@production", "topics@9"]
    return ids | {
        **_plain_pools(),
        "run": [*runs, "LoRA at 2e-4", "no such run"],
        "run_id": [*runs, "run-nobody"],
        "run_ids": [runs, runs[:2], []],
        "first": runs,
        "second": runs[::-1],
        "job_id": [*jobs, "job-nobody"],
        "job_ids": [jobs, jobs[:3], []],
        "dataset": [*datasets, "python topics", "no such data set"],
        "other": datasets,
        "rows": datasets,
        "sets": [datasets, datasets[:1]],
        "reference": versions,
        "version": versions[:4],
        "evaluation": ids["evaluation_id"],
        "conversation_id": [*ids["conversation_id"], "conversation-nobody"],
        "models": [{}],
    }


ID_COLUMNS = {
    "run_id": "run",
    "job_id": "job",
    "dataset_id": "dataset",
    "fingerprint": "dataset",
    "evaluation_id": "evaluation",
    "round_id": "rating_round",
    "endpoint_id": "endpoint",
    "model_id": "registered_model",
    "alert_id": "monitor_alert",
    "conversation_id": "conversation",
    "turn_id": "turn",
}


def _plain_pools() -> dict[str, list[Any]]:
    return {
        "person_id": ["owner", "person-0mx4bs8srukbfr"],
        "created_by": ["owner", "nobody"],
        "limit": [1, 3],
        "offset": [1, 5],
        "search": ["topics", "100%_"],
        "statuses": [["finished"], ["failed", "cancelled"]],
        "alias": ["production", "candidate"],
        "window": [ALL_DAY, ONE_HOUR],
        "since": ["2026-12-01T00:00:00", "2026-12-01T06:25:00"],
        "split": ["validation", "test"],
        "part": ["train", "held_out"],
        "where": FILTERS,
        "item_ids": [[0, 2, 5], []],
        "row_ids": [[0, 5, 2], []],
        "ids": [[4, 0, 2]],
        "words": ["float", "nothing at all"],
    }


def make_own_pools(database: Database) -> Mapping[str, Pools]:
    """Arguments of queries whose parameters mean something of their own."""
    evaluations = _column(database, "evaluation", "evaluation_id")
    rounds = _column(database, "rating_round", "round_id")
    own = {
        **_ask_of_data(database),
        **_ask_of_evaluations(evaluations),
        **_ask_of_runs(_column(database, "run", "run_id")),
        **_ask_of_jobs(_column(database, "model_export", "job_id"), _column(database, "alert", "job_id")),
        **_ask_of_endpoints(_column(database, "endpoint", "endpoint_id")),
        **_ask_of_the_rest(database),
        "item_page": {"round_id": rounds, "limit": [3]},
        "workload": {"at": ["2026-12-01T07:30:30", "2026-12-01T23:00:00"]},
        "dealt": {"person_id": ["person-0mx4btogc1uzd6", "nobody"]},
    }
    return own


def _ask_of_data(database: Database) -> dict[str, Pools]:
    work = _column(database, "job", "config::VARCHAR", "kind IN ('clean', 'profile', 'gather_rows')")
    names = [["text", "label"], ["characters", "label", "exact_group"], ["no_such_column"]]
    sort = [{"column": "label", "descending": True}, {"column": "characters"}]
    columns = ["label", *(each.column for group in GROUPS.values() for each in group.signals)]
    return {
        "companions": {"column": ["exact_group", "near_group", "label"], "row_id": [0, 7]},
        "explore.count": {"where": [*FILTERS, WRITTEN]},
        "explore.find": {"sort": sort},
        "row_ids": {"sort": sort},
        "explore.page": {
            "part": [{"names": ["text", "label"]}, {"names": ["characters"], "sort": sort[0], "limit": 3}],
        },
        "values_of": {"names": names, "shorten": [12]},
        "facets": {"names": [["label"], columns[:6], columns], "where": [{}, TOPIC, {"search": "log"}]},
        "matching": {"search": ["", "float"], "regex": ["", "lo+g"]},
        "map_points.points": {"text": ["text"], "column": ["label"]},
        "values": {"column": ["label", "language", "no_such_column"]},
        "skipped": {"from_line": [2]},
        "work_order": {"config": [json.loads(text) for text in work]},
        "compare": {"fate": ["kept", "changed", "dropped", "added"]},
        "fates": {"which": [{"fate": "dropped"}, {"step": 0}, {"search": "short"}]},
    }


def _ask_of_evaluations(evaluations: list[str]) -> dict[str, Pools]:
    both = {"first": evaluations, "second": evaluations[::-1]}
    metrics = ["eval/token_f1", "eval/exact_match", "eval/accuracy", "eval/perplexity"]
    return {
        "of_pair": {"first": [evaluations[4], evaluations[3]], "second": evaluations[3:5]},
        "pair": both,
        "evaluations.shared": both | {"metric": metrics[:2]},
        "evaluations.get": {"name": [*evaluations, "Base model on test rows", "no such evaluation"]},
        "evaluations.page": {"metric": metrics, "better": ["lower"]},
        "evaluations.sliced": {"metric": metrics, "other": evaluations[:3]},
        "evaluations.listed": {"model": ["SmolLM2-135M-Instruct", "topics@2"]},
        "comment_counts": {
            "subject_kind": ["run", "row", "evaluation", "comparison"],
            "subject_ids": [["run-0mx49k6oai2ngg", evaluations[2], "data-0mx49j320oscs2/3"]],
        },
        "list_comments": {
            "subject_kind": ["run", "row", "evaluation", "comparison"],
            "subject_id": ["run-0mx49k6oai2ngg", evaluations[2], "data-0mx49j320oscs2/3"],
        },
        "checks.get": {"job_id": ["job-0mx4azinc9p0c8", "job-nobody"]},
        "checks.newest": {"model": ["SmolLM2-135M-Instruct", "topics@1"]},
    }


def _ask_of_runs(runs: list[str]) -> dict[str, Pools]:
    metrics = ["train/loss", "eval/loss", "eval/label_accuracy", "probe/prose/loss", "no_such_metric"]
    classes = [{}, {"only": "wrong"}, {"only": "right"}, {"label": "numbers", "predicted": "dates"}]
    pairs = {"first": runs, "second": runs[::-1]}
    figures = ["figures.gain", "figures.classes.accuracy", "figures.text.prose", "metrics.eval/loss.min"]
    return {
        "curve": {"name": metrics, "buckets": [5], "first": [10]},
        "curves": {"run_ids": [runs[:3]], "name": metrics[:2], "axis": ["tokens"], "buckets": [5]},
        "value_at": {"run_id": runs[:2], "name": metrics[:2], "step": [1, 10]},
        "run_table": {
            "columns": [figures, ["config.r", "verdict", "tags"]],
            "sort": ["figures.gain", "name", "config.learning_rate"],
            "conditions": [[{"column": "figures.gain", "op": ">", "value": 0}]],
            "descending": [False],
        },
        "class_predictions.page": {"wanted": classes},
        "class_predictions.shared": pairs,
        "row_losses.shared": pairs,
        "probe_rows.of_runs": {"probe": ["prose", "choices", "train_rows", "requests"]},
        "questions": {"only": ["lost", "won", "wrong"]},
        "course": {"most": [2]},
        "sums": {"kind": ["tokens", "label", "accuracy", "pairs"]},
        "interpolations.points": {"run_id": runs[:2]},
        "made_by_others": {"made": ["run", "dataset", "evaluation"]},
        "measured_transfer": {"asked": [{}, {"max_rows": 10}], "sets": [SETS]},
        "seconds_a_cell": {"max_rows": [None, 10]},
        "exports.unfinished": {"subject": [runs[0], "topics@1", "topics@2"]},
    }


def _ask_of_jobs(exports: list[str], alerting: list[str]) -> dict[str, Pools]:
    return {
        "registered_by": {"job_id": ["job-0mx4b0unp6hnke", "job-0mx4z2rt2ra16p", "job-nobody"]},
        "judgements": {"job_id": ["job-0mx4f0000judge", "job-nobody"]},
        "alerts": {"job_id": [*alerting, "job-nobody"]},
        "exports.get": {"job_id": [*exports, "job-nobody"]},
        "verifications": {"export": [*exports, ""]},
    }


def _ask_of_endpoints(endpoints: list[str]) -> dict[str, Pools]:
    meant = [{"endpoint_id": each} for each in endpoints]
    narrow = {"endpoint_id": endpoints[0], **ALL_DAY, "places": [10, 60], "group": ""}
    judged = [{"endpoint_id": endpoints[0], **window} for window in (ALL_DAY, ONE_HOUR)]
    signals = ["input_length", "output_length", "input_topic", "output_label", "input_language"]
    of_window = {"most": 20, **ALL_DAY}
    return {
        "callers_by_group": {"kind": ["thumb", "label"]},
        "judged_requests.answers": {"job_id": ["job-0mx4f0001judge", "job-nobody"], "window": judged},
        "correcting": {"job_id": ["job-0mx4f0001judge", "job-nobody"], "window": judged},
        "logged_requests.count": {"meant": [*meant, narrow]},
        "logged_requests.newest": {"meant": [*meant, narrow], "most": [3]},
        "meant_by": {"chosen": [{"endpoint": "topics"}, {"endpoint": "nobody"}, {"endpoint": endpoints[0]}]},
        "endpoint": {"name": ["topics", *endpoints, "nobody"]},
        "reference_count": {"which": [{"most": 50, "start": None, "end": None}, of_window]},
        "returned": {"model": ["topics", "docs-qa", "nobody"]},
        "count_labelled": {
            "pair": [
                json.dumps([endpoints[0], "topics", "topics@1", "topics@2", "candidate"]),
                json.dumps([endpoints[0], "topics", "topics@1", "topics@3", "shadow"]),
            ],
        },
        "bad_of_candidate": {"limit": [3]},
        "thumbs_down": {"limit": [3]},
        "troubled": {"kind": ["errors", "latency", "feedback", "quality", "refused"], "limit": [3]},
        "most_unlike": {"name": signals, "places": [[0, 100]], "order": ["ASC", "DESC"], "limit": [3]},
        "with_names": {"name": signals[2:], "places": [[0, 100]], "names": [["numbers", "en"]], "limit": [3]},
    }


def _ask_of_the_rest(database: Database) -> dict[str, Pools]:
    numbers = [1, 2, 3]
    states = [["deciding"], ["promoted", "declined"]]
    fingerprints = _column(database, "model_version", "fingerprint")
    kinds = _column(database, "job", "kind")
    which = [
        {"person_id": "owner"},
        {"commands": ["launch", "evaluate"]},
        {"subject_kind": "dataset"},
        {"search": "topics"},
        {"mentions": "person-0mx4btogc1uzd6"},
    ]
    paths = [{"conversation_id": each} for each in _column(database, "turn", "conversation_id")]
    return {
        "activity.listed": {"which": which},
        "answered_by": {
            "names": [["base", "topics@1"], ["SmolLM2-135M-Instruct"]],
            "made_by": ["Ada", "owner"],
        },
        "path": {
            "conversation_id": [each["conversation_id"] for each in paths],
            "leaf": [*_column(database, "turn", "turn_id"), "turn-nobody"],
        },
        "job_queue.unfinished": {"kind": kinds},
        "with_status": {
            "kinds": [["train"], ["import", "profile"]],
            "statuses": [["finished"], ["failed"], ["cancelled", "queued"]],
        },
        "of_version": {"version": numbers},
        "case": {"alias": ["production", "candidate"]},
        "improvements.get": {"name": [*_column(database, "improvement", "improvement_id"), "nobody"]},
        "in_states": {"states": states},
        "listed_versions.newest": {"limit": [2, 10]},
        "evaluations_of": {"version": ["topics@1", "topics@2", "topics@3", "docs-qa@1"]},
        "find_fingerprint": {"fingerprint": fingerprints},
        "get_model": {"name": ["topics", "docs-qa", "nobody"]},
        "of_endpoint": {"alert_id": [*_column(database, "monitor_alert", "alert_id"), "alert-nobody"]},
    }


def _column(database: Database, table: str, column: str, where: str = "true") -> list[Any]:
    """The different values of a column, sorted."""
    sql = f"SELECT DISTINCT {column} AS value FROM {table} WHERE {where} ORDER BY 1"
    return database.query(sql)["value"].to_pylist()
