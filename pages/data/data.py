"""Data sets: what data is there, and is it what I think it is? A list, an import, or one data set.

The link says which: `?dataset=ID` (with `&row=N`), `?view=import`, `?job=ID` of an import, or nothing.
"""

from __future__ import annotations

import streamlit as st

from pages.data.dataset_view import show_dataset
from pages.data.imports.import_progress import show_import_job
from pages.data.imports.import_view import show_import
from pages.data.rows.dataset_list import back_to_list, show_list
from pages.shared import reads
from pages.shared.session import guarded, show_error
from store.contract.errors import NotFoundError


def main() -> None:
    query = st.query_params
    with guarded():
        if query.get("dataset"):
            _draw_dataset(query["dataset"])
        elif query.get("job"):
            show_import_job(query["job"])
        elif query.get("view") == "import":
            show_import()
        else:
            show_list()


def _draw_dataset(dataset_id: str) -> None:
    try:
        dataset = reads.dataset(dataset_id)
    except NotFoundError as error:
        st.title("This data set is not here", anchor=False)
        back_to_list()
        show_error(error)
        return
    show_dataset(dataset)


main()
