"""`tunebench data clean|export|versions|split` against a real server; jobs are done at once, in process."""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from engine.commands import Commands
from engine.job_handlers import store_result, write_spec
from engine.worker.job import WorkerJob
from engine.worker.process import describe_error
from store.core.errors import NotFoundError, TunebenchError
from store.core.home import Home
from store.core.job_kinds import JOB_KINDS
from store.core.rights import OWNER
from store.core.schemas import Person
from store.data import datasets
from store.db.database import Database
from store.jobs import job_queue
from tests.unit.recipe_samples import chat
from tests.unit.store_samples import new_store, serving
from tunebench.cli import cli
from tunebench.terminal.output import NOT_ALLOWED, NOT_FOUND, OK, USAGE

Run = Callable[..., Result]


def do(home: Home, database: Database, job_id: str) -> None:
    """What scheduler and worker do with a queued job."""
    with database.transaction() as tx:
        job = job_queue.get_job(tx, job_id)
        job_queue.claim(tx, job_id, "cpu", time.time())
    work = WorkerJob(write_spec(database, home, job).path)
    result = error = None
    try:
        result = importlib.import_module(JOB_KINDS[job.kind].module).run(work)
    except TunebenchError as fault:
        error = describe_error(fault)
    with database.transaction() as tx:
        status = "failed" if error else "finished"
        job_queue.finish(tx, job_id, status, time.time(), result=result, error=error)
        if result:
            store_result(tx, home, job, result, time.time())


@contextmanager
def _served(folder: Path) -> Iterator[tuple[Home, Database, Run]]:
    home, database = new_store(folder / "home")
    table = Commands(database, home, lambda name, body: {}).table()

    def at_once(command: Callable[[dict[str, Any], Person], dict[str, Any]]) -> Callable[..., dict[str, Any]]:
        def act(body: dict[str, Any], person: Person = OWNER) -> dict[str, Any]:
            answer = command(body, person)
            do(home, database, answer["job_id"])
            return answer

        return act

    table |= {name: at_once(table[name]) for name in ("import_dataset", "clean", "export")}
    rows = [chat(f"q{n % 4}", f"a{n % 4} ") for n in range(8)]
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    table["import_dataset"]({"name": "Sums", "source": {"path": str(file)}})
    runner = CliRunner(env={"TUNEBENCH_HOME": str(home.path)})
    with serving(home, database, table):
        yield home, database, lambda *words: runner.invoke(cli, [str(word) for word in words])
    database.close()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Home, Database, Run]]:
    with _served(tmp_path) as served:
        yield served


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Home, Database, Run]]:
    """One server for all that is refused: each test sees that it left the data sets as they were."""
    with _served(tmp_path_factory.mktemp("cli")) as served:
        yield served


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text("steps:\n- step: strip\n- step: drop_duplicates\n")
    return path


def test_a_recipe_makes_the_next_version(served: tuple[Home, Database, Run], recipe: Path) -> None:
    _, database, run = served
    done = run("data", "clean", "Sums", recipe)
    assert done.exit_code == OK, done.output
    assert "Drop exact duplicates, keep the first" in done.stdout
    assert "0 kept, 4 changed, 4 dropped, 0 added." in done.stderr
    assert datasets.get_dataset(database, "Sums v2").row_count == 4
    named = json.loads(run("data", "clean", "Sums v2", recipe, "--name", "Third", "--json").stdout)
    assert (named["name"], named["fates"]["kept"]) == ("Third", 4)
    tree = json.loads(run("data", "versions", "Third", "--json").stdout)["versions"]
    assert [(row["name"], row["depth"]) for row in tree] == [("Sums", 0), ("Sums v2", 1), ("Third", 2)]
    stdout = run("data", "versions", "Third").stdout
    assert "Strip white space; Drop exact duplicates" in stdout
    assert run("data", "delete", "Sums").exit_code == NOT_ALLOWED


def test_rows_are_exported_and_copied_with_their_card(
    served: tuple[Home, Database, Run], tmp_path: Path
) -> None:
    home, _, run = served
    out = tmp_path / "out.csv"
    words = ["data", "export", "Sums", "--format", "csv", "--where", "prompt = 'q1'", "--out", out]
    done = run(*words)
    assert done.exit_code == OK, done.output
    assert out.read_text() == (
        '"prompt","completion","row_id","split"\n"q1","a1 ","1","train"\n"q1","a1 ","5","train"\n'
    )
    assert "2 of 8" in (tmp_path / "out.csv.md").read_text()
    assert run(*words).exit_code == USAGE  # the file is there
    result = json.loads(run("data", "export", "Sums", "--part", "train", "--json").stdout)
    assert Path(result["path"]).parent == home.exports
    assert len(Path(result["path"]).read_text().splitlines()) == result["rows"]


def test_rows_are_split_by_a_column(served: tuple[Home, Database, Run]) -> None:
    _, database, run = served
    assert run("data", "split", "Sums", "--by", "group", "--column", "source.question").exit_code == OK
    dataset = datasets.get_dataset(database, "Sums")
    assert (dataset.split_by, dataset.split_column) == ("group", "source.question")
    done = run("data", "split", "Sums", "--test-size", "0.2")
    assert "by group of source.question" in done.stderr
    assert run("data", "split", "Sums", "--by", "random").exit_code == OK
    assert datasets.get_dataset(database, "Sums").split_by == "random"


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        (["clean", "Nowhere", "RECIPE"], NOT_FOUND, "Nowhere"),
        (["clean", "Sums", "/no/file.yaml"], USAGE, "/no/file.yaml"),
        (["clean", "Sums", "RECIPE", "--name", "Sums"], USAGE, "named 'Sums' already"),
        (["export", "Sums", "--where", "answer >"], USAGE, "character"),
        (["export", "Sums", "--where", "false"], USAGE, "No rows to export"),
        (["export", "Sums", "--format", "word"], USAGE, "format"),
        (["export", "Sums", "--part", "rest"], USAGE, "parts"),
        (["profile", "Sums", "--group", "dreams"], USAGE, "dreams"),
        (["versions", "Nowhere"], NOT_FOUND, "Nowhere"),
        (["split", "Sums", "--by", "luck"], USAGE, "split_by"),
        (["split", "Sums", "--by", "group"], USAGE, "split_column"),
    ],
)
def test_bad_input_is_named(
    unchanged: tuple[Home, Database, Run], recipe: Path, words: list[str], code: int, named: str
) -> None:
    _, database, run = unchanged
    before = datasets.list_datasets(database)
    done = run("data", *[str(recipe) if word == "RECIPE" else word for word in words])
    assert done.exit_code == code, done.output
    assert named in done.stderr
    assert datasets.list_datasets(database) == before


def test_a_data_set_that_is_being_mixed_in_stays(
    served: tuple[Home, Database, Run], recipe: Path, tmp_path: Path
) -> None:
    home, database, run = served
    assert run("data", "clean", "Sums", recipe, "--name", "Other").exit_code == OK
    commands = Commands(database, home, lambda name, body: {}).table()
    mix = {"step": "mix", "dataset": "Other", "share": 0.1}
    with pytest.raises(NotFoundError, match="Nowhere"):
        commands["clean"]({"dataset": "Sums", "recipe": {"steps": [{**mix, "dataset": "Nowhere"}]}}, OWNER)
    commands["clean"]({"dataset": "Sums", "recipe": {"steps": [mix]}}, OWNER)
    refused = run("data", "delete", "Other")
    assert refused.exit_code == NOT_ALLOWED
    assert "Clean Sums is not over" in refused.stderr


def test_a_step_that_fails_is_named_on_the_terminal(
    served: tuple[Home, Database, Run], tmp_path: Path
) -> None:
    _, _, run = served
    path = tmp_path / "bad.yaml"
    path.write_text("steps:\n- step: strip\n- step: sample\n  rows: 2\n  by: diversity\n")
    done = run("data", "clean", "Sums", path, "--json")
    assert done.exit_code == USAGE
    document = json.loads(done.stdout)
    assert document["field"] == "recipe.steps.1.filter"
    assert "Step 2 (Sample 2 rows spread over topics)" in document["message"]


def test_a_file_that_cannot_be_made_is_refused_before_rows_are_written(
    served: tuple[Home, Database, Run], tmp_path: Path
) -> None:
    home, _, run = served
    for out in (tmp_path / "rows.jsonl" / "x.csv", tmp_path / ("x" * 300), tmp_path / "none" / "x.csv"):
        refused = run("data", "export", "Sums", "--out", out, "--json")
        assert (refused.exit_code, json.loads(refused.stdout)["field"]) == (USAGE, "out")
    assert not list(home.exports.iterdir())


def test_a_name_that_ends_in_a_raised_number_gets_a_next_version(
    served: tuple[Home, Database, Run], recipe: Path
) -> None:
    _, database, run = served
    assert run("data", "rename", "Sums", "Area v²").exit_code == OK
    assert run("data", "clean", "Area v²", recipe).exit_code == OK
    assert datasets.get_dataset(database, "Area v² v2").row_count == 4


def test_half_a_character_in_an_edit_and_an_empty_list_are_said_in_words(
    served: tuple[Home, Database, Run], tmp_path: Path
) -> None:
    _, _, run = served
    half, none = tmp_path / "half.yaml", tmp_path / "none.yaml"
    turns = r'[{role: user, content: "\ud800"}, {role: assistant, content: x}]'
    half.write_text(f"steps: [{{step: edit_rows, edits: [{{row_id: 0, messages: {turns}}}]}}]")
    none.write_text("steps: [{step: filter, where: {conditions: [{column: answer, value: []}]}}]")
    refused = run("data", "clean", "Sums", half, "--json")
    assert refused.exit_code == USAGE, refused.output
    assert "surrogate" in json.loads(refused.stdout)["message"]
    cleaned = run("data", "clean", "Sums", none)
    assert cleaned.exit_code == OK, cleaned.output
    assert "answer is one of no values" in cleaned.stdout
