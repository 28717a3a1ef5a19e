"""A home folder of runs for the plot of gain against forgetting: two sweeps of learning rates on one
data set, and one run of each kind that does not belong on it."""

from __future__ import annotations

from pathlib import Path

from store.database import Database
from store.home import Home
from tests.pages.seed_runs import finished

SWEEPS = (  # method, learning rate, gain, rise of the loss on prose
    ("lora", 1e-4, 0.42, 0.012),
    ("lora", 3e-4, 0.66, 0.03),
    ("lora", 1e-3, 0.8, 0.16),
    ("lora", 3e-3, 0.7, 0.5),
    ("full", 1e-5, 0.4, 0.03),
    ("full", 3e-5, 0.63, 0.1),
    ("full", 1e-4, 0.78, 0.27),
)


def seed_costs(path: Path) -> Home:
    """Seven runs on the plot, and four that are left out of it."""
    home = Home(path).create()
    database = Database(home.database, [home.datasets, home.jobs])
    try:
        with database.transaction() as tx:
            for method, rate, gain, rise in SWEEPS:
                settings = {"gain": gain, "rise": rise, "method": method, "learning_rate": rate}
                finished(tx, home, f"{method}-{rate:g}", f"{method} at {rate:g}", **settings)
            finished(tx, home, "old", "From before", gain=0.6, learning_rate=2e-4)
            finished(tx, home, "more", "Goes on", gain=0.3, rise=0.1, init_from="lora-0.0001")
            for run_id, task in (("pairs", "dpo"), ("heads", "classification")):
                finished(tx, home, run_id, f"Of {run_id}", gain=0.4, task=task)
    finally:
        database.close()
    return home
