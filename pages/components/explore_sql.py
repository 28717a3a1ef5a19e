"""Questions in SQL over one data set: a read-only SELECT over the table `rows`."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.csv as pacsv
import streamlit as st

from pages.components import explore_reads
from pages.components.session import plain, show_error
from store.calendar import spelled_out
from store.errors import TunebenchError
from store.explore import Rows

SHOWN = 1000
DOWNLOADED = 100_000
EXAMPLES = {
    "Longest rows": "SELECT row_id, strlen(text) AS bytes, text\nFROM rows ORDER BY bytes DESC LIMIT 20",
    "Rows by label": "SELECT label, count(*) AS n, round(avg(strlen(text))) AS mean_bytes\n"
    "FROM rows GROUP BY label ORDER BY n DESC",
    "First words": "SELECT split_part(text, ' ', 1) AS first_word, count(*) AS n\n"
    "FROM rows GROUP BY 1 ORDER BY n DESC LIMIT 30",
    "Languages": "SELECT language, count(*) AS n, round(avg(characters)) AS mean_characters\n"
    "FROM rows GROUP BY language ORDER BY n DESC",
    "Duplicate groups": "SELECT near_group, count(*) AS n, any_value(text) AS one_of_them\n"
    "FROM rows WHERE near_group IS NOT NULL GROUP BY near_group ORDER BY n DESC LIMIT 50",
}
NEEDS = {"Rows by label": "label", "Languages": "language", "Duplicate groups": "near_group"}


def show_sql(rows: Rows) -> None:
    """The box, its examples, and the answer of the last question."""
    dataset_id = rows.dataset["dataset_id"]
    key = f"sql-{dataset_id}"
    names = [name for name in rows.known if not name.startswith("source.")]
    st.caption(f"One SELECT over the table `rows`, read-only. Columns: {plain(', '.join(names))}.")
    with st.container(horizontal=True, gap="xsmall"):
        for title, sql in EXAMPLES.items():
            if NEEDS.get(title, "row_id") in rows.known:
                st.button(title, key=f"{key}-{title}", type="tertiary", on_click=_put, args=(key, sql))
    st.text_area("SQL", key=key, height=120, persist_state="session", placeholder=EXAMPLES["Longest rows"])
    if st.button("Run", type="primary", icon=":material/play_arrow:", key=f"{key}-run"):
        st.session_state[f"{key}-asked"] = st.session_state[key]
    asked = (st.session_state.get(f"{key}-asked") or "").strip()
    if asked:
        try:
            table, total = explore_reads.select(dataset_id, asked, SHOWN, explore_reads.stamp(rows))
        except TunebenchError as error:
            show_error(error)
            return
        _answer(dataset_id, asked, table, total)


def _put(key: str, sql: str) -> None:
    st.session_state[key] = st.session_state[f"{key}-asked"] = sql


def _answer(dataset_id: str, sql: str, table: pa.Table, total: int) -> None:
    cut = total > table.num_rows
    noun = "row" if total == 1 else "rows"
    st.caption(f"The first {table.num_rows:,} of {total:,} rows" if cut else f"{total:,} {noun}")
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
        found = explore_reads.rows(dataset_id)
        table, _ = explore_reads.select(dataset_id, sql, DOWNLOADED, explore_reads.stamp(found))
    out = io.BytesIO()
    pacsv.write_csv(_flat(table), out)
    return out.getvalue()


def _flat(table: pa.Table) -> pa.Table:
    """Lists and structs as their JSON-like text: CSV has no others."""
    for place, field in enumerate(table.schema):
        if pa.types.is_nested(field.type) or pa.types.is_decimal(field.type):
            texts = [None if value is None else str(value) for value in table.column(place).to_pylist()]
            table = table.set_column(place, field.name, pa.array(texts, pa.string()))
    return table
