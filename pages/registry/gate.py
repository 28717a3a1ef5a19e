"""Whether a version passes the gate of an alias, what is missing to tell, the promotion; and the gate as a
form and as YAML.
"""

from __future__ import annotations

from typing import Any, Literal

import streamlit as st
from pydantic.fields import FieldInfo

from pages.registry import model_queries
from pages.registry.check_cards import CHECK_ANSWERS, draw_check
from pages.shared import cached_queries
from pages.shared.job_progress import render_progress
from pages.shared.session import (
    escape_markdown,
    get_client,
    has_right,
    live,
    redraw,
    send_command,
    show_error,
    show_errors,
)
from store.core import formatting
from store.core.errors import ConfigError
from store.core.job_kinds import ALIVE
from store.core.metric_table import METRICS
from store.core.model_schemas import ModelSummary, ModelVersion
from store.data.cleaning_text import describe_filter
from store.data.filters import Filter
from store.http.client import Client
from store.jobs import job_queue
from store.registry.config import ALIASES
from store.registry.gate_checks import GATE_CHECKS, GateConfig
from store.registry.schemas import GateReport

PARTS = ("test", "validation", "train", "all")


def draw_form(model: ModelSummary, alias: str) -> None:
    """What is set, changed and saved; the form keeps what was not saved while the page is open."""
    line = model_queries.read_gate(model.model_id, alias)
    key = f"gate-{model.model_id}-{alias}"
    if key not in st.session_state:
        st.session_state[key] = list(line.config["checks"]) if line else []
    checks: list[dict[str, Any]] = st.session_state[key]
    for place, check in enumerate(list(checks)):
        with st.container(border=True, gap="small"):
            with st.container(horizontal=True, vertical_alignment="center"):
                st.markdown(f"**{GATE_CHECKS[check['check']].title}**", width="stretch")
                if st.button("Take out", icon=":material/close:", key=f"{key}-out-{place}", type="tertiary"):
                    del checks[place]
                    _clear_widgets(key)
                    st.rerun()
            checks[place] = check | _draw_fields(check, f"{key}-{place}")
    _draw_add(checks, key)
    with st.container(horizontal=True):
        if st.button("Save the gate", icon=":material/save:", key=f"{key}-save"):
            _save(model, alias, {"checks": checks}, key)
        with st.popover("As YAML", icon=":material/code:", key=f"{key}-yaml"):
            _draw_yaml(model, alias, checks, key)
    if line:
        st.caption(f"Set by {escape_markdown(line.changed_by_name)} on {line.changed_at:%d %b %Y}.")


def _draw_add(checks: list[dict[str, Any]], key: str) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        kind = st.selectbox(
            "Another check", list(GATE_CHECKS), key=f"{key}-kind",
            format_func=lambda name: GATE_CHECKS[name].title,
        )  # fmt: skip
        if st.button("Add", icon=":material/add:", key=f"{key}-add"):
            fields = GATE_CHECKS[kind].model_fields
            first = next(iter(cached_queries.list_datasets()), None)
            new = {name: field.get_default() for name, field in fields.items() if not field.is_required()}
            if "dataset" in fields and fields["dataset"].is_required():
                new["dataset"] = first.dataset_id if first else ""
            if "metric" in fields and fields["metric"].is_required():
                new["metric"] = "accuracy"
            checks.append({"check": kind, **new})
            st.rerun()


def _draw_fields(check: dict[str, Any], key: str) -> dict[str, Any]:
    """The fields of one check; what the form does not show stays as it is."""
    values: dict[str, Any] = {}
    fields = GATE_CHECKS[check["check"]].model_fields
    with st.container(horizontal=True, vertical_alignment="bottom"):
        for name, field in fields.items():
            if name not in ("check", "where"):
                values[name] = _draw_field(name, field, check.get(name), f"{key}-{name}")
    if check.get("where"):
        st.caption(f"Only rows where {escape_markdown(describe_filter(Filter.parse(check['where'])))}.")
    return values


def _draw_field(name: str, field: FieldInfo, value: Any, key: str) -> Any:
    label, about = field.title or name.replace("_", " ").capitalize(), field.description
    if name == "dataset":
        names = {row.dataset_id: row.name for row in cached_queries.list_datasets()}
        choices = [*([] if field.is_required() else [""]), *names]
        place = choices.index(value) if value in choices else 0
        return st.selectbox(
            label, choices, place, key=key, help=about,
            format_func=lambda own: names.get(own, "The verdict of its run"),
        )  # fmt: skip
    if name == "metric":
        choices = [*([] if field.is_required() else [""]), *METRICS]
        place = choices.index(value) if value in choices else 0
        return st.selectbox(
            label, choices, place, key=key, help=about,
            format_func=lambda own: METRICS[own].title if own else "–",
        )  # fmt: skip
    if name == "part":
        return st.selectbox(label, PARTS, PARTS.index(value or "test"), key=key)
    if isinstance(field.get_default(), bool):
        return st.checkbox(label, bool(value), key=key, help=about)
    if name == "form":
        return (
            st.text_input(label, value or "", key=key, help=about, placeholder="every form") or ""
        ).strip()
    whole = name == "max_rows" or isinstance(field.get_default(), int)
    typed = st.number_input(
        label, value=value, min_value=0 if whole else 0.0, key=key, help=about, step=1 if whole else None,
        format=None if whole else "%g",
    )  # fmt: skip
    return typed


def _draw_yaml(model: ModelSummary, alias: str, checks: list[dict[str, Any]], key: str) -> None:
    try:
        text = GateConfig.parse({"checks": checks}).to_yaml()
    except ConfigError:
        text = ""
    typed = st.text_area("The checks", text, height=320, key=f"{key}-text")
    if st.button("Save this", key=f"{key}-text-save"):
        try:
            _save(model, alias, GateConfig.from_yaml(typed or "").document(), key)
        except ConfigError as error:
            show_error(error)


def _save(model: ModelSummary, alias: str, gate: dict[str, Any], key: str) -> None:
    try:
        document = GateConfig.parse(gate).document()
    except ConfigError as error:
        show_error(error)
        return
    if send_command("set_gate", {"model": model.name, "alias": alias, "gate": document}, "Saved") is not None:
        _clear_widgets(key)
        st.session_state.pop(key, None)
        st.rerun()


def _clear_widgets(key: str) -> None:
    """What widgets of the form hold: after a change their places are of other checks."""
    for name in [str(name) for name in st.session_state]:
        if name.startswith(f"{key}-") and not name.endswith("-kind"):
            st.session_state.pop(name)


CUSTOM_ALIAS = "One of your own"
WAITING = "gate-evidence"  # in the session state: jobs that were queued from here


def draw_gate(_: Client, model: ModelSummary, version: ModelVersion) -> None:
    """The checks of one alias, and what may be done next."""
    reference = f"{model.name}@{version.version}"
    alias = _choose_alias(model)
    if not alias:
        return
    _draw_waiting()
    report = model_queries.read_gate_report(reference, alias)
    st.markdown(f"{CHECK_ANSWERS[report.answer]} {escape_markdown(report.sentence)}")
    if report.holder:
        st.caption(f"{escape_markdown(report.holder)} is {alias} now; checks against it are paired by row.")
    for check in report.checks:
        draw_check(check)
    if report.checks:
        st.caption(
            "A check with an interval passes where the whole of it is on the good side of the limit, so one"
            " that is truly beyond it passes in at most 5 of 100 cases. All checks have to pass, which"
            " makes it only harder: nothing is corrected for their number."
        )
    if has_right("work"):
        _draw_actions(model, version, report)
    if has_right("govern"):
        with st.expander(f"What a version has to pass before it is {alias}", icon=":material/rule:"):
            draw_form(model, alias)


def _choose_alias(model: ModelSummary) -> str:
    """Which alias is meant; empty where a new one is not named yet."""
    own = [
        alias_now.alias
        for alias_now in model_queries.list_aliases(model.model_id)
        if alias_now.alias not in ALIASES
    ]
    choices = [*ALIASES[::-1], *own, CUSTOM_ALIAS]
    chosen = st.segmented_control(
        "Alias", choices, default=choices[0], key="gate-alias", label_visibility="collapsed"
    )
    if chosen != CUSTOM_ALIAS:
        return chosen or choices[0]
    typed = st.text_input(
        "Name of the alias", key="gate-own-alias", placeholder="canary", max_chars=32,
        help="Small letters, digits, dashes and underscores.",
    )  # fmt: skip
    return (typed or "").strip()


# -- what may be done -------------------------------------------------------------------------------


def _draw_actions(model: ModelSummary, version: ModelVersion, report: GateReport) -> None:
    alias, reference = report.alias, report.reference
    standing = {
        alias_now.alias: alias_now.version for alias_now in model_queries.list_aliases(model.model_id)
    }
    if standing.get(alias) == version.version:
        st.markdown(f":material/verified: {escape_markdown(reference)} is {alias}.")
        return
    missing = [check for check in report.checks if check.gather]
    if missing:
        count = formatting.plural(len(missing), "check")
        if st.button("Evaluate what is missing", icon=":material/fact_check:", type="primary", key="gather"):
            answer = send_command("gather_gate_evidence", {"version": reference, "alias": alias})
            if answer is not None:
                st.session_state[WAITING] = answer["job_ids"]
                st.rerun()
        verb = "needs" if len(missing) == 1 else "need"
        st.caption(f"Queues the evaluations that {count} {verb}, both models on the same rows.")
    seen = {"version": standing.get(alias)}
    if report.answer == "passed":
        _draw_promote(reference, alias, seen)
    elif has_right("govern"):
        with st.expander("Promote it all the same", icon=":material/gavel:"):
            st.markdown("The gate is not passed. As an admin you may override it; your reason is kept.")
            _draw_promote(reference, alias, seen, override=True)


def _draw_promote(reference: str, alias: str, seen: dict[str, int | None], override: bool = False) -> None:
    key = "override" if override else "promote"
    reason = st.text_area(
        "Why", key=f"{key}-reason", height=80, max_chars=2_000,
        placeholder="Better on the golden set, and faster.",
    )  # fmt: skip
    kind: Literal["primary", "secondary"] = "secondary" if override else "primary"
    label = f"Make it {alias}{' though it does not pass' if override else ''}"
    if st.button(label, type=kind, icon=":material/verified:", key=f"{key}-go"):
        body = {
            "version": reference,
            "alias": alias,
            "reason": (reason or "").strip(),
            "override": override,
            "seen": seen,
        }
        if send_command("promote", body, f"{reference} is {alias} now.") is not None:
            st.rerun()


def _draw_waiting() -> None:
    """Evaluations that were queued from here, until they have ended."""
    if waiting := st.session_state.get(WAITING):
        _draw_live_waiting(tuple(waiting))


@live("1s")
def _draw_live_waiting(job_ids: tuple[str, ...]) -> None:
    with show_errors():
        listed = job_queue.with_ids(get_client(), job_ids)
        alive = [job for job in listed if job.status in ALIVE]
        if not alive:
            st.session_state.pop(WAITING, None)
            st.cache_data.clear()
            redraw()
        for job in alive:
            st.markdown(escape_markdown(job.title))
            st.html(render_progress(job))
