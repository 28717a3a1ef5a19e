"""A home folder of runs for the plot of gain against forgetting: two sweeps of learning rates on one
data set, and one run of each kind that does not belong on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from store.core.home import Home
from store.db.database import Database, Transaction, utc_now
from store.jobs import job_queue
from tests.pages.seeds.made_once import made_once
from tests.pages.seeds.seed_runs import finished

SWEEPS = (  # method, learning rate, gain, rise of the loss on prose
    ("lora", 1e-4, 0.42, 0.012),
    ("lora", 3e-4, 0.66, 0.03),
    ("lora", 1e-3, 0.8, 0.16),
    ("lora", 3e-3, 0.7, 0.5),
    ("full", 1e-5, 0.4, 0.03),
    ("full", 3e-5, 0.63, 0.1),
    ("full", 1e-4, 0.78, 0.27),
)


@made_once
def seed_costs(path: Path) -> Home:
    """Eight runs on the plot, one of them a change of another; four that are left out; scored shares of one,
    by two jobs, and of one that was deleted."""
    home = Home(path).create()
    database = Database(home.database, [home.datasets, home.jobs])
    try:
        with database.transaction() as tx:
            for method, rate, gain, rise in SWEEPS:
                settings = {"gain": gain, "rise": rise, "method": method, "learning_rate": rate}
                finished(tx, home, f"{method}-{rate:g}", f"{method} at {rate:g}", **settings)
            finished(tx, home, "old", "From before", gain=0.6, learning_rate=2e-4)
            finished(tx, home, "more", "Goes on", gain=0.3, rise=0.1, init_from="lora-0.0001")
            settings = {"gain": 0.45, "rise": 0.05, "learning_rate": 1e-3, "parent": "lora-0.001"}
            finished(tx, home, "replayed", "With replay", replay_share=0.05, **settings)
            mixed(
                tx, "lora-0.003", "mix-a", {0.0: (0, 0), 0.4: (0.55, 0.09), 0.8: (0.74, 0.3), 1.0: (0.7, 0.5)}
            )
            mixed(tx, "lora-0.003", "mix-b", {0.0: (0, 0), 0.2: (0.3, 0.03), 1.0: (0.7, 0.5)})
            mixed(tx, "gone", "mix-c", {0.0: (0, 0), 0.5: (0.2, 0.1), 1.0: (0.3, 0.4)})
            for run_id, task in (("pairs", "dpo"), ("heads", "classification")):
                finished(tx, home, run_id, f"Of {run_id}", gain=0.4, task=task)
    finally:
        database.close()
    return home


def mixed(tx: Transaction, run_id: str, job_id: str, points: dict[float, tuple[float, float]]) -> None:
    """A finished interpolation of a run: share -> gain and rise of the loss on prose."""
    now = utc_now()
    job_queue.insert(
        tx, job_queue.NewJob(job_id=job_id, kind="interpolate", title="Between", at=now.timestamp(),
        config={"run_id": run_id, "alphas": list(points)},
    ))  # fmt: skip
    point_documents = [
        {
            "alpha": alpha, "state": "some", "choices": None, "kl": None,
            "seconds": 40 + 12.5 * alpha if 0 < alpha < 1 else None,
            "gain": _estimate(gain, 200), "text": {"change": _estimate(rise, 120)},
        }
        for alpha, (gain, rise) in points.items()
    ]  # fmt: skip
    job_queue.update(tx, job_id, status="finished", result={"run_id": run_id, "points": point_documents})


def _estimate(value: float, n: int) -> dict[str, Any]:
    return {"value": value, "low": value - 0.01, "high": value + 0.01, "n": n}
