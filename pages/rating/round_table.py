"""All ratings of a closed round as a file: a row a rating, as CSV or Parquet."""

from __future__ import annotations

import io
from collections.abc import Callable

import pyarrow as pa
import pyarrow.parquet as pq
import streamlit as st

from engine.diagnostics.rating.rows.rating_table import rating_table
from pages.rating import round_reads
from store.contract.csv_cells import write_csv
from store.documents.rating.round import RoundLine

Write = Callable[[pa.Table, io.BytesIO], None]


def draw_table(round: RoundLine) -> None:
    """The buttons that save it, each of which makes its file when it is pressed; nothing is read before they
    are there to be seen. For closed rounds alone: who wrote what would sway those who still rate."""
    with st.expander(
        "Save all ratings", icon=":material/table:", on_change="rerun", key="round-table"
    ) as box:
        if box.open:
            _draw_buttons(round)


def _draw_buttons(round: RoundLine) -> None:
    kinds: tuple[tuple[str, str, Write], ...] = (
        ("CSV", "text/csv", write_csv),
        ("Parquet", "application/vnd.apache.parquet", pq.write_table),
    )
    for kind, mime, write in kinds:
        st.download_button(
            f"Save as {kind}",
            _file(round, write),
            file_name=f"{''.join(c if c.isalnum() else '-' for c in round['name'])[:60]}.{kind.lower()}",
            mime=mime,
            icon=":material/table:",
            key=f"round-table-{kind.lower()}",
            on_click="ignore",
            help="A row a rating: what was shown, who said what of it, when, and whether it counts",
        )


def _file(round: RoundLine, write: Write) -> Callable[[], bytes]:
    """Makes the file of what has been read already: a download is answered outside of the page's run."""
    round_id = round["round_id"]
    tasks, items = round_reads.tasks(round_id), round_reads.items(round_id)
    left_out = {rater["person_id"] for rater in round_reads.left_out(round_id)}

    def make() -> bytes:
        out = io.BytesIO()
        write(rating_table(round, tasks, items, left_out), out)
        return out.getvalue()

    return make
