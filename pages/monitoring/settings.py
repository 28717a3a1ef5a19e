"""Monitor settings: reference, monitored values, limits, schedules, and the alert webhook."""

from __future__ import annotations

import streamlit as st

from engine.monitoring.drift import WATCHED_SIGNALS
from engine.monitoring.text import describe_cost
from pages.monitoring import monitor_queries
from pages.shared import cached_queries, display
from pages.shared.features import load_page_features
from pages.shared.model_form import ModelForm
from pages.shared.session import escape_markdown, has_right, send_command
from store.core.monitoring_schemas import Monitor
from store.monitoring import monitors
from store.monitoring.config import (
    EVERY_WATCHED_NAME,
    LIMITS,
    GoldenSchedule,
    MonitorConfig,
    MonitorSettings,
)
from store.monitoring.monitors import EndpointName

CURRENT_REFERENCE = "present"  # the schedule in effect
STATES = {"waiting": "pending", "sent": "delivered", "given_up": "failed"}


def draw_settings(endpoint: EndpointName) -> None:
    """Draw both forms, collapsed."""
    monitor = monitor_queries.read_monitor(endpoint.endpoint_id)
    if has_right("work"):
        with st.expander("Monitor settings", icon=":material/tune:"):
            _draw_form(endpoint, monitor)
            if monitor and monitor.changed_by_name:
                when = display.format_ago(monitor.changed_at)
                st.caption(f"Last changed by {escape_markdown(monitor.changed_by_name)}, {when}.")
    if has_right("govern"):
        with st.expander("Alert webhook", icon=":material/webhook:"):
            _draw_webhook()


def _draw_form(endpoint: EndpointName, monitor: Monitor | None) -> None:
    settings = monitors.get_settings(monitor)
    saved = monitor.changed_at if monitor else ""  # changes saved by others reset the form
    form = ModelForm(MonitorConfig, f"monitor-{endpoint.endpoint_id}-{saved}-", settings)
    form.put(endpoint=endpoint.endpoint_id)
    _draw_reference_fields(form)
    with st.form(f"monitor-settings-{endpoint.endpoint_id}", border=False):
        form.draw_field("watched", choices={name: WATCHED_SIGNALS[name].title for name in EVERY_WATCHED_NAME})
        st.caption(describe_cost(monitor.base_look if monitor else None))
        form.draw(*LIMITS, "alpha", "keep_days", "one_of_caller_and_hour", columns=3)
        _draw_golden_field(form, settings)
        for name, feature in load_page_features().items():
            if feature.draw_schedule_field:
                form.put(**{name: feature.draw_schedule_field(getattr(settings, name))})
        form.draw("price_of_prompt", "price_of_completion", "currency", columns=3)
        st.caption("Changing the reference, the monitored values or the false alert rate restarts all tests.")
        if st.form_submit_button("Save", type="primary", icon=":material/save:"):
            config = form.parse()
            if config:
                send_command("set_monitor", config, "Settings saved.")


def _draw_reference_fields(form: ModelForm[MonitorConfig]) -> None:
    """Draw the reference; outside the form, because the following fields depend on the selection."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        reference = form.draw_field("reference", width=300)
        if reference == "dataset":
            datasets = {each.dataset_id: each.name for each in cached_queries.list_datasets()}
            form.draw_field("dataset", choices=datasets, width=300)
        elif reference == "evaluation":
            evaluations = {each.evaluation_id: each.name for each in monitor_queries.list_evaluations()}
            form.draw_field("evaluation", choices=evaluations, width=300)
        elif reference == "window":
            form.draw_field("window_start", width=220)
            form.draw_field("window_end", width=220)
        form.draw_field("reference_rows", width=140)


def _draw_golden_field(form: ModelForm[MonitorConfig], settings: MonitorSettings) -> None:
    """Draw the choice of a past evaluation to repeat on a schedule; its rows are the golden set."""
    everything = {each.evaluation_id: each for each in monitor_queries.list_evaluations()}
    present = settings.golden
    options = ["", *([CURRENT_REFERENCE] if present else []), *everything]
    names = {"": "None", CURRENT_REFERENCE: "Current setting"}
    left, middle = st.columns([2, 1])
    chosen = left.selectbox(
        "Scheduled evaluation on a golden set", options, 1 if present else 0,
        format_func=lambda each: names[each] if each in names else everything[each].name,
        help="An evaluation of the served model; its rows and metrics are reused",
    )  # fmt: skip
    schedule = ModelForm(GoldenSchedule, f"{form.prefix}golden-", present)
    with middle:
        schedule.draw("every_hours")
    if present and chosen == CURRENT_REFERENCE:
        form.put(golden={"evaluate": present.evaluate, **schedule.values})
    elif chosen:
        form.put(golden={"evaluate": everything[chosen].config, **schedule.values})


def _draw_webhook() -> None:
    """Draw the URL for all alerts. The secret is never displayed again."""
    webhook = monitor_queries.read_webhook()
    if webhook:
        when = display.format_ago(webhook.set_at)
        st.markdown(
            f"Alerts are sent to **{escape_markdown(webhook.url)}**, set by"
            f" {escape_markdown(webhook.set_by_name)} {when}."
        )
    with st.form("monitor-webhook", border=False):
        url = st.text_input("URL", placeholder="https://…", help="Every alert is sent to this URL as JSON.")
        secret = st.text_input(
            "Secret", type="password",
            help="At least 16 characters. Signs each message in the header Tunebench-Signature:"
            " t=TIME,v1=HMAC-SHA256 of TIME.BODY.",
        )  # fmt: skip
        if st.form_submit_button("Save webhook", icon=":material/save:"):
            send_command(
                "set_webhook",
                {"url": url or "", "secret": secret or ""},
                "Webhook saved. Alerts are now sent to this URL.",
            )
            st.rerun()
    if webhook:
        with st.container(horizontal=True):
            if st.button("Send test message", icon=":material/send:", key="webhook-trial"):
                send_command("try_webhook", {}, "Test message queued.")
            if st.button("Remove webhook", icon=":material/delete:", key="webhook-away"):
                send_command("set_webhook", {}, "Webhook removed. Alerts are no longer sent.")
                st.rerun()
    _draw_deliveries()


def _draw_deliveries() -> None:
    sent = monitor_queries.list_deliveries()
    if not sent:
        return
    rows = [
        {
            "Time (UTC)": each.queued_at,
            "Type": "alert" if each.alert_id else "test",
            "Status": STATES[each.state],
            "Attempts": each.attempts,
            "Response": each.status,
            "Error": each.trouble,
        }
        for each in sent
    ]
    st.dataframe(rows, hide_index=True, key="webhook-deliveries")
    st.caption(
        f"Last {len(sent)} messages. Failed messages are retried after 10 s and 1, 5, 30 and 120 minutes."
    )
