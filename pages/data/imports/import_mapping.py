"""The format of a file's rows and the columns that play its roles, to be corrected before the import."""

from __future__ import annotations

from typing import Any, get_args

import streamlit as st

from pages.shared.session import plain
from store.catalog.formats import FORMATS, AnswerBy, Format, columns_of, roles_for
from store.words.reading_words import BY, ROLES

NOTHING = "—"
WORDS = ROLES | {"better": "verdict: which answer is better", "system": "system prompt"}
MEANINGS = {
    "first": "the first answer is better",
    "second": "the second answer is better",
    "tie": "neither is better",
    "good": "a good answer",
    "bad": "a bad answer",
}


def draw_mapping(recognised: dict[str, Any], scope: str) -> dict[str, Any]:
    """format and columns, and where the format has them answers, values and instruction, as `ImportConfig`
    has them; nothing until a format is recognised or chosen."""
    names = list(FORMATS)
    own = recognised.get("format")
    chosen: str | None = st.selectbox(
        "Format",
        names,
        index=names.index(own) if own in names else None,
        format_func=lambda name: FORMATS[name].title,
        placeholder="Choose what a row is",
        key=f"import-format {scope}",
    )
    if chosen is None:
        return {}
    form = FORMATS[chosen]
    st.caption(form.help)
    same = chosen == own
    guess = recognised["mappings"].get(chosen) or (recognised["mapping"] if same else {})
    wishes: dict[str, Any] = {"format": chosen, "columns": _draw_columns(form, recognised, guess, scope)}
    if chosen == "multiple_choice":
        wishes |= _draw_answers(recognised["answers"] if same else None, scope)
    if form.meanings and same:
        wishes |= _draw_meanings(form, recognised["values"], scope)
    if chosen == "text_label":
        instruction = st.text_input(
            "Instruction before each text",
            key=f"import-instruction {scope}",
            placeholder="Which category does this message belong to?",
            help="Says what is asked for; the model learns to answer with the label.",
        )
        wishes |= {"instruction": instruction.strip()} if instruction and instruction.strip() else {}
    return wishes


def _draw_columns(
    form: Format, recognised: dict[str, Any], guess: dict[str, str], scope: str
) -> dict[str, str]:
    columns = [column["name"] for column in recognised["columns"]]
    mapping: dict[str, str] = {}
    typed = ("instruction",) if form.name == "text_label" else ()  # a sentence, not a column
    for role in (role for role in form.roles if role not in typed):
        key = f"import-{form.name}-{role} {scope}"
        if role in form.several:
            several = st.multiselect(
                f"Columns of the {WORDS.get(role, role)}", columns, default=columns_of(guess, role), key=key
            )
            mapping |= roles_for(role, several)
            continue
        options = columns if role in form.required else [NOTHING, *columns]
        wanted = guess.get(role, NOTHING if guess else role)
        index = options.index(wanted) if wanted in options else 0
        column = st.selectbox(f"Column of the {WORDS.get(role, role)}", options, index=index, key=key)
        if column and column != NOTHING:
            mapping[role] = column
    return mapping


def _draw_answers(own: AnswerBy | None, scope: str) -> dict[str, Any]:
    """How the answer names its choice; only what differs from what was recognised is said."""
    options = list(get_args(AnswerBy))
    by = st.selectbox(
        "The right choice is given by",
        options,
        index=options.index(own) if own else None,
        format_func=BY.__getitem__,
        placeholder="as recognised",
        key=f"import-answers {scope}",
    )
    return {"answers": by} if by and by != own else {}


def _draw_meanings(form: Format, own: dict[str, str], scope: str) -> dict[str, Any]:
    """What each value means; only what differs from what was recognised is said."""
    options = list(form.meanings)
    given: dict[str, str] = {}
    for value, meaning in own.items():
        chosen = st.selectbox(
            f"“{plain(value)}” means",
            options,
            index=options.index(meaning),
            format_func=MEANINGS.__getitem__,
            key=f"import-meaning {value} {scope}",
        )
        if chosen != meaning:
            given[value] = chosen
    return {"values": {**own, **given}} if given else {}
