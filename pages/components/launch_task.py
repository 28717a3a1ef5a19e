"""The task of a run, where its data set leaves a choice: pairs of answers can be tuned on as preferences, or
on the chosen answers alone. For every other data set there is nothing to choose, and nothing is shown.
"""

from __future__ import annotations

import streamlit as st

from pages.components import config_fields as fields
from pages.components import reads
from store.config import TASK_TITLES

CHOICES = {"dpo": TASK_TITLES["dpo"], "sft": f"{TASK_TITLES['sft']} on the chosen answers"}
ADVICE = {
    "dpo": "Learns to prefer the chosen answer of each pair to the rejected one (DPO). It works best on a"
    " model that already answers in about this way.",
    "sft": "Learns to give the chosen answers; the rejected ones are left aside.",
}


def kind() -> str:
    """What the chosen data set holds: chat, text or preference; empty where there is none of that name."""
    name = st.session_state.get(fields.key("dataset"))
    return next((row["kind"] for row in reads.datasets() if row["name"] == name), "")


def suit_dataset() -> None:
    """Callback: the task that suits the chosen data set best, before anybody says otherwise."""
    st.session_state[fields.key("task")] = "dpo" if kind() == "preference" else "sft"


def draw(notes: dict[str, list[tuple[str, str]]]) -> None:
    """The choice, where there is one."""
    if kind() != "preference" and st.session_state.get(fields.key("task")) != "dpo":
        fields.draw_notes("task", notes)
        return
    st.segmented_control(
        "Task",
        list(CHOICES),
        format_func=CHOICES.__getitem__,
        required=True,
        key=fields.key("task"),
        persist_state="session",
    )
    st.caption(ADVICE.get(str(st.session_state.get(fields.key("task"))), ""))
    fields.draw_notes("task", notes)


def concerns(group: fields.Group) -> bool:
    """Whether a group of settings means anything for the chosen task."""
    return group is not fields.PREFERENCE or st.session_state.get(fields.key("task")) == "dpo"
