"""The component that lists runs, and the routes through which it reads and changes them.

It asks for a window of rows when one comes into view, and again when search, filters, order or columns
change; the page isn't rerun by any of it. While a run is active, the rows in view are read again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import streamlit as st
from pydantic import Field
from starlette.routing import BaseRoute

from pages.shared import palette
from pages.shared.data_routes import Acting, build_command_route, build_table_route
from pages.shared.display import FORGETTING, STATUSES, VERDICTS
from pages.shared.rendered.component_source import build_data_script
from pages.shared.run_chips import STATE_INK
from store.core.config import Config
from store.core.job_kinds import ACTIVE, ALIVE
from store.data.filters import Condition
from store.http.client import Client
from store.runs.run_columns import RunColumn
from store.runs.run_table import MAX_COLUMNS, MAX_CONDITIONS, MAX_ROWS, NEWEST, run_table
from store.training.methods import METHODS
from store.training.train_config import TASK_TITLES

READ_PATH, EDIT_PATH, ORGANIZE_PATH = "/runs/table", "/runs/edit", "/runs/organize"
FOLDER = Path(__file__).parent
SCRIPT = (
    "table_view",
    "table_rows",
    "table_cells",
    "table_controls",
    "table_selection",
    "table_grid",
    "mount",
)
KEY = "runs-table"
DEFAULT_COLUMNS = (
    "figures.gain", "best_eval_loss", "method", "dataset_name", "created_at", "forgetting",
    "config.learning_rate", "config.num_train_epochs", "duration", "tags",
)  # fmt: skip


class RunsTableRequest(Config):
    """Body of `POST /runs/table`: the fields of `store.runs.run_table.run_table`."""

    columns: list[str] = Field(max_length=MAX_COLUMNS)
    search: str = Field("", max_length=300)
    conditions: list[Condition] = Field(default_factory=list, max_length=MAX_CONDITIONS)
    archived: bool = False
    created_by: str = Field("", max_length=200)
    sort: str = NEWEST
    descending: bool = True
    limit: int = Field(200, ge=1, le=MAX_ROWS)
    offset: int = Field(0, ge=0)


@dataclass(frozen=True)
class WrittenValue:
    """How a value of a column is written, and its colour; empty for that of the text."""

    title: str
    color: str = ""


@dataclass(frozen=True, kw_only=True)
class TableOptions:
    """What the component is told about its page.

    counts: runs by status; when they change, the rows are read again. may_edit: whether the person may
    rename, tag and archive. created_by: only runs of this person are listed, unless empty. max_compared: runs
    that Compare and its curves take.
    """

    columns: Sequence[RunColumn]
    counts: Mapping[str, int]
    may_edit: bool
    created_by: str
    max_compared: int


def build_runs_table_routes(acting: Acting) -> Iterable[BaseRoute]:
    """Return the routes of the component."""
    return [
        build_table_route(READ_PATH, acting, read_requested_runs, "the request for runs"),
        build_command_route(EDIT_PATH, acting, "edit_run", "the change of a run"),
        build_command_route(ORGANIZE_PATH, acting, "organize_runs", "the change of runs"),
    ]


def read_requested_runs(client: Client, body: dict[str, object]) -> pa.Table:
    """Answer a request of the component. Raises ConfigError that names the field."""
    asked = RunsTableRequest.parse(body)
    return run_table(
        client,
        asked.columns,
        search=asked.search,
        conditions=asked.conditions,
        archived=asked.archived,
        created_by=asked.created_by,
        sort=asked.sort,
        descending=asked.descending,
        limit=asked.limit,
        offset=asked.offset,
    )


def build_script() -> str:
    """Build the JavaScript of the component as one module."""
    return build_data_script(FOLDER / "script", SCRIPT)


def draw_runs_table(options: TableOptions) -> None:
    """Draw the table. A click on a run opens its page; selected runs are compared on theirs."""

    def open_chosen() -> None:
        st.session_state[f"{KEY}-open"] = st.session_state[KEY].open

    component = st.components.v2.component(
        "tunebench-runs",
        html='<div id="runs-root">\n</div>',
        css=(FOLDER / "runs_table.css").read_text(encoding="utf-8"),
        js=build_script(),
    )
    component(
        key=KEY,
        data={
            "addresses": {"read": READ_PATH, "edit": EDIT_PATH, "organize": ORGANIZE_PATH},
            "columns": [asdict(column) for column in options.columns],
            "defaults": list(DEFAULT_COLUMNS),
            "values": {
                name: {value: asdict(written) for value, written in values.items()}
                for name, values in list_written_values().items()
            },
            "active": sorted(ACTIVE),
            "colors": list(palette.RUNS),
            "counts": dict(options.counts),
            "alive": any(options.counts.get(status) for status in ALIVE),
            "mayEdit": options.may_edit,
            "createdBy": options.created_by,
            "maxCompared": options.max_compared,
            "maxColumns": MAX_COLUMNS,
        },
        on_open_change=open_chosen,
    )
    if chosen := st.session_state.pop(f"{KEY}-open", None):
        _open(str(chosen["page"]), [str(run_id) for run_id in chosen["runs"]])


def _open(page: str, run_ids: Sequence[str]) -> None:
    if page == "run":
        st.switch_page("pages/runs/run.py", query_params={"run": run_ids[0]})
    query = {"runs": ",".join(run_ids)} | ({"tab": "curves"} if page == "curves" else {})
    st.switch_page("pages/comparison/compare.py", query_params=query)


def list_written_values() -> dict[str, dict[str, WrittenValue]]:
    """Return how the values of text columns are written, by column and value."""
    states = {"status": STATUSES, "verdict": VERDICTS, "forgetting": FORGETTING}
    return {
        **{
            column: {key: WrittenValue(state.title, STATE_INK[state.color]) for key, state in listed.items()}
            for column, listed in states.items()
        },
        "method": {name: WrittenValue(method.title) for name, method in METHODS.items()},
        "config.task": {name: WrittenValue(title) for name, title in TASK_TITLES.items()},
    }
