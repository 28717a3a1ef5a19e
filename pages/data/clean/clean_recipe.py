"""The recipe being written: its steps in order, each to move, change or take out, and steps to add."""

from __future__ import annotations

import streamlit as st

from pages.data.clean.clean_fields import step_fields
from pages.data.rows import clean_draft
from pages.data.rows.clean_draft import StepDocument
from pages.shared.session import plain
from store.documents.tables.dataset import Dataset

NEW = -1  # the place of a step that is not in the recipe yet
BY_HAND = "edit_rows"


def show_recipe(dataset: Dataset, columns: list[str]) -> None:
    """The ordered list, the form of the step that is open, and "Add a step"."""
    dataset_id = dataset["dataset_id"]
    steps = clean_draft.steps(dataset_id)
    st.subheader("Recipe", anchor="recipe")
    if not steps:
        st.caption("No steps yet. Use the button of a finding, or add a step.")
    opened = st.session_state.get(_open_key(dataset_id))
    for index, step in enumerate(steps):
        _line(dataset_id, index, step, len(steps))
        if opened and opened[0] == index:
            _form(dataset, index, step, columns)
    if opened and opened[0] == NEW:
        _form(dataset, NEW, {"step": opened[1]}, columns)
    st.selectbox(
        "Add a step",
        [name for name in clean_draft.STEPS if name != BY_HAND],
        None,
        format_func=clean_draft.name,
        placeholder="Add a step",
        label_visibility="collapsed",
        key=_add_key(dataset_id),
        on_change=_add,
        args=(dataset_id,),
    )


def _line(dataset_id: str, index: int, step: StepDocument, count: int) -> None:
    with st.container(border=True, key=f"step-{dataset_id}-{index}", gap="xsmall"):
        st.markdown(f"{index + 1}. {plain(clean_draft.title(step))}")
        with st.container(horizontal=True, gap="small"):
            for name, by, icon, end in (
                ("up", -1, ":material/arrow_upward:", index == 0),
                ("down", 1, ":material/arrow_downward:", index == count - 1),
            ):
                st.button(
                    f"Move {name}",
                    icon=icon,
                    type="tertiary",
                    disabled=end,
                    key=f"step-{name}-{index}",
                    on_click=_move,
                    args=(dataset_id, index, by),
                )
            st.button(
                "Options",
                icon=":material/tune:",
                type="tertiary",
                disabled=len(clean_draft.STEPS[step["step"]].model_fields) == 1,
                key=f"step-options-{index}",
                on_click=_open,
                args=(dataset_id, index, step["step"]),
            )
            st.button(
                "Remove",
                icon=":material/close:",
                type="tertiary",
                key=f"step-remove-{index}",
                on_click=_remove,
                args=(dataset_id, index),
            )


def _form(dataset: Dataset, index: int, step: StepDocument, columns: list[str]) -> None:
    dataset_id, name = dataset["dataset_id"], step["step"]
    model = clean_draft.STEPS[name]
    with st.form(f"step-form-{dataset_id}-{index}-{name}"):
        st.markdown(f"**{clean_draft.name(name)}**")
        st.caption((model.__doc__ or "").strip())
        document = step_fields(name, step, f"step-{dataset_id}-{index}-{name}", columns, dataset)
        with st.container(horizontal=True):
            label = "Add" if index == NEW else "Apply"
            applied = st.form_submit_button(label, icon=":material/check:")
            closed = st.form_submit_button("Cancel", type="tertiary")
    if closed:
        _close(dataset_id)
        st.rerun()
    if not applied:
        return
    if name == BY_HAND and not document["edits"]:
        _remove(dataset_id, index)
        st.rerun()
    steps, wrong = clean_draft.check([document])
    if wrong:
        st.error(plain(wrong.replace(f"steps.0.{name}.", "").replace("steps.0.", "")))
        return
    if index == NEW:
        clean_draft.add(dataset_id, steps)
    else:
        clean_draft.replace(dataset_id, index, steps[0])
    _close(dataset_id)
    st.rerun()


def _add(dataset_id: str) -> None:
    """Callback of the list: a step that needs nothing more is added, of any other the form is opened."""
    name = st.session_state[_add_key(dataset_id)]
    st.session_state[_add_key(dataset_id)] = None
    if name is None:
        return
    if len(clean_draft.STEPS[name].model_fields) == 1:
        clean_draft.add(dataset_id, [{"step": name}])
    else:
        _open(dataset_id, NEW, name)


def _open(dataset_id: str, index: int, name: str) -> None:
    st.session_state[_open_key(dataset_id)] = (index, name)


def _close(dataset_id: str) -> None:
    st.session_state.pop(_open_key(dataset_id), None)


def _move(dataset_id: str, index: int, by: int) -> None:
    _close(dataset_id)
    clean_draft.move(dataset_id, index, by)


def _remove(dataset_id: str, index: int) -> None:
    _close(dataset_id)
    clean_draft.remove(dataset_id, index)


def _open_key(dataset_id: str) -> str:
    return f"clean-open-{dataset_id}"


def _add_key(dataset_id: str) -> str:
    return f"clean-add-{dataset_id}"
