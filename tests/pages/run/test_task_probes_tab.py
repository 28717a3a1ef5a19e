"""Tasks of lm-evaluation-harness on the launch form, and on the Forgetting tab beside the questions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.evaluation.training_curve.run_curve import VerdictConfig
from engine.evaluation.verdicts import forgetting
from store.core.errors import StateError
from store.core.home import Home
from store.db.database import Database, Transaction
from store.runs import runs
from store.training import setting_conflicts
from tests.pages.conftest import Open, everything_said
from tests.pages.run.run_tabs import on_forgetting
from tests.pages.seeds.seed import seed
from tests.pages.seeds.seed_runs import finished
from tests.pages.still_engine import still_engine
from tests.unit.probe_rows import choices, table, texts


def asked(tx: Transaction, home: Home) -> None:
    """A run that lost much of a task, of which another could not be asked."""
    finished(tx, home, "asked", "Asked", gain=0.8, learning_rate=2e-4, rise=0.01)
    group, single = ({"probe": "task/trivia"}, {"probe": "task/symbols", "category": ""})
    base, tuned = (
        table(
            texts(rise, noise=0),
            choices(),
            [row | group for row in choices(lost, n=200)],
            [row | single for row in choices(lost // 20, n=40)],
        )
        for rise, lost in ((0, 0), (0.01, 60))
    )
    config: VerdictConfig = {"probe_tasks": ["trivia", "symbols", "hub"]}
    forgetting_verdict = forgetting.assess_forgetting(
        base, tuned, config=config, unasked={"hub": "The task hub can't be run: away."}
    )
    runs.update(
        tx, "asked", verdict=replace(runs.get_run(tx, "asked").verdict, forgetting=forgetting_verdict)
    )


def test_they_stand_beside_the_questions(tmp_path: Path, open_page: Open) -> None:
    home = seed(tmp_path / "asked", runs=0, sets=1)
    database = Database(home.database, [home.datasets, home.jobs])
    try:
        with database.transaction() as tx:
            asked(tx, home)
    finally:
        database.close()
    with still_engine(home) as engine:
        at = on_forgetting(open_page(engine.home, "pages/runs/run.py", run="asked"))
        numbers = {metric.label: metric for metric in at.metric}
        assert numbers["Accuracy on trivia (%)"].value == "60.0 → 30.0"
        assert numbers["Accuracy on symbols (%)"].delta.endswith("points")
        page_text = everything_said(at)
        assert "200 items" in page_text
        assert "It forgot much: of 200 items of trivia 60 went from right to wrong" in page_text
        assert "Of 3 tasks 1 was not asked. The task hub can't be run: away." in page_text
        at.segmented_control(key="forgetting-choices").set_value("task/trivia").run()
        assert not at.exception
        assert "Items by task" in everything_said(at)
        at.segmented_control(key="forgetting-choices").set_value("task/symbols").run()
        assert not at.exception
        assert "symbols** has no categories" in everything_said(at)


@pytest.mark.parametrize("there", [True, False])
def test_the_form_asks_with_them_where_they_can_be_asked(
    tmp_path: Path, open_page: Open, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    sent: list[dict[str, Any]] = []

    async def record(name: str, body: dict[str, Any]) -> dict[str, Any]:
        sent.append(body["config"])
        raise StateError("No preview here.")

    monkeypatch.setattr(setting_conflicts, "has_harness", lambda: there)
    with still_engine(seed(tmp_path / "form", runs=0, sets=1), record) as engine:
        at = open_page(engine.home, "pages/training/launch.py")
        fields = [at.get_by_key(f"launch.{name}") for name in ("probe_tasks", "probe_task_rows")]
        assert [field.disabled for field in fields] == [not there] * 2
        assert ("is not installed" in everything_said(at)) is not there
        if there:
            fields[0].set_value("piqa, arc_easy")
            at.run()
            assert not at.exception
            assert sent[-1]["probe_tasks"] == ["piqa", "arc_easy"]
