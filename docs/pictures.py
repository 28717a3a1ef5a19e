"""Takes the pictures of README and guide of the real app, over a home folder of its own.

    python docs/pictures.py [--port 8599] [--home DIR] [--only NAME …]

Everything that they show is made on the way: a file of Python's own documentation is written and imported
through the form, measured, cleaned by clicks and split; the bundled model is trained on it and evaluated.
Then sign-in is turned on, and a team of three starts a rating round, rates by keys and talks to the models.
On two cores that takes about half an hour. With `--home` the folder stays, and what was
made in it before is not made again: so pictures can be taken anew in a minute.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Never
from urllib.parse import quote

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from PIL import Image
from playwright.sync_api import Browser, Locator, Page, sync_playwright

from bench.clicks import SETTLED
from engine.data.readers import python_docs
from store.config.train_config import SAMPLE_DATASET
from store.contract.states import ACTIVE, ALIVE, RESUMABLE
from store.contract.yaml_text import to_yaml
from store.documents.rating.round import RoundLine
from store.queries import conversations, jobs
from store.queries.data import datasets
from store.queries.rating import ratings, rounds
from store.queries.runs import interpolations, runs
from tests.e2e.started_app import BROWSER_ARGS, App, wait_until
from tests.e2e.team_app import accept, sign_in

FOLDER = Path(__file__).parent / "pictures"
SIZE = {"width": 1440, "height": 900}
HEADER = "4.5rem"  # of the window: it lies over what is scrolled under it
MOST_BYTES = 200 * 1024
QUIET_MS = 700  # a page that says nothing new for so long is taken
SHORT, LONG = 300.0, 3600.0  # seconds that a job may take: one of the data, one of a model

TOPICS = {
    "dates": ("datetime", "calendar", "time"),
    "files": ("os", "pathlib", "shutil", "tempfile"),
    "logging": ("logging",),
    "mail": ("email", "mailbox", "smtplib", "imaplib"),
    "numbers": ("decimal", "math", "statistics", "fractions"),
    "xml": ("xml",),
}
INSTRUCTION = "Which part of Python is this about: dates, files, logging, mail, numbers or xml?"
FILE, DATA, CLEANED = "python-topics.csv", "python topics", "python topics v2"
TASK = {"dataset": CLEANED, "task": "sft", "evaluations": 6, "max_new_tokens": 8}
SOME = {**TASK, "max_train_rows": 240, "num_train_epochs": 2}
NEVER_STOPPED = {"evaluations": 10, "early_stopping": False, "load_best_model_at_end": False}
TEN_EPOCHS = {"method": "full", "learning_rate": 1e-4, "num_train_epochs": 10, **NEVER_STOPPED}
STRONG, GENTLE = "LoRA at 1e-3", "LoRA at 2e-4"
FULL, OVERFITTED = "Full on 48 rows, 10 epochs", "Full on 32 rows, 10 epochs"
RUNS: dict[str, dict[str, Any]] = {
    STRONG: {**SOME, "method": "lora", "learning_rate": 1e-3},
    GENTLE: {**SOME, "method": "lora", "learning_rate": 2e-4},
    FULL: {**TASK, **TEN_EPOCHS, "max_train_rows": 48},
    OVERFITTED: {**TEN_EPOCHS, "dataset": SAMPLE_DATASET, "max_train_rows": 32, "max_eval_rows": 100}
    | {"gradient_accumulation_steps": 1, "sample_prompts": 5, "max_new_tokens": 32},
}
BASE_EVALUATION, TUNED_EVALUATION = "Base model on test rows", "LoRA at 1e-3 on the same rows"

OWNER, ADMIN = "Olga", "Ada"  # of the home folder; of the team
PROMPTS, LONGEST_ANSWER = 20, 60  # of the rating round; tokens
SHOWN_WORDS = 20  # that both answers have on the picture of the desk
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


def say(words: str) -> None:
    """What is being done, with the time."""
    print(f"{time.strftime('%H:%M:%S')}  {words}", flush=True)


def write_topics(path: Path) -> Counter[str]:
    """Texts of Python's own documentation with the topic of their module; those that repeat too."""
    script = [sys.executable, "-I", "-S", "-X", "utf8", str(python_docs.__file__)]
    rows = json.loads(
        subprocess.run(script, stdin=subprocess.DEVNULL, capture_output=True, check=True).stdout
    )
    topics = {module: topic for topic, modules in TOPICS.items() for module in modules}
    labelled = [
        (row["completion"], topics[row["module"].partition(".")[0]])
        for row in rows
        if row["module"].partition(".")[0] in topics and row["completion"]
    ]
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *labelled])
    return Counter(topic for _, topic in labelled)


class Camera:
    """A browser window over the app, and the pictures that it takes."""

    def __init__(self, page: Page, app: App, only: list[str]) -> None:
        self.page = page
        self._app = app
        self._only = only

    def go(self, path: str) -> Page:
        """Open a screen."""
        self.page.goto(f"{self._app.address}{path}")
        return self.page

    def tab(self, name: str) -> None:
        """Open a tab of the page."""
        self.page.get_by_role("tab", name=name).first.click()

    def take(self, name: str, *shows: Locator, top: Locator | None = None) -> None:
        """The window as a picture, once `shows` are there and nothing moves; `top` is at its top."""
        if self._only and name not in self._only:
            return
        for locator in shows:
            locator.first.wait_for(timeout=SHORT * 1000)
        self.still()
        top_block = self.page.get_by_test_id("stMainBlockContainer") if top is None else top.first
        top_block.evaluate(f"e => {{ e.style.scrollMarginTop = '{HEADER}'; e.scrollIntoView(); }}")
        self.page.mouse.move(SIZE["width"] - 5, SIZE["height"] - 5)  # where it points at nothing
        self.still()
        path = FOLDER / f"{name}.png"
        self.page.screenshot(path=path)
        with Image.open(path) as picture:
            opaque = picture.convert("RGB")
        opaque.save(path, optimize=True)
        if path.stat().st_size > MOST_BYTES:  # a palette takes colours from small dots
            opaque.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
        say(f"  {path.name}: {path.stat().st_size / 1024:.0f} KiB")

    def still(self) -> None:
        """No part of the page waits for the server, no message lies over it, and nothing changes."""
        for waiting in ("stSpinner", "stSkeleton", "stToast"):
            gone = f"() => !document.querySelector('[data-testid=\"{waiting}\"]')"
            self.page.wait_for_function(gone, timeout=SHORT * 1000)
        self.page.evaluate(SETTLED, ["\0", QUIET_MS])

    def text(self, words: str) -> Locator:
        """Where the page says `words`."""
        return self.page.get_by_text(words)

    def button(self, name: str) -> Locator:
        """The button with that name."""
        return self.page.get_by_role("button", name=name)


class Work:
    """What the pictures show, made by the app; what there is of it already is left as it is."""

    def __init__(self, app: App, camera: Camera, file: Path) -> None:
        self._app = app
        self._camera = camera
        self._file = file

    def dataset(self, name: str) -> str | None:
        """The id of a data set, None where there is none of that name."""
        imported = datasets.list_datasets(self._app.client)
        return next((row["dataset_id"] for row in imported if row["name"] == name), None)

    def runs(self) -> dict[str, str]:
        """name -> id of the runs."""
        rows = self._app.client.query("SELECT name, run_id FROM run_overview").to_pylist()
        return {row["name"]: row["run_id"] for row in rows}

    def evaluations(self) -> dict[str, str]:
        """name -> id of the evaluations that were made."""
        rows = self._app.client.query("SELECT name, evaluation_id FROM evaluation").to_pylist()
        return {row["name"]: row["evaluation_id"] for row in rows}

    def finished(self, seconds: float, what: str) -> None:
        """Wait until no job is left, and none failed. No page is open meanwhile: it would take a core."""
        self._camera.page.goto("about:blank")
        wait_until(lambda: not jobs.with_status(self._app.client, ALIVE), seconds, what)
        if failed := jobs.with_status(self._app.client, ("failed", "lost")):
            raise SystemExit(f"{failed[0]['title']}: {failed[0]['error']}")

    def resumed(self) -> None:
        """Runs that an earlier start of this script left, from their last checkpoint."""
        for job in jobs.with_status(self._app.client, RESUMABLE):
            say(f"Resuming {job['title']}")
            self._app.client.command("resume", {"job": job["job_id"]})

    def imported(self) -> str:
        """The file, through the form."""
        camera = self._camera
        page = camera.go("/data?view=import")
        page.locator("input[type=file]").set_input_files(self._file)
        box = page.locator('input[aria-label="Instruction before each text"]')
        box.fill(INSTRUCTION, timeout=SHORT * 1000)
        box.press("Enter")
        name = page.locator('input[aria-label="Name"]')
        name.fill(DATA)
        name.press("Enter")
        recognised = camera.text("Recognised as")
        camera.take("import", page.get_by_text(INSTRUCTION), top=recognised)
        if self.dataset(DATA) is None:
            say("Importing the file")
            camera.button("Import").last.click()
            camera.button("See what is in it").wait_for(timeout=SHORT * 1000)
            self.finished(SHORT, "what an import measures")
        return self.dataset(DATA) or missing(DATA)

    def measured(self) -> None:
        """Labels and map too, which are measured when asked for."""
        say("Measuring labels, map and tokens")
        groups = ("labels", "map", "tokens")
        self._app.cli("data", "profile", DATA, *(part for group in groups for part in ("--group", group)))

    def cleaned(self, dataset_id: str) -> str:
        """A new version by the first fix of every finding, on the tab Clean."""
        camera = self._camera
        page = camera.go(f"/data?dataset={dataset_id}")
        camera.tab("Clean")
        cards = page.locator('[class*="st-key-finding-"]')
        cards.first.wait_for(timeout=SHORT * 1000)
        camera.still()
        for place in range(cards.count()):  # the least serious first: exact duplicates before near ones
            cards.nth(-1 - place).locator('[class*="st-key-fix-"] button').first.click()
            page.locator(f'[class*="st-key-step-{dataset_id}-{place}"]').first.wait_for()
        made = camera.button("Make version")
        camera.take("clean", made, camera.text("What would become of the rows"))
        if self.dataset(CLEANED) is None:
            say("Making a cleaned version")
            made.click()
            camera.button("Open the new version").wait_for(timeout=SHORT * 1000)
            self.finished(SHORT, "what a new version measures")
        return self.dataset(CLEANED) or missing(CLEANED)

    def split(self, dataset_id: str) -> None:
        """More test rows, on the tab Split."""
        camera = self._camera
        page = camera.go(f"/data?dataset={dataset_id}")
        camera.tab("Split")
        box = page.locator('input[aria-label="Test %"]')
        box.fill("20", timeout=SHORT * 1000)
        box.press("Enter")
        save = camera.button("Save this split")
        camera.still()
        if save.is_enabled():
            save.click()
            camera.text("The split is saved").first.wait_for()
        camera.take("split", save)

    def launched(self) -> None:
        """Every run in the queue."""
        for name, fields in RUNS.items():
            if name in self.runs():
                continue
            say(f"Launching {name}")
            file = self._file.with_suffix(".yaml")
            file.write_text(to_yaml({"name": name, **fields}))
            self._app.cli("launch", str(file), "--json")

    def watched(self) -> None:
        """The first run, while it learns."""
        run_id = self.runs()[STRONG]

        def learns() -> bool:
            run = runs.get_run(self._app.client, run_id)
            return run["status"] not in ALIVE or (run["best_step"] or 0) >= 15

        wait_until(learns, LONG, "half of a training")
        if self._app.status(run_id) in ACTIVE:
            self._camera.go(f"/run?run={run_id}")
            self._camera.take("watch", self._camera.text("Tokens a second"), charts(self._camera.page))

    def evaluated(self) -> None:
        """Base and tuned model on the same rows that neither was trained on."""
        common = ("--dataset", CLEANED, "--part", "test", "--max-rows", "100", "--json", "--no-wait")
        if BASE_EVALUATION not in self.evaluations():
            say("Evaluating the base model")
            model = ("--model", "SmolLM2-135M-Instruct")
            self._app.cli("evaluate", *model, *common, "--name", BASE_EVALUATION)
            self.finished(LONG, "the evaluation of the base model")
        if TUNED_EVALUATION not in self.evaluations():
            say("Evaluating a run")
            same = ("--rows-of", self.evaluations()[BASE_EVALUATION], "--json", "--no-wait")
            self._app.cli("evaluate", "--run", self.runs()[STRONG], *same, "--name", TUNED_EVALUATION)
            self.finished(LONG, "the evaluation of the run")

    def mixed(self) -> None:
        """Some models between a run's base and its own."""
        run_id = self.runs()[STRONG]
        if run_id not in interpolations.mixed(self._app.client):
            say("Scoring models between base and tuned")
            self._app.cli("interpolate", run_id, "--alphas", "0.3,0.6", "--no-wait", "--json")
            self.finished(LONG, "models between base and tuned")


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

    def round(self, run: str) -> RoundLine | None:
        """The round in which a run was held against its base; None where there is none yet."""
        rated = rounds.of_run(self._app.client, runs.one_run(self._app.client, run)["run_id"])
        return rated[0] if rated else None

    def started(self, camera: Camera, run: str) -> RoundLine:
        """A round by the form, once its answers are there."""
        if made := self.round(run):
            return made
        say("Starting a rating round")
        page = camera.go("/rating")
        expander = camera.text("Start a round").first
        expander.wait_for(timeout=SHORT * 1000)
        camera.still()
        models = page.get_by_role("combobox", name="Models")
        if not models.is_visible():
            expander.click()
        for checkpoint in ("base", "tuned"):
            models.click()
            page.get_by_role("option", name=f"{run}: {checkpoint} model").click()
        page.keyboard.press("Escape")
        for field, number in (("Prompts", PROMPTS), ("Longest answer", LONGEST_ANSWER)):
            box = page.get_by_role("spinbutton", name=field)
            box.fill(str(number))
            box.press("Enter")
            camera.still()
        camera.button("Start the round").click()
        wait_until(lambda: self.round(run), LONG, "a rating round")
        return self.round(run) or missing(run)

    def rate(self, camera: Camera, name: str, round_id: str) -> None:
        """All that a person is given in the round; of one the desk is taken, at a pair of long answers."""
        page = camera.page
        bodies = page.locator(".answer .body")
        camera.go(f"/rating?round={round_id}")
        bodies.or_(camera.text("All rated")).first.wait_for(timeout=SHORT * 1000)
        taken = False
        while bodies.count():
            reference = page.locator(".reference").first.text_content() or ""
            pair = Pair(*bodies.all_inner_texts(), reference)
            before = self._rated(name, round_id)
            long = min(len(pair.first.split()), len(pair.second.split())) >= SHOWN_WORDS
            if name == SHOWN_RATER and before > 1 and long and not taken:
                camera.take("rating", camera.button("A is better"))
                taken = True
            page.keyboard.press(RATERS[name](pair))
            wait_until(lambda before=before: self._rated(name, round_id) > before, SHORT, "a rating")
            camera.still()

    def _rated(self, name: str, round_id: str) -> int:
        """How many ratings of a person are stored."""
        tasks = ratings.dealt(self._app.client, round_id)
        return sum(task["person_name"] == name and task["answer"] is not None for task in tasks)

    def talked(self, camera: Camera) -> None:
        """A question to the newest run and its base, on the playground."""
        asked = [line for line in conversations.conversations(self._app.client) if line["title"] == QUESTION]
        if asked:
            camera.go(f"/playground?conversation={asked[0]['conversation_id']}")
        else:
            say("Talking to a run and its base")
            box = camera.go("/playground").get_by_label("What do you say?")
            box.wait_for(timeout=SHORT * 1000)
            camera.still()
            box.fill(QUESTION)
            box.press("Enter")
            camera.page.wait_for_url(re.compile("turn="), timeout=SHORT * 1000)
            box.blur()


def missing(name: str) -> Never:
    """Ends it all: what was to be made is not there."""
    raise SystemExit(f"There is no {name}.")


def charts(page: Page) -> Locator:
    """Charts that are drawn."""
    return page.locator(".js-plotly-plot .main-svg")


def of_data(work: Work, camera: Camera) -> None:
    """From the file to a version that is clean and split."""
    dataset_id = work.imported()
    work.measured()
    camera.go(f"/data?dataset={dataset_id}")
    camera.take("data", camera.text("healthy band"))
    camera.tab("Map")
    camera.take("map", charts(camera.page), camera.text("Are the labels right?"))
    cleaned = work.cleaned(dataset_id)
    camera.go(f"/data?dataset={cleaned}")
    camera.tab("Versions")
    camera.take("versions", charts(camera.page))
    work.split(cleaned)
    camera.go(f"/launch?dataset={cleaned}")
    camera.take("launch", camera.text("Optimiser steps"), camera.text("One row as the model will see it"))
    camera.text("Which method?").first.click()
    advised = camera.page.locator('[class*="st-key-advice-row-"]')
    camera.take("methods", advised, top=camera.text("Which method?"))


def of_runs(work: Work, camera: Camera) -> None:
    """From the launch to what can be said of the runs."""
    work.launched()
    work.watched()
    work.finished(LONG, "all runs")
    work.evaluated()
    work.mixed()
    run_ids = work.runs()
    page, bar = camera.page, camera.page.get_by_role("tablist")
    camera.go(f"/run?run={run_ids[STRONG]}")
    camera.take("verdict", camera.text("Held-out loss"), charts(page))
    camera.go(f"/run?run={run_ids[OVERFITTED]}&tab=overfitting")
    camera.take("overfitting", charts(page), top=bar)
    camera.go(f"/run?run={run_ids[STRONG]}&tab=forgetting")
    camera.take("forgetting", camera.text("What was forgotten when"), top=bar)
    camera.go(f"/run?run={run_ids[STRONG]}&tab=between")
    camera.take("between", charts(page), top=bar)
    chosen = ",".join(run_ids[name] for name in (STRONG, GENTLE, FULL))
    camera.go(f"/compare?runs={chosen}")
    camera.take("compare", charts(page))
    camera.go(f"/compare?tab=cost&run={run_ids[STRONG]}&dataset={quote(CLEANED)}")
    camera.take("cost", charts(page))
    camera.go(f"/evaluations?evaluation={work.evaluations()[TUNED_EVALUATION]}")
    against = page.get_by_text("Against", exact=True)
    camera.take("evaluate", against, camera.text("Rows that differ most in"), top=against)
    camera.go("/")
    camera.take("overview", camera.text("Best validation loss"))


def of_people(app: App, browser: Browser, only: list[str], run: str) -> None:
    """A run and its base, rated by a team that does not know which is which."""
    team = Team(app, browser, only)
    admin = team.window(ADMIN, "admin")
    round = team.started(admin, run)
    if round["state"] == "open":
        for name in RATERS:
            say(f"{name} rates")
            team.rate(team.window(name, "rater"), name, round["round_id"])
    address = f"/rating?round={round['round_id']}"
    if round["state"] == "open":
        admin.go(address)
        admin.button("Close").click()
        admin.button("Open again").wait_for(timeout=SHORT * 1000)
    admin.go(address)
    admin.take("round", charts(admin.page), admin.text("Do people agree?"))
    team.talked(admin)
    admin.take("playground", admin.page.locator(".figures", has_text="tokens/s").nth(1))


def photograph(home: Path, port: int, only: list[str]) -> None:
    """Start the app, do the work, take the pictures, and end the app."""
    FOLDER.mkdir(exist_ok=True)
    say(f"Starting the app in {home}")
    app = App(home, port)
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=BROWSER_ARGS)
            page = browser.new_context(viewport=SIZE, device_scale_factor=1).new_page()
            app.client.command("set_team", {"on": False})  # an earlier start of this script turned it on
            app.cli("me", "--name", OWNER, "--json")
            app.open(page)
            camera = Camera(page, app, only)
            work = Work(app, camera, home / FILE)
            say(f"Wrote {FILE}: {dict(write_topics(home / FILE))}")
            work.resumed()
            work.finished(LONG, "the bundled model and the built-in data set")
            of_data(work, camera)
            of_runs(work, camera)
            of_people(app, browser, only, OVERFITTED)
            browser.close()
    finally:
        app.stop()
        say("The app has ended")


def main() -> None:
    """All pictures, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--port", type=int, default=8599)
    parser.add_argument("--home", type=Path, help="keep the home folder here, and what was made in it before")
    parser.add_argument("--only", nargs="*", default=[], help="pictures to take; all where left out")
    arguments = parser.parse_args()
    os.environ.pop("TUNEBENCH_NO_SAMPLE", None)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("Ended from outside"))
    home = arguments.home or Path(tempfile.mkdtemp(prefix="pictures-"))
    try:
        photograph(home, arguments.port, arguments.only)
    finally:
        if arguments.home is None:
            shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()
