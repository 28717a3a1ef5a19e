"""A recipe as a whole: errors that name the step, cancelling, progress, and nothing half-made."""

from __future__ import annotations

import json
import signal
from contextlib import closing
from typing import Any

import duckdb
import pytest

from engine.data import cleaning_job
from engine.data.cleaning import working_rows
from engine.data.cleaning.row_queries import RowQueries
from engine.worker.job import JobCancelled, JobProgress
from store.core.errors import ConfigError, TunebenchError
from store.core.home import Home
from tests.unit.data_job import make_job
from tests.unit.recipe_samples import OTHER, ROWS, folders, make, measure, run


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, dict[str, Any], dict[str, Any]]:
    """A data set, its signals not told, and those to mix in; a cleaning that fails changes none of them."""
    home = Home(tmp_path_factory.mktemp("made") / "home").create()
    dataset, other = make(home, ROWS), make(home, OTHER, name="Other")
    measure(home, dataset, "text", words=list(range(34)))
    dataset["signals"] = {}
    texts = make(home, [{"text": "a"}, {"text": "b"}], name="Texts")
    return home, dataset, {"Other": other, "Self": dataset, "Texts": texts}


@pytest.mark.parametrize(
    ("step", "field", "message"),
    [
        ({"step": "filter", "where": {"expression": "words >"}}, "expression", "at character 7"),
        ({"step": "filter", "where": {"expression": "(SELECT true)"}}, "expression", "a subquery"),
        ({"step": "filter", "where": {"expression": "nothing = 1"}}, "filter", "no column 'nothing'"),
        ({"step": "filter", "where": {"expression": "html"}}, "filter", "has not been measured"),
        ({"step": "filter", "where": {"regex": "(a"}}, "where", "missing"),
        ({"step": "filter", "where": {"regex": "(?=a)"}}, "where", "invalid perl operator"),
        ({"step": "filter", "where": {"expression": "text::INT > 3"}}, "where", "Could not convert"),
        ({"step": "filter", "where": {"expression": "len(text)"}, "action": "keep"}, "", None),
        ({"step": "filter", "where": {"expression": "\"source.x\" = '1'"}}, "where", "'x' in its file"),
        ({"step": "filter", "where": {"expression": "true"}}, "", "every one of 34 rows"),
        ({"step": "balance"}, "column", "No row has a value in label"),
        ({"step": "balance", "column": "cluster"}, "filter", "has not been measured"),
        ({"step": "sample", "rows": 2, "by": "diversity"}, "filter", "Measure the group Map first"),
        ({"step": "label_errors"}, "filter", "Label quality"),
        ({"step": "cap_length", "most": 8}, "model", "none is named"),
        ({"step": "map_columns", "format": "text", "columns": {"text": "question"}}, "", None),
        (
            {"step": "map_columns", "format": "question_answer",
             "columns": {"question": "question", "answer": "answer", "system": "sytem"}},
            "columns.system", "No row has the column 'sytem'",
        ),
        ({"step": "map_columns", "format": "text", "columns": {"body": "x"}}, "columns.body", "no role"),
        ({"step": "mix", "dataset": "Other", "share": 0.9}, "share", "0.638 or less"),
        ({"step": "mix", "dataset": "Other", "share": 0.001}, "share", "larger share"),
        ({"step": "mix", "dataset": "Self", "share": 0.5}, "dataset", "already"),
        ({"step": "mix", "dataset": "Texts", "share": 0.1}, "dataset", "kind text"),
        ({"step": "edit_rows", "edits": [{"row_id": 34, "label": "x"}]}, "edits.0.row_id", "none of 34 rows"),
        ({"step": "edit_rows", "edits": [{"row_id": 1, "text": "x"}]}, "edits", "has messages"),
        (
            {"step": "edit_rows", "edits": [{"row_id": 1, "messages": [{"role": "user", "content": "x"}]}]},
            "edits", "no turn by the assistant",
        ),
    ],
)  # fmt: skip
def test_what_can_not_be_done_names_the_step_and_leaves_nothing(
    made: tuple[Home, dict[str, Any], dict[str, Any]], step: dict[str, Any], field: str, message: str | None
) -> None:
    home, dataset, mixed = made
    if message is None:  # numbers other than 0 are true
        assert run(home, dataset, step).result["row_count"] == 34
        return
    before = folders(home)
    with pytest.raises(TunebenchError) as caught:
        run(home, dataset, {"step": "normalise"}, step, mixed=mixed)
    assert caught.value.message.startswith("Step 2 (")
    assert message in str(caught.value)
    assert caught.value.field == f"recipe.steps.1{'.' + field if field else ''}"
    assert caught.value.fix
    assert {path for path in folders(home) - before if path.is_file()} == set()


def test_a_filter_after_a_mix_wants_the_signals_of_both(home: Home) -> None:
    dataset, other = make(home, ROWS), make(home, OTHER, name="Other")
    measure(home, dataset, "text", words=list(range(34)))
    steps = [
        {"step": "mix", "dataset": "Other", "share": 0.5},
        {"step": "filter", "where": {"expression": "words > 3"}},
    ]
    with pytest.raises(ConfigError, match="words was not measured for Other, which was mixed in before"):
        run(home, dataset, *steps, mixed={"Other": other})


def test_a_cancelled_cleaning_leaves_nothing(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = make(home, ROWS)
    before = folders(home)
    job = make_job(
        home, "clean", {"dataset": "Old", "name": "New", "recipe": {"steps": [{"step": "strip"}] * 3}}
    )
    job.spec |= {"dataset": dataset, "parent": None, "mixed": {}}
    seen = []

    def third() -> None:
        seen.append(1)
        if len(seen) == 9:
            raise JobCancelled

    monkeypatch.setattr(job, "check_cancelled", third)
    with pytest.raises(JobCancelled):
        cleaning_job.run(job)
    assert {path for path in folders(home) - before if path.is_file()} == set()


def test_a_long_statement_is_interrupted(home: Home) -> None:
    dataset = make(home, ROWS)
    job = make_job(home, "clean", {})
    work = working_rows.WorkingRows(job, dataset, {}, job.dir.path / "passing")
    signal.signal(signal.SIGALRM, lambda *_: job.cancel_requested.set())
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    with closing(RowQueries(work)) as ask, pytest.raises(JobCancelled):
        ask._ask("SELECT sum(hash(range)) AS n FROM range(1000000000000)", [])


def test_no_file_but_the_data_sets_can_be_read(home: Home) -> None:
    dataset = make(home, ROWS)
    job = make_job(home, "clean", {})
    work = working_rows.WorkingRows(job, dataset, {}, job.dir.path / "passing")
    with closing(RowQueries(work)) as ask:
        for sql in ("SELECT * FROM read_text('/etc/hostname')", "SET enable_external_access = true"):
            with pytest.raises(duckdb.Error):
                ask._ask(sql, [])
        assert ask._ask(f"SELECT count(*) AS n FROM '{work.files[0]}'", [])["n"][0].as_py() == 34


def test_progress_is_told_with_an_estimate(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = make(home, ROWS)
    clock = iter(range(10_000))
    monkeypatch.setattr("engine.worker.progress.time.monotonic", lambda: float(next(clock)))
    job = make_job(
        home, "clean", {"dataset": "Old", "name": "New", "recipe": {"steps": [{"step": "strip"}] * 2}}
    )
    job.spec |= {"dataset": dataset, "parent": None, "mixed": {}}
    job.phases = JobProgress(cleaning_job.phases(job.spec))
    cleaning_job.run(job)
    events = [json.loads(line) for line in job.dir.events.read_text().splitlines()]
    progress = [event for event in events if event["type"] == "progress"]
    assert [event["done"] for event in progress] == sorted(event["done"] for event in progress)
    assert {event["message"] for event in progress} == {"Strip white space", "Writing the new version"}
    assert progress[-1]["eta_seconds"] is not None
