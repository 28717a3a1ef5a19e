"""Cheap measures held against the people of a round: the metrics and the judge of the evaluations it is of.

A measure that agrees with people as often as they do with each other may stand for them. What a judge says of
all rows is corrected by the rows that people rated.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable

import numpy as np
import streamlit as st

from engine.diagnostics.rating.raters.corrected import corrected
from engine.diagnostics.rating.raters.people import against_people
from engine.diagnostics.rating.rows.ratings import Comparisons
from engine.diagnostics.rating.words import agreement_words
from pages.evaluations import evaluation_reads
from pages.rating import round_reads
from pages.shared.session import client, plain
from store.contract.errors import QueryError
from store.documents.rating.round import RoundLine
from store.documents.tables.job import Job
from store.queries.evaluations import evaluation_pairs, evaluations

Prefers = Callable[[str, str, str], float | None]


def draw_judges(round: RoundLine, comparisons: Comparisons) -> None:
    """What metrics and judges say beside people; why they say nothing where answers are of no evaluation."""
    if not all(system["evaluation_id"] for system in round["systems"]):
        st.caption(
            "No metric and no judge stands beside people here: they score evaluations, and these answers are"
            " of none."
        )
        return
    lines = _metric_lines(round, comparisons) + _judge_lines(round, comparisons)
    st.subheader("Which cheap measure may stand for people?", anchor=False)
    if lines:
        st.markdown("\n".join(f"- {plain(line)}" for line in lines))
    else:
        st.caption(
            "No metric scored the answers of all these models. Evaluate them with metrics, or ask a judge"
            " on the page of the evaluations, and it is held against people here."
        )


def _metric_lines(round: RoundLine, comparisons: Comparisons) -> list[str]:
    """How far each metric that scored every model's answers prefers what people prefer."""
    rows = {str(item["item_id"]): item["row_id"] for item in round_reads.items(round["round_id"])}
    names = comparisons.systems
    scores: dict[str, dict[str, dict[int, float]]] = {}
    for name, system in zip(names, round["systems"], strict=True):
        for metric, by_row in _scores(str(system["evaluation_id"])).items():
            scores.setdefault(metric, {})[name] = by_row
    lines = []
    for metric, by_system in sorted(scores.items()):
        if len(by_system) < len(names):
            continue
        sign = _better(round, metric)
        measured = against_people(metric.removeprefix("eval/"), comparisons, _prefers(by_system, rows, sign))
        if measured.n:
            lines.append(agreement_words.against_people_line(measured))
    return lines


def _prefers(by_system: dict[str, dict[int, float]], rows: dict[str, int | None], sign: float) -> Prefers:
    def prefers(item: str, first: str, second: str) -> float | None:
        row = rows[item]
        if row is None:
            return None
        one_score, other = by_system[first].get(row), by_system[second].get(row)
        return None if one_score is None or other is None else sign * (one_score - other)

    return prefers


@st.cache_data(ttl=60, max_entries=32, show_spinner=False)
def _scores(evaluation_id: str) -> dict[str, dict[int, float]]:
    """metric -> row id -> score; nothing where the evaluation is gone."""
    try:
        table = evaluations.scores(client(), evaluation_id)
    except QueryError:
        return {}
    by_metric: dict[str, dict[int, float]] = defaultdict(dict)
    for row in table.select(["row_id", "metric", "score"]).to_pylist():
        if row["score"] is not None:
            by_metric[row["metric"]][row["row_id"]] = row["score"]
    return dict(by_metric)


def _better(round: RoundLine, metric: str) -> float:
    """1 where a higher score is better, else -1."""
    evaluation = evaluation_reads.evaluation(str(round["systems"][0]["evaluation_id"]))
    figure = next((each for each in evaluation["figures"] if each["metric"] == metric), None)
    return -1.0 if figure is not None and figure["better"] == "lower" else 1.0


def _judge_lines(round: RoundLine, comparisons: Comparisons) -> list[str]:
    """What a language model prefers, against people; and its figure of all rows, corrected by them."""
    if len(round["systems"]) != 2:
        return []
    first, second = (str(system["evaluation_id"]) for system in round["systems"])
    lines = []
    for job in evaluation_reads.judgings(first, second):
        if job["status"] != "finished":
            continue
        by_row = _judged(job, turned=job["config"]["first"] != first)
        rows = {str(item["item_id"]): item["row_id"] for item in round_reads.items(round["round_id"])}
        name = f"the judge {job['config']['judge']['model']}"

        def prefers(
            item: str,
            first: str,
            second: str,
            rows: dict[str, int | None] = rows,
            by_row: dict[int, float] = by_row,
        ) -> float | None:
            row = rows[item]
            sign = 1.0 if first == comparisons.systems[0] else -1.0
            return None if row is None or row not in by_row else sign * by_row[row]

        measured = against_people(name, comparisons, prefers)
        if measured.n:
            lines.append(agreement_words.against_people_line(measured))
            ours, theirs = comparisons.systems
            what = f"Preference for {ours} over {theirs} (1 is always, −1 never)"
            people, weights = _people(comparisons, rows), _weights(round)
            whole = corrected(
                list(by_row.values()),
                [people.get(row, math.nan) for row in by_row],
                weights=[weights.get(row, 1.0) for row in by_row],
            )
            lines.append(agreement_words.corrected_line(whole, what))
    return lines


def _judged(job: Job, *, turned: bool) -> dict[int, float]:
    """row id -> 1 where the first model's answer is preferred, -1 the second's, 0 for a tie."""
    try:
        table = evaluation_pairs.judgements(client(), job["job_id"])
    except QueryError:
        return {}
    sign = -1.0 if turned else 1.0
    rows = table.to_pylist()
    return {row["row_id"]: sign * (2 * row["score"] - 1) for row in rows if row["score"] is not None}


def _weights(round: RoundLine) -> dict[int, float]:
    """row id -> 1 / the chance that its prompt had to be rated."""
    items = round_reads.items(round["round_id"])
    return {item["row_id"]: item["weight"] for item in items if item["row_id"] is not None}


def _people(comparisons: Comparisons, rows: dict[str, int | None]) -> dict[int, float]:
    """row id -> mean preference of people for the first model."""
    counted = comparisons.take(comparisons.counted)
    toward_first = np.where(counted.left == 0, counted.signs, -counted.signs)
    by_row: dict[int, list[float]] = defaultdict(list)
    for item, preference in zip(counted.item, toward_first, strict=True):
        row = rows[counted.items[item]]
        if row is not None:
            by_row[row].append(float(preference))
    return {row: float(np.mean(preferences)) for row, preferences in by_row.items()}
