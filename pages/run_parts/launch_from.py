"""A run launched from another: the config of that one with some fields changed, and a name that says so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from pages.run_parts import config_fields as fields
from pages.run_parts.config_values import as_text, default
from pages.shared import reads
from pages.shared.palette import run_color
from pages.shared.session import plain
from store.contract.errors import NotFoundError

NAME = 120  # characters
UNTOLD = {"name", "notes", "parent", "dataset", "replay_dataset"}  # data sets have an id and a name


def cloned(run_id: str, change: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a run with `change`, that run as its parent, data sets under their present names."""
    run = reads.run(run_id)
    document = {k: v for k, v in run["config"].items() if v is not None}
    names = {row["dataset_id"]: row["name"] for row in reads.datasets()}
    document["dataset"] = names.get(run["dataset_id"], run["dataset_name"])
    if general := document.get("replay_dataset"):
        document["replay_dataset"] = names.get(general, general)
    if probes := document.get("probe_datasets"):
        document["probe_datasets"] = [names.get(probe, probe) for probe in probes]
    return document | {"name": named(run["name"], change), "parent": run_id} | dict(change)


def named(name: str, change: Mapping[str, Any]) -> str:
    """The parent's name and what is changed, as far as there is room."""
    if change.get("init_from"):
        return f"{name[:110]} continued"
    if not change:
        return f"{name} again"[:NAME]
    changed = ", ".join(f"{field} {as_text(value)}" for field, value in change.items())
    return f"{name[: max(20, NAME - len(changed) - 2)]}, {changed}"[:NAME]


def draw_parent(notes: Mapping[str, list[tuple[str, str]]]) -> None:
    """Which run this one changes, and in what; a click makes it a run of its own."""
    parent = str(st.session_state.get(fields.key("parent")) or "")
    if not parent:
        return
    try:
        run = reads.run(parent)
    except NotFoundError:
        sentence = "The run that this one changes was deleted."
    else:
        mark = f':color[●]{{foreground="{run_color(run["number"])}"}}'
        changed = changes(run["config"], fields.document())
        sentence = f"Changes {mark} **{plain(run['name'])}**: {plain(changed) or 'nothing yet'}."
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(sentence, width="stretch")
        st.button(
            "Unlink",
            icon=":material/link_off:",
            type="tertiary",
            key="launch-unlink",
            on_click=fields.change,
            args=({"parent": ""},),
            help="On the plot of gain against forgetting it will stand for itself.",
        )
    fields.draw_notes("parent", dict(notes))


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What differs between two configs: "learning_rate 0.001 → 0.00033"."""
    previous = {name: before.get(name, default(name)) for name in now if name not in UNTOLD}
    return ", ".join(
        f"{name} {_setting_text(was)} → {_setting_text(now[name])}"
        for name, was in previous.items()
        if was != now[name]
    )


def _setting_text(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return as_text(value) or "–"
