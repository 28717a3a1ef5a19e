"""Memory while people view a run: pages open in a browser beside a run that logs its steps.

    python bench/screens/live_memory.py [--minutes 5] [--pages 4] [--warm-up 1]

Half of the pages show the run, half the overview; both refresh every two seconds. The resident memory of
screens and engine is read every two seconds; the first minute, or `--warm-up` minutes, are excluded, as
the store fills its log before writing it out. A slope is fitted to the means of ten seconds; its 95%
interval is that of least squares, so it ignores slower fluctuations. Limit: 60 MiB an hour at the lower
end; the exit code is 1 if one is missed.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import psutil
from playwright.sync_api import sync_playwright
from scipy import stats

from bench.report import Figure, Section
from bench.screens.first_use import BROWSER
from bench.served import Served, wait_until
from store.core.home import Home
from store.core.job_kinds import ALIVE
from store.http.client import Client
from store.jobs import job_queue
from store.runs import runs
from tests.tiny import write_model
from tunebench.terminal.processes import find_free_port, find_screens_address

MIB_AN_HOUR = 60.0
EVERY, MEAN_OF = 2.0, 5  # seconds between readings; readings per mean
ROWS, EPOCHS = 2_000, 1_000


def launch(home: Home, folder: Path) -> str:
    """Launch a run of a tiny model that takes longer than the bench; return its id once it logs steps."""
    rows = folder / "rows.csv"
    rows.write_text("question,answer\n" + "".join(f"What is {n}?,It is {n}.\n" for n in range(ROWS)))
    write_model(folder / "tiny")
    with closing(Client(home)) as client:
        taken = client.command("import_dataset", {"name": "Rows", "source": {"path": str(rows)}})
        wait_until(lambda: job_queue.get_job(client, taken["job_id"]).status not in ALIVE, "the rows")
        body = {"name": "Long", "dataset": "Rows", "model": str(folder / "tiny"), "num_train_epochs": EPOCHS}
        run_id = str(client.command("launch", body)["run_id"])
        wait_until(lambda: runs.get_run(client, run_id).status == "training", "the run trains")
    return run_id


def readings(pids: Sequence[int], seconds: float) -> np.ndarray:
    """Return the seconds and the MiB of each process, one row per reading."""
    processes = [psutil.Process(pid) for pid in pids]
    began, taken = time.monotonic(), []
    while (at := time.monotonic() - began) < seconds:
        taken.append([at, *(process.memory_info().rss / 2**20 for process in processes)])
        time.sleep(EVERY)
    return np.array(taken)


def slope(seconds: np.ndarray, mib: np.ndarray) -> tuple[float, float]:
    """Return the slope in MiB per hour, and the half width of its 95% interval."""
    whole = len(seconds) // MEAN_OF * MEAN_OF
    hours, means = (part[:whole].reshape(-1, MEAN_OF).mean(axis=1) for part in (seconds / 3600, mib))
    fit = stats.linregress(hours, means)
    return float(fit.slope), float(fit.stderr * stats.t.ppf(0.975, len(hours) - 2))


def measure(folder: Path, minutes: float, pages: int, warm_up: float) -> list[Figure]:
    """Return the slopes, and the memory of the processes at the end."""
    home = Home(folder / "home").create()
    served = Served(home, find_free_port(None))
    try:
        run_id = launch(home, folder)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=BROWSER)
            for number in range(pages):
                page = browser.new_context().new_page()
                page.goto(find_screens_address(home, ("/", f"/run?run={run_id}")[number % 2]))
                page.wait_for_selector('[data-testid="stMain"] h1', timeout=60_000)
            taken = readings((served.screens.pid, served.engine.pid), 60 * minutes)
            browser.close()
        with closing(Client(home)) as client:
            assert runs.get_run(client, run_id).status == "training", "the run ended before the bench"
    finally:
        served.stop()
    figures = []
    counted = taken[taken[:, 0] >= 60 * warm_up]
    for column, name in ((1, "screens"), (2, "engine")):
        mib_an_hour, half = slope(counted[:, 0], counted[:, column])
        figures += [
            Figure(f"{name}: slope", mib_an_hour, "MiB/h"),
            Figure(f"{name}: lower end", mib_an_hour - half, "MiB/h", MIB_AN_HOUR, "≤"),
            Figure(f"{name}: upper end", mib_an_hour + half, "MiB/h"),
            Figure(f"{name}: warmed up", counted[0, column], "MiB"),
            Figure(f"{name}: at the end", counted[-1, column], "MiB"),
        ]
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--pages", type=int, default=4)
    parser.add_argument("--warm-up", type=float, default=1.0, help="minutes that are left out")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="live-memory-", ignore_cleanup_errors=True) as folder:
        figures = measure(Path(folder), options.minutes, options.pages, options.warm_up)
    parts = f"{options.minutes:g} minutes, {options.warm_up:g} of them left out"
    Section(f"{options.pages} live pages, {parts}", figures).show()
    return int(any(figure.missed for figure in figures))


if __name__ == "__main__":
    sys.exit(main())
