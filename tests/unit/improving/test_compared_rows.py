"""With which rows beside the run's own new ones are compared."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.server.scheduling import gather_orders
from store.config.serving.monitor_config import MonitorSettings
from store.db.records import to_json
from store.queries import jobs
from store.queries.monitoring import monitors
from tests.unit.improving.chained import Chained
from tests.unit.registering import finished_run


@pytest.fixture
def chained(tmp_path: Path) -> Iterator[Chained]:
    made = Chained(tmp_path / "home")
    yield made
    made.database.close()


def compared(chained: Chained, improvement_id: str) -> set[tuple[str, str, str]]:
    """Why, rows and part."""
    chained.improving.step(chained.desk.clock())
    job = jobs.get_job(chained.database, chained.get(improvement_id)["facts"]["gather_job"])
    order: Any = gather_orders.of_gather(chained.database, job)
    return {(each["why"], each["fingerprint"], each["part"]) for each in order["beside"]}


def test_rows_that_judged_an_earlier_improvement(chained: Chained) -> None:
    first = chained.begin()
    assert compared(chained, first) == set()
    gathered = chained.get(first)["facts"]["gather_job"]
    chained.end_jobs()
    chained.improving.step(chained.desk.clock())
    with chained.database.transaction() as tx:
        tx.execute("UPDATE improvement SET state = 'failed' WHERE improvement_id = ?", [first])
    second = chained.begin()
    assert compared(chained, second) == {("judge", f"rows-{gathered}", "test")}
    with chained.database.transaction() as tx:  # before anything was judged by them
        tx.execute("UPDATE improvement SET state = 'stopped' WHERE improvement_id = ?", [first])
    assert compared(chained, second) == set()


def test_golden_sets_probes_what_was_replayed_and_what_trained_before(chained: Chained) -> None:
    improvement_id = chained.begin()
    names = ("Golden", "Watched", "Probe", "General", "Before")
    for name in names:
        chained.desk.add_dataset(name=name, fingerprint=f"of-{name}")
    check = {"check": "not_worse_than", "dataset": "Golden", "metric": "chrf", "part": "validation"}
    chained.desk("set_gate", model="sums", alias="production", gate={"checks": [check]})
    golden = {"evaluate": {"model": "any", "dataset": "Watched", "metrics": ["chrf"]}}
    run_id = chained.get(improvement_id)["config"]["run"]
    finished_run(chained.desk, "run-0")
    with chained.database.transaction() as tx:
        monitors.configure(
            tx, "endpoint-1", MonitorSettings.parse({"golden": golden}), "you", jobs.utc(chained.desk.clock())
        )
        config = {
            **{"probe_datasets": ["Probe", "Gone"], "init_from": "run-0"},
            **{"replay_share": 0.1, "replay_dataset": "data-General"},
        }
        tx.execute("UPDATE run SET dataset_id = 'data-Before' WHERE run_id = 'run-0'")
        tx.execute("UPDATE run SET config = ? WHERE run_id = ?", [to_json(config), run_id])
    assert compared(chained, improvement_id) == {
        ("judge", "of-Golden", "validation"),
        ("judge", "of-Watched", "test"),
        ("judge", "of-Probe", "all"),
        ("train", "of-General", "all"),
        ("train", "of-Before", "all"),
    }
