"""The Data sets page: the list, an import, or one data set.

The link selects the view: `?dataset=ID` (optionally `&row=N`), `?view=import`, `?job=ID` of an import, or
nothing for the list.
"""

from __future__ import annotations

import streamlit as st

from pages.data.datasets import draw_back_to_list, show_dataset, show_list
from pages.data.import_form import show_import
from pages.data.import_report import show_import_job
from pages.shared import cached_queries
from pages.shared.session import show_error, show_errors
from store.core.errors import NotFoundError


def main() -> None:
    query = st.query_params
    with show_errors():
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
        dataset = cached_queries.read_dataset(dataset_id)
    except NotFoundError as error:
        st.title("Data set not found", anchor=False)
        draw_back_to_list()
        show_error(error)
        return
    show_dataset(dataset)


main()
