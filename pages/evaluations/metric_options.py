"""The metrics of an evaluation as widgets, drawn from the metric table and the options that each has."""

from __future__ import annotations

from typing import Any, Literal, get_args, get_origin

import streamlit as st

from pages.shared.session import plain
from store.catalog.metric_table import METRICS
from store.config.measuring.metrics_config import CHOICES, options
from store.contract.errors import TunebenchError
from store.contract.home import Home
from store.contract.yaml_text import read_yaml

PREFIX = "evaluate."
COLUMNS = 3
CHOSEN, OFFERED = f"{PREFIX}metrics", f"{PREFIX}metrics.offered"


def draw_metrics(defaults: list[str], without: set[str]) -> tuple[list[dict[str, Any]], str]:
    """The choice of metrics with their options; what they say as documents, and the first problem.

    without: what model and rows can't give, so that metrics that need it are not offered.
    """
    offered = [name for name, metric in METRICS.items() if not without & set(metric.needs)]
    _begin([name for name in defaults if name in offered])
    chosen = st.multiselect(
        "Metrics",
        offered,
        format_func=lambda name: METRICS[name].title,
        key=CHOSEN,
        help="  \n".join(f"**{METRICS[name].title}**: {plain(METRICS[name].means)}" for name in offered),
    )
    problem, documents = "", []
    with_options = [name for name in chosen if options(name)]
    needed = [name for name in with_options if _required(name)]
    if with_options:
        box = st.expander("Options of the metrics", icon=":material/tune:", expanded=bool(needed))
        with box:
            options_of = {name: _draw_options(name) for name in with_options}
    else:
        options_of = {}
    for name in chosen:
        document, wrong = options_of.get(name, ({}, ""))
        problem = problem or wrong
        documents.append({"metric": name, **document})
    return documents, problem


def _begin(defaults: list[str]) -> None:
    """What fits the model and the rows is chosen, until somebody chose otherwise."""
    state = st.session_state
    if CHOSEN not in state or state[CHOSEN] == state.get(OFFERED):
        state[CHOSEN] = defaults
    state[OFFERED] = defaults


def lacking(metrics: list[dict[str, Any]]) -> str:
    """What still has to be said about the first of them that needs more, in words."""
    for metric in metrics:
        named = " and ".join(name for name in _required(metric["metric"]) if name not in metric)
        if named:
            return f"{METRICS[metric['metric']].title} needs {named}: see the options of the metrics."
    return ""


def _required(metric: str) -> list[str]:
    return [name for name in options(metric) if CHOICES[metric].model_fields[name].is_required()]


def _draw_options(metric: str) -> tuple[dict[str, Any], str]:
    """The options that were changed, and the first that can't be read."""
    st.markdown(f"**{METRICS[metric].title}**")
    changed: dict[str, Any] = {}
    problem = ""
    names = options(metric)
    for start in range(0, len(names), COLUMNS):
        for column, name in zip(st.columns(COLUMNS), names[start : start + COLUMNS], strict=False):
            with column:
                value, wrong = _draw_option(metric, name)
            problem = problem or wrong
            if value is not None:
                changed[name] = value
    return changed, problem


def _draw_option(metric: str, name: str) -> tuple[Any, str]:
    """The value, None where it is left at its default; and why it can't be read."""
    info = CHOICES[metric].model_fields[name]
    key = f"{PREFIX}{metric}.{name}"
    if (metric, name) == ("own", "file"):
        return _draw_own(key, info.description)
    annotation, default = info.annotation, None if info.is_required() else info.get_default()
    if annotation is bool:
        value = st.toggle(name, value=bool(default), key=key, help=info.description)
        return (None if value == default else value), ""
    if get_origin(annotation) is Literal:
        values = list(get_args(annotation))
        place = values.index(default) if default in values else 0
        value = st.selectbox(name, values, place, key=key, help=info.description)
        return (None if value == default else value), ""
    placeholder = "" if default in (None, "", {}, []) else str(default)
    if annotation in (str, int, float):
        text = st.text_input(name, key=key, help=info.description, placeholder=placeholder or None)
        return ((text or "").strip() or None), ""
    text = st.text_area(name, key=key, help=f"{info.description or ''} (YAML)".strip(), placeholder="YAML")
    if not (text or "").strip():
        return None, ""
    try:
        return read_yaml(text), ""
    except TunebenchError as error:
        return None, f"{METRICS[metric].title}, {name}: {error}"


def _draw_own(key: str, description: str | None) -> tuple[str | None, str]:
    """One of the home folder's own metrics."""
    folder = Home().metrics
    files = sorted(path.stem for path in folder.glob("*.py"))
    if not files:
        return (
            None,
            f"There is no Python file in {folder} yet: put one with a function score(prediction) there.",
        )
    return st.selectbox("file", files, key=key, help=description or f"A Python file of {folder}"), ""
