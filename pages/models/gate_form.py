"""The gate of an alias as a form, a check at a time, and as YAML."""

from __future__ import annotations

from typing import Any

import streamlit as st
from pydantic.fields import FieldInfo

from pages.models import model_reads
from pages.shared import reads
from pages.shared.session import act, plain, show_error
from store.catalog.metric_table import METRICS
from store.config.data.filters import Filter
from store.config.shipping.gate_config import KINDS, TITLES, GateConfig
from store.contract.errors import ConfigError
from store.documents.shipping.version import ModelLine
from store.words.recipe_words import words

PARTS = ("test", "validation", "train", "all")
LABELS = {
    "dataset": "Golden set",
    "part": "Part",
    "max_rows": "Rows at most",
    "metric": "Metric",
    "margin": "Margin",
    "least": "At least",
    "nats": "Loss on texts may rise by",
    "share": "Questions right may fall by",
    "limit": "Limit",
    "form": "Form",
    "warned": "With warnings too",
    "seconds": "Seconds an answer",
}


def draw_form(model: ModelLine, alias: str) -> None:
    """What is set, changed and saved; the form keeps what was not saved while the page is open."""
    line = model_reads.gate(model["model_id"], alias)
    key = f"gate-{model['model_id']}-{alias}"
    if key not in st.session_state:
        st.session_state[key] = list(line["config"]["checks"]) if line else []
    checks: list[dict[str, Any]] = st.session_state[key]
    for place, check in enumerate(list(checks)):
        with st.container(border=True, gap="small"):
            with st.container(horizontal=True, vertical_alignment="center"):
                st.markdown(f"**{TITLES[check['check']]}**", width="stretch")
                if st.button("Take out", icon=":material/close:", key=f"{key}-out-{place}", type="tertiary"):
                    del checks[place]
                    _forget(key)
                    st.rerun()
            checks[place] = check | _draw_fields(check, f"{key}-{place}")
    _draw_add(checks, key)
    with st.container(horizontal=True):
        if st.button("Save the gate", icon=":material/save:", key=f"{key}-save"):
            _save(model, alias, {"checks": checks}, key)
        with st.popover("As YAML", icon=":material/code:", key=f"{key}-yaml"):
            _draw_yaml(model, alias, checks, key)
    if line:
        st.caption(f"Set by {plain(line['changed_by_name'])} on {line['changed_at']:%d %b %Y}.")


def _draw_add(checks: list[dict[str, Any]], key: str) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        kind = st.selectbox("Another check", list(KINDS), format_func=TITLES.__getitem__, key=f"{key}-kind")
        if st.button("Add", icon=":material/add:", key=f"{key}-add"):
            fields = KINDS[kind].model_fields
            first = next(iter(reads.datasets()), None)
            new = {name: field.get_default() for name, field in fields.items() if not field.is_required()}
            if "dataset" in fields and fields["dataset"].is_required():
                new["dataset"] = first["dataset_id"] if first else ""
            if "metric" in fields and fields["metric"].is_required():
                new["metric"] = "accuracy"
            checks.append({"check": kind, **new})
            st.rerun()


def _draw_fields(check: dict[str, Any], key: str) -> dict[str, Any]:
    """The fields of one check; what the form does not show stays as it is."""
    values: dict[str, Any] = {}
    fields = KINDS[check["check"]].model_fields
    with st.container(horizontal=True, vertical_alignment="bottom"):
        for name, field in fields.items():
            if name not in ("check", "where"):
                values[name] = _draw_field(name, field, check.get(name), f"{key}-{name}")
    if check.get("where"):
        st.caption(f"Only rows where {plain(words(Filter.parse(check['where'])))}.")
    return values


def _draw_field(name: str, field: FieldInfo, value: Any, key: str) -> Any:
    label, about = LABELS[name], field.description
    if name == "dataset":
        names = {row["dataset_id"]: row["name"] for row in reads.datasets()}
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


def _draw_yaml(model: ModelLine, alias: str, checks: list[dict[str, Any]], key: str) -> None:
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


def _save(model: ModelLine, alias: str, gate: dict[str, Any], key: str) -> None:
    try:
        document = GateConfig.parse(gate).document()
    except ConfigError as error:
        show_error(error)
        return
    if act("set_gate", {"model": model["name"], "alias": alias, "gate": document}, "Saved") is not None:
        _forget(key)
        st.session_state.pop(key, None)
        st.rerun()


def _forget(key: str) -> None:
    """What widgets of the form hold: after a change their places are of other checks."""
    for name in [str(name) for name in st.session_state]:
        if name.startswith(f"{key}-") and not name.endswith("-kind"):
            st.session_state.pop(name)
