"""People with accounts who rate a round, each by a rule of their own, and talk to the models."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from playwright.sync_api import Browser

from docs.photographed.camera import LONG, SHORT, SIZE, Camera, missing, say
from store.core.rating_schemas import RoundSummary
from store.playground import conversations
from store.rating import ratings, rounds
from store.runs import runs
from store.training.train_config import BUNDLED_MODEL, SAMPLE_DATASET
from tests.e2e.rating_server import press
from tests.e2e.started_app import App, wait_until
from tests.e2e.team_app import accept, sign_in

OWNER, ADMIN = "Olga", "Ada"  # of the home folder; of the team
PROMPTS, LONGEST_ANSWER = 20, 60  # of the rating round; tokens
READING_MS = 2_500  # a pair; raters faster than two seconds are flagged
SHOWN_WORDS = 6  # that both answers have at least on the picture of the desk
QUESTION = "List three fruits and their colours."


class Pair(NamedTuple):
    """What a rater has in view."""

    first: str
    second: str
    reference: str


def shorter(pair: Pair) -> str:
    """The key of a rater who likes it short."""
    return preferred(-len(pair.first.split()), -len(pair.second.split()))


def truer(pair: Pair) -> str:
    """The key of a rater who goes by how much of an answer stands in the reference too."""
    right_words = words(pair.reference)
    shares = [len(words(text) & right_words) / max(1, len(words(text))) for text in (pair.first, pair.second)]
    return preferred(*shares)


def words(text: str) -> set[str]:
    """The words of a text."""
    return set(re.findall(r"\w+", text.lower()))


def preferred(first: float, second: float) -> str:
    """The key for the better of two."""
    return "t" if first == second else "a" if first > second else "b"


RATERS: dict[str, Callable[[Pair], str]] = {"Bea": truer, "Carl": shorter}
SHOWN_RATER = "Carl"


class Team:
    """People with accounts, each in a window of their own, and what they do together."""

    def __init__(self, app: App, browser: Browser, only: list[str]) -> None:
        self._app = app
        self._browser = browser
        self._only = only
        app.client.command("set_team", {"on": True})

    def window(self, name: str, role: str) -> Camera:
        """That of a person, signed in; by an invitation where there is no such account yet."""
        page = self._browser.new_context(viewport=SIZE, device_scale_factor=1).new_page()
        email = f"{name.lower()}@example.org"
        members = self._app.cli("team", "list", "--json")["members"]
        if any(member["email"] == email for member in members):
            page.goto(self._app.address)
            sign_in(page, email)
            page.get_by_role("link", name="Sign out").wait_for()
        else:
            invited = self._app.cli("team", "invite", "--role", role, "--email", email, "--json")
            accept(page, invited["link"], name)
        return Camera(page, self._app, self._only)

    def round(self, run: str) -> RoundSummary | None:
        """The round in which a run was held against its base; None where there is none yet."""
        rated = rounds.of_run(self._app.client, runs.get_run(self._app.client, run).run_id)
        return rated[0] if rated else None

    def started(self, camera: Camera, run: str) -> RoundSummary:
        """A round by the form, once its answers are there."""
        if made := self.round(run):
            return made
        say("Starting a rating round")
        page = camera.go("/rating")
        expander = camera.text("Create round").first
        expander.wait_for(timeout=SHORT * 1000)
        camera.still()
        models = page.get_by_role("combobox", name="Models")
        if not models.is_visible():
            expander.click()
        page.get_by_role("combobox", name="Prompts of the data set").click()
        page.get_by_role("option", name=SAMPLE_DATASET).click()
        camera.still()
        for checkpoint in ("base", "tuned"):
            models.click()
            page.get_by_role("option", name=f"{run}: {checkpoint} model").click()
        page.keyboard.press("Escape")
        for field, number in (("Prompts", PROMPTS), ("Maximum answer length", LONGEST_ANSWER)):
            box = page.get_by_role("spinbutton", name=field)
            box.fill(str(number))
            box.press("Enter")
            camera.still()
        camera.button("Create round").click()
        wait_until(lambda: self.round(run), LONG, "a rating round")
        return self.round(run) or missing(run)

    def rate(self, camera: Camera, name: str, round_id: str) -> None:
        """All that a person is given in the round; of one the desk is taken, at a pair of sentences."""
        page = camera.page
        bodies = page.locator(".answer .body")
        camera.go(f"/rating?round={round_id}")
        bodies.or_(camera.text("You rated all items")).first.wait_for(timeout=SHORT * 1000)
        taken = False
        while bodies.count():
            reference = page.locator(".reference").first.text_content() or ""
            first, second = bodies.all_inner_texts()
            pair = Pair(first, second, reference)
            before = self._rated(name, round_id)
            long = min(len(pair.first.split()), len(pair.second.split())) >= SHOWN_WORDS
            if name == SHOWN_RATER and before > 1 and long and not taken:
                camera.take("rating", camera.button("A is better"))
                taken = True
            page.wait_for_timeout(READING_MS)
            press(page, RATERS[name](pair))
            wait_until(partial(self._has_rated, name, round_id, before + 1), SHORT, "a rating")
            camera.still()

    def _has_rated(self, name: str, round_id: str, count: int) -> bool:
        return self._rated(name, round_id) >= count

    def _rated(self, name: str, round_id: str) -> int:
        """How many ratings of a person are stored."""
        tasks = ratings.dealt(self._app.client, round_id)
        return sum(task.person_name == name and task.answer is not None for task in tasks)

    def talked(self, camera: Camera, run: str) -> None:
        """A question to a run and its base, on the playground."""
        asked = [line for line in conversations.conversations(self._app.client) if line.title == QUESTION]
        if asked:
            camera.go(f"/playground?conversation={asked[0].conversation_id}")
        else:
            say("Talking to a run and its base")
            box = camera.go("/playground").get_by_role("textbox", name="Message", exact=True)
            box.wait_for(timeout=SHORT * 1000)
            camera.still()
            camera.page.get_by_role("button", name="Clear all").first.click()
            for model in (BUNDLED_MODEL, run):
                camera.page.get_by_role("combobox", name="Models").click()
                camera.page.get_by_role("option", name=model, exact=True).click()
            camera.page.keyboard.press("Escape")
            camera.still()
            box.fill(QUESTION)
            box.press("Enter")
            camera.page.wait_for_url(re.compile("turn="), timeout=SHORT * 1000)
            box.blur()
