"""`tunebench round …` over a served store, and the sentences of its report."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet
import pytest
from typer.testing import CliRunner, Result

from engine.commands import Commands
from store.core.home import Home
from store.db.database import Database
from store.jobs import job_queue
from tests.pages.seeds.seed_rounds import seed_rounds
from tests.unit.store_samples import open_store, serving
from tunebench.cli import cli
from tunebench.terminal.output import NOT_ALLOWED, NOT_FOUND, OK, USAGE

Run = Callable[..., Result]


class ServedStore(NamedTuple):
    home: Home
    database: Database


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedStore]:
    home, database = open_store(seed_rounds(tmp_path_factory.mktemp("cli") / "home").path)
    with serving(home, database, Commands(database, home, lambda name, body: {}).table()):
        yield ServedStore(home, database)
    database.close()


@pytest.fixture(scope="module")
def run(served: ServedStore) -> Run:
    runner = CliRunner(env={"TUNEBENCH_HOME": str(served.home.path)})
    return lambda *words: runner.invoke(cli, [str(word) for word in words])


def test_rounds_are_listed(run: Run) -> None:
    listed = json.loads(run("round", "list", "--json").stdout)["rounds"]
    assert {"Pairs", "Open one", "elsewhere"} <= {round["name"] for round in listed}
    assert "Pairs" in run("round", "list").stdout


def test_a_closed_round_is_told_in_sentences(run: Run) -> None:
    document = json.loads(run("round", "show", "Pairs", "--json").stdout)
    assert document["verdict"][0].startswith("Tuned run is better than Base model: it would win")
    assert any("Krippendorff's alpha" in line for line in document["agreement"])
    assert any(line.startswith("Dora: 40 ratings") for line in document["raters"])
    text = run("round", "show", "Scores")
    assert text.exit_code == OK
    assert "Tuned run scores higher than Base model" in " ".join(text.stdout.split())


def test_an_open_round_is_not_told(run: Run) -> None:
    assert run("round", "show", "Open one").exit_code == NOT_ALLOWED
    assert run("round", "show", "Nothing").exit_code == NOT_FOUND
    assert run("round", "close", "Nobody rated").exit_code == OK
    assert "No ratings to summarize" in run("round", "show", "Nobody rated").stdout


def test_the_work_of_a_round_is_shown_named_and_released(run: Run) -> None:
    work = json.loads(run("round", "workload", "Open one", "--json").stdout)
    (bea,) = work["raters"]
    assert (bea["person_name"], bea["rated"], bea["assigned"]) == ("Bea", 15, False)
    assert work["ratings_left"] == 80 - 15
    text = " ".join(run("round", "workload", "Open one").stdout.split())
    assert "Bea" in text
    assert "65 of 80 ratings are left." in text
    assert json.loads(run("round", "release", "Open one", "--json").stdout) == {"released": bea["held"]}
    assert run("round", "release", "Open one", "--rater", "Nobody").exit_code == NOT_FOUND
    refused = json.loads(run("round", "assign", "Open one", "--rater", "x@example.org=20", "--json").stdout)
    assert refused["field"] == "raters.0.person"
    assert run("round", "assign", "Open one", "--everybody").exit_code == OK


def test_a_round_becomes_data_and_starts_from_a_file(run: Run, tmp_path: Path) -> None:
    made = json.loads(run("round", "data", "Pairs", "--agreement", "0.7", "--no-wait", "--json").stdout)
    assert made["dataset"] == "Pairs, preferences"
    assert made["rows"] + made["left_out"].get("too little agreement", 0) <= 40
    file = tmp_path / "round.yaml"
    file.write_text("name: From a file\nmodels: [{model: One}, {model: Two}]\ndataset: Questions\n")
    started = json.loads(run("round", "start", file, "--no-wait", "--json").stdout)
    assert len(started["job_ids"]) == 2


def test_a_round_of_a_file_starts_by_its_path(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"prompt": f"{n}?", "answers": {"a": "x", "b": "y"}} for n in range(3)]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    file = tmp_path / "round.yaml"
    file.write_text(
        "name: Of a file\nmodels: [{answers: a}, {answers: b}]\nprompts_file: {path: prompts.jsonl}\n"
    )
    monkeypatch.chdir(tmp_path)
    started = json.loads(run("round", "start", file, "--no-wait", "--json").stdout)
    assert started["job_ids"] == []
    file.write_text(file.read_text().replace("prompts.jsonl", "none.jsonl"))
    refused = json.loads(run("round", "start", file, "--no-wait", "--json").stdout)
    assert refused["field"] == "prompts_file"


def test_all_ratings_of_a_closed_round_are_written_to_a_file(run: Run, tmp_path: Path) -> None:
    for name, file in (("Words", tmp_path / "words.csv"), ("Pairs", tmp_path / "pairs.parquet")):
        document = json.loads(run("round", "export", name, file, "--json").stdout)
        assert document["ratings"] > 0
        assert {"rater", "prompt", "system_a", "answer_a", "purpose", "left_out"} <= set(document["columns"])
    assert "'=1+1 is a formula" in (tmp_path / "words.csv").read_text()
    pairs = pyarrow.parquet.read_table(tmp_path / "pairs.parquet").to_pylist()
    assert {row["choice"] for row in pairs} <= {"A", "B", "tie", "both_bad"}
    assert {row["system_a"] for row in pairs} == {"Base model", "Tuned run"}
    assert run("round", "export", "Words", tmp_path / "words.xls").exit_code == USAGE
    refused = run("round", "export", "Open one", tmp_path / "open.csv")
    assert refused.exit_code == NOT_ALLOWED
    assert not (tmp_path / "open.csv").exists()


def test_several_labels_and_spans_are_written_as_lines(run: Run, tmp_path: Path) -> None:
    for name, field in (("Topics", "labels"), ("Marks", "spans")):
        file = tmp_path / f"{name}.jsonl"
        assert run("round", "data", name, "--out", file).exit_code == OK
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        assert rows
        assert all(row["text"] and row[field] for row in rows)
        assert run("round", "data", name).exit_code == NOT_ALLOWED
    assert run("round", "data", "Pairs", "--out", tmp_path / "pairs.jsonl").exit_code == NOT_ALLOWED


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Topics", "MASI distance"),
        ("Marks", "F1 of exact span matches"),
        ("Words", "24 answers in free text by 2 raters"),
        ("Scores", "This holds for these 2 raters"),
    ],
)
def test_rounds_about_texts_are_told(run: Run, name: str, words: str) -> None:
    assert words in " ".join(run("round", "show", name).stdout.split())


def test_a_closed_round_is_opened_again(run: Run) -> None:
    assert run("round", "reopen", "Words").exit_code == OK
    assert run("round", "show", "Words").exit_code == NOT_ALLOWED
    assert run("round", "reopen", "Words").exit_code == NOT_ALLOWED
    assert run("round", "close", "Words").exit_code == OK
    assert run("round", "reopen", "elsewhere").exit_code == NOT_ALLOWED


def test_a_file_of_votes_is_imported_with_its_columns_mapped(
    served: ServedStore, run: Run, tmp_path: Path
) -> None:
    file = tmp_path / "battles.csv"
    file.write_text("prompt,model_a,model_b,better,who\nWhy?,gpt,llama,x,Ada\nHow?,gpt,llama,y,Bob\n")
    columns = ("--column", "winner=better", "--column", "rater=who")
    values = ("--value", "x=first", "--value", "y=second")
    asked = ("round", "import", file, *columns, *values, "--ignore", "notes", "--no-wait", "--json")
    queued = json.loads(run(*asked, "--name", "Battles").stdout)
    config = job_queue.get_job(served.database, queued["round_id"]).config["round"]
    assert (config["name"], config["path"], config["ignore"]) == ("Battles", str(file), ["notes"])
    assert config["columns"] == {"winner": "better", "rater": "who"}
    assert config["values"] == {"x": "first", "y": "second"}


def test_an_option_of_an_import_that_can_not_be_is_refused(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "battles.csv"
    for option, words in (
        (("--form", "votes", "--column", "score=x"), "role 'score'"),
        (("--form", "votes", "--value", "x=best"), "it may be first"),
        (("--column", "rater"), "role=column"),
        (("--form", "duels"), "form"),
    ):
        refused = run("round", "import", file, *option, "--json")
        assert refused.exit_code == USAGE
        assert words in refused.stdout
