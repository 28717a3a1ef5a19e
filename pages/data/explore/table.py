"""The table of rows: search, filter, sort, paging, and SQL.

Rows are read one page at a time from the store, so a million rows open as fast as ten.
"""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import streamlit as st

from pages.data import dataset_queries
from pages.data.explore import histograms, row_filter
from pages.data.explore.row import show_open_row
from pages.data.slices import show_actions
from pages.shared.session import escape_markdown, has_right, show_error, show_errors
from pages.shared.text_display import Cell, trim_common_start
from store.core.errors import ConfigError, TunebenchError
from store.core.formatting import plural
from store.core.languages import format_column_value
from store.core.table_values import convert_times_to_text, write_csv
from store.data import exploration
from store.data.exploration import DatasetTable, TableColumn, TablePage, format_filter_json
from store.data.filters import SOURCE, Filter
from store.data.schemas import Dataset
from store.data.signals import GROUP_OF, GROUPS

SHOWN = 1000
DOWNLOADED = 100_000
NAMED = 12  # columns of the file named beside the editor; the table below lists all
EXAMPLES = {
    "Longest rows": "SELECT row_id, strlen({text}) AS bytes, {text}\nFROM rows ORDER BY bytes DESC LIMIT 20",
    "Rows by label": "SELECT {label}, count(*) AS n, round(avg(strlen({text}))) AS mean_bytes\n"
    "FROM rows GROUP BY 1 ORDER BY n DESC",
    "First words": "SELECT split_part({text}, ' ', 1) AS first_word, count(*) AS n\n"
    "FROM rows GROUP BY 1 ORDER BY n DESC LIMIT 30",
    "Languages": "SELECT {language}, count(*) AS n, round(avg({characters})) AS mean_characters\n"
    "FROM rows GROUP BY 1 ORDER BY n DESC",
    "Duplicate groups": "SELECT {near_group}, count(*) AS n, any_value({text}) AS one_of_them\n"
    "FROM rows WHERE {near_group} IS NOT NULL GROUP BY 1 ORDER BY n DESC LIMIT 50",
}
NEEDS = {"Rows by label": "label", "Languages": "language", "Duplicate groups": "near_group"}
TYPES = {"number": "number", "flag": "true or false", "category": "text", "group": "number", "text": "text"}


def show_sql(rows: DatasetTable) -> None:
    """Draw the SQL editor with its columns and examples, and the result of the last query."""
    dataset_id = rows.dataset.dataset_id
    key = f"sql-{dataset_id}"
    named = exploration.map_sql_columns(rows)
    st.caption(f"One SELECT over the table `rows`, read-only. {_format_source_columns(rows, named)}")
    examples = _build_example_queries(rows, named)
    with st.expander(f"All {len(named)} columns", icon=":material/view_column:"):
        _draw_columns(key, rows, named)
    with st.container(horizontal=True, gap="small"):
        for title, sql in examples.items():
            st.button(title, key=f"{key}-{title}", type="tertiary", on_click=_set_query, args=(key, sql))
    with st.form(f"{key}-form", border=False):  # a form runs on Ctrl+Enter, not on leaving the field
        st.text_area(
            "SQL", key=key, height=120, persist_state="session", placeholder=examples["Longest rows"]
        )
        if st.form_submit_button(
            "Run", type="primary", icon=":material/play_arrow:", key=f"{key}-run", help="Ctrl+Enter"
        ):
            st.session_state[f"{key}-asked"] = st.session_state[key]
    asked = (st.session_state.get(f"{key}-asked") or "").strip()
    if asked:
        try:
            table, total = dataset_queries.run_select(
                dataset_id, asked, SHOWN, dataset_queries.measurement_stamp(rows)
            )
        except TunebenchError as error:
            show_error(error)
            return
        _draw_query_result(dataset_id, asked, table, total)


def _format_source_columns(rows: DatasetTable, named: dict[str, str]) -> str:
    """Format the columns of the file with their types as one sentence."""
    own = {
        name: rows.columns[column_name]
        for name, column_name in named.items()
        if column_name.startswith(SOURCE)
    }
    if not own:
        return ""
    first = list(own.items())[:NAMED]
    columns = [
        f"{escape_markdown(exploration.quote_if_needed(name))} ({TYPES[column.type]})"
        for name, column in first
    ]
    more = f" and {len(own) - NAMED} more" if len(own) > NAMED else ""
    return f"Columns of the file: {', '.join(columns)}{more}."


def _draw_columns(key: str, rows: DatasetTable, named: dict[str, str]) -> None:
    """Draw a searchable table of all columns: name in SQL, type, origin and contents."""
    sought = st.text_input(
        "Find a column", key=f"{key}-find", placeholder="Find a column", label_visibility="collapsed"
    )
    listed = [
        {
            "Name in SQL": exploration.quote_if_needed(name),
            "Type": TYPES[rows.columns[column_name].type],
            "From": _describe_origin(column_name),
            "Content": _describe_column(rows.columns[column_name]),
        }
        for name, column_name in named.items()
    ]
    listed = [row for row in listed if sought.lower() in " ".join(row.values()).lower()]
    if not listed:
        st.caption(f"No column has {escape_markdown(sought)} in its name or meaning.")
        return
    st.dataframe(
        listed,
        hide_index=True,
        height=min(35 * (len(listed) + 1) + 3, 250),
        column_config={"Content": st.column_config.TextColumn(width="large")},
        key=f"{key}-columns",
        alt="The columns of the table rows",
    )


def _describe_origin(column_name: str) -> str:
    if column_name.startswith(SOURCE):
        return "the file"
    return GROUPS[GROUP_OF[column_name]].title if column_name in GROUP_OF else "every data set"


def _describe_column(column: TableColumn) -> str:
    if column.name.startswith(SOURCE):
        return column.means
    unit = f" ({column.unit})" if column.unit else ""
    return f"{column.title}{unit}" + (f": {column.means}" if column.means else "")


def _build_example_queries(rows: DatasetTable, named: dict[str, str]) -> dict[str, str]:
    """Build example queries that work on these columns; the first uses a column of the file."""
    names = {column_name: exploration.quote_if_needed(name) for name, column_name in named.items()}
    words = [
        column_name
        for column_name in names
        if column_name.startswith(SOURCE) and rows.columns[column_name].type == "category"
    ]
    examples = {}
    if words:
        title = words[-1].removeprefix(SOURCE)[:20]
        examples[f"Values of {title}"] = (
            f"SELECT {names[words[-1]]}, count(*) AS n\nFROM rows GROUP BY 1 ORDER BY n DESC LIMIT 50"
        )
    for title, sql in EXAMPLES.items():
        if NEEDS.get(title, "text") in names:
            examples[title] = sql.format_map(names)
    return examples


def _set_query(key: str, sql: str) -> None:
    st.session_state[key] = st.session_state[f"{key}-asked"] = sql


def _draw_query_result(dataset_id: str, sql: str, table: pa.Table, total: int) -> None:
    cut = total > table.num_rows
    st.caption(f"The first {table.num_rows:,} of {total:,} rows" if cut else plural(total, "row"))
    st.dataframe(
        convert_times_to_text(table), hide_index=True, key=f"sql-result-{dataset_id}", alt="The answer"
    )
    some = min(total, DOWNLOADED)
    label = f"Download the first {some:,} rows as CSV" if some < total else "Download as CSV"
    st.download_button(
        label,
        data=lambda: _build_csv(dataset_id, sql, table, total),
        file_name="answer.csv",
        mime="text/csv",
        icon=":material/download:",
        key=f"sql-csv-{dataset_id}",
        on_click="ignore",
    )


def _build_csv(dataset_id: str, sql: str, table: pa.Table, total: int) -> bytes:
    """Build the result as CSV; the query is repeated if the screen shows only its beginning."""
    if total > table.num_rows:
        rows = dataset_queries.build_table(dataset_id)
        table, _ = dataset_queries.run_select(
            dataset_id, sql, DOWNLOADED, dataset_queries.measurement_stamp(rows)
        )
    out = io.BytesIO()
    write_csv(table, out)
    return out.getvalue()


PAGE = 20
ALONE = 880  # width in pixels of a text that is the only column


@st.fragment
def show_rows(dataset: Dataset) -> None:
    """Draw a page of rows, or the row named in the link; clicks inside rerun only this fragment."""
    with show_errors():
        _draw_rows(dataset)


def _draw_rows(dataset: Dataset) -> None:
    dataset_id = dataset.dataset_id
    rows = dataset_queries.build_table(dataset_id)
    try:
        where = row_filter.read_filter(dataset_id)
        rows.condition(where)
    except ConfigError as error:
        show_error(error)
        st.button("Remove the filter", on_click=row_filter.set_filter, args=(dataset_id, Filter()))
        return
    if (opened := st.query_params.get("row")) is not None:
        show_open_row(rows, where, opened)
        return
    row_filter.show_search(rows, where)
    row_filter.show_chips(dataset_id, where)
    bar = st.container(horizontal=True, gap="small", key=f"rows-actions-{dataset_id}")
    strip = st.container()
    with show_errors():
        row_count = _draw_page(rows, where)
        with bar:
            row_filter.show_condition_form(rows, where)
            histograms.show_columns(rows)
            show_actions(rows, where, row_count)
        with strip, show_errors():
            histograms.show_histograms(rows, where)
    if not has_right("work"):
        return
    with st.expander(
        "Ask in SQL", icon=":material/database:", key=f"sql-open-{dataset_id}", on_change="rerun"
    ) as box:
        if box.open:
            show_sql(rows)


def _draw_page(rows: DatasetTable, where: Filter) -> int:
    """Draw a page of the matching rows and return their total number."""
    dataset_id, stamp = rows.dataset.dataset_id, dataset_queries.measurement_stamp(rows)
    sort = histograms.get_sort_order(rows, where)
    names = histograms.list_shown_columns(rows, where, sort.column)
    text = format_filter_json(where)
    row_count, first = dataset_queries.find_rows(dataset_id, text, sort, PAGE, stamp)
    pages = max(1, -(-row_count // PAGE))
    slot = st.container(gap="xsmall")
    key = f"rows-page-{dataset_id}-{text}-{sort.column}-{sort.descending}"
    page = st.pagination(pages, key=key) if pages > 1 else 1
    offset = (page - 1) * PAGE
    if page == 1:
        cells = dataset_queries.read_cells(dataset_id, tuple(first), names, stamp)
    else:
        part = TablePage(names, sort, PAGE, offset)
        cells = dataset_queries.read_page(dataset_id, text, part, stamp)
    with slot:
        total = rows.dataset.row_count
        if not cells:
            st.caption("No row is like that." if where else "No rows.")
            return row_count
        of = f"{row_count:,}, filtered from {total:,}" if where else f"{total:,}"
        by = rows.columns[sort.column]
        order = "" if by.name == "row_id" else f", sorted by {row_filter.format_column(by).lower()}"
        st.caption(
            f"Rows {offset + 1:,} to {offset + len(cells):,} of {of}{escape_markdown(order)}. Select a "
            "row to open it."
        )
        _draw_table(rows, cells, names, f"rows-table-{dataset_id}-{page}-{hash(key) & 0xFFFFFF:x}")
    return row_count


def _draw_table(rows: DatasetTable, cells: list[Cell], names: tuple[str, ...], key: str) -> None:
    texts = {
        name: row_filter.format_column(rows.columns[name])
        for name in names
        if rows.columns[name].type == "text"
    }
    shortened, sentence = trim_common_start(cells, texts)
    if sentence:
        st.caption(escape_markdown(sentence))
    readable_cells = [
        {"row": cell["row_id"]} | {name: format_column_value(name, cell.get(name)) for name in names}
        for cell in shortened
    ]
    event = st.dataframe(
        readable_cells,
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        key=key,
        column_order=("row", *names),
        column_config={
            "row": st.column_config.NumberColumn("Row", width="small", format="localized"),
            **{name: _build_column_config(rows.columns[name], alone=len(names) == 1) for name in names},
        },
        height="content",
        alt="Rows of the data set",
    )
    if event.selection.rows:
        row_filter.open_row(cells[event.selection.rows[0]]["row_id"])
        st.rerun()


def _build_column_config(column: TableColumn, alone: bool) -> Any:
    """Build the column configuration.

    `alone`: it is the only column besides the row number and gets a fixed width, because otherwise the free
    width would be shared with the row number.
    """
    title = row_filter.format_column(column)
    means = column.means or None
    if column.type == "flag":
        return st.column_config.CheckboxColumn(title, width="small", help=means)
    if column.type in ("number", "group"):
        number_format = "percent" if column.unit == "share" else "localized"
        return st.column_config.NumberColumn(title, width="small", format=number_format, help=means)
    if column.type == "text":
        return st.column_config.TextColumn(title, width=ALONE if alone else "large", help=means)
    return st.column_config.TextColumn(title, width="medium", help=means)
