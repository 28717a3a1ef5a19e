"""The screen of models: empty, with versions under way, a thousand versions, and the gate's promotion."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pages.registry.registration import REGISTERING
from pages.registry.versions import render_dot
from store.core.home import Home
from store.registry import model_versions, version_facts
from tests.pages.conftest import Open, everything_said
from tests.pages.still_engine import StillEngine, still_engine
from tests.unit.desk import Desk
from tests.unit.registering import finished_run, register

PAGE = "pages/registry/models.py"
REAL = ("promote", "move_back", "set_gate", "describe_model")


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StillEngine]:
    """Two versions of sums, the first in production, whose gate wants a verdict; a thousand of many."""
    desk = Desk(tmp_path_factory.mktemp("shipped"))
    desk.add_dataset()
    finished_run(desk)
    for text in ("one", "two"):
        register(desk, text=text)
    desk("promote", version="sums@1", reason="The first.")
    desk("set_gate", model="sums", gate={"checks": [{"check": "forgetting_under"}]})
    register(desk, name="many", text="many")
    with desk.database.transaction() as tx:
        tx.execute(
            "INSERT INTO model_version SELECT model_id, v.i, source, run_id, base_model, adapter, folder,"
            " fingerprint || v.i, files, notes, created_by, created_by_name, created_at"
            " FROM model_version, range(2, 1001) v(i) WHERE model_id = ?",
            [model_versions.get_model(tx, "many").model_id],
        )
    desk.database.close()
    with still_engine(desk.home, real=REAL) as engine:
        yield engine


def test_an_empty_store_says_what_a_registered_model_is(empty_home: Home, open_page: Open) -> None:
    at = open_page(empty_home, PAGE)
    assert at.title[0].value == "Models"
    assert "No registered models yet" in everything_said(at)
    assert "No finished runs yet" in everything_said(at)


def test_a_registering_says_which_version_it_came_to(tmp_path: Path, open_page: Open) -> None:
    desk = Desk(tmp_path)
    desk.add_dataset()
    finished_run(desk)
    new, again = register(desk, text="one"), register(desk, text="one")
    cases = ((new, "sums@1 is registered."), (again, "sums@1 has the same content already"))
    desk.database.close()
    with still_engine(desk.home) as engine:
        for job_id, sentence in cases:
            at = open_page(engine.home, PAGE)
            at.session_state[REGISTERING] = job_id
            assert sentence in everything_said(at.run())


def test_the_list_names_what_is_in_production(shipped: StillEngine, open_page: Open) -> None:
    text = everything_said(open_page(shipped.home, PAGE))
    assert "Production: version 1" in text
    assert "Nothing in production" in text
    assert "1,000 versions · the newest is not evaluated yet" in text


def test_a_thousand_versions_come_a_page_at_a_time(shipped: StillEngine, open_page: Open) -> None:
    at = open_page(shipped.home, PAGE, model="many")
    assert at.title[0].value == "many@1000"
    assert "20 of 1,000 versions" in everything_said(at)
    assert len(at.dataframe[0].value) == 20


def test_a_model_or_version_that_is_not_there_says_so(shipped: StillEngine, open_page: Open) -> None:
    assert "no registered model 'gone'" in everything_said(open_page(shipped.home, PAGE, model="gone"))
    at = open_page(shipped.home, PAGE, model="sums", version="9")
    assert "no registered model sums@9" in everything_said(at)
    assert at.title[0].value == "sums@1"


def test_what_cant_be_told_is_promoted_by_an_admin_with_a_reason_alone(
    shipped: StillEngine, open_page: Open
) -> None:
    at = open_page(shipped.home, PAGE, model="sums", version="2", tab="gate")
    assert "Inconclusive: Forgetting under a limit" in everything_said(at)
    at.button(key="override-go").click().run()
    assert "reason" in everything_said(at)
    at.text_area(key="override-reason").set_value("It is only a trial.").run()
    at.button(key="override-go").click().run()
    assert not at.exception
    assert "sums@2 is production" in everything_said(at)
    at = open_page(shipped.home, PAGE, model="sums")
    assert at.title[0].value == "sums@2"
    assert "although the gate did not pass" in everything_said(at)
    model_id = model_versions.get_model(shipped.database, "sums").model_id
    at.button(key=f"back-go-{model_id}-production").click().run()
    assert model_versions.alias_standing(shipped.database, model_id, "production") == 1


def test_card_and_lineage_are_drawn_and_the_use_is_written(shipped: StillEngine, open_page: Open) -> None:
    at = open_page(shipped.home, PAGE, model="sums", tab="card")
    assert "No intended use has been written yet" in everything_said(at)
    at = open_page(shipped.home, PAGE, model="sums", tab="lineage")
    assert "Run" in everything_said(at)
    graph = version_facts.lineage(shipped.database, "sums@1")
    graph.nodes[0].title = 'a "quoted" \\ name\n]; evil [label="x"'
    assert '"a \\"quoted\\" / name ]; evil\\n[label=\\"x\\"' in render_dot(graph)


def test_a_gate_is_set_by_the_form(shipped: StillEngine, open_page: Open, tmp_path: Path) -> None:
    at = open_page(shipped.home, PAGE, model="many", tab="gate")
    model_id = model_versions.get_model(shipped.database, "many").model_id
    key = f"gate-{model_id}-production"
    at.selectbox(key=f"{key}-kind").set_value("not_worse_than").run()
    at.button(key=f"{key}-add").click().run()
    at.number_input(key=f"{key}-0-margin").set_value(0.05).run()
    at.button(key=f"{key}-save").click().run()
    assert not at.exception
    line = model_versions.gate(shipped.database, model_id, "production")
    assert line
    check = line.config["checks"][0]
    assert (check["dataset"], check["margin"], check["metric"]) == ("data-D", 0.05, "accuracy")
