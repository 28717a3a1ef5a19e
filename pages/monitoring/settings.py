"""What is watched, against what, when it warns, and whom it tells."""

from __future__ import annotations

from itertools import cycle
from typing import Any

import streamlit as st

from engine.monitoring.drift import WATCHED_SIGNALS
from engine.monitoring.text import describe_cost
from pages.monitoring import monitor_queries
from pages.shared import cached_queries, display
from pages.shared.features import load_page_features
from pages.shared.session import escape_markdown, has_right, send_command
from store.core.monitoring_schemas import BaseMeasurement
from store.monitoring import monitors
from store.monitoring.config import EVERY_WATCHED_NAME, LIMITS, MonitorSettings
from store.monitoring.monitors import EndpointName

REFERENCES = {
    "first": "Its first requests",
    "dataset": "Held-out rows of a data set",
    "evaluation": "Rows and answers of an evaluation",
    "window": "Requests of a window",
}
CURRENT_REFERENCE = "present"  # the schedule that is set
STATES = {"waiting": "waits", "sent": "sent", "given_up": "given up"}


def draw_settings(endpoint: EndpointName) -> None:
    """Both forms, closed."""
    monitor = monitor_queries.read_monitor(endpoint.endpoint_id)
    if has_right("work"):
        with st.expander("What is watched, and when it warns", icon=":material/tune:"):
            _draw_form(endpoint, monitors.get_settings(monitor), monitor.base_look if monitor else None)
            if monitor and monitor.changed_by_name:
                when = display.format_ago(monitor.changed_at)
                st.caption(f"Last changed by {escape_markdown(monitor.changed_by_name)}, {when}.")
    if has_right("govern"):
        with st.expander("Where alerts are sent", icon=":material/webhook:"):
            _draw_webhook()


def _draw_form(endpoint: EndpointName, settings: MonitorSettings, base_look: BaseMeasurement | None) -> None:
    endpoint_id = endpoint.endpoint_id
    body: dict[str, Any] = {"endpoint": endpoint_id}
    body |= _draw_reference_fields(endpoint_id, settings)
    with st.form(f"monitor-settings-{endpoint_id}", border=False):
        body["watched"] = st.multiselect(
            "Watched", list(EVERY_WATCHED_NAME), default=settings.watched,
            format_func=lambda name: WATCHED_SIGNALS[name].title,
                help="They share the chance of a false alarm.",
        )  # fmt: skip
        st.caption(describe_cost(base_look))
        body |= _draw_limit_fields(settings)
        body["golden"] = _draw_golden_field(settings)
        body |= _draw_schedule_fields(settings)
        body |= _draw_price_fields(settings)
        st.caption("Another reference, other watched values or another chance begin all tests anew.")
        if st.form_submit_button("Save", type="primary", icon=":material/save:"):
            send_command("set_monitor", body, "Saved.")


def _draw_reference_fields(endpoint_id: str, settings: MonitorSettings) -> dict[str, Any]:
    """Outside the form, as what is asked next depends on it."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        reference = st.selectbox(
            "Held against", list(REFERENCES), list(REFERENCES).index(settings.reference),
            format_func=REFERENCES.__getitem__, key=f"monitor-reference-{endpoint_id}", width=300,
        )  # fmt: skip
        fields: dict[str, Any] = {"reference": reference}
        if reference == "dataset":
            names = {each.dataset_id: each.name for each in cached_queries.list_datasets()}
            fields["dataset"] = _choose_name("Data set", names, settings.dataset)
        elif reference == "evaluation":
            names = {each.evaluation_id: each.name for each in monitor_queries.list_evaluations()}
            fields["evaluation"] = _choose_name("Evaluation", names, settings.evaluation)
        elif reference == "window":
            start = st.datetime_input("From (UTC)", settings.window_start, width=220)
            end = st.datetime_input("To (UTC)", settings.window_end, width=220)
            fields["window_start"] = start.isoformat() if start else None
            fields["window_end"] = end.isoformat() if end else None
        fields["reference_rows"] = st.number_input(
            "Rows at most", 60, 5_000, settings.reference_rows, step=50, width=140
        )
    return fields


def _choose_name(label: str, names: dict[str, str], chosen: str) -> str:
    ids = list(names)
    place = ids.index(chosen) if chosen in names else None
    value = st.selectbox(label, ids, place, format_func=names.__getitem__, width=300)
    return value or ""


def _draw_limit_fields(settings: MonitorSettings) -> dict[str, Any]:
    columns = st.columns(3)
    fields: dict[str, Any] = {}
    for (name, limit), column in zip(LIMITS.items(), cycle(columns), strict=False):
        present = getattr(settings, name)
        typed = column.number_input(
            limit.label, limit.low, limit.high, None if present is None else limit.scale * present,
            help="Empty: no limit",
        )  # fmt: skip
        fields[name] = None if typed is None else typed / limit.scale
    left, middle, right = columns
    alpha = left.number_input("Chance of a false alarm (%)", 0.1, 50.0, 100 * settings.alpha)
    keep = middle.number_input(
        "Keep texts for (days)", 1, 3_650, settings.keep_days, help="Figures by minute stay for ever."
    )
    thinned = right.checkbox(
        "One of each caller and hour", settings.one_of_caller_and_hour,
        help="Where callers send many requests on end, which are like each other",
    )  # fmt: skip
    return {**fields, "alpha": alpha / 100, "keep_days": keep, "one_of_caller_and_hour": thinned}


def _draw_golden_field(settings: MonitorSettings) -> dict[str, Any] | None:
    """An evaluation that was made once is made again and again; its rows are the golden set."""
    everything = {each.evaluation_id: each for each in monitor_queries.list_evaluations()}
    present = settings.golden.model_dump(mode="json", exclude_none=True) if settings.golden else None
    options = ["", *([CURRENT_REFERENCE] if present else []), *everything]
    names = {"": "None", CURRENT_REFERENCE: "The one that is set"}
    left, middle = st.columns([2, 1])
    chosen = left.selectbox(
        "Golden set, evaluated again and again", options, 1 if present else 0,
        format_func=lambda each: names[each] if each in names else everything[each].name,
        help="An evaluation of what is served, with its rows and metrics",
    )  # fmt: skip
    hours = middle.number_input(
        "Every (hours)", 1.0, 8_784.0, float(settings.golden.every_hours if settings.golden else 24.0)
    )
    if not chosen:
        return None
    evaluate = present["evaluate"] if present and chosen == CURRENT_REFERENCE else everything[chosen].config
    return {"evaluate": evaluate, "every_hours": hours}


def _draw_schedule_fields(settings: MonitorSettings) -> dict[str, Any]:
    """Checks that features make again and again, each by the feature's name."""
    fields: dict[str, Any] = {}
    for name, feature in load_page_features().items():
        if feature.draw_schedule_field:
            schedule = getattr(settings, name)
            present = schedule.check.model_dump(exclude_none=True) if schedule else {}
            fields[name] = feature.draw_schedule_field(present, schedule.every_hours if schedule else None)
    return fields


def _draw_price_fields(settings: MonitorSettings) -> dict[str, Any]:
    left, middle, right = st.columns(3)
    return {
        "price_of_prompt": left.number_input(
            "A million tokens read cost", 0.0, 1e6, settings.price_of_prompt
        ),
        "price_of_completion": middle.number_input(
            "A million tokens written cost", 0.0, 1e6, settings.price_of_completion
        ),
        "currency": right.text_input("Currency", settings.currency, max_chars=8),
    }


def _draw_webhook() -> None:
    """One address for all alerts; its secret is never shown again."""
    webhook = monitor_queries.read_webhook()
    if webhook:
        when = display.format_ago(webhook.set_at)
        st.markdown(
            f"Alerts go to **{escape_markdown(webhook.url)}**, set by"
            f" {escape_markdown(webhook.set_by_name)} {when}."
        )
    with st.form("monitor-webhook", border=False):
        url = st.text_input("Address", placeholder="https://…", help="Every alert is sent there as JSON.")
        secret = st.text_input(
            "Secret", type="password",
            help="At least 16 characters. Each message carries Tunebench-Signature: t=TIME,v1=HMAC-SHA256 of"
            " TIME.BODY.",
        )  # fmt: skip
        if st.form_submit_button("Set", icon=":material/save:"):
            send_command(
                "set_webhook", {"url": url or "", "secret": secret or ""}, "Alerts go there from now on."
            )
            st.rerun()
    if webhook:
        with st.container(horizontal=True):
            if st.button("Send a trial", icon=":material/send:", key="webhook-trial"):
                send_command("try_webhook", {}, "A trial is on its way.")
            if st.button("Take it away", icon=":material/delete:", key="webhook-away"):
                send_command("set_webhook", {}, "Alerts are sent nowhere.")
                st.rerun()
    _draw_deliveries()


def _draw_deliveries() -> None:
    sent = monitor_queries.list_deliveries()
    if not sent:
        return
    rows = [
        {
            "When (UTC)": each.queued_at,
            "What": "alert" if each.alert_id else "trial",
            "State": STATES[each.state],
            "Attempts": each.attempts,
            "Answer": each.status,
            "Trouble": each.trouble,
        }
        for each in sent
    ]
    st.dataframe(rows, hide_index=True, key="webhook-deliveries")
    st.caption(
        f"The newest {len(sent)} messages. One that fails is sent again after 10 s, 1, 5, 30 and 120 minutes."
    )
