"""A file with duplicates, cleaned by clicking alone: import, finding, fix, new version, every row told of."""

from __future__ import annotations

import csv
import random
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.started_app import App

pytestmark = pytest.mark.timeout(600)

ROWS, COPIES = 300, 40


def write_file(path: Path) -> None:
    """`ROWS` questions of their own and `COPIES` that are there twice, in no order."""
    words = ["copper", "river", "lantern", "orchard", "signal", "meadow", "harbour", "winter", "engine"]
    draw = random.Random(0)
    rows = [
        (
            f"What is known of the {' '.join(draw.choices(words, k=6))} number {i}?",
            f"Of number {i}: {' '.join(draw.choices(words, k=12))}.",
        )
        for i in range(ROWS)
    ]
    rows += rows[:COPIES]
    draw.shuffle(rows)
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([("question", "answer"), *rows])


def test_duplicates_are_found_and_removed_by_clicks(empty_app: App, page: Page, tmp_path: Path) -> None:
    write_file(tmp_path / "notes.csv")
    empty_app.open(page, "/data?view=import")
    page.locator("input[type=file]").set_input_files(tmp_path / "notes.csv")
    page.get_by_role("button", name=re.compile("^Import")).last.click(timeout=60_000)
    expect(page.get_by_text("340").first).to_be_visible(timeout=60_000)
    old = empty_app.cli("data", "list", "--json")["datasets"][0]
    assert old["row_count"] == ROWS + COPIES

    # The finding comes by itself, says how many, and offers its fix.
    page.goto(f"{empty_app.address}/data?dataset={old['dataset_id']}")
    page.get_by_role("tab", name=re.compile("Clean")).click()
    expect(page.get_by_text(re.compile(rf"{COPIES} exact duplicates")).first).to_be_visible(timeout=120_000)
    page.get_by_role("button", name="Keep one of each").first.click()
    page.get_by_role("button", name="Make version v2").or_(
        page.get_by_role("button", name="Make version 2")
    ).click(timeout=60_000)
    page.get_by_role("button", name="Open the new version").click(timeout=120_000)

    # The new version has every row once; the old one is as it was.
    expect(page.get_by_text(re.compile("v2")).first).to_be_visible()
    sets = {row["name"]: row for row in empty_app.cli("data", "list", "--json")["datasets"]}
    new = next(row for name, row in sets.items() if name.endswith("v2"))
    assert (new["row_count"], new["duplicate_count"]) == (ROWS, 0)
    fates = {key: new["fates"][key] for key in ("kept", "changed", "dropped", "added")}
    assert fates == {"kept": ROWS, "changed": 0, "dropped": COPIES, "added": 0}
    assert sets[old["name"]]["row_count"] == ROWS + COPIES

    # What became of every row is a table that can be searched.
    page.get_by_role("tab", name=re.compile("Versions")).click()
    expect(page.get_by_text("Outcome of every row").first).to_be_visible(timeout=30_000)
