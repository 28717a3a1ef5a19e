"""What the evaluations of a run's page read."""

from __future__ import annotations

import pyarrow as pa
import streamlit as st

from engine.evaluation.comparison import row_scores
from engine.evaluation.comparison.row_scores import Differences
from engine.evaluation.verdicts import forgetting
from pages.shared import cached_queries
from pages.shared.session import client, kept_for
from store.core.errors import QueryError
from store.core.schemas import Job
from store.evaluation import evaluation_pairs, evaluations
from store.evaluation.evaluation_pairs import EvaluationPair
from store.evaluation.forgetting_schemas import ForgottenChoices, ForgottenText
from store.evaluation.schemas import EvaluatedRow, Evaluation, EvaluationLine, RowOfTwo


@kept_for(cached_queries.LIVE, most=32)
def of_run(run_id: str) -> list[Evaluation]:
    return evaluations.list_evaluations(client(), run_id=run_id)


@kept_for(cached_queries.LIVE, most=32)
def listed(
    search: str, dataset_id: str, model: str, limit: int, offset: int, created_by: str = ""
) -> tuple[int, list[EvaluationLine]]:
    return evaluations.listed(
        client(), search=search, dataset_id=dataset_id, model=model, created_by=created_by,
        limit=limit, offset=offset,
    )  # fmt: skip


@kept_for(cached_queries.LIVE, most=32)
def judgings(first: str, second: str) -> list[Job]:
    return evaluation_pairs.of_pair(client(), first, second)


@kept_for(cached_queries.CALM, most=4)
def models() -> list[str]:
    return evaluations.models(client())


@kept_for(cached_queries.CALM, most=64)
def evaluation(evaluation_id: str) -> Evaluation:
    return evaluations.get(client(), evaluation_id)


@kept_for(cached_queries.LIVE, most=32)
def unfinished(run_id: str | None) -> list[Job]:
    return evaluations.unfinished(client(), run_id)


@kept_for(cached_queries.CALM, most=32)
def comparable(evaluation_id: str) -> list[EvaluationLine]:
    return evaluations.comparable(client(), evaluations.get(client(), evaluation_id))


@kept_for(600, most=128)
def page(
    evaluation_id: str, metric: str, better: str, limit: int, offset: int
) -> tuple[int, list[EvaluatedRow]]:
    return evaluations.page(client(), evaluation_id, metric, better=better, limit=limit, offset=offset)


@st.cache_data(ttl=600, max_entries=64, show_spinner=False)
def shared(first: str, second: str, metric: str, limit: int) -> tuple[int, list[RowOfTwo]]:
    return evaluations.shared(client(), first, second, metric, limit=limit)


@st.cache_data(ttl=600, max_entries=32, show_spinner="Comparing row by row …")
def compared(first: str, second: str) -> tuple[EvaluationPair, Differences]:
    """The two by their rows, and `first` minus `second` in every metric that both have, paired by row."""
    pair = evaluation_pairs.pair(client(), *(evaluations.get(client(), own) for own in (first, second)))
    sides = [
        (scores, side["figures"]) for scores, side in zip(pair.scores, (pair.first, pair.second), strict=True)
    ]
    return pair, row_scores.score_differences(sides[0], sides[1], pair.groups)


@st.cache_data(ttl=600, max_entries=32, show_spinner=False)
def general_change(first: str, second: str) -> list[ForgottenText | ForgottenChoices]:
    """How prose and general questions changed from the second to the first; none where one wasn't asked."""
    tables: list[pa.Table] = []
    for evaluation_id in (second, first):
        try:
            tables.append(evaluations.probes(client(), evaluation_id))
        except QueryError:
            return []
    parts_of_probes = forgetting.assess(*tables)
    parts: list[ForgottenText | ForgottenChoices] = [*parts_of_probes["texts"], *parts_of_probes["choices"]]
    return [part for part in parts if not part["probe"].startswith("task/")]  # they are figures too
