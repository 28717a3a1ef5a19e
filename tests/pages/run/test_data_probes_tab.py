"""Data sets as probes on the launch form, and on the Forgetting tab beside prose and questions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from engine.evaluation.verdicts import forgetting
from store.core.errors import StateError
from store.core.home import Home
from store.core.job_folder import JobDir
from store.db.database import Database, Transaction
from store.runs import runs
from tests.pages.conftest import Open, everything_said
from tests.pages.run.run_tabs import charts, on_forgetting
from tests.pages.seeds.seed import seed
from tests.pages.seeds.seed_runs import finished
from tests.pages.still_engine import still_engine
from tests.unit.probe_rows import choices, table, texts


def labels(lost: int) -> list[dict[str, Any]]:
    """As the questions, of the data set "Intents", by label."""
    return [row | {"probe": "data/Intents"} for row in choices(lost, 2, n=200)]


def probed(tx: Transaction, home: Home) -> None:
    """A run that lost much of two data sets."""
    finished(tx, home, "probed", "Probed", gain=0.8, learning_rate=2e-4, rise=0.01)
    base = table(texts(0, noise=0), choices(), texts(0, noise=0, probe="data/Notes", n=30), labels(0))
    tuned = table(texts(0.01), choices(3, 3), texts(0.4, probe="data/Notes", n=30), labels(60))
    forgetting_verdict = forgetting.assess_forgetting(base, tuned, config={})
    run = runs.get_run(tx, "probed")
    runs.update(tx, "probed", verdict=replace(run.verdict, forgetting=forgetting_verdict))
    runs.update(tx, "probed", facts={"probe_datasets": [{"name": "Notes"}, {"name": "Intents"}]})
    folder = JobDir(home.jobs / "probed")
    notes = {
        rise: table(texts(rise, noise=0.05 if rise else 0, probe="data/Notes", n=30))
        for rise in (0, 0.1, 0.3)
    }
    append(folder.probes, notes[0].append_column("model", [["base"] * 30]))
    append(
        folder.live_probes,
        notes[0.1].append_column("step", [[24] * 30]),
        notes[0.3].append_column("step", [[60] * 30]),
    )


def append(path: Path, *tables: pa.Table) -> None:
    """Rows more in a file of probes."""
    existing = pq.read_table(path)
    more = [added.select(existing.column_names).cast(existing.schema) for added in tables]
    pq.write_table(pa.concat_tables([existing, *more]), path)


def test_they_stand_beside_prose_and_questions(tmp_path: Path, open_page: Open) -> None:
    home = seed(tmp_path / "probed", runs=0, sets=1)
    database = Database(home.database, [home.datasets, home.jobs])
    try:
        with database.transaction() as tx:
            probed(tx, home)
    finally:
        database.close()
    with still_engine(home) as engine:
        at = on_forgetting(open_page(engine.home, "pages/runs/run.py", run="probed"))
        numbers = {metric.label: metric for metric in at.metric}
        assert numbers["Loss on Notes"].delta.startswith("+0.39")
        assert numbers["Accuracy on Intents (%)"].delta.endswith("points")
        page_text = everything_said(at)
        assert "30 rows" in page_text
        assert "Of 200 rows of Intents" in page_text
        assert "It forgot much: the loss on Notes rose by 0.39" in page_text
        assert "Notes, against the base model" in charts(at)
        assert "Significantly above 0.2 nats a token on Notes from step 60." in page_text
        at.segmented_control(key="forgetting-choices").set_value("data/Intents").run()
        assert not at.exception
        assert "Rows by label" in everything_said(at)


def test_the_form_takes_several_and_asks_with_them(tmp_path: Path, open_page: Open) -> None:
    asked: list[dict[str, Any]] = []

    async def record(name: str, body: dict[str, Any]) -> dict[str, Any]:
        asked.append(body["config"])
        raise StateError("No preview here.")

    with still_engine(seed(tmp_path / "two", runs=0, sets=2), record) as engine:
        at = open_page(engine.home, "pages/training/launch.py")
        field = at.get_by_key("launch.probe_datasets")
        names = field.options
        assert len(names) == 2
        assert asked[-1]["probe_datasets"] == []
        field.set_value(names)
        at.run()
        assert not at.exception
        assert asked[-1]["probe_datasets"] == names


def test_rows_of_a_probe_have_its_name_in_curves() -> None:
    from pages.shared import display

    assert display.find_quantity("probe/data/My set/loss").title == "Loss on My set"
    assert display.find_quantity("probe/data/a/b/accuracy").title == "Rows of a/b right"
