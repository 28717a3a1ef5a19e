"""Questions in SQL over one data set: a read-only SELECT over the table `rows`."""

from __future__ import annotations

import io

import pyarrow as pa
import streamlit as st

from engine.diagnostics.phrasing import plural
from pages.data.rows import explore_reads
from pages.shared.session import plain, show_error
from store.catalog.signals import GROUP_OF, GROUPS
from store.config.data.filters import SOURCE
from store.contract.calendar import spelled_out
from store.contract.csv_cells import write_csv
from store.contract.errors import TunebenchError
from store.queries.data import sql_rows
from store.queries.data.explore import DatasetTable, TableColumn

SHOWN = 1000
DOWNLOADED = 100_000
NAMED = 12  # columns of the file that are named beside the box; the table below has them all
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
    """The box, its columns and examples, and the answer of the last question."""
    dataset_id = rows.dataset["dataset_id"]
    key = f"sql-{dataset_id}"
    named = sql_rows.columns(rows)
    st.caption(f"One SELECT over the table `rows`, read-only. {_own(rows, named)}")
    examples = _examples(rows, named)
    with st.expander(f"All {len(named)} columns", icon=":material/view_column:"):
        _columns(key, rows, named)
    with st.container(horizontal=True, gap="small"):
        for title, sql in examples.items():
            st.button(title, key=f"{key}-{title}", type="tertiary", on_click=_put, args=(key, sql))
    with st.form(f"{key}-form", border=False):  # in a form Ctrl+Enter runs it, and leaving the box does not
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
            table, total = explore_reads.select(dataset_id, asked, SHOWN, explore_reads.stamp(rows))
        except TunebenchError as error:
            show_error(error)
            return
        _answer(dataset_id, asked, table, total)


def _own(rows: DatasetTable, named: dict[str, str]) -> str:
    """The columns of the file with their types, in a line."""
    own = {
        name: rows.columns[column_name]
        for name, column_name in named.items()
        if column_name.startswith(SOURCE)
    }
    if not own:
        return ""
    first = list(own.items())[:NAMED]
    columns = [f"{plain(sql_rows.spelled(name))} ({TYPES[column.type]})" for name, column in first]
    more = f" and {len(own) - NAMED} more" if len(own) > NAMED else ""
    return f"Columns of the file: {', '.join(columns)}{more}."


def _columns(key: str, rows: DatasetTable, named: dict[str, str]) -> None:
    """Every column by its name in SQL: what it holds, where it is from; found by a part of these."""
    sought = st.text_input(
        "Find a column", key=f"{key}-find", placeholder="Find a column", label_visibility="collapsed"
    )
    listed = [
        {
            "Name in SQL": sql_rows.spelled(name),
            "Type": TYPES[rows.columns[column_name].type],
            "From": _origin(column_name),
            "What it holds": _meaning(rows.columns[column_name]),
        }
        for name, column_name in named.items()
    ]
    listed = [row for row in listed if sought.lower() in " ".join(row.values()).lower()]
    if not listed:
        st.caption(f"No column has {plain(sought)} in its name or meaning.")
        return
    st.dataframe(
        listed,
        hide_index=True,
        height=min(35 * (len(listed) + 1) + 3, 250),
        column_config={"What it holds": st.column_config.TextColumn(width="large")},
        key=f"{key}-columns",
        alt="The columns of the table rows",
    )


def _origin(column_name: str) -> str:
    if column_name.startswith(SOURCE):
        return "the file"
    return GROUPS[GROUP_OF[column_name]].title if column_name in GROUP_OF else "every data set"


def _meaning(column: TableColumn) -> str:
    if column.name.startswith(SOURCE):
        return column.means
    unit = f" ({column.unit})" if column.unit else ""
    return f"{column.title}{unit}" + (f": {column.means}" if column.means else "")


def _examples(rows: DatasetTable, named: dict[str, str]) -> dict[str, str]:
    """Questions that have an answer here; the first over a column of the file."""
    names = {column_name: sql_rows.spelled(name) for name, column_name in named.items()}
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


def _put(key: str, sql: str) -> None:
    st.session_state[key] = st.session_state[f"{key}-asked"] = sql


def _answer(dataset_id: str, sql: str, table: pa.Table, total: int) -> None:
    cut = total > table.num_rows
    st.caption(f"The first {table.num_rows:,} of {total:,} rows" if cut else plural(total, "row"))
    st.dataframe(spelled_out(table), hide_index=True, key=f"sql-result-{dataset_id}", alt="The answer")
    some = min(total, DOWNLOADED)
    label = f"Download the first {some:,} rows as CSV" if some < total else "Download as CSV"
    st.download_button(
        label,
        data=lambda: _csv(dataset_id, sql, table, total),
        file_name="answer.csv",
        mime="text/csv",
        icon=":material/download:",
        key=f"sql-csv-{dataset_id}",
        on_click="ignore",
    )


def _csv(dataset_id: str, sql: str, table: pa.Table, total: int) -> bytes:
    """The answer as CSV, asked for again where the screen shows only its beginning."""
    if total > table.num_rows:
        rows = explore_reads.rows(dataset_id)
        table, _ = explore_reads.select(dataset_id, sql, DOWNLOADED, explore_reads.stamp(rows))
    out = io.BytesIO()
    write_csv(table, out)
    return out.getvalue()
