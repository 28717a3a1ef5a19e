"""The task of a run, where its data set leaves a choice: texts with labels can be learned as answers, or told
apart by a classification head. For every other data set there is nothing to choose, and nothing is shown.
"""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from pages.components import config_fields as fields
from pages.components import reads
from store.config import TASK_TITLES

IN_WORDS = ("sample_prompts", "max_new_tokens")
ADVICE = {
    "sft": "Learns to answer each text with its label, in words. The model can still answer anything else.",
    "classification": "Puts a new head with a probability for each label on the model. The first choice for"
    " labels: exact probabilities, one pass a text, no answer that is none of the labels.",
}


def choices() -> tuple[str, ...]:
    """The tasks that the chosen data set allows; "sft" alone where it leaves no choice."""
    name = st.session_state.get(fields.key("dataset"))
    found = next((row for row in reads.datasets() if row["name"] == name), None)
    if found and (found["stats"] or {}).get("label_count", 0) > 1:
        return ("sft", "classification")
    return ("sft",)


def task() -> str:
    """What is chosen."""
    return str(st.session_state.get(fields.key("task")) or "sft")


def suit_dataset() -> None:
    """Callback: a task that the chosen data set allows."""
    if task() not in choices():
        st.session_state[fields.key("task")] = choices()[0]


def draw(notes: dict[str, list[tuple[str, str]]]) -> None:
    """The choice, where there is one."""
    possible = choices()
    if task() not in possible:  # said in YAML: the engine says why it can't be
        possible = (*possible, task())
    if len(possible) > 1:
        st.segmented_control(
            "Task",
            possible,
            format_func=TASK_TITLES.__getitem__,
            required=True,
            key=fields.key("task"),
            persist_state="session",
        )
        st.caption(ADVICE.get(task(), ""))
    fields.draw_notes("task", notes)


def meant(group: fields.Group) -> fields.Group:
    """The group without settings that mean nothing for the task: a head answers nothing in words."""
    if task() != "classification":
        return group
    return replace(group, fields=tuple(field for field in group.fields if field not in IN_WORDS))


def concerns(group: fields.Group) -> bool:
    """Whether a group of settings means anything for the chosen task."""
    return group is not fields.RENDERING or task() != "classification"
