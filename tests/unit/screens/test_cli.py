"""The command line against a real server with the real commands: what it changes, prints and exits with."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from engine.commands import Commands
from engine.export import external_tools
from store.core.errors import EngineUnavailable
from store.data import datasets
from store.db.database import Database
from store.runs import runs
from tests.unit.store_samples import add_job, new_store, serving, write_dataset
from tunebench.cli import cli
from tunebench.commands import data_reports
from tunebench.terminal import processes
from tunebench.terminal.output import NOT_FOUND, OK, USAGE

ROOT = Path(__file__).resolve().parents[3]
Run = Callable[..., Result]


@contextmanager
def _served(folder: Path) -> Iterator[tuple[Database, Run]]:
    home, database = new_store(folder)
    with database.transaction() as tx:
        datasets.insert_dataset(tx, write_dataset(home, ["Paris", "Rome"], ["FR", "IT"]))
    add_job(database, "abc", status="failed")

    def refuse(name: str, body: dict[str, Any]) -> dict[str, Any]:
        raise AssertionError(f"{name} was asked")

    runner = CliRunner(env={"TUNEBENCH_HOME": str(home.path)})
    with serving(home, database, Commands(database, home, refuse).table()):
        yield database, lambda *words: runner.invoke(cli, [str(word) for word in words])
    database.close()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Database, Run]]:
    with _served(tmp_path) as served:
        yield served


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Database, Run]]:
    """One server for all that is refused: each test sees that it left the store as it was."""
    with _served(tmp_path_factory.mktemp("cli")) as served:
        yield served


WITHOUT_JSON = {"up", "engine", "screens", "mcp", "sql"}  # they stay, and sql has --format
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands(group: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every command with its words."""
    group = group or typer.main.get_command(cli)
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


def takes_json(command: Any) -> bool:
    return any("--json" in parameter.opts for parameter in command.params)


def test_every_command_that_ends_takes_json() -> None:
    assert {name for name, command in commands() if not takes_json(command)} == WITHOUT_JSON


def test_json_is_taken_wherever_a_document_says_so() -> None:
    there = dict(commands())
    spans = [
        span
        for path in DOCUMENTS
        for span in re.findall(r"tunebench ([a-z][^`\n#]*--json)", path.read_text("utf-8"))
    ]
    assert spans  # all commands stand in docs/commands.md, which is drawn from them
    for span in spans:
        words = re.split(r"[^a-z-]", span)
        able = [there[name] for name in (" ".join(words[:2]), words[0]) if name in there]
        assert able, span
        assert takes_json(able[0]), span


@pytest.mark.parametrize("name", sorted({name for name, _ in commands()} - WITHOUT_JSON))
def test_json_is_one_document_on_stdout_whatever_goes_wrong(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start_engine(home: Any) -> Any:
        raise EngineUnavailable("None starts.", fix="Not here.")

    monkeypatch.setattr(processes, "start_engine", start_engine)
    monkeypatch.setattr(external_tools, "install_converter", lambda: tmp_path)
    file = tmp_path / "file.yaml"
    file.write_text("dataset: D\n")
    words = [*name.split(), "--json"]
    for parameter in dict(commands())[name].params:
        if parameter.required:
            option = [each for each in parameter.opts[:1] if each.startswith("-")]
            words += [*option, str(file)]
    done = CliRunner(env={"TUNEBENCH_HOME": str(tmp_path / "home")}).invoke(cli, words)
    document = json.loads(done.stdout)
    assert done.exit_code == OK or document["message"], (words, done.output)
    assert isinstance(done.exception, SystemExit | None), done.exception


def test_a_data_set_is_renamed_split_and_deleted_only_without_runs(served: tuple[Database, Run]) -> None:
    database, run = served
    assert run("data", "rename", "Capitals", "Cities").exit_code == OK
    done = run("data", "split", "Cities", "--test-size", "0.25")
    assert done.exit_code == OK
    dataset = datasets.get_dataset(database, "Cities")
    assert (dataset.split_seed, dataset.validation_size, dataset.test_size) == (0, 0.1, 0.25)
    listed = json.loads(run("data", "list", "--json").stdout)["datasets"]
    assert [row["name"] for row in listed] == ["Cities"]
    used = run("data", "delete", "Cities")
    assert used.exit_code != OK
    assert "Abc" in used.stderr


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        (["data", "rename", "Nowhere", "X"], NOT_FOUND, "Nowhere"),
        (["data", "split", "Capitals", "--test-size", "1.5"], USAGE, "test_size"),
        (["data", "rename", "Capitals", ""], USAGE, "name"),
        (["edit", "Abc"], USAGE, "--name"),
        (["edit", "Nobody", "--notes", "x"], NOT_FOUND, "Nobody"),
        (["tag", "Abc"], USAGE, "--add"),
        (["tag", "Abc", "--add", "a,b"], USAGE, "comma"),
        (["tag", "Abc", "Nobody", "--add", "x"], NOT_FOUND, "Nobody"),
        (["archive", "Nobody"], NOT_FOUND, "Nobody"),
        (["edit", "Abc", "--name", ""], USAGE, "name"),
    ],
)
def test_bad_input_is_named_and_changes_nothing(
    unchanged: tuple[Database, Run], words: list[str], code: int, named: str
) -> None:
    database, run = unchanged
    before = datasets.list_datasets(database), runs.list_runs(database, limit=9)
    done = run(*words)
    assert done.exit_code == code, done.output
    assert named in done.stderr
    assert done.stdout == ""
    as_json = run(*words, "--json")
    assert as_json.exit_code == code
    assert json.loads(as_json.stdout)["error"]
    assert (datasets.list_datasets(database), runs.list_runs(database, limit=9)) == before


def test_a_run_is_edited(served: tuple[Database, Run]) -> None:
    database, run = served
    assert run("edit", "Abc", "--name", "Second", "--notes", "Too hot").exit_code == OK
    assert runs.get_run(database, "abc").name == "Second"
    assert run("edit", "abc", "--notes", "").exit_code == OK
    assert (runs.get_run(database, "abc").name, runs.get_run(database, "abc").notes) == ("Second", "")


def test_an_example_is_shown_where_it_changes() -> None:
    before, after = "same " * 60 + "old" + " end" * 40, "same " * 60 + "new" + " end" * 40
    begin = data_reports._find_first_difference(before, after)
    assert begin == 300
    assert "old end" in data_reports._extract_line(before, begin)
    assert "new end" in data_reports._extract_line(after, begin)
    assert len(data_reports._extract_line(after, begin)) <= data_reports.EXAMPLE_WIDTH
    assert data_reports._extract_line("short\ntext", 3) == "short\\ntext"


def test_the_engine_is_ours_whatever_lies_in_this_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[Path, str]] = []
    monkeypatch.chdir(tmp_path)
    (tmp_path / "engine").mkdir()
    monkeypatch.setattr("os.execv", lambda program, words: started.append((Path.cwd(), " ".join(words))))
    done = CliRunner(env={"TUNEBENCH_HOME": "here"}).invoke(cli, ["engine", "--port", "4000"])
    assert done.exit_code == OK
    ((folder, command),) = started
    assert (folder / "engine" / "__main__.py").exists()
    assert f"-m engine --home {tmp_path / 'here'} --port 4000" in command


def test_who_did_what_is_listed_and_narrowed(served: tuple[Database, Run]) -> None:
    _, run = served
    assert "0 lines" in run("activity").stderr
    run("data", "rename", "Capitals", "Cities")
    run("edit", "abc", "--notes", "[bold]seen[/bold]")
    lines = run("activity").stdout.splitlines()
    assert [line.split()[3:] for line in lines[1:]] == [
        ["changed", "Abc", "notes"],
        ["renamed", "Capitals", "now", "Cities"],
    ]
    document = json.loads(run("activity", "--kind", "changed", "--limit", 1, "--by", "you", "--json").stdout)
    assert (document["total"], len(document["activity"])) == (2, 1)
    assert document["activity"][0]["subject_id"] == "abc"
    assert json.loads(run("activity", "--search", "CITI", "--days", 1, "--json").stdout)["total"] == 1
    assert json.loads(run("activity", "--kind", "Deleted", "--json").stdout)["activity"] == []
    for words, code, needle in (
        (["--by", "Nobody"], NOT_FOUND, "Choose one of: you"),
        (["--kind", "Flown"], USAGE, "Launched"),
    ):
        refused = run("activity", *words)
        assert (refused.exit_code, needle in refused.stderr) == (code, True)


def test_runs_are_tagged_and_archived(served: tuple[Database, Run]) -> None:
    database, run = served
    add_job(database, "other", status="finished")
    assert "2 runs tagged." in run("tag", "Abc", "other", "--add", "first try", "--add", "b").output
    assert run("tag", "Abc", "--remove", "b").exit_code == OK
    assert [each.tags for each in runs.get_runs(database, ["abc", "other"])] == [
        ["first try"],
        ["b", "first try"],
    ]
    assert "1 run archived." in run("archive", "Abc").output
    listed = run("runs")
    assert "Abc" not in listed.output
    assert "1 of 1 run, without 1 in the archive (--archived)" in listed.output
    document = json.loads(run("runs", "--json").output)
    assert (document["total"], document["hidden"]) == (1, 1)
    assert "Abc" in run("runs", "--archived").output
    assert "1 run out of the archive." in run("archive", "Abc", "--undo").output
    assert "2 of 2 runs" in run("runs").output
