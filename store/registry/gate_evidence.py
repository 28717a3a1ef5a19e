"""All that a gate is judged by: what was measured of a version beside another model, and what people said
of it in rating rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from store.core.errors import NotFoundError, TunebenchError
from store.core.metric_table import METRICS
from store.core.model_schemas import ModelVersion
from store.core.rating_schemas import COUNTING, Round
from store.data import datasets
from store.db.named_query import named_query
from store.db.records import read_records
from store.evaluation import evaluation_pairs, evaluations
from store.evaluation.schemas import Evaluation
from store.rating import ratings, rounds
from store.registry import gate_candidates, model_versions
from store.registry.config import TITLES, GateConfig
from store.registry.gate_candidates import (
    Candidate,
    Check,
    format_gather_command,
    format_version_reference,
    get_candidate,
)
from store.registry.schemas import CheckInputs, GateRow, RatedRows

if TYPE_CHECKING:
    from store.db.database import Queryable

# What was measured of a version: evaluations beside another model, and how sure and how fast it is.
#
# An evaluation of the run that a version came from, of the same checkpoint, is one of the version: the
# weights are the same.

METRIC = "eval/"


@named_query
def evaluations_of(db: Queryable, version: ModelVersion, *, limit: int = 200) -> list[Evaluation]:
    """Those of a version, and those of the same weights as a run left them, newest first."""
    return list_weight_evaluations(
        db, format_version_reference(version), version["run_id"], version["source"]["checkpoint"], limit
    )


def list_weight_evaluations(
    db: Queryable, reference: str | None, run_id: str | None, checkpoint: str | None, limit: int
) -> list[Evaluation]:
    """Those of the version NAME@3, and of the run's checkpoint, newest first; null is none."""
    sql = """
        SELECT * FROM evaluation
        WHERE (model = $1 AND run_id IS NULL) OR (run_id = $2 AND checkpoint = $3)
        ORDER BY created_at DESC, evaluation_id DESC LIMIT $4"""
    table = db.query(sql, [reference, run_id, checkpoint, limit])
    return read_records(table, Evaluation, evaluations.JSON_COLUMNS)


def find_on_rows(
    candidates: list[Evaluation],
    check: Check,
    fingerprint: str,
    metric: str,
    like: Evaluation | None = None,
) -> Evaluation | None:
    """The newest of them that measured the metric on the rows of a check: of those that were asked as `like`
    was, where there are such."""
    newest = None
    for entry in candidates:
        if _is_on_rows(entry, check, fingerprint, metric):
            newest = newest or entry
            if like is None or not evaluation_pairs.describe_metric_differences(entry, like, metric):
                return entry
    return newest


def count_tries(
    candidates: list[Evaluation],
    check: Check,
    fingerprint: str,
    metric: str,
    others: Sequence[Evaluation] = (),
) -> int:
    """How often the metric was measured on the rows of a check, in whatever way: the newest takes the place
    of those before, so that each more is one more chance. `others` are of the other model: those that were
    made since the first of the version, which was known by then."""
    own, its = (
        [entry for entry in entries if _is_on_rows(entry, check, fingerprint, metric)]
        for entries in (candidates, others)
    )
    first = min((entry["created_at"] for entry in own), default=None)
    return len(own) + sum(first is not None and entry["created_at"] > first for entry in its)


def _is_on_rows(entry: Evaluation, check: Check, fingerprint: str, metric: str) -> bool:
    same = entry["data_fingerprint"] == fingerprint and entry["part"] == check["part"]
    same = same and (entry["config"].get("where") or None) == (check["where"] or None)
    return same and any(figure["metric"] == METRIC + metric for figure in entry["figures"])


def _describe_rows(db: Queryable, evaluation: Evaluation, metric: str) -> GateRow:
    table = evaluations.scores(db, evaluation["evaluation_id"])
    lines = [line for line in table.to_pylist() if line["metric"] == METRIC + metric]
    figure = next(figure for figure in evaluation["figures"] if figure["metric"] == METRIC + metric)
    return {
        "evaluation_id": evaluation["evaluation_id"],
        "name": evaluation["name"],
        "figure": figure,
        "row_ids": [line["row_id"] for line in lines],
        "scores": [line["score"] for line in lines],
        "statistics": [line["statistics"] for line in lines],
        "groups": evaluations.groups(db, evaluation["evaluation_id"]),
    }


def list_base_evaluations(db: Queryable, version: ModelVersion) -> list[Evaluation]:
    """Evaluations of what a version was tuned from: by name, or as the base of its run."""
    sql = """
        SELECT * FROM evaluation
        WHERE (model = $1 AND run_id IS NULL) OR (run_id = $2 AND checkpoint = 'base')
        ORDER BY created_at DESC, evaluation_id DESC LIMIT 200"""
    table = db.query(sql, [version["base_model"], version["run_id"]])
    return read_records(table, Evaluation, evaluations.JSON_COLUMNS)


def _pair_rows(
    db: Queryable, candidate: Candidate, check: Check, other: str, of_other: list[Evaluation]
) -> CheckInputs:
    """The version's rows and the other's, or what of them is missing."""
    try:
        dataset = datasets.get_dataset(db, check["dataset"])
    except NotFoundError as error:
        return {"missing": f"{error.message} The gate names it.", "other": other}
    metric, fingerprint = check["metric"], dataset["fingerprint"]
    its = find_on_rows(of_other, check, fingerprint, metric)
    of_version = evaluations_of(db, candidate.version)
    own = find_on_rows(of_version, check, fingerprint, metric, its)
    lacking = [name for name, entry in ((candidate.reference, own), (other, its)) if entry is None]
    if own is None or its is None:
        sentence = (
            f"{' and '.join(lacking)} was not evaluated on {dataset['name']} by {METRICS[metric].title} yet."
        )
        if len(lacking) > 1:
            sentence = sentence.replace(" was ", " were ")
        return {"missing": sentence, "other": other, **format_gather_command(candidate)}
    if ways := evaluation_pairs.describe_metric_differences(own, its, metric):
        sentence = (
            f"{candidate.reference} was not asked as {other} was on {dataset['name']} ({'; '.join(ways)}),"
            " which may make answers differ by itself."
        )
        return {"missing": sentence, "other": other, **format_gather_command(candidate)}
    return {
        "rows": _describe_rows(db, own, metric),
        "other_rows": _describe_rows(db, its, metric),
        "other": other,
        "tries": count_tries(of_version, check, fingerprint, metric, of_other),
        **format_gather_command(candidate),
    }


def collect_not_worse(db: Queryable, candidate: Candidate, check: Check) -> CheckInputs:
    holder = candidate.holder
    if holder is None:
        return {"other": ""}
    return _pair_rows(db, candidate, check, format_version_reference(holder), evaluations_of(db, holder))


def collect_better(db: Queryable, candidate: Candidate, check: Check) -> CheckInputs:
    version = candidate.version
    base = version["base_model"]
    if check["dataset"]:
        if not base:
            return {"missing": "It is a whole model that was imported: nobody knows its base."}
        return _pair_rows(db, candidate, check, base, list_base_evaluations(db, version))
    verdict = gate_candidates.find_verdict(db, version)
    if verdict is None:
        instead = " Give this check a data set and a metric: it is measured against its base there."
        return {"missing": gate_candidates.explain_missing_verdict(version) + (instead if base else "")}
    gain = verdict["gain"]
    return {"gain": gain, "gain_unit": gain["unit"] if gain else "", "other": base or "its base"}


def collect_calibration(db: Queryable, candidate: Candidate, check: Check) -> CheckInputs:
    try:
        dataset = datasets.get_dataset(db, check["dataset"])
    except NotFoundError as error:
        return {"missing": f"{error.message} The gate names it."}
    of_version = evaluations_of(db, candidate.version)
    own = find_on_rows(of_version, check, dataset["fingerprint"], "ece")
    if own is None:
        sentence = (
            f"{candidate.reference} was not evaluated on {dataset['name']} by {METRICS['ece'].title} yet."
        )
        return {"missing": sentence, **format_gather_command(candidate)}
    sql = """
        SELECT probability, prediction = label AS right FROM read_parquet(?)
        WHERE probability IS NOT NULL AND label IS NOT NULL ORDER BY row_id"""
    path = str(evaluations.get_predictions_path(db, own["evaluation_id"]))
    try:
        table = db.query(sql, [path])
    except TunebenchError:
        return {"missing": f"The rows of {own['name']} are gone.", **format_gather_command(candidate)}
    return {
        "certainty": {
            "evaluation_id": own["evaluation_id"],
            "probability": table["probability"].to_pylist(),
            "right": table["right"].to_pylist(),
        },
        "tries": count_tries(of_version, check, dataset["fingerprint"], "ece"),
        **format_gather_command(candidate),
    }


def collect_latency(db: Queryable, candidate: Candidate, check: Check) -> CheckInputs:
    timed = [
        entry
        for entry in evaluations_of(db, candidate.version)
        if entry["details"]["seconds"].get("answers") and entry["n"]
    ]
    if not timed:
        return {
            "missing": f"No evaluation of {candidate.reference} with answers was timed yet.",
            "command": f"tunebench evaluate --model {candidate.quoted} --metric chrf --dataset DATASET",
        }
    device = timed[0]["details"]["device_name"]
    seconds = [
        entry["details"]["seconds"]["answers"] / entry["n"]
        for entry in timed
        if entry["details"]["device_name"] == device
    ]
    return {
        "seconds": seconds,
        "device": device,
        "tries": len({entry["details"]["device_name"] for entry in timed}),
        "command": f"tunebench evaluate --model {candidate.quoted} --metric chrf --dataset DATASET",
    }


SIDES = {"A": 0, "B": 1}
JUDGE = "judge:"  # an LLM judge that rates is no human


def _is_of_version(system: Mapping[str, Any], version: ModelVersion) -> bool:
    if system["run_id"]:
        source = version["source"]
        return bool(system["run_id"] == version["run_id"] and system["checkpoint"] == source["checkpoint"])
    return bool(system["model"] == format_version_reference(version))


def list_rounds(db: Queryable, version: ModelVersion) -> list[Round]:
    """Rounds in which a version's answers are rated, newest first."""
    return [
        round
        for round in rounds.list_rounds(db)
        if any(_is_of_version(system, version) for system in round["systems"])
    ]


def collect_human(db: Queryable, candidate: Candidate, check: Check) -> CheckInputs:
    holder = candidate.holder
    if holder is None:
        return {"rated": None, "other": ""}
    rated = RatedRows(rounds=[], other=format_version_reference(holder), outcomes=[], items=[], raters=[])
    for round in list_rounds(db, candidate.version):
        places = [
            next((n for n, system in enumerate(round["systems"]) if _is_of_version(system, version)), None)
            for version in (candidate.version, holder)
        ]
        if round["protocol"] == "pairwise" and None not in places and round["state"] == "closed":
            _add_ratings(db, round, cast(list[int], places), rated)
    if not rated["outcomes"]:
        which = f"{candidate.reference} with {rated['other']}"
        return {
            "missing": f"People have compared {which} on nothing that was drawn at random and is rated."
            if rated["rounds"]
            else f"People have not compared {which} in a round that is closed.",
            "command": "tunebench round start ROUND.yaml",
            "other": rated["other"],
        }
    return {"rated": rated, "other": rated["other"]}


def _add_ratings(db: Queryable, round: Round, places: list[int], rated: RatedRows) -> None:
    """Each rating of a person who counts, of these two models; repeats and check items count for nothing, nor
    do prompts and logged requests that were chosen as they tell most: they are hard on purpose."""
    rated["rounds"].append(round["round_id"])
    if _is_selected(round):
        return
    telling = rounds.list_informative_items(db, round["round_id"])
    out = {line["person_id"] for line in ratings.left_out(db, round["round_id"])}
    for task in ratings.dealt(db, round["round_id"]):
        answer, person = task["answer"], task["person_id"]
        if answer is None or "skipped" in answer or person in out or person.startswith(JUDGE):
            continue
        if task["purpose"] not in COUNTING or task["item_id"] in telling:
            continue
        if sorted(task["systems"]) != sorted(places):
            continue
        choice = str(cast(Mapping[str, Any], answer).get("choice"))
        if choice == "both_bad":
            continue
        side = SIDES.get(choice)
        rated["outcomes"].append(0.5 if side is None else float(task["systems"][side] == places[0]))
        rated["items"].append(f"{round['round_id']}/{task['item_id']}")
        rated["raters"].append(person)


def _is_selected(round: Round) -> bool:
    """Whether the prompts of a data set were chosen as they tell most; where all were taken nothing was."""
    config, details = round["config"], round["details"]
    if config.get("choice") != "telling" or config.get("requests"):
        return False
    return bool(details["drawn"] < details["rows"] - details["left_out"])


class GateCase(NamedTuple):
    """All that a gate is judged by; each check with its title and its evidence."""

    reference: str
    alias: str
    holder: str | None
    checks: list[tuple[Check, str, CheckInputs]]


@named_query
def case(db: Queryable, reference: str, alias: str) -> GateCase:
    """A version at the gate of an alias, with the evidence that there is. Raises NotFoundError."""
    candidate = get_candidate(db, reference, alias)
    return build_case(db, candidate, get_gate(db, candidate))


def get_gate(db: Queryable, candidate: Candidate) -> GateConfig:
    """What the alias asks of a version; without a check where nothing was ever set."""
    line = model_versions.gate(db, candidate.version["model_id"], candidate.alias)
    return GateConfig.parse(line["config"]) if line else GateConfig()


def build_case(db: Queryable, candidate: Candidate, gate: GateConfig) -> GateCase:
    """A version at any gate, with the evidence that there is."""
    return GateCase(
        candidate.reference,
        candidate.alias,
        format_version_reference(candidate.holder) if candidate.holder else None,
        [
            (check, TITLES[check["check"]], collect_evidence(db, candidate, check))
            for check in gate.document()["checks"]
        ],
    )


def collect_evidence(db: Queryable, candidate: Candidate, check: Check) -> CheckInputs:
    """What one check is judged by."""
    return _EVIDENCE[check["check"]](db, candidate, check)


_EVIDENCE: dict[str, Callable[[Queryable, Candidate, Check], CheckInputs]] = {
    "not_worse_than": collect_not_worse,
    "better_on_task": collect_better,
    "question_above": gate_candidates.collect_question,
    "forgetting_under": gate_candidates.collect_forgetting,
    "bias_under": gate_candidates.collect_bias,
    "calibration_under": collect_calibration,
    "parity_passed": gate_candidates.collect_parity,
    "human_ratings": collect_human,
    "latency_under": collect_latency,
}
