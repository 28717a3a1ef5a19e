"""A rating round in a team, from the form to the next run, each person in a browser of their own.

A model of two layers answers, so that the whole of it takes seconds; everything else is as people have it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from playwright.sync_api import Browser, Error, Page, Request, Response, expect

from store.core.job_kinds import ALIVE
from store.core.rating_schemas import RoundSummary
from store.jobs import job_queue
from store.rating import ratings, rounds
from store.runs import runs
from tests.e2e.rating_server import press
from tests.e2e.started_app import wait_until
from tests.e2e.team_app import TeamApp, accept, invite
from tests.tiny import write_model

pytestmark = pytest.mark.timeout(600)
MODEL, RUN = "tiny-llama", "Sums learned"
PROMPTS = 20


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TeamApp]:
    """A team with a tiny model, a data set, and a run on it that has finished."""
    home = tmp_path_factory.mktemp("rounds")
    write_model(home / "models" / MODEL)
    started = TeamApp(home)
    rows = home / "uploads" / "sums.jsonl"
    turns = [
        [{"role": "user", "content": f"{n} + 1?"}, {"role": "assistant", "content": f"It is {n + 1}."}]
        for n in range(200)
    ]
    rows.write_text("".join(json.dumps({"messages": each}) + "\n" for each in turns))
    source = {"upload": rows.name}
    ended(started, started.client.command("import_dataset", {"name": "Sums", "source": source})["job_id"])
    config = {"name": RUN, "dataset": "Sums", "model": MODEL, "method": "lora", "learning_rate": 1e-3}
    ended(started, started.client.command("launch", config | {"num_train_epochs": 1})["run_id"])
    yield started
    started.stop()


def ended(app: TeamApp, job_id: str) -> None:
    """Wait until a job has finished."""
    wait_until(lambda: job_queue.get_job(app.client, job_id).status not in ALIVE, 240, job_id)
    job = job_queue.get_job(app.client, job_id)
    assert job.status == "finished", job.error


@contextmanager
def in_a_browser(browser: Browser, link: str, name: str, email: str = "") -> Iterator[Page]:
    """A person's own browser, in which the account was made by an invitation."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.set_default_timeout(30_000)
    accept(page, link, name, email)
    yield page
    context.close()


def test_a_team_rates_two_models_blindly_and_trains_on_what_it_prefers(
    app: TeamApp, browser: Browser
) -> None:
    with in_a_browser(browser, app.link, "Ada", "ada@example.org") as admin:
        links = [invite(admin, "rater", f"{name}@example.org") for name in ("bea", "carl")]
        round = start(app, admin)
        with in_a_browser(browser, links[0], "Bea") as bea, in_a_browser(browser, links[1], "Carl") as carl:
            traffic = [Traffic(page) for page in (bea, carl)]
            for page in (bea, carl):
                expect(page.get_by_role("heading", name="Rating", exact=True)).to_be_visible()
                expect(page.get_by_text("Create round")).to_have_count(0)
                page.get_by_role("button", name="Rate", exact=True).click()
            rate(app, bea, round, "Bea", 9)
            bea.reload()
            expect(bea.get_by_text("Page not found")).to_have_count(0)
            rate(app, bea, round, "Bea", PROMPTS)
            rate(app, carl, round, "Carl", PROMPTS)
            for page_traffic in traffic:
                assert page_traffic.naming(MODEL, RUN) == []
                assert len(page_traffic.texts) > PROMPTS
        tasks = ratings.dealt(app.client, round.round_id)
        assert {task.revision for task in tasks if task.answer} == {1}  # nothing lost, nothing twice
        result(app, admin, round)


def start(app: TeamApp, page: Page) -> RoundSummary:
    """From the form: base model against the run, twenty prompts, two people each."""
    page.get_by_role("link", name="Rating").click()
    expect(page.get_by_text("No rating rounds yet")).to_be_visible()
    for model in (f"{RUN}: base model", f"{RUN}: tuned model"):
        page.get_by_role("combobox", name="Models").click()
        page.get_by_role("option", name=model).click()
    page.keyboard.press("Escape")
    page.get_by_role("spinbutton", name="Prompts").fill(str(PROMPTS))
    page.get_by_role("spinbutton", name="Maximum answer length").fill("24")
    page.get_by_role("spinbutton", name="Maximum answer length").press("Enter")
    page.get_by_text("Sample answers").click()
    expect(page.get_by_role("spinbutton", name="Temperature")).to_be_visible()
    page.get_by_role("button", name="Create round").click()
    wait_until(lambda: rounds.list_rounds(app.client), 240, "an open round")
    (round,) = rounds.list_rounds(app.client)
    assert round.created_by_name == "Ada"
    return round


def rate(app: TeamApp, page: Page, round: RoundSummary, name: str, until: int) -> None:
    """Press keys until a person has so many ratings, or there is nothing left for them."""

    def done() -> int:
        own = [t for t in ratings.dealt(app.client, round.round_id) if t.person_name == name]
        return sum(task.answer is not None for task in own)

    expect(page.get_by_role("button", name=re.compile("A is better"))).to_be_visible()
    for _ in range(2 * PROMPTS):
        before = done()
        if before >= until:
            return
        first, second = page.locator(".answer .body").all_inner_texts()
        press(page, "a" if first >= second else "b")  # all of one taste
        wait_until(lambda before=before: done() > before, 20, "a stored rating")
    raise AssertionError(f"{name} has {done()} of {until} ratings")


def result(app: TeamApp, page: Page, round: RoundSummary) -> None:
    """The round is closed; its preferences become a data set and a run, which is compared with its parent."""
    page.goto(f"{app.address}/rating?round={round.round_id}")
    page.get_by_role("button", name="Close round").click()
    expect(page.get_by_text(re.compile("is better than|show no clear difference")).first).to_be_visible()
    expect(page.get_by_text("Bea and Carl agree on")).to_be_visible()
    page.get_by_role("tab", name="Training data").click()
    page.get_by_text("Include ratings of flagged raters").click()  # who press as fast as a test does
    expect(page.get_by_text("ratings of 2 raters.")).to_be_visible()
    page.get_by_role("button", name="Launch a DPO run on it").click()
    page.wait_for_url(re.compile(r"/run\?run="), timeout=120_000)
    tuned = page.url.split("run=")[1]
    ended(app, tuned)
    config = job_queue.get_job(app.client, tuned).config
    (parent,) = [run for run in runs.list_runs(app.client) if run.name == RUN]
    assert (config["task"], config["init_from"], config["parent"]) == (
        "dpo",
        parent.run_id,
        parent.run_id,
    )
    page.goto(f"{app.address}/compare?runs={parent.run_id},{tuned}")
    expect(page.get_by_role("heading", name="Compare", exact=True)).to_be_visible()
    page.goto(f"{app.address}/run?run={parent.run_id}&tab=rating")
    expect(page.get_by_text(round.name).first).to_be_visible()


class Traffic:
    """All that a browser gets and sends from now on, as text."""

    def __init__(self, page: Page) -> None:
        self.texts: list[str] = []
        page.on("response", self._take)
        page.on("request", self._send)
        page.on("websocket", lambda socket: socket.on("framereceived", self._frame))

    def _take(self, response: Response) -> None:
        if "/rating/" in response.url and response.status == 200:
            with suppress(Error):  # a page that was left no longer has what came last
                self.texts.append(response.text())

    def _send(self, request: Request) -> None:
        self.texts.append(request.url + (request.post_data or ""))

    def _frame(self, frame: str | bytes) -> None:
        self.texts.append(frame if isinstance(frame, str) else frame.decode("utf-8", "replace"))

    def naming(self, *names: str) -> list[str]:
        """What holds one of these names."""
        return [text[:200] for text in self.texts if any(name in text for name in names)]
