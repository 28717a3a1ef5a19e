"""What several rooms show of models on their way into use: registration, the checks of a gate, the way to a
retraining and those that wait for a person, open alerts of endpoints, and how an endpoint is called.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

import streamlit as st

from engine.monitoring.drift import WATCHED_SIGNALS
from pages.shared import cached_queries, display, palette
from pages.shared.cached_queries import LIVE
from pages.shared.session import cached, escape_markdown, get_client, send_command, show_errors
from store.core.errors import ConfigError
from store.core.formatting import plural
from store.core.monitoring_schemas import MonitorAlert, WatchedName
from store.monitoring import monitor_alerts
from store.monitoring.monitor_alerts import TITLES, OpenAlerts
from store.registry import model_versions
from store.registry.config import RegisterConfig
from store.registry.schemas import CheckAnswer, CheckReport
from store.registry.version_folders import is_reference
from store.retraining.schemas import Improvement
from store.serving.endpoint_text import build_examples, list_first_kinds
from store.serving.schemas import EndpointStatus

NEW = "A new model"
REGISTERING = "registering-job"  # that this session asked for; the models page says what it came to
MAX_MODELS = 200  # models that may be chosen from; others are named


def draw_fields(body: dict[str, str], key: str) -> None:
    """Name, checkpoint where there are several, notes and the button; `body`: what is registered."""
    names = [line["name"] for line in model_versions.list_models(get_client(), limit=MAX_MODELS)[1]]
    chosen = NEW
    if names:
        chosen = st.selectbox("Model", [NEW, *names], key=f"{key}-model") or NEW
    name = chosen
    if chosen == NEW:
        typed = st.text_input(
            "Name of the model", key=f"{key}-name", placeholder="support-assistant", max_chars=64,
            help="Letters, digits, dots, dashes and underscores. Its versions are NAME@1, NAME@2, …",
        )  # fmt: skip
        name = (typed or "").strip()
    notes = st.text_area("Notes", key=f"{key}-notes", max_chars=10_000, height=80)
    if st.button("Register", type="primary", icon=":material/deployed_code:", key=f"{key}-go"):
        _register(body | {"name": name, "notes": (notes or "").strip()})


def _register(body: dict[str, str]) -> None:
    try:
        config = RegisterConfig.parse(body)
    except ConfigError as error:
        st.error(f"{error.message} {error.fix}", icon=":material/error:")
        return
    queued = send_command("register_model", config.model_dump())
    if queued is not None:
        st.session_state[REGISTERING] = queued["job_id"]
        st.switch_page("pages/registry/models.py")


@st.dialog("Register as a model")
def register_run(run_id: str, name: str) -> None:
    """The dialog of a run's page."""
    st.markdown(
        "What the run left is copied, with checksums, as the next version of a model. It stays whatever"
        " becomes of the run, and is named wherever a model is: NAME@3."
    )
    suggested = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")[:64].lower()
    st.session_state.setdefault("register-run-name", suggested)
    draw_fields({"run": run_id}, "register-run")


CHECK_ANSWERS: dict[CheckAnswer, str] = {
    "passed": ":green-badge[:material/check: Passed]",
    "failed": ":red-badge[:material/close: Failed]",
    "cant_tell": ":orange-badge[:material/help: Can't be told]",
}


def draw_check(check: CheckReport) -> None:
    """The card."""
    with st.container(border=True, gap="xsmall", key=None):
        draw_title(check)
        st.markdown(escape_markdown(check["sentence"]))
        if "command" in check and not check.get("gather"):
            st.code(check["command"], language=None)
        draw_evaluations(check)


def draw_title(check: CheckReport) -> None:
    """What is asked, and the answer."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{escape_markdown(check['title'])}**", width="stretch")
        st.markdown(CHECK_ANSWERS[check["answer"]], width="content")


def draw_evaluations(check: CheckReport) -> None:
    """Links to the evaluations that it rests on."""
    if not check["evaluations"]:
        return
    with st.container(horizontal=True, gap="small"):
        for place, evaluation_id in enumerate(check["evaluations"]):
            label = "Its evaluation" if place == 0 else f"That of {check['other'] or 'the other'}"
            st.page_link(
                "pages/evaluation/evaluations.py",
                label=escape_markdown(label),
                query_params={"evaluation": evaluation_id},
            )


PAGE = "pages/registry/models.py"
TAB = "improve"
IMPROVEMENT = "improvement"  # in the link: its id
FEEDBACK, ROUND, DATASET = "feedback", "round", "dataset"  # in the link: where rows come from
ROWS = (FEEDBACK, ROUND, DATASET, "alert", "slice")


def build_improve_query(model: str, **rows: str) -> dict[str, str]:
    """What the link says: `feedback` and `alert`, `round`, or `dataset` and `slice`; or `improvement`."""
    return {"model": model, "tab": TAB} | rows


def draw_improve_link(model: str, label: str, **rows: str) -> None:
    """The link."""
    st.page_link(
        PAGE, label=label, icon=":material/autorenew:", query_params=build_improve_query(model, **rows)
    )


def read_linked_rows() -> dict[str, str]:
    """Which rows the link of this page names."""
    return {name: st.query_params[name] for name in ROWS if st.query_params.get(name)}


def list_settings_models(settings: Mapping[str, Any]) -> list[str]:
    """Names of the registered models that an endpoint's settings have it serve."""
    routes = [route for model in settings.get("models", []) for route in model.get("routes", [])]
    subjects = [str(route.get("subject", "")) for route in routes]
    names = (subject.rpartition("@")[0] for subject in subjects if is_reference(subject))
    return list(dict.fromkeys(names))


SHOWN_IMPROVEMENTS = 3
KEY = "improvements-waiting"
STYLE = f"<style>.st-key-{KEY} {{border-left: 4px solid {palette.TRAIN}}}</style>"
GATE_ANSWERS = {
    "passed": "as good on old and new rows",
    "failed": "its checks failed",
    "cant_tell": "it can't be told whether it is as good",
}


def draw_pending_improvements() -> None:
    """Those that wait for a yes, the newest first."""
    with show_errors():
        waiting = cached_queries.list_improvements(("deciding",))[::-1]
        if not waiting:
            return
        st.html(STYLE)
        with st.container(border=True, gap="small", key=KEY):
            verb = "waits" if len(waiting) == 1 else "wait"
            count = plural(len(waiting), "improvement")
            st.markdown(f"#### :orange[:material/how_to_reg:] {count} {verb} for a yes")
            for improvement in waiting[:SHOWN_IMPROVEMENTS]:
                _draw_improvement(improvement)
            if len(waiting) > SHOWN_IMPROVEMENTS:
                st.caption(
                    f"The newest {SHOWN_IMPROVEMENTS} of {len(waiting)}; all are on their models' pages."
                )


def _draw_improvement(improvement: Improvement) -> None:
    facts = improvement["facts"]
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        label = f"**{escape_markdown(improvement['name'])}**"
        draw_improve_link(improvement["model_id"], label, **{IMPROVEMENT: improvement["improvement_id"]})
        reference, holder = facts.get("version", ""), facts.get("holder", "")
        beside = f"{reference} in place of {holder}" if holder else reference
        answer = GATE_ANSWERS[facts["gate"]["answer"]] if "gate" in facts else ""
        since = f"since {display.format_ago(improvement['changed_at'])}"
        words = ", ".join(part for part in (beside, answer, since) if part)
        st.markdown(f":gray[{escape_markdown(words)}]", width="content")


OF_SUBJECT = {
    "slower": "Answers have become slower",
    "failing": "More requests fail than before",
    "candidate": "The candidate is worse than the live version",
    "bias": "Bias is worse than in the version before",
    "bias-start": "The bias check can’t be started",
}
SHOWN_ALERTS = 3  # endpoints on the overview


@cached(LIVE, most=4)
def group_open_alerts_by_endpoint() -> dict[str, OpenAlerts]:
    """Of all endpoints that have any, the worst first."""
    return monitor_alerts.open_by_endpoint(get_client())


def format_alert_title(alert: MonitorAlert) -> str:
    """What it is about, as a sentence without its full stop."""
    if alert["kind"] == "drift":
        return f"{WATCHED_SIGNALS[cast(WatchedName, alert['subject'])].title}: changed"
    return OF_SUBJECT.get(alert["subject"], TITLES[alert["kind"]])


def draw_open_alerts(endpoint_id: str) -> None:
    """The alerts of one endpoint, as a link to them; nothing where none is open."""
    if opened := group_open_alerts_by_endpoint().get(endpoint_id):
        _draw_link(endpoint_id, opened, "")


def draw_all_open_alerts() -> None:
    """Those of all endpoints, a link each."""
    with show_errors():
        everywhere = group_open_alerts_by_endpoint()
        for endpoint_id, opened in list(everywhere.items())[:SHOWN_ALERTS]:
            _draw_link(endpoint_id, opened, f"{escape_markdown(opened['name'])}: ")
        if len(everywhere) > SHOWN_ALERTS:
            st.page_link(
                "pages/monitoring/monitor.py", label=f"{len(everywhere)} endpoints have alerts; all of them"
            )


def _draw_link(endpoint_id: str, opened: OpenAlerts, name: str) -> None:
    worst = opened["worst"]
    with st.container(gap=None):
        st.page_link(
            "pages/monitoring/monitor.py",
            label=f":red[**{name}{plural(opened['n'], 'open alert')}**]",
            icon=":material/notifications_active:",
            query_params={"endpoint": endpoint_id},
        )
        first = "The worst: " if opened["n"] > 1 else ""
        since = f"since {worst['since']:%d %b %H:%M} UTC, {display.format_ago(worst['since'])}"
        st.caption(f"{first}{format_alert_title(worst)}, {since}")


def draw_calling(seen: EndpointStatus) -> None:
    """Address and examples, to be copied."""
    address = seen["state"]["address"] if seen["state"] else f"http://127.0.0.1:{seen['settings']['port']}"
    models = [model["name"] for model in seen["config"]["models"]] if seen["config"] else []
    st.markdown("**How to call it**")
    st.caption("It speaks OpenAI's protocol. The address, for whatever asks for a base URL:")
    st.code(f"{address}/v1", language=None)
    curl, python = build_examples(address, models[0] if models else "NAME", list_first_kinds(seen))
    by_python, by_curl = st.tabs(["Python", "curl"])
    by_python.code(python, language="python", wrap_lines=True)
    by_curl.code(curl, language="bash", wrap_lines=True)
    if len(models) > 1:
        st.caption(escape_markdown(f"Models to ask for: {', '.join(models)}."))
