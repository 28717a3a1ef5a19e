"""The import form: source, detected format with corrections, and the options set before rows are stored."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import Any, TypedDict, cast

import streamlit as st

from pages.data.datasets import draw_back_to_list
from pages.data.import_report import RowMapping, draw_column_use, draw_mapping, draw_parts, draw_recognised
from pages.data.split import SHARE
from pages.shared import cached_queries
from pages.shared.model_form import ModelForm
from pages.shared.session import (
    escape_markdown,
    get_client,
    is_machine_owner,
    require_member,
    show_error,
    show_errors,
)
from pages.shared.text_display import show_row
from store.core.errors import EngineUnavailable, TunebenchError
from store.core.model_fields import FieldDisplay
from store.core.row_schemas import SourceDocument
from store.data.cleaning_text import MAY_BE, format_some_values
from store.data.config import ImportConfig, Source, find_free_name, suggest_name
from store.data.formats import FORMATS, list_columns
from store.data.schemas import ColumnUse, Inspection, UndecidedColumn

UPLOAD, PATH, HUB = "Upload a file", "A file on this machine", "Hugging Face hub"
SUPPORTED_FORMATS = "CSV, TSV, JSON, JSONL, Parquet or plain text, also compressed with gzip; up to 2 GB."


def draw_source() -> Source | None:
    """Draw the source selector; return the source, or None until it is complete."""
    kinds = (UPLOAD, PATH, HUB) if is_machine_owner() else (UPLOAD, HUB)
    kind = st.segmented_control("Source", kinds, default=UPLOAD, required=True, key="import-kind")
    if kind == UPLOAD:
        return _draw_upload()
    form = ModelForm(Source, "import-", {"hub_split": "all"})
    if kind == PATH:
        example = FieldDisplay(example="/home/me/rows.csv")
        path = form.draw_field("path", label="Path of a file or folder", display=example)
        return form.parse() if path else None
    left, middle, right = st.columns([2, 1, 1])
    with left:
        hub_id = form.draw_field("hub_id", label="Data set id", display=FieldDisplay(example="owner/name"))
    with middle:
        form.draw_field("hub_config", label="Configuration", display=FieldDisplay(empty="default"))
    with right:
        split = form.draw_field("hub_split", label="Split")
    return form.parse(hub_split=split or "all") if hub_id else None


def _draw_upload() -> Source | None:
    files = st.file_uploader("Files", key="import-file", help=SUPPORTED_FORMATS, accept_multiple_files=True)
    larger = f" To avoid copying a larger file, choose “{PATH}”." if is_machine_owner() else ""
    st.caption(f"Several files, such as train.csv and test.csv, become one data set.{larger}")
    sent: dict[str, str] = st.session_state.setdefault("import-sent", {})
    for file in files:
        if file.file_id not in sent:
            with show_errors(), st.spinner(f"Copying {escape_markdown(file.name)} into the home folder …"):
                sent[file.file_id] = get_client().upload(file.name, file)
    uploads = [sent[file.file_id] for file in files if file.file_id in sent]
    if not files or len(uploads) < len(files):
        return None
    return Source.parse({"upload": uploads[0]} if len(uploads) == 1 else {"uploads": uploads})


IGNORE_COLUMN = "Ignore"
NOTHING = "—"  # a role without a column


def draw_questions(recognised: Inspection, scope: str) -> list[str] | None:
    """Ask what to do with unused columns; return those ignored on purpose, or None until all are decided.

    If a role is chosen, it is applied to the fields of format and columns above, and the question disappears.
    """
    undecided = recognised["undecided"]
    asked = [column.name for column in undecided]
    if undecided:
        which = "This column" if len(undecided) == 1 else "These columns"
        st.warning(
            f"**{which} would not be used.** Choose a role for each: it may change what the model learns.",
            icon=":material/help:",
        )
    answered = [_ask_column(column, scope) for column in undecided]
    others = [name for name in recognised["ignored"] if name not in asked]
    more: list[str] = []
    if others:  # later rows may differ from the first ones
        with st.expander("Ignored columns", icon=":material/visibility_off:"):
            more = st.multiselect("Ignored on purpose", others, key=f"import-left-out {scope}")
    return [*asked, *more] if all(answered) else None


def _ask_column(column: UndecidedColumn, scope: str) -> bool:
    """Ask what to do with a column; return whether it is ignored."""
    key = f"import-unused {column.name} {scope}"
    uses: dict[str, ColumnUse] = {}
    for use in column.uses:
        role = next((role for role, name in use.columns.items() if name == column.name), "")
        uses[f"Use it as {role.replace('_', ' ')}: {FORMATS[use.format].title}"] = use
    chosen = st.selectbox(
        f"What is “{escape_markdown(column.name)}”"
        f" ({escape_markdown(format_some_values(column))})? It {MAY_BE[column.may_be]}",
        [*uses, IGNORE_COLUMN],
        index=None,
        placeholder="Choose a role",
        key=key,
        on_change=partial(_apply_column_use, key, uses, scope),
        help="To use it in another way, choose format and columns above. If it marks rows that the model "
        "should not learn from, remove those rows from the file.",
    )
    return chosen == IGNORE_COLUMN


def _apply_column_use(key: str, uses: dict[str, ColumnUse], scope: str) -> None:
    """Callback: apply the chosen role to the fields of the form before they are drawn."""
    use = uses.get(cast(str, st.session_state.get(key) or ""))
    if use is None:
        return
    form = FORMATS[use.format]
    st.session_state[f"import-format {scope}"] = form.name
    for role in form.roles:
        field = f"import-{form.name}-{role} {scope}"
        if role in form.several:
            st.session_state[field] = list_columns(use.columns, role)
        elif not (form.name == "text_label" and role == "instruction"):
            st.session_state[field] = use.columns.get(role, NOTHING)
    del st.session_state[key]


AS_RECOGNISED = "detected"
ENCODINGS = {"": AS_RECOGNISED} | {name: name for name in ("utf-8", "utf-16", "cp1252", "latin-1")}
HEADER = {"": AS_RECOGNISED, True: "is a header", False: "is a data row"}


class FileReading(TypedDict, total=False):
    """Options for reading a file that differ from the detected ones (`store.data.config.ImportConfig`)."""

    encoding: str
    has_header: bool
    ignore_files: list[str]  # of several files, those without rows


class InspectQuery(FileReading, RowMapping, total=False):
    """Arguments of the sync job `inspect`: a source, and how to read its rows."""

    source: SourceDocument
    part_column: str


def show_import() -> None:
    """Draw the import page, from the source to the button.

    The engine's `inspect` reads the first rows. After any change (format, columns, header, encoding) it runs
    again, so that the preview shows the rows as they will be imported.
    """
    st.title("Import data set", anchor=False)
    draw_back_to_list()
    if not require_member("import rows here"):
        return
    with show_errors():
        source = draw_source()
        if source is not None:
            _draw_corrections(source)


def _draw_corrections(chosen: Source) -> None:
    source = cast(SourceDocument, chosen.model_dump(exclude_unset=True, exclude_none=True))
    scope = json.dumps(source, sort_keys=True)
    reading: FileReading = st.session_state.get(f"import-reading {scope}", {})
    form = ModelForm(ImportConfig, f"import {scope} ", reading)
    try:
        recognised = _inspect({"source": source, **reading})
    except EngineUnavailable:
        raise
    except TunebenchError as error:
        show_error(error)
        if "ignore_files" in reading or error.field == "ignore_files":
            _draw_ignored_files(form, source, scope, reading)
        if "encoding" in reading or error.field == "encoding":
            _reset_reading(scope, reading, _draw_encoding(form, scope, reading))
        return
    draw_recognised(recognised)
    use = st.container()  # above the form, so that on a phone it precedes the button
    left, right = st.columns([2, 3], gap="large")
    with left:
        reading = _draw_reading(form, recognised, scope)
        wishes = draw_mapping(form, recognised, scope)
        corrected = (
            _inspect_corrected({"source": source, **reading, **wishes}, recognised) if wishes else None
        )
        left_out = draw_questions(corrected, scope) if corrected else None
        if left_out:
            wishes["ignore"] = left_out
        refused = st.container()
        part_column = _draw_name_and_split(form, {"source": source, **reading}, recognised, scope)
        pressed = st.button(
            "Import",
            type="primary",
            icon=":material/download:",
            key="import-button",
            disabled=left_out is None,
        )
    if corrected:
        with use:
            _draw_column_use(corrected, wishes["format"], part_column)
    with right:
        _show_rows(recognised, corrected)
    if pressed:
        with refused:
            _start_import(form, {"source": source, **reading, **wishes})


def _inspect_corrected(body: InspectQuery, recognised: Inspection) -> Inspection | None:
    """Inspect the source with the chosen options.

    Return `recognised` if nothing was changed, or None if the rows cannot be read with these options.
    """
    same = body["format"] == recognised["format"] and body["columns"] == recognised["mapping"]
    if same and not body.keys() & {"answers", "values", "instruction"}:
        return recognised
    with show_errors():
        return _inspect(body)
    return None


def _inspect(body: InspectQuery) -> Inspection:
    with st.spinner("Looking at the first rows …"):
        return cached_queries.inspect_source(json.dumps(body, sort_keys=True))


def _draw_reading(form: ModelForm[ImportConfig], recognised: Inspection, scope: str) -> FileReading:
    """Draw the options for reading the file; a change reruns the page with them."""
    reading: FileReading = st.session_state.get(f"import-reading {scope}", {})
    if recognised["reader"] in ("parquet", "hub"):
        return reading
    left, right = st.columns(2)
    with left:
        chosen_reading = _draw_encoding(form, scope, reading)
    if recognised["reader"] in ("csv", "tsv"):
        with right:
            has_header = form.draw_field(
                "has_header",
                choices=HEADER,
                label="First line",
                key=f"import-header {scope}",
                present=reading.get("has_header", ""),
            )
        form.put(has_header=None)
        chosen_reading.pop("has_header", None)
        if has_header != "":
            chosen_reading["has_header"] = has_header
    _reset_reading(scope, reading, chosen_reading)
    return chosen_reading


def _draw_ignored_files(
    form: ModelForm[ImportConfig], source: SourceDocument, scope: str, reading: FileReading
) -> None:
    """Draw the choice of files to ignore: uploaded files, or files of a folder by name."""
    left = reading.get("ignore_files", [])
    files = form.draw_field(
        "ignore_files",
        choices={name: name for name in (*source.get("uploads", []), *left)},
        label="Files to ignore",
        key=f"import-files {scope}",
        display=FieldDisplay(empty="Choose files to ignore", open="path" in source),
    )
    rest: FileReading = {**reading}
    rest.pop("ignore_files", None)
    _reset_reading(scope, reading, {**rest, "ignore_files": files} if files else rest)


def _draw_encoding(form: ModelForm[ImportConfig], scope: str, reading: FileReading) -> FileReading:
    """Draw the choice of encoding and return the updated `reading`.

    It is also offered if the file cannot be read with the present encoding.
    """
    encoding = form.draw_field(
        "encoding",
        choices=ENCODINGS,
        key=f"import-encoding {scope}",
        present=reading.get("encoding", ""),
    )
    form.put(encoding=None)
    rest: FileReading = {**reading}
    rest.pop("encoding", None)
    return {**rest, "encoding": encoding} if encoding else rest


def _reset_reading(scope: str, reading: FileReading, chosen_reading: FileReading) -> None:
    """Rerun the page if the options for reading have changed."""
    if chosen_reading != reading:
        st.session_state[f"import-reading {scope}"] = chosen_reading
        st.rerun()


def _draw_name_and_split(
    form: ModelForm[ImportConfig], body: InspectQuery, recognised: Inspection, scope: str
) -> str:
    """Draw the fields for the name and the split; return the split column, empty if there is none."""
    suggested = find_free_name(
        suggest_name(body["source"]), {row.name for row in cached_queries.list_datasets()}
    )
    form.draw_field("name", present=suggested)
    with st.expander(
        "Split into training, validation and test",
        icon=":material/call_split:",
        expanded=bool(recognised["part_column"]),
    ):
        column, parts = draw_parts(
            recognised, scope, lambda column: _inspect({**body, "part_column": column})
        )
        form.put(part_column=column, parts=parts)
        _draw_shares(form, set(parts.values()))
    return column


def _draw_shares(form: ModelForm[ImportConfig], given: set[str]) -> None:
    """Draw the shares of validation and test in per cent, and the seed.

    Parts given in the file are not asked for and keep their defaults.
    """
    if {"validation", "test"} <= given:
        return
    if not given:
        st.caption("Rows with equal text stay in the same split. You can change it later.")
    with st.container(horizontal=True):
        for part, title in (("validation", "Validation (%)"), ("test", "Test (%)")):
            if part not in given:
                form.draw_field(f"{part}_size", label=title, display=SHARE)
        form.draw_field("split_seed", label="Seed")


def _draw_column_use(corrected: Inspection, chosen: str, part_column: str) -> None:
    """Draw the roles of the columns, and the ignored columns."""
    columns = corrected["mapping"] | ({"part": part_column} if part_column else {})
    left = [*corrected["ignored"], *[name for name in [corrected["part_column"]] if name]]
    ignored = [name for name in left if name != part_column]
    draw_column_use(chosen, columns, corrected["answers"], corrected["values"], ignored)


def _show_rows(recognised: Inspection, corrected: Inspection | None) -> None:
    """Draw the first rows as in the file, and as the model will see them."""
    st.markdown("**First rows of the file**")
    st.dataframe(recognised["rows"], height=230, hide_index=True, alt="The first rows of the file")
    st.markdown("**Import preview**")
    if not corrected or not corrected["canonical"]:
        wrong = "No rows can be read with these columns. Choose other columns."
        st.caption(wrong if recognised["format"] or corrected else "Choose a format first.")
        return
    for row in corrected["canonical"][:3]:
        with st.container(border=True):
            show_row(row, 600)


def _start_import(form: ModelForm[ImportConfig], more: Mapping[str, Any]) -> None:
    config = form.parse(**more)
    if config is None:
        return
    try:
        answer = get_client().command("import_dataset", config.model_dump(exclude_none=True))
    except TunebenchError as error:
        form.show(error)
        return
    st.cache_data.clear()
    st.switch_page("pages/data/data.py", query_params={"job": answer["job_id"]})
