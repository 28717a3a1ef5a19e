"""Sources of new rows as form fields: feedback of an endpoint, a rating round, a slice of a data set.
Values of a link are filled in once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import streamlit as st

from pages.data.slices import draw_slice_choice
from pages.registry.model_links import DATASET, FEEDBACK, ROUND
from pages.retraining import retraining_queries
from pages.retraining.improve_links import list_settings_models
from pages.shared import cached_queries
from pages.shared.session import escape_markdown, get_current_person, show_error
from store.core.errors import ConfigError
from store.core.formatting import plural
from store.core.model_schemas import ModelSummary
from store.core.rating_schemas import RoundSummary
from store.monitoring.feedback import FeedbackTotals
from store.rating.templates import PROTOCOL_TITLES
from store.retraining.config import DatasetRowSource, FeedbackRowSource, RoundRowSource, RowSource
from store.retraining.schemas import RESUMED, Improvement

KINDS = {
    FEEDBACK: ":material/feedback: Feedback on answers",
    ROUND: ":material/rate_review: Rating round",
    DATASET: ":material/dataset: Data set rows",
}
TRAINABLE_PROTOCOLS = (
    "correction",
    "label",
    "pairwise",
    "rank",
)  # protocols that produce better answers
UNSUCCESSFUL = (*RESUMED, "stopped")
TEXTS_STAY = (
    "The new rows keep their texts even after the request log is deleted. Redacted text stays a "
    "placeholder such as [EMAIL]."
)


@dataclass(frozen=True)
class RowSourceSelection:
    """Sources as in `ImproveConfig.rows`, and their approximate number of rows (None: unknown)."""

    sources: list[RowSource]
    rows: int | None


def draw_sources(
    model: ModelSummary, past: Sequence[Improvement], key: str, *, feedback_alone: bool
) -> RowSourceSelection:
    """Draw the choice of sources, and the fields of each."""
    kinds = [FEEDBACK] if feedback_alone else _choose_kinds(key)
    chosen: list[RowSource] = []
    counts: list[int | None] = []
    draws: Mapping[str, Callable[[], tuple[RowSource | None, int | None]]] = {
        FEEDBACK: lambda: _draw_feedback(model, past, key, windowed=not feedback_alone),
        ROUND: lambda: _draw_round(key),
        DATASET: lambda: _draw_dataset(key),
    }
    for kind in kinds:
        source, rows = draws[kind]()
        if source is not None:
            chosen.append(source)
            counts.append(rows)
    known_rows = None if None in counts else sum(count or 0 for count in counts)
    return RowSourceSelection(chosen, known_rows)


def _choose_kinds(key: str) -> list[str]:
    """Draw the choice of the kinds of sources; initially those of the link."""
    name = f"{key}-kinds"
    if name not in st.session_state:
        asked = [kind for kind in KINDS if st.query_params.get(kind)]
        st.session_state[name] = asked or [FEEDBACK]
    return list(
        st.pills("Sources of new rows", list(KINDS), selection_mode="multi", key=name,
                 format_func=KINDS.__getitem__)
    )  # fmt: skip


def list_serving_endpoints(model: ModelSummary) -> dict[str, str]:
    """Return the endpoints that serve a version of the model: id -> name."""
    return {
        seen.endpoint_id: seen.name
        for seen in retraining_queries.list_endpoints()
        if model.name in list_settings_models(seen.settings)
    }


def find_last_begun(past: Sequence[Improvement]) -> datetime | None:
    """Return when rows were last used by an improvement that did not fail."""
    return max((line.begun_at for line in past if line.state not in UNSUCCESSFUL), default=None)


def _draw_feedback(
    model: ModelSummary, past: Sequence[Improvement], key: str, *, windowed: bool
) -> tuple[FeedbackRowSource | None, int | None]:
    since = find_last_begun(past) if windowed else None
    everything = {line.endpoint_id: line for line in retraining_queries.list_returned(model.name, None)}
    names = list_serving_endpoints(model) | {
        seen.endpoint_id: seen.name
        for seen in retraining_queries.list_endpoints()
        if seen.endpoint_id in everything
    }
    if not names:
        st.caption(
            "No endpoint serves this model, so there is no feedback yet. Serve it to start collecting."
        )
        st.page_link("pages/serving/endpoints.py", label="Serve model", icon=":material/dns:",
                     query_params={"serve": f"{model.name}@production"})  # fmt: skip
        return None, None
    endpoint_id = _choose_endpoint(names, everything, key)
    start = _choose_start(since, key) if since is not None else None
    lines = {line.endpoint_id: line for line in retraining_queries.list_returned(model.name, start)}
    line = lines.get(endpoint_id)
    st.markdown(describe_counts(line, names[endpoint_id], start))
    st.caption(TEXTS_STAY)
    alert, group = _choose_alert(endpoint_id, key), ""
    if line and line.groups:
        group = st.selectbox("Group", ["", *line.groups], key=f"{key}-group",
                             format_func=lambda own: own or "All groups")  # fmt: skip
    asked = {"endpoint": endpoint_id, "start": start, "alert": alert, "group": group}
    try:
        source = FeedbackRowSource.parse(asked)
    except ConfigError as error:  # the client named the group with a line break
        show_error(error)
        return None, None
    return source, None if alert or group else (line.with_texts if line else 0)


def _choose_endpoint(names: Mapping[str, str], everything: Mapping[str, FeedbackTotals], key: str) -> str:
    """Draw the choice of the endpoint; by default that of the link, else the one with the most feedback."""
    asked = st.query_params.get(FEEDBACK, "")
    by_name = next((own for own, name in names.items() if name == asked), asked)
    first = (
        by_name if by_name in names else next((own for own in everything if own in names), next(iter(names)))
    )
    listed = list(names)
    return str(
        st.selectbox(
            "Endpoint", listed, listed.index(first), format_func=names.__getitem__, key=f"{key}-endpoint"
        )
    )


def _choose_start(since: datetime, key: str) -> datetime | None:
    day = f"{since:%d %b, %H:%M} UTC"
    words = {"new": f"Since the last improvement ({day})", "all": "All time"}
    chosen = st.segmented_control(
        "Period", list(words), default="new", format_func=words.__getitem__, key=f"{key}-since",
        label_visibility="collapsed", required=True,
    )  # fmt: skip
    return since if chosen == "new" else None


def describe_counts(line: FeedbackTotals | None, name: str, start: datetime | None) -> str:
    """Describe how much feedback there is, from whom, and how much is usable."""
    if line is None:
        when = " since the last improvement" if start else ""
        return f":material/inbox: No corrected or labelled answers of **{escape_markdown(name)}**{when}."
    kinds = [
        plural(count, noun)
        for count, noun in ((line.corrections, "correction"), (line.labels, "label"))
        if count
    ]
    more = line.people - len(line.names)
    people = ", ".join(line.names) + (f" and {more} more" if more > 0 else "")
    lost = line.requests - line.with_texts
    texts = f"texts available for all {line.requests:,}" if not lost else (
        f"texts available for {line.with_texts:,} of {plural(line.requests, 'request')}; missing from the "
        f"log for {lost:,}"
    )  # fmt: skip
    return f":material/inbox: **{' and '.join(kinds)}** by {escape_markdown(people)}: {texts}."


def _choose_alert(endpoint_id: str, key: str) -> str:
    """Return the alert of the link if it belongs to this endpoint and is not deselected, else ""."""
    asked = st.query_params.get("alert", "")
    if not asked or asked not in retraining_queries.list_alert_ids(endpoint_id):
        return ""
    only = st.checkbox("Only requests behind the alert", value=True, key=f"{key}-alert")
    return asked if only else ""


def _draw_round(key: str) -> tuple[RoundRowSource | None, int | None]:
    rounds = {
        round.round_id: round
        for round in retraining_queries.list_rounds()
        if round.protocol in TRAINABLE_PROTOCOLS and not round.config.get("several_labels")
    }
    if not rounds:
        st.caption(
            "No rating rounds in which people correct, label or compare answers. Start one to collect rows."
        )
        st.page_link("pages/rating/rating.py", label="Start rating round", icon=":material/rate_review:")
        return None, None
    asked, listed = st.query_params.get(ROUND, ""), list(rounds)
    chosen = st.selectbox(
        "Round", listed, listed.index(asked) if asked in rounds else 0, key=f"{key}-round",
        format_func=lambda own: f"{rounds[own].name} · {PROTOCOL_TITLES[rounds[own].protocol]}",
    )  # fmt: skip
    round = rounds[str(chosen)]
    st.markdown(f":material/rate_review: {_format_rated_count(round)}")
    rated = None if round.state == "open" else int(round.rated - round.extra)
    return RoundRowSource(round=round.round_id), rated


def _format_rated_count(round: RoundSummary) -> str:
    rated, people = (
        round.rated - round.extra,
        plural(round.raters, "person").replace("persons", "people"),
    )
    text = f"**{rated:,} of {round.wanted:,}** rated by {people}."
    return (
        f"{text} The round is still open; the improvement waits until it is closed."
        if round.state == "open"
        else text
    )


def _draw_dataset(key: str) -> tuple[DatasetRowSource | None, int | None]:
    datasets = {dataset.dataset_id: dataset for dataset in cached_queries.list_datasets()}
    if not datasets:
        st.caption("No data sets yet. Import one first.")
        return None, None
    asked, listed = st.query_params.get(DATASET, ""), list(datasets)
    asked = next((own for own, line in datasets.items() if line.name == asked), asked)
    chosen = str(
        st.selectbox(
            "Data set",
            listed,
            listed.index(asked) if asked in datasets else 0,
            key=f"{key}-dataset",
            format_func=lambda own: f"{datasets[own].name} · {plural(datasets[own].row_count, 'row')}",
        )
    )
    _select_slice(chosen, key)
    where = draw_slice_choice(chosen, f"{key}-slice")
    rows = None if where is not None else datasets[chosen].row_count
    return DatasetRowSource(dataset=chosen, where=where), rows


def _select_slice(dataset_id: str, key: str) -> None:
    """Select the slice of the link, once."""
    name, asked = f"{key}-slice.{dataset_id}", st.query_params.get("slice", "")
    if not asked or name in st.session_state:
        return
    slices = cached_queries.list_slices(dataset_id, get_current_person().person_id)
    own = next((line.slice_id for line in slices if asked in (line.slice_id, line.name)), None)
    if own is not None:
        st.session_state[name] = own
