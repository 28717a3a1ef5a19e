"""What an import asks before it starts: what the columns are of which nothing would be used, and which of
several files hold no rows. Nothing is chosen beforehand, and without an answer nothing is imported.
"""

from __future__ import annotations

from functools import partial
from typing import cast

import streamlit as st

from pages.data.imports.import_source import ImportSource
from pages.shared.session import plain
from store.catalog.formats import FORMATS, columns_of
from store.documents.data.inspection import ColumnUse, Inspection, UndecidedColumn
from store.words.reading_words import MAY_BE, values_words

OUT = "Leave it out"
NOTHING = "—"  # of a role without a column


def draw_questions(recognised: Inspection, scope: str) -> list[str] | None:
    """The columns that are left out on purpose; None until each question has its answer. A use that is chosen
    goes into the fields of format and columns above, and the question is gone."""
    undecided = recognised["undecided"]
    asked = [column["name"] for column in undecided]
    if undecided:
        which = "this column" if len(undecided) == 1 else "these columns"
        st.warning(
            f"**Nothing would be used of {which}.** Say what each is: it may change what is taught.",
            icon=":material/help:",
        )
    answered = [_ask(column, scope) for column in undecided]
    others = [name for name in recognised["ignored"] if name not in asked]
    more: list[str] = []
    if others:  # of which rows further on may show something else than the first
        with st.expander("Ignored columns", icon=":material/visibility_off:"):
            more = st.multiselect("Left out on purpose", others, key=f"import-left-out {scope}")
    return [*asked, *more] if all(answered) else None


def _ask(column: UndecidedColumn, scope: str) -> bool:
    """Whether the column is to be left out."""
    key = f"import-unused {column['name']} {scope}"
    uses = {_use_words(column["name"], use): use for use in column["uses"]}
    chosen = st.selectbox(
        f"What is “{plain(column['name'])}” ({plain(values_words(column))})? It {MAY_BE[column['may_be']]}",
        [*uses, OUT],
        index=None,
        placeholder="Choose what it is",
        key=key,
        on_change=partial(_take_use, key, uses, scope),
        help="To use it in another way, choose format and columns above. If it marks rows that should not be"
        " taught, take those out of the file.",
    )
    return chosen == OUT


def _use_words(name: str, use: ColumnUse) -> str:
    role = next((role for role, column in use["columns"].items() if column == name), "")
    return f"Use it as {role.replace('_', ' ')}: {FORMATS[use['format']].title}"


def _take_use(key: str, uses: dict[str, ColumnUse], scope: str) -> None:
    """Put the chosen use into the fields of the form, before they are drawn."""
    use = uses.get(cast(str, st.session_state.get(key) or ""))
    if use is None:
        return
    form = FORMATS[use["format"]]
    st.session_state[f"import-format {scope}"] = form.name
    for role in form.roles:
        field = f"import-{form.name}-{role} {scope}"
        if role in form.several:
            st.session_state[field] = columns_of(use["columns"], role)
        elif not (form.name == "text_label" and role == "instruction"):
            st.session_state[field] = use["columns"].get(role, NOTHING)
    del st.session_state[key]


def draw_files(source: ImportSource, scope: str, left: list[str]) -> list[str]:
    """The files that hold no rows: of those uploaded, or of a folder by name."""
    return st.multiselect(
        "Files that hold no rows",
        list(dict.fromkeys([*source.get("uploads", []), *left])),
        default=left,
        accept_new_options="path" in source,
        placeholder="Choose the files to leave out",
        key=f"import-files {scope}",
    )
