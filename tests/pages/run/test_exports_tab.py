"""The exports on a run's page: none yet, several side by side, one that failed, and asking for another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from store.core.documents import as_json
from store.core.export_schemas import ExportSpec, ModelVerifyResult, RenderingExample
from store.export import exports
from store.export.config import ModelExport
from store.jobs import job_queue
from store.runs import runs
from tests.export_samples import export_result, parity_report, run_card
from tests.pages.conftest import Open, everything_said
from tests.pages.run.run_tabs import on_tab
from tests.pages.seeds.seed_evaluations import seed_evaluations
from tests.pages.still_engine import StillEngine, still_engine

PAGE = "pages/runs/run.py"


@pytest.fixture
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StillEngine]:
    with still_engine(seed_evaluations(tmp_path_factory.mktemp("exports"))) as engine:
        yield engine


def add_export(engine: StillEngine, form: str, at: float, **changes: Any) -> None:
    """To the run "judged"."""
    with engine.database.transaction() as tx:
        run = runs.get_run(tx, "judged")
        config = {"subject": "judged", "form": form, "checkpoint": "tuned"}
        job_queue.insert(
            tx, job_queue.NewJob(job_id=f"x-{form}", kind=exports.KIND, title=form, config=config, at=at)
        )
        spec = ExportSpec(run_id="judged", run_name=run.name, version=None, card=run_card(run.name))
        result = export_result(form, **changes)
        exports.insert(tx, job_queue.get_job(tx, f"x-{form}"), spec, result, at)
        job_queue.claim(tx, f"x-{form}", "cpu", at)
        job_queue.finish(tx, f"x-{form}", "finished", at)
    (engine.home.path / result.folder).mkdir(parents=True, exist_ok=True)


def tab_of(engine: StillEngine, open_page: Open, run: str = "judged") -> AppTest:
    return on_tab(open_page(engine.home, PAGE, run=run), "export")


def test_without_exports_it_says_what_one_is_and_asks_for_one(engine: StillEngine, open_page: Open) -> None:
    at = tab_of(engine, open_page)
    assert "No exports yet" in everything_said(at)
    assert at.selectbox(key="export-form").value == "gguf-q8_0"
    at.selectbox(key="export-form").set_value("ollama").run()
    assert at.selectbox(key="export-gguf").value == "gguf-q8_0"
    at.toggle(key="export-zip").set_value(True).run()
    next(button for button in at.button if button.label == "Export").click().run()
    assert not at.exception
    (name, body), *more = engine.sent
    assert (name, more) == ("export_model", [])
    sent = ModelExport.parse(body)
    assert (sent.subject, sent.form, sent.gguf) == ("judged", "ollama", "gguf-q8_0")
    assert (sent.dataset, sent.max_rows, sent.zip, sent.hub) == ("", 150, True, "")


def test_forms_stand_side_by_side_with_what_each_costs(engine: StillEngine, open_page: Open) -> None:
    add_export(engine, "gguf-f16", 1.0, model_bytes=269_000_000)
    add_export(engine, "gguf-q8_0", 2.0)
    failed = parity_report(
        "failed",
        reasons=["The chat template renders 112 of 112 prompts differently. First in row 3, at position 20."],
        mean_kl=None,
        rendering=replace(
            parity_report().rendering,
            other_bytes=112,
            example=RenderingExample(row_id=3, place=20, expected="assistant", present="Assistant"),
        ),
    )
    add_export(engine, "merged", 3.0, parity=failed)
    at = tab_of(engine, open_page)
    assert any("Recommended\\: GGUF Q8\\_0\\: 53% of the size" in head.value for head in at.subheader)
    table = at.dataframe[0].value
    assert table["Format"].tolist() == ["Merged", "GGUF Q8_0", "GGUF F16"]
    assert table["Parity"].tolist() == ["Failed", "Passed", "Passed"]
    assert table["KL (nats a token)"].tolist()[1] == "0.0080 (0.0060 to 0.0100)"
    assert table["Top-1 agreement (%)"].tolist()[1] == "97.5 (96.5 to 98.5)"
    page_text = everything_said(at)
    assert "renders 112 of 112 prompts differently" in page_text
    assert [code.value for code in at.code][:2] == ["assistant", "Assistant"]
    assert str(engine.home.exports / "Run-merged") in [code.value for code in at.code]
    at.button(key="export-delete-x-merged").click().run()
    assert engine.sent == [("delete_export", {"export": "x-merged"})]


def test_figures_have_the_digits_of_their_intervals_and_reasons_have_room(
    engine: StillEngine, open_page: Open
) -> None:
    sure = replace(parity_report().figures[0], detectable=0.143712)
    why = "the class xml has 6 rows, and 20 are needed"
    unsure = replace(sure, metric="eval/f1_macro", value=-0.03, low=None, high=None, detectable=None, why=why)
    add_export(engine, "gguf-q8_0", 1.0, parity=parity_report(figures=[sure, unsure]))
    at = tab_of(engine, open_page)
    table = at.dataframe[1].value
    assert table["Change"].tolist() == ["+0.02 (−0.05 to 0.09)", "−0.03 (no interval)"]
    assert table["Detectable change"].tolist() == ["0.14", "–"]
    assert f"f1 macro has no interval: {why}." in everything_said(at).replace("\\", "")


def test_work_in_progress_and_a_bad_end_are_shown(engine: StillEngine, open_page: Open) -> None:
    with engine.database.transaction() as tx:
        for name, at in (("x-bad", 5.0), ("x-live", 6.0), ("x-next", 7.0)):
            config = {"subject": "judged", "form": "merged"}
            job_queue.insert(
                tx, job_queue.NewJob(job_id=name, kind=exports.KIND, title=name, config=config, at=at)
            )
            if name != "x-next":
                job_queue.claim(tx, name, "cpu", at)
        error: Any = {"error": "DataError", "message": "The export needs about 2.0 GiB.", "fix": "Free some."}
        job_queue.finish(tx, "x-bad", "failed", 5.5, error=error)
        job_queue.update(
            tx, "x-live", progress_message="Converting to GGUF", progress_done=3, progress_total=9
        )
    at = tab_of(engine, open_page)
    assert "Converting to GGUF" in everything_said(at)
    at.button(key="export-cancel-x-next").click().run()  # two at a time don't stand in each other's way
    assert engine.sent == [("cancel", {"job": "x-next"})]
    with engine.database.transaction() as tx:
        job_queue.delete(tx, "x-live")
        job_queue.delete(tx, "x-next")
    assert "The export needs about 2.0 GiB." in everything_said(tab_of(engine, open_page))


def add_check(engine: StillEngine, export: str, at: float, **parity: Any) -> None:
    """A check of an export of the run "judged" that has ended."""
    with engine.database.transaction() as tx:
        new = job_queue.NewJob(
            job_id="v-1", kind=exports.VERIFY, title="Merged", config={"export": export}, at=at
        )
        job_queue.insert(tx, new)
        job_queue.claim(tx, "v-1", "cpu", at)
        result = ModelVerifyResult(
            form="merged", path="/somewhere", subject="judged", notices=[], seconds=2.0,
            parity=parity_report(**parity),
        )  # fmt: skip
        job_queue.finish(tx, "v-1", "finished", at + 2, result=as_json(result))


def test_an_export_is_verified_again_as_it_lies_there(engine: StillEngine, open_page: Open) -> None:
    add_export(engine, "merged", 2_000.0)
    at = tab_of(engine, open_page)
    at.button(key="export-verify-x-merged").click().run()
    assert engine.sent == [
        ("verify_model", {"export": "x-merged", "subject": "judged", "checkpoint": "tuned"})
    ]


def test_what_came_of_verifying_stands_below_the_export(engine: StillEngine, open_page: Open) -> None:
    add_export(engine, "merged", 2_000.0)
    cause = "config.json: rms_norm_eps is 0.001 in the export, 1e-06 in the model."
    add_check(engine, "x-merged", 3_000.0, status="failed", reasons=[cause], prompts=0)
    shown_text = everything_said(tab_of(engine, open_page))
    assert "it does not match the model (files compared; the model was not loaded)" in shown_text
    assert "rms" in shown_text
    assert "0.001 in the export" in shown_text


def test_the_form_says_how_many_rows_a_pass_needs(engine: StillEngine, open_page: Open) -> None:
    at = tab_of(engine, open_page)
    assert "Passing requires 149 rows, or files that are byte-identical to the model's." in everything_said(
        at
    )
    at.number_input(key="export-max_rows").set_value(20).run()
    assert "Passing requires 149 rows; 20 are inconclusive" in everything_said(at)
