"""Takes the pictures of README and guide of the real app, over a home folder of its own.

    python docs/pictures.py [--port 8599] [--home DIR] [--only NAME …]

Everything that they show is made on the way: a file of Python's own documentation is written and imported
through the form, measured, cleaned by clicks and split; the bundled model is trained on it and evaluated.
A run is registered, exported, served, asked and improved by what is said of its answers. Then sign-in is
turned on, and a team of three starts a rating round, rates by keys and talks to the models.
On two cores that takes about three quarters of an hour. With `--home` the folder stays, and what was
made in it before is not made again: so pictures can be taken anew in a minute.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from urllib.parse import quote

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from playwright.sync_api import Browser, sync_playwright

from docs.photographed.camera import FOLDER, LONG, SHORT, SIZE, Camera, charts, say
from docs.photographed.shipped import Shipping, photograph_shipping
from docs.photographed.team import ADMIN, OWNER, RATERS, Team
from docs.photographed.topics import write_topics
from docs.photographed.work import (
    CLEANED,
    FILE,
    FULL,
    GENTLE,
    OVERFITTED,
    STRONG,
    TUNED_EVALUATION,
    Work,
)
from tests.e2e.started_app import BROWSER_ARGS, App


def of_data(work: Work, camera: Camera) -> None:
    """From the file to a version that is clean and split."""
    dataset_id = work.imported()
    work.measured()
    camera.go(f"/data?dataset={dataset_id}")
    camera.take("data", camera.text("healthy range"))
    camera.tab("Map")
    camera.take("map", charts(camera.page), camera.text("Label errors"))
    cleaned = work.cleaned(dataset_id)
    camera.go(f"/data?dataset={cleaned}")
    camera.tab("Versions")
    camera.take("versions", charts(camera.page))
    work.split(cleaned)
    camera.go(f"/launch?dataset={cleaned}")
    camera.take("launch", camera.text("Optimizer steps"), camera.text("Model input: one"))
    camera.text("Method recommendation").first.click()
    advised = camera.page.locator('[class*="st-key-advice-row-"]')
    camera.take("methods", advised, top=camera.text("Method recommendation"))


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
    camera.take("forgetting", camera.text("Forgetting by checkpoint"), top=bar)
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
    if round.state == "open":
        for name in RATERS:
            say(f"{name} rates")
            team.rate(team.window(name, "rater"), name, round.round_id)
    address = f"/rating?round={round.round_id}"
    if round.state == "open":
        admin.go(address)
        admin.button("Close").click()
        admin.button("Reopen").wait_for(timeout=SHORT * 1000)
    admin.go(address)
    admin.take("round", charts(admin.page), admin.text("Inter-rater agreement"))
    team.talked(admin, run)
    admin.take("playground", admin.page.locator(".figures", has_text="tokens/s").nth(1))


def of_shipping(app: App, work: Work, camera: Camera) -> None:
    """From a run to an endpoint, and from what people say of its answers to the next version."""
    shipping = Shipping(app, work, camera)
    work.checked()
    shipping.registered()
    shipping.exported()
    shipping.promoted()
    shipping.served()
    try:
        shipping.asked()
        shipping.warned()
        shipping.improved()
        photograph_shipping(camera, work.runs()[STRONG])
    finally:
        shipping.stopped()


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
            of_shipping(app, work, camera)
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
