"""Curves of runs in a browser: drawn in one request a chart, zoomed, smoothed, hidden and saved."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from playwright.sync_api import Page, Request, expect

from store.db.database import Database
from store.jobs import metric_points
from tests.e2e.started_app import App
from tests.pages.seeds.seed import seed

pytestmark = pytest.mark.timeout(300)

STEPS, SPIKE_STEP, NAN_STEP = 5_000, 3_210, 1_234
RUNS = [f"r{place:06}" for place in range(6)]
NAME = '<img src=x onerror="alert(1)"> ' + "long name " * 27


def add_points(database: Database, run_id: str, place: int) -> None:
    """A loss of 5,000 steps with one spike and one NaN, beside the seeded points."""
    values = 1 + place + np.exp(-np.arange(STEPS) / 1_000)
    values[SPIKE_STEP - 1], values[NAN_STEP - 1] = 50.0, np.nan
    start = datetime(2026, 11, 1)
    table = pa.table(
        {
            "run_id": [run_id] * STEPS,
            "name": ["train/noisy"] * STEPS,
            "step": range(1, STEPS + 1),
            "value": values,
            "logged_at": [start + timedelta(seconds=step) for step in range(STEPS)],
            "ordinal": range(STEPS),
        }
    )
    with database.transaction() as tx:
        metric_points.add(tx, table)
        if place == 0:
            tx.execute("UPDATE run SET name = ? WHERE run_id = ?", [NAME, run_id])


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    path = tmp_path_factory.mktemp("curves")
    home = seed(path, runs=6, sets=2)
    database = Database(home.database, [home.datasets])
    for place, run_id in enumerate(RUNS[:5]):
        add_points(database, run_id, place)
    database.close()
    started = App(path, sample=False)
    yield started
    started.stop()


@pytest.fixture
def asked(page: Page) -> list[dict[str, Any]]:
    """The bodies of the requests for curves."""
    bodies: list[dict[str, Any]] = []

    def keep(request: Request) -> None:
        if request.url.endswith("/curves") and request.method == "POST":
            bodies.append(json.loads(request.post_data or "{}"))

    page.on("request", keep)
    return bodies


def open_curves(app: App, page: Page) -> Any:
    """Open the tab with all runs and return the chart of the noisy metric."""
    app.open(page)
    page.goto(f"{app.address}/compare?tab=curves&runs={','.join(RUNS)}")
    chart = page.get_by_role("region", name="train/noisy")
    chart.scroll_into_view_if_needed()
    expect(chart.locator("canvas")).to_be_visible()
    return chart


def test_a_chart_asks_once_for_all_its_runs_and_counts_what_it_draws(
    app: App, page: Page, asked: list[dict[str, Any]]
) -> None:
    chart = open_curves(app, page)
    expect(chart).to_contain_text("25,000 points of 5 runs.")
    expect(chart).to_contain_text("5 values not finite")
    expect(chart).to_contain_text("Not measured by 1 run.")
    (body,) = [body for body in asked if body["metric"] == "train/noisy"]
    assert body["runs"] == RUNS[:5]
    expect(page.get_by_role("group", name="Runs").get_by_role("button").first).to_contain_text("<img src=x")


def test_a_drag_zooms_in_and_a_button_out(app: App, page: Page, asked: list[dict[str, Any]]) -> None:
    chart = open_curves(app, page)
    area = chart.locator(".u-over").bounding_box()
    assert area
    asked.clear()
    page.mouse.move(area["x"] + area["width"] * 0.5, area["y"] + 40)
    page.mouse.down()
    page.mouse.move(area["x"] + area["width"] * 0.6, area["y"] + 60, steps=5)
    page.mouse.up()
    expect(chart).not_to_contain_text("25,000 points")
    expect(chart).to_contain_text("points of 5 runs.")
    (body,) = [body for body in asked if body["metric"] == "train/noisy"]
    assert STEPS * 0.45 < body["first"] < body["last"] < STEPS * 0.65
    page.get_by_role("button", name="Show all").click()
    expect(chart).to_contain_text("25,000 points of 5 runs.")


def test_scale_smoothing_and_axis_need_no_rerun_and_stay_for_the_next_visit(app: App, page: Page) -> None:
    chart = open_curves(app, page)
    page.get_by_label("Logarithmic").check()
    page.get_by_role("slider", name="Smoothing").fill("0.9")
    expect(page.locator("output").filter(has_text="0.90")).to_be_visible()
    page.get_by_role("combobox", name="Axis").select_option("Tokens seen")
    expect(chart).to_contain_text("5 runs did not log the tokens seen.")
    page.get_by_role("combobox", name="Axis").select_option("Hours since the run's first point")
    expect(chart).to_contain_text("25,000 points of 5 runs.")
    again = open_curves(app, page)
    expect(again).to_contain_text("25,000 points of 5 runs.")
    expect(page.get_by_label("Logarithmic")).to_be_checked()
    assert page.get_by_role("combobox", name="Axis").input_value() == "hours"
    page.evaluate("localStorage.removeItem('tunebench-curves-view')")


def test_a_run_is_hidden_and_what_is_drawn_is_saved(app: App, page: Page, tmp_path: Path) -> None:
    chart = open_curves(app, page)
    page.get_by_role("group", name="Runs").get_by_role("button").nth(1).click()
    expect(chart).to_contain_text("20,000 points of 4 runs.")
    for ending, start in (("CSV", b"run_id"), ("SVG", b"<svg"), ("PNG", b"\x89PNG")):
        with page.expect_download() as download:
            chart.get_by_role("button", name="Save").filter(has_text=ending).click()
        path = tmp_path / f"chart.{ending}"
        download.value.save_as(path)
        assert path.read_bytes().startswith(start)
    with open(tmp_path / "chart.CSV", encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert {line["run_id"] for line in lines} == {RUNS[0], *RUNS[2:5]}
    assert sum(int(line["points"]) for line in lines) == 4 * STEPS
    assert max(float(line["max"]) for line in lines) == 50.0  # the spike is not lost in its bucket
    assert sum(int(line["not_finite"]) for line in lines) == 4
    assert lines[0]["run"] == NAME
