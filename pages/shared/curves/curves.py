"""The component that draws metrics of many runs, and the route through which it asks for curves.

Each chart asks once for all its curves, when it comes into view; a zoom asks for finer buckets. While a run
is alive, the charts in view ask again. The page isn't rerun by any of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import streamlit as st
from pydantic import Field
from starlette.routing import BaseRoute

from pages.shared import palette
from pages.shared.data_routes import Acting, build_table_route
from pages.shared.display import find_quantity
from pages.shared.rendered.component_source import build_data_script
from pages.shared.third_party import read_library
from store.core.config import Config
from store.http.client import Client
from store.jobs import metric_curves
from store.jobs.metric_curves import AXES, MAX_RUNS, Axis
from store.runs.schemas import Run

PATH = "/curves"
FOLDER = Path(__file__).parent
SCRIPT = ("curve_data", "curve_files", "curve_chart", "curve_panel")


class CurvesRequest(Config):
    """Body of `POST /curves`: the fields of `store.jobs.metric_curves.curves`."""

    runs: list[str] = Field(min_length=1, max_length=MAX_RUNS)
    metric: str = Field(min_length=1, max_length=300)
    axis: Axis = "step"
    buckets: int = 320
    first: float | None = None
    last: float | None = None


@dataclass(frozen=True)
class DrawnRun:
    """A run as its curves are labelled and coloured. dash: lengths of line and gap, for many runs."""

    id: str
    label: str
    color: str
    dash: Sequence[int]


@dataclass(frozen=True)
class DrawnMetric:
    """A chart. runs: ids of the runs that logged the metric; level: the base model's, if all share it."""

    name: str
    title: str
    unit: str
    runs: Sequence[str]
    level: float | None = None


DASHES = {"solid": (), "dash": (8, 5), "dot": (2, 4), "dashdot": (8, 4, 2, 4)}


def build_curve_routes(acting: Acting) -> Iterable[BaseRoute]:
    """Return the route of the component."""
    return [build_table_route(PATH, acting, read_requested_curves, "the request for curves")]


def read_requested_curves(client: Client, body: dict[str, object]) -> pa.Table:
    """Answer a request of the component. Raises ConfigError that names the field."""
    asked = CurvesRequest.parse(body)
    return metric_curves.curves(
        client,
        asked.runs,
        asked.metric,
        axis=asked.axis,
        buckets=asked.buckets,
        first=asked.first,
        last=asked.last,
    )


def build_script() -> str:
    """Build the JavaScript of the component as one module."""
    return build_data_script(FOLDER / "script", SCRIPT, libraries=["uplot.js"])


def label_run(run: Run, label: str) -> DrawnRun:
    """Return how a run is drawn: in its permanent colour, and its dash where many runs share colours."""
    dash = DASHES[palette.get_run_dash(run.number)]
    return DrawnRun(run.run_id, label, palette.get_run_color(run.number), dash)


def describe_metric(name: str, run_ids: Sequence[str], level: float | None = None) -> DrawnMetric:
    """Return the chart of a metric that these runs logged."""
    quantity = find_quantity(name)
    return DrawnMetric(name, quantity.title, quantity.axis, run_ids, level)


def draw_curves(runs: Sequence[DrawnRun], metrics: Sequence[DrawnMetric], *, key: str, alive: bool) -> None:
    """Draw a chart of each metric, in sections. alive: whether the charts in view ask again by themselves."""
    component = st.components.v2.component(
        "tunebench-curves",
        html='<div id="curves-root">\n</div>',
        css="\n".join([read_library("uplot.css"), (FOLDER / "curves.css").read_text(encoding="utf-8")]),
        js=build_script(),
    )
    component(
        key=key,
        data={
            "address": PATH,
            "alive": alive,
            "axes": list(AXES.items()),
            "runs": [asdict(run) for run in runs],
            "metrics": [asdict(metric) for metric in metrics],
        },
    )
