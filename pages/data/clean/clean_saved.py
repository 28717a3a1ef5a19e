"""Recipes that are kept: saved under a name, loaded again, and as YAML to copy or to paste."""

from __future__ import annotations

import streamlit as st

from engine.diagnostics.phrasing import plural
from pages.data.rows import clean_draft, clean_reads
from pages.shared.session import act, plain, show_error
from store.config.recipe import Recipe
from store.contract.errors import ConfigError
from store.contract.yaml_text import to_yaml
from store.documents.tables.dataset import Dataset


def show_saved(dataset: Dataset) -> None:
    """Save, load and YAML, folded away until they are wanted."""
    with st.expander(
        "Save, load, YAML", icon=":material/bookmark:", on_change="rerun", key="clean-saved"
    ) as box:
        if box.open:
            _save(dataset["dataset_id"])
            _load(dataset["dataset_id"])
            _yaml(dataset["dataset_id"])


def _save(dataset_id: str) -> None:
    steps, wrong = clean_draft.check(clean_draft.steps(dataset_id))
    with st.form(f"recipe-save-{dataset_id}", border=False):
        name = st.text_input("Save this recipe as", max_chars=80, disabled=not steps)
        pressed = st.form_submit_button("Save", icon=":material/save:", disabled=not steps)
    if wrong and clean_draft.steps(dataset_id):
        st.caption(plain(wrong))
    if pressed and act("save_recipe", {"name": name, "steps": steps}, "The recipe is saved.") is not None:
        st.rerun()


def _load(dataset_id: str) -> None:
    saved = {recipe["name"]: recipe for recipe in clean_reads.recipes()}
    if not saved:
        st.caption("No recipe is saved yet.")
        return
    chosen = st.selectbox(
        "Saved recipes",
        list(saved),
        None,
        format_func=lambda name: f"{name} ({plural(len(saved[name]['steps']), 'step')})",
        placeholder="Choose one",
        key=f"recipe-load-{dataset_id}",
    )
    with st.container(horizontal=True):
        st.button(
            "Use it",
            icon=":material/download:",
            disabled=chosen is None,
            key="recipe-use",
            on_click=clean_draft.put,
            args=(dataset_id, saved[chosen]["steps"] if chosen else []),
        )
        gone = st.button(
            "Delete it", icon=":material/delete:", type="tertiary", disabled=chosen is None, key="recipe-gone"
        )
    if gone and act("delete_recipe", {"name": chosen}, "The recipe is deleted.") is not None:
        st.rerun()


def _yaml(dataset_id: str) -> None:
    steps = clean_draft.steps(dataset_id)
    if steps:
        st.code(to_yaml({"steps": steps}), "yaml", height=200)
    with st.form(f"recipe-yaml-{dataset_id}", border=False, clear_on_submit=False):
        pasted = st.text_area("Paste a recipe", height=100, placeholder="steps:\n- step: fix_encoding")
        pressed = st.form_submit_button("Use what was pasted", icon=":material/content_paste:")
    if not pressed:
        return
    try:
        recipe = Recipe.from_yaml(pasted or "")
    except ConfigError as error:
        show_error(error)
        return
    clean_draft.put(dataset_id, recipe.model_dump(exclude_none=True)["steps"])
    st.rerun()
