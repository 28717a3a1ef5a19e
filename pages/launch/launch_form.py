"""The launch form's parts: what is trained, on what, how; name and notes; hyperparameters.

Session state is the one source: `config_fields` holds each field, and what a link asks for is filled into
them once.
"""

from __future__ import annotations

import json
import re
from typing import Any

import streamlit as st

from engine.diagnostics.phrasing import plural
from pages.launch import launch_continue, launch_task
from pages.launch.launch_yaml import forget_yaml
from pages.run_parts import config_fields as fields
from pages.run_parts.launch_from import cloned, draw_parent
from pages.shared import quantities, reads
from store.catalog.methods import FAMILY_TITLES, METHODS
from store.config.training.train_config import BUNDLED_MODEL, TrainConfig
from store.contract.errors import ConfigError

Notes = dict[str, list[tuple[str, str]]]
OPENED = "launch-hyperparameters-opened"


def begin(query: Any) -> None:
    """Fill the form once for each link: a run's config (`from`) with fields changed (`change`, as JSON), a
    data set (`dataset`), or the defaults. Raises ConfigError for a change that is none.
    """
    link = (query.get("from", ""), query.get("dataset", ""), query.get("change", ""))
    if st.session_state.get("launch-link") == link and fields.key("method") in st.session_state:
        return
    document: dict[str, Any] = {}
    change = _change(link[2]) if link[2] else {}
    if link[0]:
        document = cloned(link[0], change)
    elif fields.key("method") in st.session_state:
        document = fields.document()
    if link[1]:
        document["dataset"] = reads.dataset(link[1])["name"]
    document |= change
    if not document.get("dataset"):
        datasets = reads.datasets()
        document["dataset"] = datasets[0]["name"] if datasets else ""
    fields.fill(document)
    if not link[0] and "task" not in change:
        launch_task.suit_dataset()
    st.session_state["launch-link"] = link
    st.session_state["launch-row"] = 0
    forget_yaml()


def _change(text: str) -> dict[str, Any]:
    """The fields that a link changes, such as {"learning_rate": 5e-05}."""
    try:
        change = json.loads(text)
    except ValueError:
        change = None
    if not isinstance(change, dict) or not set(change) <= set(TrainConfig.model_fields):
        raise ConfigError(
            f"The link asks for a change that is none: {text[:80]}", fix="Open it from the run's page again."
        )
    return change


def draw_choices(notes: Notes) -> None:
    """The three choices at the top (model, data set, method), then name and notes."""
    left, right = st.columns(2)
    with left:
        _model(notes)
        launch_continue.draw(notes)
    with right:
        _dataset(notes)
    launch_task.draw(notes)
    _method()
    fields.draw_notes("method", notes)


def _method() -> None:
    """The method, with what it does and when to choose it."""
    model_type = _model_type()
    fitting = [name for name, method in METHODS.items() if method.fits(model_type)]
    chosen = st.session_state.get(fields.key("method"))
    if chosen in METHODS and chosen not in fitting:
        fitting.append(str(chosen))
    left_out = [METHODS[name].title for name in METHODS if name not in fitting]
    st.selectbox(
        "Method",
        fitting,
        format_func=lambda name: METHODS[name].title,
        key=fields.key("method"),
        help=f"Not for this model: {', '.join(left_out)}." if left_out else None,
        persist_state="session",
    )
    method = METHODS.get(str(st.session_state.get(fields.key("method"))))
    if method:
        st.caption(f"{FAMILY_TITLES[method.family]}. {method.when}")


def _model_type() -> str:
    """The chosen model's type, such as llama; empty where it isn't known yet."""
    chosen = st.session_state.get(fields.key("model"), "")
    model = next((model for model in reads.models() if model["name"] == chosen and model["ready"]), None)
    return re.split("For(?=[A-Z])", str(model["architecture"]))[0].lower() if model else ""


def draw_words(automatic_name: str, notes: Notes) -> None:
    """Which run it changes; name and notes."""
    draw_parent(notes)
    left, right = st.columns(2)
    with left:
        st.text_input(
            "Name",
            key=fields.key("name"),
            placeholder=automatic_name or "made from method and data set",
            persist_state="session",
        )
        fields.draw_notes("name", notes)
    with right:
        st.text_input(
            "Notes",
            key=fields.key("notes"),
            placeholder="what you want to find out",
            persist_state="session",
        )
        fields.draw_notes("notes", notes)


def _model(notes: Notes) -> None:
    by_name = {model["name"]: model for model in reads.models()}
    chosen = st.session_state.get(fields.key("model"), "")
    options = list(dict.fromkeys([*by_name, BUNDLED_MODEL, *([chosen] if chosen else [])]))
    st.selectbox(
        "Model",
        options,
        key=fields.key("model"),
        accept_new_options=True,
        help="Choose one, or type NAME@3 of a registered whole model, a folder or a Hugging Face id.",
        persist_state="session",
    )
    model = by_name.get(chosen)
    if model and model["ready"]:
        kind = str(model["architecture"]).removesuffix("ForCausalLM")
        st.caption(f"{quantities.parameters(model['parameters'] or 0)} parameters, {kind}")
    elif model or chosen == BUNDLED_MODEL:
        st.caption("Comes with Tunebench; it is made ready at its first use.")
    fields.draw_notes("model", notes)


def _dataset(notes: Notes) -> None:
    rows = {row["name"]: row["row_count"] for row in reads.datasets()}
    chosen = st.session_state.get(fields.key("dataset"), "")
    options = list(rows) + ([chosen] if chosen and chosen not in rows else [])
    if not options:
        st.markdown("Data set")
        st.page_link(
            "pages/data/data.py",
            label="Import a data set first",
            icon=":material/upload_file:",
            query_params={"view": "import"},
        )
        return
    st.selectbox(
        "Data set",
        options,
        key=fields.key("dataset"),
        persist_state="session",
        on_change=launch_task.suit_dataset,
    )
    if chosen in rows:
        st.caption(plural(rows[chosen], "row"))
    else:
        fields.draw_notes("dataset", {"dataset": [("error", f"There is no data set named {chosen}.")]})
    fields.draw_notes("dataset", notes)


def draw_hyperparameters(config: TrainConfig | None, resolved: dict[str, Any], notes: Notes) -> None:
    """All settings in groups; opened by itself when one of them has an error."""
    method = st.session_state.get(fields.key("method"))
    groups = list(fields.GROUPS)
    if method in METHODS and METHODS[method].fields:
        groups.insert(groups.index(fields.OPTIMISATION) + 1, fields.of_method(method))
    named = {field for group in groups for field in group.fields}
    bad = any(level == "error" for field in named & set(notes) for level, _ in notes[field])
    # Opened for an error it stays open: it must not close on whoever has just mended the field.
    opened = st.session_state[OPENED] = bad or st.session_state.get(OPENED, False)
    with st.expander("Hyperparameters", icon=":material/tune:", expanded=opened):
        st.caption("Each starts at a value that suits method and data. Empty a field to go back to it.")
        for group in groups:
            if launch_task.concerns(group):
                fields.draw_group(launch_task.meant(group), resolved, notes, config)
