"""Queries of the rating pages for people allowed to see results, and the results of a round, computed once
per state of its ratings. Raters' queries are only in `pages.rating.rater`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa
import streamlit as st

from engine.rating import results_text
from engine.rating.analysis import round_ratings
from engine.rating.analysis.agreement import PairwiseKappas, compute_kappas
from engine.rating.analysis.comparisons import DisputedItem, find_disputed_items
from engine.rating.analysis.krippendorff_alpha import (
    Alpha,
    compute_outcome_alpha,
    compute_pass_alpha,
    compute_rank_alpha,
    compute_score_alpha,
)
from engine.rating.analysis.labels import (
    LabelSetStatistics,
    LabelStatistics,
    compute_label_set_statistics,
    compute_label_statistics,
    compute_sampling_weights,
    list_served_labels,
)
from engine.rating.analysis.model_comparison import MAX_PAIRS, ModelComparison, PeekPolicy, compare
from engine.rating.analysis.rater_checks import RaterChecks, compute_checks_from_table
from engine.rating.analysis.round_ratings import RoundRatings
from engine.rating.analysis.spans import SpanStatistics, compute_span_statistics
from pages.shared.cached_queries import CALM, LIVE
from pages.shared.session import cached, escape_markdown, get_client
from store.core.rating_schemas import (
    AssignedTask,
    ExcludedRater,
    QualificationOverride,
    RaterCounts,
    RoundItem,
    RoundItemPage,
    RoundRequest,
    RoundSummary,
)
from store.core.schemas import Job
from store.jobs import job_queue as job_queries
from store.rating import ratings as rating_queries
from store.rating import rounds as request_queries
from store.rating import rounds as round_queries
from store.rating import workload as workload_queries
from store.rating.schemas import Workload


@cached(LIVE, max_entries=4)
def list_rounds() -> list[RoundSummary]:
    return round_queries.list_rounds(get_client())


@cached(LIVE, max_entries=64)
def read_round(round_id: str) -> RoundSummary:
    return round_queries.line(get_client(), round_id)


@cached(CALM, max_entries=64)
def list_run_rounds(run_id: str) -> list[RoundSummary]:
    return round_queries.of_run(get_client(), run_id)


@cached(LIVE, max_entries=4)
def list_unfinished() -> list[Job]:
    return round_queries.unfinished(get_client())


@cached(LIVE, max_entries=4)
def list_jobs_by_id(job_ids: tuple[str, ...]) -> list[Job]:
    return job_queries.with_ids(get_client(), job_ids)


@cached(LIVE, max_entries=16)
def list_tasks(round_id: str) -> list[AssignedTask]:
    return rating_queries.dealt(get_client(), round_id)


@cached(LIVE, max_entries=64)
def read_item_page(round_id: str, words: str, size: int, number: int) -> RoundItemPage:
    """Read a page of matching items, and their total number. number: of the page, from 1."""
    return round_queries.item_page(get_client(), round_id, words, limit=size, offset=size * (number - 1))


@cached(LIVE, max_entries=64)
def list_rated_tasks(round_id: str, item_ids: tuple[int, ...]) -> list[AssignedTask]:
    """List rated tasks of these items."""
    return rating_queries.of_items(get_client(), round_id, list(item_ids))


@cached(CALM, max_entries=8)
def read_ratings(round_id: str, stamped: str) -> pa.Table:
    """Read the ratings. stamped: `last_change`, part of the cache key."""
    return rating_queries.rated(get_client(), round_id)


@cached(LIVE, max_entries=16)
def read_last_change(round_id: str) -> str:
    return rating_queries.last_change(get_client(), round_id)


@cached(LIVE, max_entries=16)
def list_rater_counts(round_id: str) -> list[RaterCounts]:
    return rating_queries.rater_counts(get_client(), round_id)


@cached(LIVE, max_entries=16)
def list_checks(round_id: str) -> tuple[list[AssignedTask], list[RoundItem]]:
    """List the tasks that check raters, and their items."""
    tasks = rating_queries.check_tasks(get_client(), round_id)
    item_ids = sorted({task.item_id for task in tasks})
    return tasks, list(
        round_queries.some_items(get_client(), round_id, item_ids).values()
    ) if item_ids else []


@cached(LIVE, max_entries=16)
def read_workload(round_id: str) -> Workload:
    return workload_queries.workload(get_client(), round_id, job_queries.to_utc(time.time()))


@cached(60, max_entries=16)
def list_items(round_id: str) -> list[RoundItem]:
    return round_queries.items(get_client(), round_id)


@cached(60, max_entries=16)
def list_bare_items(round_id: str) -> list[RoundItem]:
    """List the items without their prompts."""
    return round_queries.items(get_client(), round_id, prompts=False)


@cached(60, max_entries=64)
def read_items(round_id: str, item_ids: tuple[int, ...]) -> dict[int, RoundItem]:
    return round_queries.some_items(get_client(), round_id, list(item_ids))


@cached(LIVE, max_entries=16)
def list_excluded_raters(round_id: str) -> list[ExcludedRater]:
    return rating_queries.left_out(get_client(), round_id)


@cached(LIVE, max_entries=16)
def list_readmitted_raters(round_id: str) -> list[QualificationOverride]:
    return rating_queries.let_in(get_client(), round_id)


@cached(60, max_entries=16)
def list_round_requests(round_id: str) -> list[RoundRequest]:
    return request_queries.requests_of_round(get_client(), round_id)


CONTINUE_ICON = ":material/hourglass_empty:"
MAX_PARTED = 5  # maximum disputed prompts shown
READY_ICON = ":green[:material/verified:]"


class AgreementSummary(NamedTuple):
    """Agreement between raters.

    alphas: of outcomes under "", of a rubric by criterion; parted: the most disputed of the `parted_on`
    prompts with disagreement.
    """

    alphas: dict[str, Alpha]
    kappas: PairwiseKappas = PairwiseKappas([], 0)
    parted: Sequence[DisputedItem] = ()
    parted_on: int = 0


def build_ratings(round: RoundSummary) -> RoundRatings:
    """Build the ratings without excluded raters and, of requests, from the random sample only."""
    return _build_ratings(build_stamp(round), round)


def build_all_ratings(round: RoundSummary) -> RoundRatings:
    """Build the ratings including excluded raters."""
    stamped = build_stamp(round)
    return round_ratings.build_round_ratings(round, read_ratings(*stamped))


@st.cache_resource(ttl=600, max_entries=8, show_spinner="Loading ratings")
def _build_ratings(stamped: tuple[str, ...], _round: RoundSummary) -> RoundRatings:
    """Build shared, immutable ratings, so that arrays of tens of thousands are not copied per use."""
    round_id = _round.round_id
    left_out = {rater.person_id for rater in list_excluded_raters(round_id)}
    return round_ratings.build_round_ratings(_round, read_ratings(round_id, stamped[1]), left_out)


def list_informative_items(round: RoundSummary) -> set[int]:
    """Return the items of a round of requests that were selected as informative; figures exclude them."""
    if not round.config.get("requests"):
        return set()
    return {each.item_id for each in list_round_requests(round.round_id) if not each.random}


def compute_label_figures(round: RoundSummary) -> LabelStatistics:
    """Compute statistics of a round with one label per text."""
    return _compute_label_figures(build_stamp(round), round)


@st.cache_data(ttl=600, max_entries=32, show_spinner="Computing label statistics")
def _compute_label_figures(stamped: tuple[str, ...], _round: RoundSummary) -> LabelStatistics:
    round_id = _round.round_id
    left_out = {rater.person_id for rater in list_excluded_raters(round_id)}
    items, requests = list_bare_items(round_id), list_round_requests(round_id)
    served, weights = (
        list_served_labels(_round, items, requests),
        compute_sampling_weights(_round, items, requests),
    )
    tasks = round_ratings.list_label_tasks(read_ratings(round_id, stamped[1]))
    return compute_label_statistics(tasks, served, weights, left_out)


def compute_label_set_figures(round: RoundSummary) -> LabelSetStatistics:
    """Compute statistics of a round with several labels per text."""
    return _compute_label_set_figures(build_stamp(round), round)


@st.cache_data(ttl=600, max_entries=32, show_spinner="Computing label statistics")
def _compute_label_set_figures(stamped: tuple[str, ...], _round: RoundSummary) -> LabelSetStatistics:
    round_id = _round.round_id
    weights = compute_sampling_weights(_round, list_items(round_id), list_round_requests(round_id))
    labels = _round.config.get("labels", [])
    return compute_label_set_statistics(labels, list_tasks(round_id), weights, _list_excluded_ids(round_id))


def compute_span_figures(round: RoundSummary) -> SpanStatistics:
    """Compute statistics of a round in which spans are marked."""
    return _compute_span_figures(build_stamp(round), round)


@st.cache_data(ttl=600, max_entries=32, show_spinner="Computing span statistics")
def _compute_span_figures(stamped: tuple[str, ...], _round: RoundSummary) -> SpanStatistics:
    round_id = _round.round_id
    return compute_span_statistics(
        _round, list_tasks(round_id), list_items(round_id), _list_excluded_ids(round_id)
    )


def _list_excluded_ids(round_id: str) -> set[str]:
    return {rater.person_id for rater in list_excluded_raters(round_id)}


def compute_rater_checks(round: RoundSummary) -> list[RaterChecks]:
    """Compute each rater's results on check items, and flags."""
    return _compute_rater_checks(build_stamp(round), round)


@st.cache_data(ttl=600, max_entries=16, show_spinner="Checking raters")
def _compute_rater_checks(stamped: tuple[str, ...], _round: RoundSummary) -> list[RaterChecks]:
    checking, items = list_checks(_round.round_id)
    return compute_checks_from_table(_round, read_ratings(*stamped), checking, items)


def build_stamp(round: RoundSummary) -> tuple[str, ...]:
    """Build the cache key of figures, which changes with every rating and exclusion."""
    return round.round_id, read_last_change(round.round_id)


def compute_comparison(round: RoundSummary) -> ModelComparison | None:
    """Compare the models; None if the protocol does not compare or there are no ratings."""
    return _compute_comparison(build_stamp(round), round.state, round)


@st.cache_data(ttl=600, max_entries=32, show_spinner="Comparing models")
def _compute_comparison(stamped: tuple[str, ...], state: str, _round: RoundSummary) -> ModelComparison | None:
    comparisons = build_ratings(_round).comparisons
    if comparisons is None:
        return None
    looks: PeekPolicy = "all" if state == "open" else "best"
    if _round.config.get("choice") == "telling":  # the order of items is not random
        looks = "none"
    overlap = int(_round.config.get("overlap") or 1)
    return compare(comparisons, looks=looks, overlap=overlap, planned=_round.item_count)


def compute_agreement(round: RoundSummary) -> AgreementSummary:
    """Compute the agreement between raters for any protocol."""
    return _compute_agreement(build_stamp(round), round)


@st.cache_data(ttl=600, max_entries=32, show_spinner="Computing agreement")
def _compute_agreement(stamped: tuple[str, ...], _round: RoundSummary) -> AgreementSummary:
    ratings = build_ratings(_round)
    if ratings.comparisons is not None and len(ratings.comparisons):
        ranks = ratings.ranks
        alpha = compute_outcome_alpha(ratings.comparisons) if ranks is None else compute_rank_alpha(ranks)
        parted = find_disputed_items(ratings.comparisons)
        both = compute_kappas(ratings.comparisons, most=MAX_PAIRS)
        return AgreementSummary({"": alpha}, both, parted[:MAX_PARTED], len(parted))
    if ratings.scores is not None and len(ratings.scores):
        scores = ratings.scores
        return AgreementSummary({name: compute_score_alpha(scores, name) for name in scores.criteria})
    if ratings.passes is not None and len(ratings.passes):
        return AgreementSummary({"": compute_pass_alpha(ratings.passes)})
    return AgreementSummary({})


def describe_readiness(round: RoundSummary) -> str:
    """Describe whether a round can be closed, without saying who leads; valid at any time."""
    if round.config.get("choice") == "telling":
        return (
            f"{CONTINUE_ICON} Prompts with differing answers were sampled more often, so early stopping "
            "is not available for this round."
        )
    compared = compute_comparison(round)
    if compared is None:
        return f"{CONTINUE_ICON} No results yet: keep rating."
    if not compared.peeks:
        return f"{CONTINUE_ICON} No results yet: keep rating."
    settled = [peek for peek in compared.peeks if peek.state in ("first", "second")]
    if len(settled) == len(compared.peeks):
        return (
            f"{READY_ICON} **Enough ratings**: the models differ clearly. Close the round to see the results."
        )
    if settled:
        return (
            f"{CONTINUE_ICON} {len(settled)} of {len(compared.peeks)} pairs of models differ clearly so far."
        )
    if reasons := list(dict.fromkeys(peek.interval.why for peek in compared.peeks if peek.interval.why)):
        return f"{CONTINUE_ICON} Whether to stop can't be determined: {'; '.join(reasons)}."
    return (
        f"{CONTINUE_ICON} The models show no clear difference yet. You can check at any time without "
        "biasing the result."
    )


def format_headline(round: RoundSummary) -> str:
    """Format the result of a closed round as one sentence, escaped."""
    compared = compute_comparison(round)
    if compared is not None:
        return escape_markdown(results_text.describe_strengths(compared.plain)[0])
    return ""
