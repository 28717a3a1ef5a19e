"""The table of runs in a browser: sorted, filtered, tagged, renamed, archived, saved and compared."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, Request, Route, expect

from store.db.database import Database
from tests.e2e.started_app import App
from tests.pages.seeds.seed import seed

pytestmark = pytest.mark.timeout(300)

RUNS = 400
NAME = '<img src=x onerror="alert(1)"> ' + "long name " * 27


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    path = tmp_path_factory.mktemp("table")
    home = seed(path, runs=RUNS, sets=4, probed=True)
    database = Database(home.database, [home.datasets])
    with database.transaction() as tx:
        tx.execute("UPDATE run SET name = ? WHERE run_id = 'r000399'", [NAME])
    database.close()
    started = App(path, sample=False)
    yield started
    started.stop()


@pytest.fixture
def asked(page: Page) -> list[dict[str, Any]]:
    """The bodies of the requests for rows."""
    bodies: list[dict[str, Any]] = []

    def keep(request: Request) -> None:
        if request.url.endswith("/runs/table"):
            bodies.append(json.loads(request.post_data or "{}"))

    page.on("request", keep)
    return bodies


def open_table(app: App, page: Page) -> Locator:
    """Open the page and return the lines of runs."""
    app.open(page)
    page.goto(f"{app.address}/run")
    lines = page.locator("tr[data-run]")
    expect(lines.first).to_be_visible()
    return lines


def find_line(page: Page, run_id: str) -> Locator:
    return page.locator(f"tr[data-run={run_id}]")


def test_the_newest_come_first_and_scrolling_asks_for_more(
    app: App, page: Page, asked: list[dict[str, Any]]
) -> None:
    lines = open_table(app, page)
    expect(page.get_by_role("status").filter(has_text="400 runs")).to_be_visible()
    expect(lines.first).to_contain_text("<img src=x")
    expect(lines.first).to_have_attribute("data-run", "r000399")
    assert lines.count() < 60  # of those in view
    assert {body["offset"] for body in asked} == {0}
    page.get_by_role("region", name="Runs, scrollable").evaluate(
        "box => { box.scrollTop = box.scrollHeight; }"
    )
    expect(find_line(page, "r000000")).to_be_visible()
    assert {body["offset"] for body in asked} == {0, 300}  # what was passed over is not asked for


def test_a_heading_sorts_and_the_order_stays_for_the_next_visit(app: App, page: Page) -> None:
    lines = open_table(app, page)
    heading = page.get_by_role("columnheader", name="Gain over the base model")
    heading.get_by_role("button").click()
    expect(heading).to_have_attribute("aria-sort", "descending")
    expect(lines.first).to_contain_text("0.27 to 0.35, n 200")
    heading.get_by_role("button").click()
    expect(lines.first).to_contain_text("−0.16 to −0.08, n 200")
    open_table(app, page)
    expect(lines.first).to_contain_text("−0.16 to −0.08, n 200")
    heading.get_by_role("button").click()  # a third click undoes it
    expect(lines.first).to_have_attribute("data-run", "r000399")


def test_search_and_filters_are_counted_and_can_be_cleared(app: App, page: Page) -> None:
    lines = open_table(app, page)
    page.get_by_label("Search runs").fill("#38")
    expect(page.get_by_text("11 of 400 runs", exact=True)).to_be_visible()
    page.get_by_label("Search runs").fill("")
    page.get_by_label("Status", exact=True).select_option("Finished")
    page.get_by_role("button", name="Filter", exact=True).click()
    page.get_by_label("Value", exact=True).fill("0.1")
    page.get_by_role("button", name="Add filter").click()
    expect(page.get_by_role("button", name="Gain over the base model > 0.1")).to_be_visible()
    expect(lines.first).to_contain_text("0.31")
    page.get_by_label("Column", exact=True).select_option("Tags")
    page.get_by_label("Comparison").select_option("is not empty")
    page.get_by_role("button", name="Add filter").click()
    expect(page.get_by_text("No run matches.")).to_be_visible()
    page.get_by_role("button", name="Clear search and filters").click()
    expect(page.get_by_text("400 runs", exact=True)).to_be_visible()


def test_columns_are_shown_hidden_and_moved(app: App, page: Page, asked: list[dict[str, Any]]) -> None:
    open_table(app, page)
    page.get_by_role("button", name="Columns", exact=True).click()
    page.get_by_label("Search columns").fill("lora_alpha")
    page.get_by_label("lora_alpha").check()
    expect(page.get_by_role("columnheader", name="lora_alpha")).to_be_visible()
    page.get_by_label("Search columns").fill("Method")
    page.get_by_label("Method").uncheck()
    expect(page.get_by_role("columnheader", name="Method")).to_have_count(0)
    assert "config.lora_alpha" in asked[-1]["columns"]
    assert "method" not in asked[-1]["columns"]
    moved = page.get_by_role("columnheader", name="Launched")
    moved.drag_to(page.get_by_role("columnheader", name="Gain over the base model"))
    expect(page.get_by_role("columnheader").nth(3)).to_contain_text("Launched")
    page.get_by_role("button", name="Reset to default").click()
    expect(page.get_by_role("columnheader").nth(3)).to_contain_text("Gain over the base model")


def test_a_run_is_renamed_in_place_and_a_change_by_others_is_not_overwritten(app: App, page: Page) -> None:
    open_table(app, page)
    line = find_line(page, "r000395")
    line.hover()
    line.get_by_role("button", name="Rename").click()
    page.get_by_label("New name of").fill("The <b>good</b> one")
    page.keyboard.press("Enter")
    expect(line).to_contain_text("The <b>good</b> one")
    line.get_by_role("button", name="Rename").click()
    page.get_by_label("New name of").fill("Not this")
    page.keyboard.press("Escape")
    expect(line).to_contain_text("The <b>good</b> one")
    line.get_by_role("button", name="Rename").click()
    app.client.command("edit_run", {"run": "r000395", "name": "Somebody else's"})
    page.get_by_label("New name of").fill("Mine")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert").filter(has_text="Somebody else's")).to_be_visible()
    line.get_by_role("button", name="Rename").click()
    page.get_by_label("New name of").fill("")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert").filter(has_text="A run needs a name.")).to_be_visible()


def test_selected_runs_are_tagged_archived_and_compared(app: App, page: Page) -> None:
    open_table(app, page)
    find_line(page, "r000398").get_by_role("checkbox").check()
    expect(page.get_by_role("button", name="Compare", exact=True)).to_be_disabled()
    find_line(page, "r000394").get_by_role("checkbox").click(modifiers=["Shift"])
    expect(page.get_by_text("5 runs selected")).to_be_visible()
    page.get_by_role("button", name="Add tag").click()
    page.get_by_label("Tag", exact=True).fill("sweep")
    page.keyboard.press("Enter")
    expect(page.locator(".tag", has_text="sweep")).to_have_count(5)
    page.reload()
    expect(page.get_by_text("5 runs selected")).to_be_visible()  # for the session
    page.get_by_role("button", name="Archive", exact=True).click()
    expect(page.get_by_text("395 runs", exact=True)).to_be_visible()
    expect(find_line(page, "r000398")).to_have_count(0)
    page.get_by_label("Show archived (5)").check()
    expect(find_line(page, "r000398")).to_contain_text("archived")
    find_line(page, "r000398").get_by_role("checkbox").check()
    find_line(page, "r000397").get_by_role("checkbox").check()
    page.get_by_role("button", name="Take out of the archive").click()
    expect(page.get_by_label("Show archived (3)")).to_be_visible()
    find_line(page, "r000398").get_by_role("checkbox").check()
    find_line(page, "r000397").get_by_role("checkbox").check()
    page.get_by_role("button", name="Compare", exact=True).click()
    expect(page).to_have_url(f"{app.address}/compare?runs=r000398%2Cr000397")


def test_all_that_match_are_selected_and_saved(app: App, page: Page, tmp_path: Path) -> None:
    open_table(app, page)
    page.get_by_label("Search runs").fill("Sums 2")
    expect(page.get_by_text(re.compile(r"^\d+ of \d+ runs$"))).to_be_visible()
    page.get_by_label("Select all runs that match").check()
    expect(page.get_by_text("Compare takes up to 16 runs.")).to_be_visible()
    expect(page.get_by_role("button", name="Curves", exact=True)).to_be_disabled()
    with page.expect_download() as download:
        page.get_by_role("button", name="Save CSV").click()
    path = tmp_path / "runs.csv"
    download.value.save_as(path)
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) > 90
    assert all("Sums 2" in row["name"] or row["dataset_name"] == "Sums 2" for row in rows)
    gains = [float(row["figures.gain"]) for row in rows if row["figures.gain"]]
    assert set(gains) == {-0.12}
    assert all(row["created_at"].endswith("Z") for row in rows)


def test_a_name_leads_to_its_run_and_back_to_the_same_rows(app: App, page: Page) -> None:
    open_table(app, page)
    page.get_by_label("Search runs").fill("#12")
    expect(find_line(page, "r000012")).to_be_visible()
    find_line(page, "r000012").get_by_role("link").click()
    expect(page).to_have_url(f"{app.address}/run?run=r000012")
    page.go_back()
    expect(find_line(page, "r000012")).to_be_visible()
    expect(page.get_by_label("Search runs")).to_have_value("#12")


def test_what_went_wrong_is_said_and_the_rows_stay(app: App, page: Page) -> None:
    lines = open_table(app, page)

    def refuse(route: Route) -> None:
        route.fulfill(status=503, json={"message": "The engine is not running.", "fix": "Start it."})

    page.route("**/runs/table", refuse)
    page.get_by_label("Search runs").fill("x")
    expect(page.get_by_role("alert").filter(has_text="The engine is not running. Start it.")).to_be_visible()
    expect(lines.first).to_be_visible()
    page.unroute("**/runs/table")
    page.get_by_label("Search runs").fill("")
    expect(page.get_by_role("alert").filter(has_text="The engine is not running.")).to_have_count(0)
