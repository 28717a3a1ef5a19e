"""A recipe as a whole: accounting, determinism, errors that name the step, and nothing half-made."""

from __future__ import annotations

import json
import signal
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from engine.data.recipe import working
from engine.data.recipe.questions import Questions
from engine.job import Cancelled
from engine.jobs import clean, clean_preview
from store.errors import ConfigError, TunebenchError
from store.home import Home
from tests.unit.data_job import make_job, read
from tests.unit.recipe_samples import Cleaned, chat, folders, make, measure, run


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home").create()


ROWS = [
    *(chat(f"question {n % 7}", f"  answer {n}" + " word" * (n % 9), part=n % 3) for n in range(30)),
    chat("<b>", "x"),
    chat("q", "<p>tag</p> a@b.com"),
    chat("spÃ¤t", "dup"),
    chat("spÃ¤t", "dup"),
]
OTHER = [chat(f"other {n}", "  yes <br> c@d.com") for n in range(60)]
STEPS = st.sampled_from(
    [
        {"step": "fix_encoding"},
        {"step": "normalise"},
        {"step": "strip", "html": True},
        {"step": "redact", "kinds": ["email"]},
        {
            "step": "map_columns",
            "format": "prompt_completion",
            "columns": {"prompt": "question", "completion": "answer"},
        },
        {"step": "filter", "where": {"expression": "row_id % 5 = 3"}},
        {
            "step": "filter",
            "where": {"conditions": [{"column": "words", "op": "<", "value": 28}]},
            "action": "keep",
        },
        {"step": "drop_duplicates"},
        {"step": "drop_duplicates", "kind": "near"},
        {"step": "drop_duplicates", "kind": "prompt", "keep": "longest_answer"},
        {"step": "cap_length", "most": 8, "unit": "words"},
        {"step": "cap_length", "most": 9, "unit": "words", "action": "cut"},
        {"step": "balance", "column": "source.part", "most": 5},
        {"step": "sample", "rows": 20},
        {"step": "mix", "dataset": "Other", "share": 0.25},
        {"step": "edit_rows", "edits": [{"row_id": 1, "label": "x"}, {"row_id": 31, "label": "y"}]},
    ]
)


def check_accounts(home: Home, dataset: dict[str, Any], made: Cleaned, steps: list[dict[str, Any]]) -> None:
    old = read(home.rows(dataset["fingerprint"]))
    fates = made.result["fates"]
    assert fates["kept"] + fates["changed"] + fates["dropped"] == len(old)
    assert fates["kept"] + fates["changed"] + fates["added"] == len(made.rows) == made.result["row_count"]
    assert [f["parent_row_id"] for f in made.fates][: len(old)] == list(range(len(old)))
    assert [f["row_id"] for f in made.fates if f["row_id"] is not None] == list(range(len(made.rows)))
    assert [row["row_id"] for row in made.rows] == list(range(len(made.rows)))
    for name in ("kept", "changed", "dropped", "added"):
        assert fates[name] == sum(f["fate"] == name for f in made.fates)
    fields = ("messages", "text", "label", "rejected", "digest")
    for fate in made.fates:
        assert (fate["row_id"] is None) == (fate["fate"] == "dropped")
        assert (fate["parent_row_id"] is None) == (fate["fate"] == "added")
        assert (fate["step"] is None) == (fate["fate"] == "kept")
        assert bool(fate["reason"]) == (fate["fate"] in ("dropped", "added"))
        if fate["fate"] == "kept":
            before, after = old[fate["parent_row_id"]], made.rows[fate["row_id"]]
            assert [before[f] for f in fields] == [after[f] for f in fields]
        if fate["fate"] == "changed":
            assert fate["step"] == fate["steps"][-1]
            assert old[fate["parent_row_id"]]["source"] == made.rows[fate["row_id"]]["source"]
    rows = len(old)
    for step in fates["steps"]:
        assert step["rows_in"] == rows
        rows += step["added"] - step["dropped"]
        assert step["rows_out"] == rows
    assert len(fates["steps"]) == len(steps)
    assert rows == len(made.rows)


@pytest.fixture
def measured(home: Home) -> tuple[dict[str, Any], dict[str, Any]]:
    """Two data sets with a signal, which no cleaning changes."""
    dataset, other = make(home, ROWS), make(home, OTHER, name="Other")
    for one in (dataset, other):
        measure(home, one, "text", words=list(range(one["row_count"])))
    return dataset, other


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STEPS, min_size=1, max_size=5))
def test_every_row_is_accounted_for(
    home: Home, measured: tuple[dict[str, Any], dict[str, Any]], steps: list[dict[str, Any]]
) -> None:
    dataset, other = measured
    try:
        made = run(home, dataset, *steps, mixed={"Other": other})
    except ConfigError as error:
        if "would drop every one of" not in str(error):
            raise
        reject()  # what was drawn leaves no version to check
    check_accounts(home, dataset, made, steps)
    again = run(home, dataset, *steps, mixed={"Other": other})
    assert again.result == made.result


def test_batches_do_not_matter(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = make(home, ROWS)
    steps = [
        {"step": "strip", "html": True},
        {"step": "drop_duplicates", "kind": "near"},
        {"step": "sample", "rows": 9},
    ]
    whole = run(home, dataset, *steps)
    monkeypatch.setattr(working, "BATCH_ROWS", 4)
    assert run(home, dataset, *steps).result["fingerprint"] == whole.result["fingerprint"]


def test_a_version_that_changes_nothing_has_a_folder_of_its_own(home: Home) -> None:
    dataset = make(home, [chat("a", "b")])
    made = run(home, dataset, {"step": "normalise"})
    assert made.result["fingerprint"] != dataset["fingerprint"]
    assert not home.fates(dataset["fingerprint"]).exists()
    assert made.result["fates"]["kept"] == 1


@pytest.mark.parametrize(
    ("step", "field", "said"),
    [
        ({"step": "filter", "where": {"expression": "words >"}}, "expression", "at character 7"),
        ({"step": "filter", "where": {"expression": "(SELECT true)"}}, "expression", "a subquery"),
        ({"step": "filter", "where": {"expression": "nothing = 1"}}, "filter", "no column 'nothing'"),
        ({"step": "filter", "where": {"expression": "html"}}, "filter", "not measured"),
        ({"step": "filter", "where": {"regex": "(a"}}, "where", "missing"),
        ({"step": "filter", "where": {"regex": "(?=a)"}}, "where", "invalid perl operator"),
        ({"step": "filter", "where": {"expression": "text::INT > 3"}}, "where", "Could not convert"),
        ({"step": "filter", "where": {"expression": "len(text)"}, "action": "keep"}, "", None),
        ({"step": "filter", "where": {"expression": "\"source.x\" = '1'"}}, "where", "'x' in its file"),
        ({"step": "filter", "where": {"expression": "true"}}, "", "every one of 34 rows"),
        ({"step": "balance"}, "column", "No row has a value in label"),
        ({"step": "balance", "column": "cluster"}, "filter", "was not measured"),
        ({"step": "sample", "rows": 2, "by": "diversity"}, "filter", "Measure the group Map first"),
        ({"step": "label_errors"}, "filter", "Label quality"),
        ({"step": "cap_length", "most": 8}, "model", "none is named"),
        ({"step": "cap_length", "most": 8, "model": "/no/model"}, "model", "no model folder"),
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
    home: Home, step: dict[str, Any], field: str, said: str | None
) -> None:
    dataset, other = make(home, ROWS), make(home, OTHER, name="Other")
    measure(home, dataset, "text", words=list(range(34)))
    dataset["signals"] = {}
    texts = make(home, [{"text": "a"}, {"text": "b"}], name="Texts")
    mixed = {"Other": other, "Self": dataset, "Texts": texts}
    if said is None:  # numbers other than 0 are true
        assert run(home, dataset, step).result["row_count"] == 34
        return
    before = folders(home)
    with pytest.raises(TunebenchError) as caught:
        run(home, dataset, {"step": "normalise"}, step, mixed=mixed)
    assert caught.value.message.startswith("Step 2 (")
    assert said in str(caught.value)
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
    job.order |= {"dataset": dataset, "parent": None, "mixed": {}}
    seen = []

    def third() -> None:
        seen.append(1)
        if len(seen) == 9:
            raise Cancelled

    monkeypatch.setattr(job, "check_cancelled", third)
    with pytest.raises(Cancelled):
        clean.run(job)
    assert {path for path in folders(home) - before if path.is_file()} == set()


def test_a_long_statement_is_interrupted(home: Home) -> None:
    dataset = make(home, ROWS)
    job = make_job(home, "clean", {})
    work = working.Working(job, dataset, {}, job.dir.path / "passing")
    signal.signal(signal.SIGALRM, lambda *_: job.cancel_requested.set())
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    with closing(Questions(work)) as ask, pytest.raises(Cancelled):
        ask._ask("SELECT sum(hash(range)) AS n FROM range(1000000000000)", [])


def test_no_file_but_the_data_sets_can_be_read(home: Home) -> None:
    dataset = make(home, ROWS)
    job = make_job(home, "clean", {})
    work = working.Working(job, dataset, {}, job.dir.path / "passing")
    with closing(Questions(work)) as ask:
        for sql in ("SELECT * FROM read_text('/etc/hostname')", "SET enable_external_access = true"):
            with pytest.raises(duckdb.Error):
                ask._ask(sql, [])
        assert ask._ask(f"SELECT count(*) AS n FROM '{work.files[0]}'", [])["n"][0].as_py() == 34


def test_progress_is_told_with_an_estimate(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = make(home, ROWS)
    clock = iter(range(10_000))
    monkeypatch.setattr(working.time, "monotonic", lambda: float(next(clock)))
    job = make_job(
        home, "clean", {"dataset": "Old", "name": "New", "recipe": {"steps": [{"step": "strip"}] * 2}}
    )
    job.order |= {"dataset": dataset, "parent": None, "mixed": {}}
    clean.run(job)
    told = [json.loads(line) for line in job.dir.events.read_text().splitlines()]
    progress = [event for event in told if event["type"] == "progress"]
    assert [event["done"] for event in progress] == sorted(event["done"] for event in progress)
    assert {event["message"] for event in progress} == {"Strip white space", "Writing the new version"}
    assert progress[-1]["eta_seconds"] is not None


def ask(home: Home, dataset: dict[str, Any], *steps: dict[str, Any], examples: int = 3) -> dict[str, Any]:
    body = {
        "dataset": dataset,
        "parent": None,
        "mixed": {},
        "recipe": {"steps": list(steps)},
        "examples": examples,
    }
    return clean_preview.run(make_job(home, "clean_preview", body))


def test_a_preview_says_what_the_job_would_do(home: Home) -> None:
    dataset = make(home, ROWS)
    steps = [
        {"step": "strip", "html": True},
        {"step": "drop_duplicates", "kind": "prompt"},
        {"step": "normalise"},
    ]
    answer = ask(home, dataset, *steps)
    made = run(home, dataset, *steps)
    assert answer["fates"] == made.result["fates"]
    assert "of" not in answer
    assert [problem["field"] for problem in answer["problems"]] == ["recipe.steps.2"]
    fates = {fate["parent_row_id"]: fate for fate in made.fates}
    old = read(home.rows(dataset["fingerprint"]))
    assert {example["fate"] for example in answer["examples"]} >= {"changed", "dropped"}
    for example in answer["examples"]:
        fate = fates[example["row_id"]]
        assert example["before"]["text"] == old[example["row_id"]]["text"]
        after = None if fate["row_id"] is None else made.rows[fate["row_id"]]["text"]
        assert (example["after"] and example["after"]["text"]) == after
        assert all(example[field] == fate[field] for field in ("fate", "step", "steps", "reason"))


def test_of_a_large_data_set_the_first_rows_are_tried(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clean_preview, "FIRST_ROWS", 10)
    dataset = make(home, ROWS)
    answer = ask(
        home, dataset, {"step": "strip"}, {"step": "edit_rows", "edits": [{"row_id": 30, "label": "x"}]}
    )
    assert answer["of"] == {"rows": 10, "total": 34}
    assert answer["fates"]["changed"] == 10
    gone = ask(home, dataset, {"step": "filter", "where": {"expression": "row_id < 20"}}, {"step": "strip"})
    assert gone["fates"]["dropped"] == 10
    assert "drops all of the first rows" in gone["problems"][-1]["message"]
