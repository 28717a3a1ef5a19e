"""Recipes that are kept: saved under a name, loaded again, and as YAML to copy or to paste."""

from __future__ import annotations

import streamlit as st

from engine.diagnostics.phrasing import plural
from pages.data.rows import clean_draft, clean_reads
from pages.data.rows.saved_things import save_unseen, share_switch
from pages.people.owner_words import owner_words
from pages.shared.session import act, current_person, plain, show_error
from store.config.data.recipe import Recipe
from store.contract.errors import ConfigError
from store.contract.yaml_text import to_yaml
from store.documents.tables.dataset import Dataset, RecipeRow
from store.queries.data.saved import keeps


def show_saved(dataset: Dataset) -> None:
    """Save, load and YAML, folded away until they are wanted."""
    with st.expander(
        "Save, load, YAML", icon=":material/bookmark:", on_change="rerun", key="clean-saved"
    ) as box:
        if box.open:
            _save(dataset["dataset_id"])
            _load(dataset["dataset_id"])
            _yaml(dataset["dataset_id"])


def _recipes() -> list[RecipeRow]:
    return clean_reads.recipes(current_person()["person_id"])


def _save(dataset_id: str) -> None:
    steps, wrong = clean_draft.check(clean_draft.steps(dataset_id))
    with st.form(f"recipe-save-{dataset_id}", border=False):
        name = st.text_input("Save this recipe as", max_chars=80, disabled=not steps)
        shared = st.toggle("Shared with everybody", value=True, disabled=not steps, key="recipe-shared")
        pressed = st.form_submit_button("Save", icon=":material/save:", disabled=not steps)
    if wrong and clean_draft.steps(dataset_id):
        st.caption(plain(wrong))
    body = {"name": (name or "").strip(), "steps": steps, "shared": shared}
    save_unseen("save_recipe", body, _recipes(), "The recipe is saved.", "recipe", pressed=pressed)


def _load(dataset_id: str) -> None:
    saved = {recipe["recipe_id"]: recipe for recipe in _recipes()}
    if not saved:
        st.caption("No recipe is saved yet.")
        return
    chosen = st.selectbox(
        "Saved recipes",
        list(saved),
        None,
        format_func=lambda recipe_id: _label(saved[recipe_id]),
        placeholder="Choose one",
        key=f"recipe-load-{dataset_id}",
    )
    recipe = saved.get(chosen) if chosen else None
    with st.container(horizontal=True):
        st.button(
            "Use it",
            icon=":material/download:",
            disabled=recipe is None,
            key="recipe-use",
            on_click=clean_draft.put,
            args=(dataset_id, recipe["steps"] if recipe else []),
        )
        gone = st.button(
            "Delete it",
            icon=":material/delete:",
            type="tertiary",
            disabled=recipe is None or not keeps(recipe, current_person()),
            key="recipe-gone",
        )
        if recipe:
            share_switch("save_recipe", {"steps": recipe["steps"]}, recipe, f"recipe-{recipe['recipe_id']}")
    if not (gone and recipe):
        return
    body = {"name": recipe["name"], "recipe_id": recipe["recipe_id"]}
    if act("delete_recipe", body, "The recipe is deleted.") is not None:
        st.rerun()


def _label(recipe: RecipeRow) -> str:
    return f"{recipe['name']} ({', '.join([plural(len(recipe['steps']), 'step'), *owner_words(recipe)])})"


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
