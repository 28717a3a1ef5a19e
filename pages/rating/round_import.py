"""Import of a round from a file: detected contents, questions where they are ambiguous, and corrections
before anything is stored.
"""

from __future__ import annotations

import json

import streamlit as st

from pages.rating.round_settings import P
from pages.shared import cached_queries
from pages.shared.model_form import ModelForm
from pages.shared.session import escape_markdown, get_client, send_command, show_error, show_errors
from store.core.errors import TunebenchError
from store.core.formatting import plural
from store.data.cleaning_text import describe_ignored_columns
from store.data.config import suggest_name
from store.data.formats import assign_roles, list_columns
from store.rating.config import ImportRound
from store.rating.rating_files import (
    MEANING_WORDS,
    RATING_FORMS,
    ROLE_WORDS,
    RatingForm,
    describe_meanings,
    describe_unclear_value,
    describe_unused_column,
    describe_used_roles,
    format_most_rated,
)
from store.rating.schemas import RatingFileSummary, UnusedColumn

KINDS = ["json", "jsonl", "csv", "tsv", "parquet", "gz"]
NOTHING = "—"  # a role without a column
IGNORE_COLUMN = "Ignore"
SENT = f"{P}ratings-sent"  # session state key: uploads of selected files
TAKEN = f"{P}ratings-taken"  # number of imported files


ImportForm = ModelForm[ImportRound]  # it holds the corrections to the detected reading of a file


def draw_import() -> None:
    """Draw the upload, how it is read, and the import button."""
    st.markdown(
        "A file of ratings by people or by a judge: one vote per row with models and rater in columns, "
        "or one column of votes per rater. Scores, pass/fail and labels also work. Formats: JSON, JSONL, "
        "CSV or Parquet. The import creates a closed round with results."
    )
    number = st.session_state.get(TAKEN, 0)
    file = st.file_uploader("File", type=KINDS, key=f"{P}file.{number}")
    if file is None:
        return
    sent: dict[str, str] = st.session_state.setdefault(SENT, {})
    if file.file_id not in sent:
        with show_errors(), st.spinner(f"Copying {escape_markdown(file.name)} into the home folder …"):
            sent[file.file_id] = get_client().upload(file.name, file)
    if upload := sent.get(file.file_id):
        _draw_reading(upload)


def _draw_reading(upload: str) -> None:
    """Draw how the file is read: inspected as detected, then again with corrections."""
    corrections = ModelForm(ImportRound, f"{P}import.{upload}.", {"name": suggest_name({"upload": upload})})
    corrections.put(upload=upload)
    recognised = _inspect_file(corrections)
    if recognised is None:
        return
    summary = st.container()
    with st.expander(
        "Column mapping",
        icon=":material/view_column:",
        expanded=bool(recognised.problem or recognised.unclear),
    ):
        corrected = _draw_columns(corrections, recognised, upload)
    asked = _inspect_file(corrections) if corrected else recognised
    if asked is None:
        return
    explained = _draw_values(corrections, asked, upload)
    answered = _draw_questions(corrections, asked, upload)
    if explained:
        asked = _inspect_file(corrections) or asked
    with summary:
        _draw_recognised(asked)
    if asked.form == "votes" and not {"model_a", "models"} & set(asked.mapping):
        corrections.draw("first", "second", columns=2)
    corrections.draw("name")
    ready = answered and not asked.problem and not asked.unclear and asked.ratings > 0
    pressed = st.button(
        "Import round",
        icon=":material/upload_file:",
        type="primary",
        key=f"{P}import",
        disabled=not ready,
    )
    if pressed and (body := corrections.parse()):
        _import_round(body)


def _import_round(body: ImportRound) -> None:
    queued = f"Importing {escape_markdown(body.name or 'the round')}."
    if send_command("import_round", body.model_dump(mode="json", exclude_unset=True), queued) is not None:
        st.session_state[TAKEN] = st.session_state.get(TAKEN, 0) + 1
        st.rerun()


def _inspect_file(corrections: ImportForm) -> RatingFileSummary | None:
    """Return the contents of the file when read this way; None, with the error shown, if that is
    impossible.
    """
    body = json.dumps(corrections.values, sort_keys=True)
    try:
        with st.spinner("Reading the file …"):
            return cached_queries.query_engine("ratings_file", body, RatingFileSummary)
    except TunebenchError as error:
        show_error(error)
        return None


def _draw_recognised(read: RatingFileSummary) -> None:
    """Draw the detected form, counts, ignored columns, and first ratings."""
    if read.form is None:
        st.warning(
            f"**No ratings detected.** {escape_markdown(read.problem or '')} Choose the row type, and map"
            " the columns.",
            icon=":material/help:",
        )
        return
    form = RATING_FORMS[read.form]
    if read.problem:
        st.warning(
            f"Read as **{escape_markdown(form.title)}**. {escape_markdown(read.problem)}",
            icon=":material/help:",
        )
    else:
        st.markdown(f":green[:material/check_circle:] Detected as **{escape_markdown(form.title)}**")
    st.markdown(f":material/input: **Used:** {escape_markdown(describe_used_roles(read))}")
    if read.values:
        st.markdown(f":material/key: **Meaning:** {escape_markdown(describe_meanings(read.values))}")
    mark = ":orange[:material/visibility_off:]" if read.ignored else ":material/visibility:"
    st.markdown(f"{mark} **Ignored:** {escape_markdown(describe_ignored_columns(read.ignored))}")
    _draw_counts(read)


def _draw_counts(read: RatingFileSummary) -> None:
    if not read.rows:
        return
    if not read.whole:
        st.caption(f"Counts cover the first {plural(read.rows, 'row')}; the import reads all rows.")
    for notice in read.notices:
        st.markdown(f"- {escape_markdown(notice)}")
    if read.models:
        st.caption(f"Models, with their ratings: {escape_markdown(format_most_rated(read))}")
    if read.first:
        st.dataframe(
            {
                "Prompt": [line.prompt for line in read.first],
                "First": [_format_count_of_models(line.models, 0) for line in read.first],
                "Second": [_format_count_of_models(line.models, 1) for line in read.first],
                "Rater": [line.rater for line in read.first],
                "Rating": [line.rating for line in read.first],
            },
            hide_index=True,
        )


def _format_count_of_models(models: list[str], place: int) -> str:
    return models[place] if place < len(models) else ""


def _draw_columns(corrections: ImportForm, read: RatingFileSummary, upload: str) -> bool:
    """Draw form and columns; put only differences from the detected ones, and return whether there are
    any.
    """
    forms = list(RATING_FORMS)
    chosen = st.selectbox(
        "Row type",
        forms,
        index=forms.index(read.form) if read.form else None,
        format_func=lambda name: RATING_FORMS[name].title,
        placeholder="Choose a row type",
        key=f"{P}rated-form.{upload}",
    )
    if chosen is None:
        return False
    form = RATING_FORMS[chosen]
    st.caption(form.help)
    own = read.mapping if chosen == read.form else {}
    columns: dict[str, str] = {}
    places = st.columns(3)
    for number, role in enumerate(form.roles):
        with places[number % len(places)]:
            columns |= _draw_role(form, role, own, read.columns, upload)
    if columns:
        corrections.put(columns=columns)
    if chosen != read.form:
        corrections.put(form=chosen)
    return bool(columns) or chosen != read.form


def _draw_role(
    form: RatingForm, role: str, own: dict[str, str], columns: list[str], upload: str
) -> dict[str, str]:
    """Draw the choice of a role's column or columns; return it if it differs, "" for none."""
    key = f"{P}rated-{form.name}-{role}.{upload}"
    label = ROLE_WORDS[role].capitalize()
    if role in form.several:
        before = list_columns(own, role)
        several = st.multiselect(label, columns, default=before, key=key)
        return {} if several == before else assign_roles(role, several) or {role: ""}
    options = [NOTHING, *columns]
    column = st.selectbox(label, options, index=options.index(own.get(role, NOTHING)), key=key)
    if column == own.get(role, NOTHING):
        return {}
    return {role: "" if column == NOTHING else column}


def _draw_values(corrections: ImportForm, read: RatingFileSummary, upload: str) -> bool:
    """Ask for the meaning of each unclear value; return whether one is given."""
    if read.form is None or read.problem:
        return False
    form, given = RATING_FORMS[read.form], {}
    for unclear in read.unclear:
        question = f"What does {escape_markdown(describe_unclear_value(unclear))} mean?"
        key = f"{P}rated-value-{unclear.value}.{upload}"
        if form.meanings:
            meaning = st.selectbox(
                question, form.meanings, index=None, format_func=MEANING_WORDS.__getitem__, key=key,
                placeholder="Choose a meaning",
            )  # fmt: skip
        else:
            meaning = st.text_input(question, key=key, placeholder="A number, such as 3")
        if meaning:
            given[unclear.value] = meaning
    if given:
        corrections.put(values=given)
    return bool(given)


def _draw_questions(corrections: ImportForm, read: RatingFileSummary, upload: str) -> bool:
    """Ask about unused columns; put those ignored on purpose, and return whether all are decided."""
    undecided = read.undecided
    if not undecided:
        return True
    which = "This column" if len(undecided) == 1 else "These columns"
    st.warning(
        f"**{which} would not be used.** Map each one above, or ignore it.",
        icon=":material/help:",
    )
    left = [column.name for column in undecided if _ask_column(column, upload)]
    corrections.put(ignore=left)
    return len(left) == len(undecided)


def _ask_column(column: UnusedColumn, upload: str) -> bool:
    roles = " or ".join(ROLE_WORDS[role] for role in column.roles[:3])
    use = f" It could be: {roles}." if roles else ""
    return st.checkbox(
        f"{IGNORE_COLUMN}: {escape_markdown(describe_unused_column(column))}.{use}",
        key=f"{P}rated-left-{column.name}.{upload}",
    )
