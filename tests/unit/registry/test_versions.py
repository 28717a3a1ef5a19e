"""Versions of registered models: numbers, references, deleting, and names that could do harm."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.registry import gate_report, version_keeping
from store.core.errors import ConfigError, ModelError, NotFoundError, StateError
from store.core.job_folder import JobDir
from store.core.version_folders import is_reference
from store.registry import gate_checks, model_card, model_versions, version_facts
from store.runs import runs
from tests.unit.desk import Desk
from tests.unit.registering import finished_run, register, staged
from tests.unit.verdict_inputs import judge as judge_rows
from tests.unit.verdicts.test_question_part import swapped
from tests.unit.verdicts.test_verdict import evidence

OF_RUN = (
    "better_on_task",
    "question_above",
    "forgetting_under",
    "bias_under",
    "parity_passed",
    "latency_under",
)
HOSTILE = ("../x", "a@b", "", "x" * 65, "a/b", "a\\b", ".hidden", "a b", "ä", "-r", "a\nb")


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    desk = Desk(tmp_path)
    desk.add_dataset()
    finished_run(desk)
    return desk


def test_numbers_follow_each_other_and_a_deleted_one_is_never_given_again(desk: Desk) -> None:
    for text in ("one", "two"):
        register(desk, text=text)
    assert model_versions.get_version(desk.database, "sums@2").folder.endswith("/2")
    desk("delete_version", version="sums@2")
    assert not (desk.home.registry / model_versions.get_model(desk.database, "sums").model_id / "2").exists()
    register(desk, text="three")
    model = model_versions.get_model(desk.database, "sums")
    assert (model.versions, model.newest) == (2, 3)
    with pytest.raises(NotFoundError, match="no registered model sums@2"):
        model_versions.get_version(desk.database, "sums@2")


def test_the_same_content_makes_no_second_version(desk: Desk) -> None:
    register(desk)
    job_id = register(desk)
    assert model_versions.get_model(desk.database, "sums").versions == 1
    assert not JobDir(desk.home.jobs / job_id).version.exists()


def _killed(*_: object) -> None:
    raise RuntimeError("killed")


def test_an_engine_killed_between_the_move_and_the_commit_finds_its_version(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = desk("register_model", name="sums", run="run-1")["job_id"]
    made = JobDir(desk.home.jobs / job_id).version
    result = staged(made, {"adapter_model.safetensors": "weights", "training.json": "{}"})
    monkeypatch.setattr(model_versions, "insert", _killed)
    with pytest.raises(RuntimeError, match="killed"), desk.database.transaction() as tx:
        version_keeping.store_version(tx, desk.home, desk.job(job_id), result, desk.clock())
    monkeypatch.undo()
    assert not made.exists()
    register(desk, text="of another job")  # which must not take the folder that is there
    with desk.database.transaction() as tx:
        version_keeping.store_version(tx, desk.home, desk.job(job_id), result, desk.clock())
    for reference in ("sums@1", "sums@2"):
        version_keeping.check_whole_files(desk.home, model_versions.get_version(desk.database, reference))
    assert model_versions.get_model(desk.database, "sums").versions == 2


def test_a_registering_that_is_resumed_takes_the_place_whose_row_could_not_be_written(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = desk("register_model", name="sums", run="run-1")["job_id"]
    for attempt in ("first", "second"):
        files = {"adapter_model.safetensors": f"weights of the {attempt}", "training.json": "{}"}
        result = staged(JobDir(desk.home.jobs / job_id).version, files)
        if attempt == "first":
            monkeypatch.setattr(model_versions, "insert", _killed)
            with pytest.raises(RuntimeError, match="killed"), desk.database.transaction() as tx:
                version_keeping.store_version(tx, desk.home, desk.job(job_id), result, desk.clock())
            monkeypatch.undo()
    with desk.database.transaction() as tx:
        version_keeping.store_version(tx, desk.home, desk.job(job_id), result, desk.clock())
    version_keeping.check_whole_files(desk.home, model_versions.get_version(desk.database, "sums@1"))


@pytest.mark.parametrize("name", HOSTILE)
def test_names_that_could_be_paths_or_references_are_refused(desk: Desk, name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        desk("register_model", name=name, run="run-1")
    assert caught.value.field == "name"
    assert is_reference("a@b")
    assert not is_reference("owner/name@main")
    assert not is_reference("name")


@pytest.mark.parametrize("reference", ["sums@9", "sums@nowhere", "other@1", "sums@-1", "sums@99999999999999"])
def test_what_is_not_there_says_so_where_it_is_named(desk: Desk, reference: str) -> None:
    register(desk)
    with pytest.raises(ConfigError, match="no registered model") as caught:
        desk("evaluate", model=reference, dataset="D")
    assert caught.value.field == "model"


def test_an_alias_is_fixed_to_a_number_before_anything_is_queued(desk: Desk) -> None:
    register(desk)
    desk("promote", version="sums@1", alias="mine", reason="The first.")
    job_id = desk("evaluate", model="sums@mine", dataset="D")["job_id"]
    assert desk.job(job_id).config["model"] == "sums@1"
    assert desk.job(job_id).title.startswith("sums@1 on D")


def test_an_adapter_is_no_model_to_launch_on_and_none_to_continue_from(desk: Desk) -> None:
    register(desk)
    with pytest.raises(ConfigError, match="is an adapter") as caught:
        desk("launch", model="sums@1", dataset="D")
    assert caught.value.field == "model"
    with pytest.raises(ConfigError, match="can't continue from the registered model") as caught:
        desk("launch", model="tiny", init_from="sums@1", dataset="D")
    assert caught.value.field == "init_from"


def test_a_whole_model_is_launched_on_by_its_number(desk: Desk) -> None:
    register(desk, adapter=False, base=None)
    desk("promote", version="sums@1", reason="Good.")
    run_id = desk("launch", model="sums@production", dataset="D")["run_id"]
    assert desk.job(run_id).config["model"] == "sums@1"


def test_a_version_under_an_alias_or_under_another_stays(desk: Desk) -> None:
    register(desk)
    register(desk, name="child", text="child", base="sums@1")
    with pytest.raises(StateError, match="child@1 depends on sums@1"):
        desk("delete_version", version="sums@1")
    desk("delete_version", version="child@1")
    desk("promote", version="sums@1", alias="candidate", reason="Good.")
    with pytest.raises(StateError, match="sums@1 is candidate"):
        desk("delete_version", version="sums@1")


def test_a_changed_folder_is_named_by_its_file(desk: Desk) -> None:
    register(desk)
    version = model_versions.get_version(desk.database, "sums@1")
    file = desk.home.path / version.folder / "adapter_model.safetensors"
    state = file.stat()
    file.write_text("WEIGHTS")
    with pytest.raises(ConfigError, match=r"its file adapter_model.safetensors is not the one"):
        desk("evaluate", model="sums@1", dataset="D")
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))  # time and size as they were
    with pytest.raises(ModelError, match="is not the one that was registered"):
        desk("promote", version="sums@1", reason="Good.")
    (file.parent / "more.json").write_text("{}")
    file.unlink()
    with pytest.raises(ConfigError, match=r"adapter_model.safetensors is gone"):
        desk("evaluate", model="sums@1", dataset="D")


def test_the_run_may_go_and_the_version_stays(desk: Desk) -> None:
    register(desk)
    desk("delete", job="run-1")
    lines = model_versions.list_versions(
        desk.database, model_versions.get_model(desk.database, "sums").model_id
    )[1]
    assert not lines[0].run_present
    assert lines[0].source.run_name == "run-1"
    assert desk("evaluate", model="sums@1", dataset="D")["job_id"]


def test_a_folder_is_registered_and_all_that_is_asked_of_it_has_an_answer(desk: Desk) -> None:
    desk("register_model", name="sums", path="/data/model", base="tiny")
    with pytest.raises(ConfigError, match="either a run or the path of a folder"):
        desk("register_model", name="sums", path="/data/model", run="run-1")
    register(desk, run="", path="/data/model")
    desk("set_gate", model="sums", gate={"checks": [{"check": kind} for kind in OF_RUN]})
    report = gate_report.build_gate_report(*gate_checks.case(desk.database, "sums@1", "production"))
    assert [line.answer for line in report.checks] == ["cant_tell"] * len(OF_RUN)
    assert "imported folder" in report.checks[0].sentence
    assert "imported folder" in report.checks[1].sentence
    commands = [(line.command or "") for line in report.checks]
    assert commands[3:5] == [
        "tunebench bias sums@1 --against tiny",
        "tunebench model export sums@1 --form merged",
    ]
    assert "/data/model" not in model_card.format_card(version_facts.card(desk.database, "sums@1"))
    assert len(version_facts.lineage(desk.database, "sums@1").edges) == 2


def test_the_gates_check_of_the_question_reads_the_verdict(desk: Desk) -> None:
    register(desk)
    desk("set_gate", model="sums", gate={"checks": [{"check": "question_above"}]})
    given = evidence(0.83)
    for verdict, answer, sentence in (
        (judge_rows(**given), "cant_tell", "Its run did not measure the gain from the question."),
        (judge_rows(**swapped(given, 0.6)), "passed", "From the question 0."),
        (judge_rows(**swapped(given, -0.2)), "failed", "From the question −0."),
    ):
        with desk.database.transaction() as tx:
            runs.update(tx, "run-1", verdict=verdict)
        (line,) = gate_report.build_gate_report(
            *gate_checks.case(desk.database, "sums@1", "production")
        ).checks
        assert (line.answer, line.sentence[: len(sentence)]) == (answer, sentence)


def test_of_a_deleted_run_card_gate_and_lineage_say_so(desk: Desk) -> None:
    register(desk)
    desk("set_gate", model="sums", gate={"checks": [{"check": kind} for kind in OF_RUN]})
    report = gate_report.build_gate_report(*gate_checks.case(desk.database, "sums@1", "production"))
    assert report.checks[3].command == "tunebench bias run-1"
    desk("delete", job="run-1")
    report = gate_report.build_gate_report(*gate_checks.case(desk.database, "sums@1", "production"))
    assert "was deleted" in report.checks[0].sentence
    assert "Give this check a data set and a metric" in report.checks[0].sentence
    assert report.checks[0].command is None
    assert "The run that made it was deleted" in model_card.format_card(
        version_facts.card(desk.database, "sums@1")
    )
    nodes = version_facts.lineage(desk.database, "sums@1").nodes
    assert [(node.title, node.gone) for node in nodes if node.kind == "run"] == [("run-1", True)]
