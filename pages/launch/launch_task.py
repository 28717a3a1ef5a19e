"""The task of a run, where its data set leaves a choice: pairs of answers can be tuned on as preferences or
on the chosen answers alone, texts with labels be learned as answers or told apart by a classification head.
For every other data set there is nothing to choose, and nothing is shown.
"""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from pages.run_parts import config_fields as fields
from pages.shared import reads
from store.catalog.methods import METHODS
from store.config.training.train_config import TASK_TITLES

Tasks = tuple[str, ...]

IN_WORDS = ("sample_prompts", "max_new_tokens")
PAIRS: Tasks = ("dpo", "sft")
LABELS: Tasks = ("sft", "classification")
NOTHING: Tasks = ("sft",)
DPO = (
    "Learns to prefer the chosen answer of each pair to the rejected one (DPO). It works best on a model that"
    " already answers in about this way."
)
CHOSEN = "Learns to give the chosen answers; the rejected ones are left aside."
WORDS = "Learns to answer each text with its label, in words. The model can still answer anything else."
HEAD = (
    "Puts a new head with a probability for each label on the model. The first choice for labels: exact"
    " probabilities, one pass a text, no answer that is none of the labels."
)
ADVICE = {
    (PAIRS, "dpo"): DPO,
    (PAIRS, "sft"): CHOSEN,
    (LABELS, "sft"): WORDS,
    (LABELS, "classification"): HEAD,
}


def choices() -> Tasks:
    """The tasks that the chosen data set allows, the one that suits it best first where that is clear."""
    name = st.session_state.get(fields.key("dataset"))
    dataset = next((row for row in reads.datasets() if row["name"] == name), None)
    if dataset and dataset["kind"] == "preference":
        return PAIRS
    labelled = dataset and dataset["format"] == "text_label"  # elsewhere a label stands beside the answer
    if dataset and labelled and (dataset["stats"] or {}).get("label_count", 0) > 1:
        return LABELS
    return NOTHING


def task() -> str:
    """What is chosen."""
    return str(st.session_state.get(fields.key("task")) or "sft")


def suit_dataset() -> None:
    """Callback: the task that suits the chosen data set, before anybody says otherwise."""
    possible = choices()
    if task() not in possible or possible is PAIRS:
        st.session_state[fields.key("task")] = possible[0]


def draw(notes: dict[str, list[tuple[str, str]]]) -> None:
    """The choice, where there is one."""
    of_data = possible = choices()
    if task() not in possible:  # said in YAML: the engine says why it can't be
        possible = (*possible, task())
    if len(possible) > 1:
        st.segmented_control(
            "Task",
            possible,
            format_func=lambda name: _title(of_data, name),
            required=True,
            key=fields.key("task"),
            persist_state="session",
        )
        st.caption(ADVICE.get((of_data, task()), ""))
    fields.draw_notes("task", notes)


def _title(of_data: Tasks, name: str) -> str:
    on_chosen = of_data is PAIRS and name == "sft"
    return f"{TASK_TITLES[name]} on the chosen answers" if on_chosen else TASK_TITLES[name]


def meant(group: fields.FieldGroup) -> fields.FieldGroup:
    """The group without settings that mean nothing for the task or the method: a head answers nothing in
    words, and where the model's own weights are trained there is no base to be held to."""
    method = METHODS.get(st.session_state.get(fields.key("method"), ""))
    if group is fields.AGAINST_FORGETTING and method and not method.adapter:
        return replace(group, fields=tuple(field for field in group.fields if field != "kl_beta"))
    if task() != "classification":
        return group
    return replace(group, fields=tuple(field for field in group.fields if field not in IN_WORDS))


def concerns(group: fields.FieldGroup) -> bool:
    """Whether a group of settings means anything for the chosen task."""
    if group is fields.PREFERENCE:
        return task() == "dpo"
    if group is fields.AGAINST_FORGETTING:
        return task() == "sft"
    return group is not fields.RENDERING or task() != "classification"
