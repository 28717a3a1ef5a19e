"""The gate of an alias: whether a version passes, missing evidence, promotion, and the gate as a form and as
YAML.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import streamlit as st

from pages.registry import model_queries
from pages.registry.check_cards import CHECK_ANSWERS, draw_check
from pages.shared import cached_queries
from pages.shared.job_progress import render_progress
from pages.shared.model_form import ModelForm
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
from store.core.config import read_yaml
from store.core.errors import ConfigError
from store.core.job_kinds import ALIVE
from store.core.metric_table import METRICS
from store.core.model_fields import get_default
from store.core.model_schemas import ModelSummary, ModelVersion
from store.data.cleaning_text import describe_filter
from store.data.filters import Filter
from store.http.client import Client
from store.jobs import job_queue
from store.registry.config import ALIASES
from store.registry.gate_checks import GATE_CHECKS, GateCheckConfig, GateConfig
from store.registry.schemas import GateReport


@dataclass
class DraftCheck:
    """A check as entered in the form; it may be invalid."""

    kind: type[GateCheckConfig]
    values: Mapping[str, object]

    @property
    def document(self) -> Mapping[str, object]:
        return {**self.values, "check": get_default(self.kind.model_fields["check"])}


def draw_form(model: ModelSummary, alias: str) -> None:
    """Draw the form of an alias's gate; unsaved changes are kept while the page is open."""
    line = model_queries.read_gate(model.model_id, alias)
    key = f"gate-{model.model_id}-{alias}"
    if key not in st.session_state:
        checks = GateConfig.parse(line.config).checks if line else []
        st.session_state[key] = [DraftCheck(type(check), check.model_dump()) for check in checks]
    drafts: list[DraftCheck] = st.session_state[key]
    forms: list[ModelForm[GateCheckConfig]] = []
    for place, draft in enumerate(list(drafts)):
        with st.container(border=True, gap="small"):
            with st.container(horizontal=True, vertical_alignment="center"):
                st.markdown(f"**{draft.kind.title}**", width="stretch")
                if st.button("Remove", icon=":material/close:", key=f"{key}-out-{place}", type="tertiary"):
                    del drafts[place]
                    _clear_widgets(key)
                    st.rerun()
            forms.append(_draw_check(draft, f"{key}-{place}-"))
    _draw_add(drafts, key)
    with st.container(horizontal=True):
        if st.button("Save gate", icon=":material/save:", key=f"{key}-save"):
            parsed = [form.parse() for form in forms]
            if all(parsed):
                _save(model, alias, {"checks": parsed}, key)
        with st.popover("As YAML", icon=":material/code:", key=f"{key}-yaml"):
            _draw_yaml(model, alias, drafts, key)
    if line:
        st.caption(f"Set by {escape_markdown(line.changed_by_name)} on {line.changed_at:%d %b %Y}.")


def _draw_add(drafts: list[DraftCheck], key: str) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        name = st.selectbox(
            "Add a check", list(GATE_CHECKS), key=f"{key}-kind",
            format_func=lambda name: GATE_CHECKS[name].title,
        )  # fmt: skip
        if st.button("Add", icon=":material/add:", key=f"{key}-add"):
            kind = GATE_CHECKS[name]
            first = next(iter(cached_queries.list_datasets()), None)
            begin = {"dataset": first.dataset_id if first else "", "metric": "accuracy"}
            needed = {field: begin[field] for field in begin if _is_needed(kind, field)}
            drafts.append(DraftCheck(kind, needed))
            st.rerun()


def _is_needed(kind: type[GateCheckConfig], field: str) -> bool:
    return field in kind.model_fields and kind.model_fields[field].is_required()


def _draw_check(draft: DraftCheck, prefix: str) -> ModelForm[GateCheckConfig]:
    """Draw the fields of one check; fields that are not shown keep their values."""
    form = ModelForm(draft.kind, prefix, draft.values)
    form.put(**draft.document)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        for field in draft.kind.model_fields:
            if field not in ("check", "where"):
                form.draw_field(field, choices=_list_choices(draft.kind, field))
    draft.values = dict(form.values)
    if where := draft.values.get("where"):
        st.caption(f"Only rows where {escape_markdown(describe_filter(Filter.parse(where)))}.")
    return form


def _list_choices(kind: type[GateCheckConfig], field: str) -> Mapping[str, str] | None:
    """Return the choices of a field: existing data sets or metrics; None for other fields."""
    choices = {
        "dataset": {row.dataset_id: row.name for row in cached_queries.list_datasets()},
        "metric": {name: metric.title for name, metric in METRICS.items()},
    }.get(field)
    if choices is None or _is_needed(kind, field):
        return choices
    return {"": "The verdict of its run" if field == "dataset" else "–"} | choices


def _draw_yaml(model: ModelSummary, alias: str, drafts: list[DraftCheck], key: str) -> None:
    try:
        text = GateConfig.parse({"checks": [draft.document for draft in drafts]}).to_yaml()
    except ConfigError:
        text = ""
    typed = st.text_area("Checks", text, height=320, key=f"{key}-text")
    if st.button("Save version", key=f"{key}-text-save"):
        try:
            gate = read_yaml(typed or "")
        except ConfigError as error:
            show_error(error)
            return
        _save(model, alias, gate, key)


def _save(model: ModelSummary, alias: str, gate: object, key: str) -> None:
    try:
        document = GateConfig.parse(gate).document()
    except ConfigError as error:
        show_error(error)
        return
    body = {"model": model.name, "alias": alias, "gate": document}
    if send_command("set_gate", body, "Saved") is not None:
        _clear_widgets(key)
        st.session_state.pop(key, None)
        st.rerun()


def _clear_widgets(key: str) -> None:
    """Clear the widgets of the form, because after a change their keys refer to other checks."""
    for name in [str(name) for name in st.session_state]:
        if name.startswith(f"{key}-") and not name.endswith("-kind"):
            st.session_state.pop(name)


CUSTOM_ALIAS = "Custom alias"
WAITING = "gate-evidence"  # session state key: jobs queued from here


def draw_gate(_: Client, model: ModelSummary, version: ModelVersion) -> None:
    """Draw the checks of one alias, and the available actions."""
    reference = f"{model.name}@{version.version}"
    alias = _choose_alias(model)
    if not alias:
        return
    if waiting := st.session_state.get(WAITING):
        _draw_waiting(tuple(waiting))
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
        with st.expander(f"Checks before a version is promoted to {alias}", icon=":material/rule:"):
            draw_form(model, alias)


def _choose_alias(model: ModelSummary) -> str:
    """Draw the choice of the alias; "" until a custom alias is named."""
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
        if st.button("Run missing evaluations", icon=":material/fact_check:", type="primary", key="gather"):
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
        with st.expander("Override the gate", icon=":material/gavel:"):
            st.markdown("The gate did not pass. As an admin you can override it; your reason is recorded.")
            _draw_promote(reference, alias, seen, override=True)


def _draw_promote(reference: str, alias: str, seen: dict[str, int | None], override: bool = False) -> None:
    key = "override" if override else "promote"
    reason = st.text_area(
        "Reason", key=f"{key}-reason", height=80, max_chars=2_000,
        placeholder="Better on the golden set, and faster.",
    )  # fmt: skip
    kind: Literal["primary", "secondary"] = "secondary" if override else "primary"
    label = f"Promote to {alias}{' despite the gate' if override else ''}"
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


@live("1s")
def _draw_waiting(job_ids: tuple[str, ...]) -> None:
    """Draw evaluations queued from here until they have ended."""
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
