"""A row edited where it stands, and another from the cleaning, by clicks: one version holds both."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from store.core.home import Home
from tests.e2e.started_app import App
from tests.unit.data_job import read

pytestmark = pytest.mark.timeout(600)

ROWS = [{"question": f"What is {n} plus 1?", "answer": f"It is {n + 1}."} for n in range(60)]


def test_rows_are_edited_by_clicks_and_become_a_version(empty_app: App, page: Page, tmp_path: Path) -> None:
    file = tmp_path / "sums.jsonl"
    file.write_text("\n".join(map(json.dumps, ROWS)))
    empty_app.cli("import", str(file), "--name", "Sums")
    old = next(row for row in empty_app.cli("data", "list", "--json")["datasets"] if row["name"] == "Sums")

    # From the row that is open.
    empty_app.open(page, f"/data?dataset={old['dataset_id']}&row=5")
    page.get_by_text("Edit this row").click()
    answer = page.get_by_role("textbox", name="Answer")
    expect(answer).to_have_value("It is 6.")
    answer.fill("Six, by counting on.")
    page.get_by_role("button", name="Add this edit to the recipe").click()
    expect(page.get_by_text("The recipe changes this row already")).to_be_visible()
    page.get_by_role("button", name="Go to the recipe").click()
    expect(page.get_by_text("Edit 1 row by hand").first).to_be_visible()

    # From the cleaning, by its number.
    page.get_by_text("Edit one row by hand").click()
    number = page.get_by_role("spinbutton", name=re.compile("^Row"))
    number.fill("9")
    number.press("Enter")
    answer = page.get_by_role("textbox", name="Answer")
    expect(answer).to_have_value("It is 10.")
    answer.fill("Ten.")
    page.get_by_role("button", name="Add this edit to the recipe").click()
    # The preview is asked anew, and once more where measuring the rows ends meanwhile.
    expect(page.get_by_text("The recipe changes this row already")).to_be_visible(timeout=90_000)
    expect(page.get_by_text("Edit 2 rows by hand").first).to_be_visible()

    page.get_by_role("button", name="Make version 2").click(timeout=60_000)
    page.get_by_role("button", name="Open the new version").click(timeout=120_000)
    new = next(row for row in empty_app.cli("data", "list", "--json")["datasets"] if row["name"] == "Sums v2")
    answers = [row["messages"][-1]["content"] for row in read(Home(empty_app.home).rows(new["fingerprint"]))]
    wanted = [row["answer"] for row in ROWS]
    wanted[5], wanted[9] = "Six, by counting on.", "Ten."
    assert answers == wanted
    assert (new["fates"]["changed"], new["fates"]["kept"]) == (2, 58)
