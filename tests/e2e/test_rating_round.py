"""A rating round from its form to the next run, in a browser: base model against a tuned run.

A model of two layers answers, so that the whole of it takes seconds; everything else is as people have it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, Request, Response, expect

from store.queries import jobs
from store.queries.rating import ratings, rounds
from tests.e2e.started_app import App, wait_until
from tests.tiny import write_model

pytestmark = pytest.mark.timeout(600)
MODEL, RUN = "tiny-llama", "Sums learned"
PROMPTS = 20


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """A home folder with a tiny model, a data set, and a run on it that has finished."""
    home = tmp_path_factory.mktemp("rounds")
    write_model(home / "models" / MODEL)
    started = App(home, sample=False)
    rows = home / "uploads" / "sums.jsonl"
    turns = [
        [{"role": "user", "content": f"{n} + 1?"}, {"role": "assistant", "content": f"It is {n + 1}."}]
        for n in range(80)
    ]
    rows.write_text("".join(json.dumps({"messages": each}) + "\n" for each in turns))
    job_id = started.client.command("import_dataset", {"name": "Sums", "source": {"upload": rows.name}})[
        "job_id"
    ]
    ended(started, job_id)
    config = {"name": RUN, "dataset": "Sums", "model": MODEL, "num_train_epochs": 1, "learning_rate": 1e-3}
    ended(started, started.client.command("launch", config | {"method": "lora"})["run_id"])
    yield started
    started.stop()


def ended(app: App, job_id: str) -> None:
    wait_until(
        lambda: jobs.get_job(app.client, job_id)["status"] not in ("queued", *jobs_alive()), 240, job_id
    )
    job = jobs.get_job(app.client, job_id)
    assert job["status"] == "finished", job["error"]


def jobs_alive() -> tuple[str, ...]:
    return ("preparing", "training", "evaluating")


def test_a_round_from_the_form_to_a_run_on_what_people_prefer(app: App, page: Page) -> None:
    app.open(page, "/rating")
    expect(page.get_by_text("There is no rating round yet")).to_be_visible()
    for model in (f"{RUN}: base model", f"{RUN}: tuned model"):
        page.get_by_role("combobox", name="Models").click()
        page.get_by_role("option", name=model).click()
    page.keyboard.press("Escape")
    page.get_by_role("spinbutton", name="Prompts").fill(str(PROMPTS))
    page.get_by_role("spinbutton", name="Longest answer").fill("8")
    page.get_by_role("button", name="Start the round").click()
    expect(page.get_by_text("The round is being made.")).to_be_visible()
    wait_until(lambda: rounds.list_rounds(app.client), 240, "an open round")
    (round,) = rounds.list_rounds(app.client)

    traffic = Traffic(page)
    page.get_by_role("button", name="Rate", exact=True).click()
    rate(app, page, round["round_id"], 10)
    page.reload()
    rate(app, page, round["round_id"], PROMPTS + 2)  # and those that come again, sides swapped
    expect(page.get_by_text("All rated")).to_be_visible()
    assert traffic.naming(MODEL, RUN) == []
    assert traffic.seen > 20

    page.get_by_role("button", name="All rounds").click()
    page.get_by_role("link", name=round["name"]).click()
    page.get_by_role("button", name="Close").click()
    expect(page.get_by_text(re.compile("is better than|can't be told apart")).first).to_be_visible()
    page.get_by_role("tab", name="Train on it").click()
    page.get_by_role("button", name="Launch a DPO run on it").click()
    page.wait_for_url(re.compile(r"/run\?run="), timeout=120_000)
    tuned = page.url.split("run=")[1]
    ended(app, tuned)
    config = jobs.get_job(app.client, tuned)["config"]
    assert (config["task"], config["dataset"]) == ("dpo", f"{round['name']}, preferences")


class Traffic:
    """All that the browser got and sent from now on, as text."""

    def __init__(self, page: Page) -> None:
        self.texts: list[str] = []
        page.on("response", self._take)
        page.on("request", self._send)
        page.on("websocket", lambda socket: socket.on("framereceived", self._frame))

    @property
    def seen(self) -> int:
        return len(self.texts)

    def _take(self, response: Response) -> None:
        if "/rating/" in response.url and response.status == 200:
            self.texts.append(response.text())

    def _send(self, request: Request) -> None:
        if "/rating/" in request.url:
            self.texts.append(request.post_data or "")

    def _frame(self, payload: str | bytes) -> None:
        self.texts.append(payload if isinstance(payload, str) else payload.decode("utf-8", "replace"))

    def naming(self, *names: str) -> list[str]:
        """What holds one of these names."""
        return [text[:200] for text in self.texts if any(name in text for name in names)]


def rate(app: App, page: Page, round_id: str, until: int) -> None:
    """Press keys until so many are stored."""
    expect(page.get_by_role("button", name=re.compile("A is better"))).to_be_visible()
    for key in "abtababab" * 10:
        stored = ratings.revisions(app.client, round_id)
        if stored >= until or page.get_by_text("All rated").is_visible():
            return
        page.keyboard.press(key)
        wait_until(
            lambda before=stored: ratings.revisions(app.client, round_id) > before, 20, "a stored rating"
        )
