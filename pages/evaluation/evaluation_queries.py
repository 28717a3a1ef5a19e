"""Queries of the evaluation pages."""

from __future__ import annotations

import pyarrow as pa
import streamlit as st

from engine.evaluation.comparison import row_scores
from engine.evaluation.comparison.row_scores import MetricDifferences
from engine.evaluation.verdicts import forgetting
from pages.shared import cached_queries
from pages.shared.session import cached, get_client
from store.core.errors import QueryError
from store.core.schemas import Job
from store.evaluation import evaluation_pairs, evaluations
from store.evaluation.evaluation_pairs import EvaluationPair
from store.evaluation.forgetting_schemas import ChoiceForgetting, TextForgetting
from store.evaluation.schemas import EvaluatedRow, Evaluation, EvaluationSummary, PairedRow


@cached(cached_queries.LIVE, max_entries=32)
def list_run_evaluations(run_id: str) -> list[Evaluation]:
    return evaluations.list_evaluations(get_client(), run_id=run_id)


@cached(cached_queries.LIVE, max_entries=32)
def list_evaluations(
    search: str, dataset_id: str, model: str, limit: int, offset: int, created_by: str = ""
) -> tuple[int, list[EvaluationSummary]]:
    return evaluations.listed(
        get_client(), search=search, dataset_id=dataset_id, model=model, created_by=created_by,
        limit=limit, offset=offset,
    )  # fmt: skip


@cached(cached_queries.LIVE, max_entries=32)
def list_judgings(first: str, second: str) -> list[Job]:
    return evaluation_pairs.of_pair(get_client(), first, second)


@cached(cached_queries.CALM, max_entries=4)
def list_models() -> list[str]:
    return evaluations.models(get_client())


@cached(cached_queries.CALM, max_entries=64)
def read_evaluation(evaluation_id: str) -> Evaluation:
    return evaluations.get(get_client(), evaluation_id)


@cached(cached_queries.LIVE, max_entries=32)
def list_unfinished(run_id: str | None) -> list[Job]:
    return evaluations.unfinished(get_client(), run_id)


@cached(cached_queries.CALM, max_entries=32)
def list_comparable(evaluation_id: str) -> list[EvaluationSummary]:
    return evaluations.comparable(get_client(), evaluations.get(get_client(), evaluation_id))


@cached(600, max_entries=128)
def read_rows(
    evaluation_id: str, metric: str, better: str, limit: int, offset: int
) -> tuple[int, list[EvaluatedRow]]:
    return evaluations.page(get_client(), evaluation_id, metric, better=better, limit=limit, offset=offset)


@st.cache_data(ttl=600, max_entries=64, show_spinner=False)
def read_shared_rows(first: str, second: str, metric: str, limit: int) -> tuple[int, list[PairedRow]]:
    return evaluations.shared(get_client(), first, second, metric, limit=limit)


@st.cache_data(ttl=600, max_entries=32, show_spinner="Comparing row by row …")
def compare_evaluations(first: str, second: str) -> tuple[EvaluationPair, MetricDifferences]:
    """Return the row pairs, and `first` minus `second` in every common metric, paired by row."""
    pair = evaluation_pairs.pair(
        get_client(), *(evaluations.get(get_client(), own) for own in (first, second))
    )
    sides = [
        (scores, side.figures) for scores, side in zip(pair.scores, (pair.first, pair.second), strict=True)
    ]
    return pair, row_scores.compute_score_differences(sides[0], sides[1], pair.groups)


@st.cache_data(ttl=600, max_entries=32, show_spinner=False)
def compare_general_probes(first: str, second: str) -> list[TextForgetting | ChoiceForgetting]:
    """Return the changes on prose and general questions from second to first; none unless both have them."""
    tables: list[pa.Table] = []
    for evaluation_id in (second, first):
        try:
            tables.append(evaluations.probes(get_client(), evaluation_id))
        except QueryError:
            return []
    parts_of_probes = forgetting.assess_forgetting(*tables)
    parts: list[TextForgetting | ChoiceForgetting] = [*parts_of_probes.texts, *parts_of_probes.choices]
    return [part for part in parts if not part.probe.startswith("task/")]  # tasks are also listed as figures
