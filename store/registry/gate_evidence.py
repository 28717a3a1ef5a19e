"""Evidence for a gate: evaluations of a version and another model, and human ratings from rating rounds.

An evaluation of the same checkpoint of the run that a version came from counts as an evaluation of the
version, because the weights are the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from store.core.errors import NotFoundError
from store.core.metric_table import METRICS
from store.core.model_schemas import ModelVersion
from store.core.rating_schemas import COUNTING, Round, RoundSystem
from store.data import datasets
from store.db.named_query import named_query
from store.db.records import read_records
from store.evaluation import evaluation_pairs, evaluations
from store.evaluation.schemas import Evaluation
from store.rating import ratings, rounds
from store.registry.gate_candidates import (
    Candidate,
    Check,
    format_gather_command,
    format_version_reference,
)
from store.registry.schemas import CheckInputs, GateRow, RatedRows

if TYPE_CHECKING:
    from store.db.database import Queryable


METRIC = "eval/"


@named_query
def evaluations_of(db: Queryable, version: ModelVersion, *, limit: int = 200) -> list[Evaluation]:
    """Return the evaluations of a version and of the same weights of its run, newest first."""
    return list_weight_evaluations(
        db, format_version_reference(version), version.run_id, version.source.checkpoint, limit
    )


def list_weight_evaluations(
    db: Queryable, reference: str | None, run_id: str | None, checkpoint: str | None, limit: int
) -> list[Evaluation]:
    """Return the evaluations of the version NAME@3 and of the run's checkpoint, newest first.

    Pass None for an argument that doesn't apply.
    """
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
    """Return the newest evaluation that measured the metric on a check's rows.

    Evaluations with the same settings as `like` are preferred.
    """
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
    """Return how often the metric was measured on a check's rows, with any settings.

    The newest measurement replaces earlier ones, so that each one is another chance to pass. `others` are
    evaluations of the other model; those made after the version's first one count as well, because its result
    was known by then.
    """
    own, its = (
        [entry for entry in entries if _is_on_rows(entry, check, fingerprint, metric)]
        for entries in (candidates, others)
    )
    first = min((entry.created_at for entry in own), default=None)
    return len(own) + sum(first is not None and entry.created_at > first for entry in its)


def _is_on_rows(entry: Evaluation, check: Check, fingerprint: str, metric: str) -> bool:
    same = entry.data_fingerprint == fingerprint and entry.part == check["part"]
    same = same and (entry.config.get("where") or None) == (check["where"] or None)
    return same and any(figure.metric == METRIC + metric for figure in entry.figures)


def _describe_rows(db: Queryable, evaluation: Evaluation, metric: str) -> GateRow:
    table = evaluations.scores(db, evaluation.evaluation_id)
    lines = [line for line in table.to_pylist() if line["metric"] == METRIC + metric]
    figure = next(figure for figure in evaluation.figures if figure.metric == METRIC + metric)
    return GateRow(
        evaluation_id=evaluation.evaluation_id,
        name=evaluation.name,
        figure=figure,
        row_ids=[line["row_id"] for line in lines],
        scores=[line["score"] for line in lines],
        statistics=[line["statistics"] for line in lines],
        groups=evaluations.groups(db, evaluation.evaluation_id),
    )


def list_base_evaluations(db: Queryable, version: ModelVersion) -> list[Evaluation]:
    """Return evaluations of a version's base model, by name or as the base of its run."""
    sql = """
        SELECT * FROM evaluation
        WHERE (model = $1 AND run_id IS NULL) OR (run_id = $2 AND checkpoint = 'base')
        ORDER BY created_at DESC, evaluation_id DESC LIMIT 200"""
    table = db.query(sql, [version.base_model, version.run_id])
    return read_records(table, Evaluation, evaluations.JSON_COLUMNS)


def pair_rows(
    db: Queryable, candidate: Candidate, check: Check, other: str, of_other: list[Evaluation]
) -> CheckInputs:
    """Return the rows of the version and of the other model, or what is missing of them."""
    try:
        dataset = datasets.get_dataset(db, check["dataset"])
    except NotFoundError as error:
        return {"missing": f"{error.message} The gate names it.", "other": other}
    metric, fingerprint = check["metric"], dataset.fingerprint
    its = find_on_rows(of_other, check, fingerprint, metric)
    of_version = evaluations_of(db, candidate.version)
    own = find_on_rows(of_version, check, fingerprint, metric, its)
    lacking = [name for name, entry in ((candidate.reference, own), (other, its)) if entry is None]
    if own is None or its is None:
        sentence = (
            f"{' and '.join(lacking)} has not been evaluated on {dataset.name} with "
            f"{METRICS[metric].title} yet."
        )
        if len(lacking) > 1:
            sentence = sentence.replace(" has ", " have ")
        return {"missing": sentence, "other": other, **format_gather_command(candidate)}
    if ways := evaluation_pairs.describe_metric_differences(own, its, metric):
        sentence = (
            f"{candidate.reference} was not prompted like {other} on {dataset.name} ({'; '.join(ways)}), "
            "which alone can change the answers."
        )
        return {"missing": sentence, "other": other, **format_gather_command(candidate)}
    return {
        "rows": _describe_rows(db, own, metric),
        "other_rows": _describe_rows(db, its, metric),
        "other": other,
        "tries": count_tries(of_version, check, fingerprint, metric, of_other),
        **format_gather_command(candidate),
    }


SIDES = {"A": 0, "B": 1}
JUDGE = "judge:"  # prefix of LLM judges, which aren't human raters


def is_of_version(system: RoundSystem, version: ModelVersion) -> bool:
    if system.run_id:
        source = version.source
        return bool(system.run_id == version.run_id and system.checkpoint == source.checkpoint)
    return bool(system.model == format_version_reference(version))


def list_rounds(db: Queryable, version: ModelVersion) -> list[Round]:
    """Return rounds in which a version's answers are rated, newest first."""
    return [
        round
        for round in rounds.list_rounds(db)
        if any(is_of_version(system, version) for system in round.systems)
    ]


def add_ratings(db: Queryable, round: Round, places: list[int], rated: RatedRows) -> None:
    """Add each counted rating of these two models from a round.

    Ratings by excluded raters and LLM judges, repeats and check items aren't counted, nor are prompts and
    logged requests that were selected as informative, since they are hard on purpose.
    """
    rated.rounds.append(round.round_id)
    if _is_selected(round):
        return
    telling = rounds.list_informative_items(db, round.round_id)
    out = {line.person_id for line in ratings.left_out(db, round.round_id)}
    for task in ratings.dealt(db, round.round_id):
        answer, person = task.answer, task.person_id
        if answer is None or "skipped" in answer or person in out or person.startswith(JUDGE):
            continue
        if task.purpose not in COUNTING or task.item_id in telling:
            continue
        if sorted(task.systems) != sorted(places):
            continue
        choice = str(cast(Mapping[str, Any], answer).get("choice"))
        if choice == "both_bad":
            continue
        side = SIDES.get(choice)
        rated.outcomes.append(0.5 if side is None else float(task.systems[side] == places[0]))
        rated.items.append(f"{round.round_id}/{task.item_id}")
        rated.raters.append(person)


def _is_selected(round: Round) -> bool:
    """Return whether a data set's prompts were selected as informative; False if all of them were taken."""
    config, details = round.config, round.details
    if config.get("choice") != "telling" or config.get("requests"):
        return False
    return bool(details.drawn < details.rows - details.left_out)
