"""Transfer in the store: what may be asked for, what is found again, and the command line over it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from engine.job_handlers import write_spec
from store.core.errors import ConfigError, StateError
from store.core.job_kinds import JOB_KINDS
from store.data import datasets
from store.data.schemas import Dataset
from store.db.records import to_json
from store.jobs import job_queue
from store.transfer import transfers
from store.transfer.config import KIND, TransferConfig
from tests.pages.seeds.seed_transfer import result
from tests.unit.desk import Desk
from tests.unit.store_samples import serving
from tunebench.cli import cli
from tunebench.terminal.output import FAILED, OK, USAGE


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    desk = Desk(tmp_path / "home")
    for place in range(3):
        desk.add_dataset(f"S{place}", f"f{place}")
    return desk


def test_its_kind_of_job_is_in_the_table() -> None:
    assert KIND in JOB_KINDS


def launched(desk: Desk, name: str, dataset: str, status: str = "finished", **config: Any) -> str:
    run_id = str(desk("launch", dataset=dataset, name=name, **config)["run_id"])
    if status != "queued":
        desk.end(run_id, status)
    return run_id


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"runs": []}, "runs"),
        ({"datasets": []}, "datasets"),
        ({"runs": [f"r{i}" for i in range(21)]}, "runs"),
        ({"datasets": [f"d{i}" for i in range(13)]}, "datasets"),
        ({"part": "train"}, "part"),
        ({"max_rows": 1}, "max_rows"),
        ({"runs": ["a", ""]}, "runs"),
        ({"rows": 3}, "rows"),
    ],
)
def test_a_bad_field_is_named(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        TransferConfig.parse({"runs": ["a"], "datasets": ["d"]} | fields)
    assert caught.value.field == field


def test_a_matrix_is_queued_with_ids(desk: Desk) -> None:
    first, second = launched(desk, "A", "S0"), launched(desk, "B", "S0", status="cancelled")
    job = desk.job(desk("transfer", runs=["A", "B", first], datasets=["S0", "data-S1"])["job_id"])
    assert (job.kind, job.lane, job.title) == (KIND, "device", "Transfer: 2 runs on 2 data sets")
    assert job.config["runs"] == [first, second]
    assert job.config["datasets"] == ["data-S0", "data-S1"]
    with desk.database.transaction() as tx:
        datasets.delete_dataset(tx, "S1")
        job_queue.claim(tx, job.job_id, "cpu", 1.0)
    spec = json.loads(write_spec(desk.database, desk.home, desk.job(job.job_id)).config.read_text())
    # the other was deleted meanwhile
    assert [entry["dataset"]["name"] for entry in spec["datasets"]] == ["S0"]
    assert spec["datasets"][0]["split"]["split_seed"] == 3


def test_what_can_not_be_asked_for(desk: Desk) -> None:
    launched(desk, "A", "S0")
    launched(desk, "Other", "S0", model="another/model")
    launched(desk, "Waits", "S0", status="queued")
    for runs, sets, error, field, words in (
        (["A", "Other"], ["S0"], ConfigError, "runs", "another/model"),
        (["A", "Waits"], ["S0"], StateError, "runs", "queued"),
        (["A", "gone"], ["S0"], ConfigError, "runs", "no run 'gone'"),
        (["A"], ["S0", "gone"], ConfigError, "datasets", "no data set 'gone'"),
    ):
        with pytest.raises(error, match=words) as caught:
            desk("transfer", runs=runs, datasets=sets)
        assert caught.value.field == field


def stored(desk: Desk, job_id: str, document: dict[str, Any], config: TransferConfig, at: float) -> None:
    with desk.database.transaction() as tx:
        job_queue.insert(
            tx,
            job_queue.NewJob(job_id=job_id, kind=KIND, title="T", config=config.document(), at=at),
        )
        job_queue.update(tx, job_id, status="finished", result=document)


def measured(desk: Desk) -> tuple[list[str], list[Dataset], TransferConfig]:
    """Three runs whose matrix is in the store; the last run on the first data set has only a reason."""
    names = [launched(desk, f"Run {i}", f"S{i}") for i in range(3)]
    config = TransferConfig(runs=names, datasets=[f"data-S{i}" for i in range(3)])
    sets = [datasets.get_dataset(desk.database, f"S{i}") for i in range(3)]
    text = to_json(result(3, 3, False, config))
    for place, run_id in enumerate(names):
        text = text.replace(f'"run-{place}"', f'"{run_id}"').replace(f'"d{place}"', f'"data-S{place}"')
    document = json.loads(text)
    for entry, dataset in zip(document["datasets"], sets, strict=True):
        entry["split"] |= datasets.get_split_fields(dataset)
    stored(desk, "job-1", document, config, 5.0)
    return names, sets, config


def test_the_newest_cell_counts_and_reasons_give_way(desk: Desk) -> None:
    names, sets, config = measured(desk)
    matrix = transfers.measured_transfer(desk.database, names, sets, config.asked)
    assert not matrix.missing(names, config.datasets)
    assert matrix.failed() == [(names[2], "data-S0")]
    again = TransferConfig(runs=names[2:], datasets=["data-S0"])
    document = job_queue.get_job(desk.database, "job-1").result
    cell = matrix.cells[names[0], "data-S0"] | {"run_id": names[2]}
    stored(desk, "job-0", document | {"cells": [cell]}, again, 4.0)  # older, but with figures
    mended = transfers.measured_transfer(desk.database, names, sets, config.asked)
    assert not mended.failed()
    assert mended.cells[names[2], "data-S0"]["relative"] == cell["relative"]
    assert len(mended.distances) == 3
    assert len(mended.weights) == 3


def test_cells_of_other_rows_are_none(desk: Desk) -> None:
    names, sets, config = measured(desk)
    other = TransferConfig.parse(config.document() | {"max_rows": 7})
    matrix = transfers.measured_transfer(desk.database, names, sets, other.asked)
    assert len(matrix.missing(names, config.datasets)) == 9
    moved = [replace(sets[0], test_size=0.4), sets[1], replace(sets[2], fingerprint="new")]
    matrix = transfers.measured_transfer(desk.database, names, moved, config.asked)
    assert matrix.missing(names, config.datasets) == [
        (run, dataset) for run in names for dataset in ("data-S0", "data-S2")
    ]
    assert transfers.measured_transfer(desk.database, ["nobody"], sets, config.asked).cells == {}


def test_how_long_a_cell_takes(desk: Desk) -> None:
    assert transfers.seconds_a_cell(desk.database, 100) is None
    measured(desk)
    assert transfers.seconds_a_cell(desk.database, 100) == (60 / 12, 12)
    assert transfers.seconds_a_cell(desk.database, 9) == (60 / 12, 12)
    assert transfers.last_bad_end(desk.database) is None


def test_the_command_line_prints_the_matrix(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    names, _, _ = measured(desk)
    again: list[dict[str, Any]] = []
    command = {"transfer": lambda body, person: again.append(body) or {"job_id": "job-1"}}
    monkeypatch.setenv("TUNEBENCH_HOME", str(desk.home.path))
    with serving(desk.home, desk.database, command):
        result = CliRunner().invoke(cli, ["transfer", *names])
        as_json = CliRunner().invoke(cli, ["transfer", *names, "--json", "--measure", "right"])
        few = CliRunner().invoke(cli, ["transfer", names[0], "--datasets", "S0, S1"])
        queued = CliRunner().invoke(cli, ["transfer", *names, "--max-rows", "9", "--no-wait"])
        wrong = CliRunner().invoke(cli, ["transfer", names[0], "--measure", "luck"])
    assert result.exit_code == few.exit_code == queued.exit_code == OK, result.output
    assert "Training on S0 improves S1 by 1" in result.stdout
    lines = result.stdout.splitlines()
    assert lines[2].startswith("base model")
    assert "*** (" in lines[3]
    assert "[+4" in lines[3]  # its own data
    assert "weights of its model are missing" in result.stderr
    document = json.loads(as_json.stdout)
    assert (len(document["cells"]), len(document["failed"]), document["measure"]) == (8, 1, "right")
    assert len(again) == 3  # the cell that failed is tried again; nine new rows are measured
    assert again[-1]["max_rows"] == 9
    assert wrong.exit_code == USAGE
    assert FAILED not in (result.exit_code, few.exit_code)
