"""What the screen of rating rounds reads for those who may look, and what a round comes to, worked out once
for what was said so far. What raters see comes from `pages.rating.rater` alone.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa
import streamlit as st

from engine.rating import results_text
from engine.rating.analysis import round_ratings
from engine.rating.analysis.agreement import Kappas, kappas
from engine.rating.analysis.comparisons import Disputed, disputed
from engine.rating.analysis.krippendorff_alpha import (
    Alpha,
    outcome_alpha,
    pass_alpha,
    rank_alpha,
    score_alpha,
)
from engine.rating.analysis.labels import (
    LabelFigures,
    LabelSetFigures,
    chance_weights,
    label_figures,
    label_set_figures,
    served_labels,
)
from engine.rating.analysis.model_comparison import MAX_PAIRS, Comparing, Looks, compare
from engine.rating.analysis.rater_checks import RaterChecks, checks_of_rated
from engine.rating.analysis.round_ratings import RoundRatings
from engine.rating.analysis.spans import SpanFigures, span_figures
from pages.shared.cached_queries import CALM, LIVE
from pages.shared.session import client, kept_for, plain
from store.core.rating_schemas import (
    DealtTask,
    LeftOutRater,
    LetInRater,
    RaterCounts,
    RoundItem,
    RoundItemPage,
    RoundLine,
    RoundRequest,
)
from store.core.schemas import Job
from store.jobs import job_queue as job_queries
from store.rating import ratings as rating_queries
from store.rating import rounds as request_queries
from store.rating import rounds as round_queries
from store.rating import workload as workload_queries
from store.rating.schemas import Workload


@kept_for(LIVE, most=4)
def rounds() -> list[RoundLine]:
    return round_queries.list_rounds(client())


@kept_for(LIVE, most=64)
def round_line(round_id: str) -> RoundLine:
    return round_queries.line(client(), round_id)


@kept_for(CALM, most=64)
def of_run(run_id: str) -> list[RoundLine]:
    return round_queries.of_run(client(), run_id)


@kept_for(LIVE, most=4)
def unfinished() -> list[Job]:
    return round_queries.unfinished(client())


@kept_for(LIVE, most=4)
def jobs_by_id(job_ids: tuple[str, ...]) -> list[Job]:
    return job_queries.with_ids(client(), job_ids)


@kept_for(LIVE, most=16)
def tasks(round_id: str) -> list[DealtTask]:
    return rating_queries.dealt(client(), round_id)


@kept_for(LIVE, most=64)
def item_page(round_id: str, words: str, size: int, number: int) -> RoundItemPage:
    """A page of the items that a search finds, and how many it finds. number: from 1 on."""
    return round_queries.item_page(client(), round_id, words, limit=size, offset=size * (number - 1))


@kept_for(LIVE, most=64)
def tasks_of(round_id: str, item_ids: tuple[int, ...]) -> list[DealtTask]:
    """Rated ones, of these items."""
    return rating_queries.of_items(client(), round_id, list(item_ids))


@kept_for(CALM, most=8)
def rated(round_id: str, stamped: str) -> pa.Table:
    """stamped: of `last_change`."""
    return rating_queries.rated(client(), round_id)


@kept_for(LIVE, most=16)
def last_change(round_id: str) -> str:
    return rating_queries.last_change(client(), round_id)


@kept_for(LIVE, most=16)
def rater_counts(round_id: str) -> list[RaterCounts]:
    return rating_queries.rater_counts(client(), round_id)


@kept_for(LIVE, most=16)
def checks(round_id: str) -> tuple[list[DealtTask], list[RoundItem]]:
    """Tasks by which raters are checked, and their items."""
    tasks = rating_queries.check_tasks(client(), round_id)
    item_ids = sorted({task["item_id"] for task in tasks})
    return tasks, list(round_queries.some_items(client(), round_id, item_ids).values()) if item_ids else []


@kept_for(LIVE, most=16)
def workload(round_id: str) -> Workload:
    return workload_queries.workload(client(), round_id, job_queries.utc(time.time()))


@kept_for(60, most=16)
def items(round_id: str) -> list[RoundItem]:
    return round_queries.items(client(), round_id)


@kept_for(60, most=16)
def bare_items(round_id: str) -> list[RoundItem]:
    """Without their prompts."""
    return round_queries.items(client(), round_id, prompts=False)


@kept_for(60, most=64)
def some_items(round_id: str, item_ids: tuple[int, ...]) -> dict[int, RoundItem]:
    return round_queries.some_items(client(), round_id, list(item_ids))


@kept_for(LIVE, most=16)
def left_out_raters(round_id: str) -> list[LeftOutRater]:
    return rating_queries.left_out(client(), round_id)


@kept_for(LIVE, most=16)
def let_in(round_id: str) -> list[LetInRater]:
    return rating_queries.let_in(client(), round_id)


@kept_for(60, most=16)
def round_requests(round_id: str) -> list[RoundRequest]:
    return request_queries.requests_of_round(client(), round_id)


GO_ON = ":material/hourglass_empty:"
MAX_PARTED = 5  # prompts on which people part
ENOUGH = ":green[:material/verified:]"


class Agreeing(NamedTuple):
    """How far people agree. alphas: of outcomes under "", of a rubric by criterion; parted: those prompts on
    which people part most, of `parted_on`."""

    alphas: dict[str, Alpha]
    kappas: Kappas = Kappas([], 0)
    parted: Sequence[Disputed] = ()
    parted_on: int = 0


def ratings_of(round: RoundLine) -> RoundRatings:
    """What was said, without raters that are left out, and of requests of the random draw alone."""
    return _ratings(stamp(round), round)


def ratings_of_all(round: RoundLine) -> RoundRatings:
    """The same with raters that are left out."""
    stamped = stamp(round)
    return round_ratings.of_round(round, rated(*stamped))


@st.cache_resource(ttl=600, max_entries=8, show_spinner="Reading what people said")
def _ratings(stamped: tuple[str, ...], _round: RoundLine) -> RoundRatings:
    """Shared and never changed: arrays of tens of thousands of ratings are not copied for each look."""
    round_id = _round["round_id"]
    left_out = {rater["person_id"] for rater in left_out_raters(round_id)}
    return round_ratings.of_round(_round, rated(round_id, stamped[1]), left_out)


def telling_items(round: RoundLine) -> set[int]:
    """Of a round of requests the items that were chosen because they tell most: no figure rests on them."""
    if not round["config"].get("requests"):
        return set()
    return {each["item_id"] for each in round_requests(round["round_id"]) if not each["random"]}


def labels_of(round: RoundLine) -> LabelFigures:
    """Of a round in which texts get labels."""
    return _labels(stamp(round), round)


@st.cache_data(ttl=600, max_entries=32, show_spinner="Working out what the labels come to")
def _labels(stamped: tuple[str, ...], _round: RoundLine) -> LabelFigures:
    round_id = _round["round_id"]
    left_out = {rater["person_id"] for rater in left_out_raters(round_id)}
    items, requests = bare_items(round_id), round_requests(round_id)
    served, weights = served_labels(_round, items, requests), chance_weights(_round, items, requests)
    tasks = round_ratings.label_tasks(rated(round_id, stamped[1]))
    return label_figures(tasks, served, weights, left_out)


def label_sets_of(round: RoundLine) -> LabelSetFigures:
    """Of a round in which texts get several labels."""
    return _label_sets(stamp(round), round)


@st.cache_data(ttl=600, max_entries=32, show_spinner="Working out what the labels come to")
def _label_sets(stamped: tuple[str, ...], _round: RoundLine) -> LabelSetFigures:
    round_id = _round["round_id"]
    weights = chance_weights(_round, items(round_id), round_requests(round_id))
    labels = _round["config"].get("labels", [])
    return label_set_figures(labels, tasks(round_id), weights, _left_out(round_id))


def spans_of(round: RoundLine) -> SpanFigures:
    """Of a round in which pieces of texts are marked."""
    return _spans(stamp(round), round)


@st.cache_data(ttl=600, max_entries=32, show_spinner="Working out what the marks come to")
def _spans(stamped: tuple[str, ...], _round: RoundLine) -> SpanFigures:
    round_id = _round["round_id"]
    return span_figures(_round, tasks(round_id), items(round_id), _left_out(round_id))


def _left_out(round_id: str) -> set[str]:
    return {rater["person_id"] for rater in left_out_raters(round_id)}


def checks_of(round: RoundLine) -> list[RaterChecks]:
    """How each rater did on check items, and who is flagged."""
    return _checks(stamp(round), round)


@st.cache_data(ttl=600, max_entries=16, show_spinner="Checking how people rated")
def _checks(stamped: tuple[str, ...], _round: RoundLine) -> list[RaterChecks]:
    checking, items = checks(_round["round_id"])
    return checks_of_rated(_round, rated(*stamped), checking, items)


def stamp(round: RoundLine) -> tuple[str, ...]:
    """Changes whenever something was said, or somebody left out: what figures are kept under."""
    return round["round_id"], last_change(round["round_id"])


def comparing(round: RoundLine) -> Comparing | None:
    """None where the protocol does not compare, or nothing was said."""
    return _comparing(stamp(round), round["state"], round)


@st.cache_data(ttl=600, max_entries=32, show_spinner="Working out who is better")
def _comparing(stamped: tuple[str, ...], state: str, _round: RoundLine) -> Comparing | None:
    comparisons = ratings_of(_round).comparisons
    if comparisons is None:
        return None
    looks: Looks = "all" if state == "open" else "best"
    if _round["config"].get("choice") == "telling":  # then the order of items is not by chance alone
        looks = "none"
    return compare(comparisons, looks=looks, overlap=_overlap(_round), planned=_round["item_count"])


def agreeing(round: RoundLine) -> Agreeing:
    """Of any protocol."""
    return _agreeing(stamp(round), round)


@st.cache_data(ttl=600, max_entries=32, show_spinner="Working out how far people agree")
def _agreeing(stamped: tuple[str, ...], _round: RoundLine) -> Agreeing:
    ratings = ratings_of(_round)
    if ratings.comparisons is not None and len(ratings.comparisons):
        ranks = ratings.ranks
        alpha = outcome_alpha(ratings.comparisons) if ranks is None else rank_alpha(ranks)
        parted = disputed(ratings.comparisons)
        both = kappas(ratings.comparisons, most=MAX_PAIRS)
        return Agreeing({"": alpha}, both, parted[:MAX_PARTED], len(parted))
    if ratings.scores is not None and len(ratings.scores):
        scores = ratings.scores
        return Agreeing({name: score_alpha(scores, name) for name in scores.criteria})
    if ratings.passes is not None and len(ratings.passes):
        return Agreeing({"": pass_alpha(ratings.passes)})
    return Agreeing({})


def enough_is_known(round: RoundLine) -> str:
    """Whether a round can be closed, without a word of who is ahead; may be looked at any time."""
    if round["config"].get("choice") == "telling":
        return (
            f"{GO_ON} Prompts on which answers part were rather chosen: of those no stop can be told ahead."
        )
    compared = comparing(round)
    if compared is None:
        return f"{GO_ON} Nothing is known yet."
    if not compared.peeks:
        return f"{GO_ON} Nothing is known yet."
    settled = [peek for peek in compared.peeks if peek.state in ("first", "second")]
    if len(settled) == len(compared.peeks):
        return f"{ENOUGH} **Enough is known**: the models can be told apart. Close the round to see."
    if settled:
        return f"{GO_ON} {len(settled)} of {len(compared.peeks)} pairs of models can be told apart by now."
    if reasons := list(dict.fromkeys(peek.interval.why for peek in compared.peeks if peek.interval.why)):
        return f"{GO_ON} Whether to stop can't be told: {'; '.join(reasons)}."
    return f"{GO_ON} The models can't be told apart yet. Looking does no harm: this holds at any time."


def headline(round: RoundLine) -> str:
    """What a closed round says, in a sentence; escaped."""
    compared = comparing(round)
    if compared is not None:
        return plain(results_text.strengths_lines(compared.plain)[0])
    return ""


def _overlap(round: RoundLine) -> int:
    return int(round["config"].get("overlap") or 1)
