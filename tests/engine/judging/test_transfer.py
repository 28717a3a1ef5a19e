"""The transfer job on a two-layer model: pairs by row, cells that are measured once, and what can't be."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.training import train_job
from engine.transfer import job as transfer
from engine.transfer import measurements
from engine.transfer.models import ModelLoader, find_subject
from engine.worker.job import JobCancelled, WorkerJob
from store.core.home import Home
from store.core.job_folder import JobDir, read_json, write_json
from store.transfer.config import TransferConfig
from store.transfer.schemas import TransferResult
from tests.engine.job_events import QUICK, cancel_when, events
from tests.shapes import held_to
from tests.tiny import conversations, make_job, write_model, write_rows

SPLIT = {
    "split_seed": 0,
    "validation_size": 0.1,
    "test_size": 0.3,
    "split_by": "random",
    "split_column": None,
}
SPLITS = {"copy": {"split_seed": 5}, "few": {"test_size": 0.0}}
FAST = QUICK | {"max_steps": 12, "learning_rate": 1e-2, "sample_prompts": 0, "evaluations": 1}


def add_rows(home: Home, name: str, rows: list[Any], first: int) -> None:
    """A data set whose texts are no others' (their digests count from `first`)."""
    write_rows(home, name, rows)
    table = pq.read_table(home.rows(name))
    digests = pa.array(range(first, first + len(rows)), pa.uint64())
    pq.write_table(table.set_column(table.column_names.index("digest"), "digest", digests), home.rows(name))


def sums(count: int) -> list[list[dict[str, str]]]:
    return [
        [
            {"role": "user", "content": f"What is {i} and {i + 3} together?"},
            {"role": "assistant", "content": f"It is {2 * i + 3}."},
        ]
        for i in range(count)
    ]


def trained(home: Home, name: str, dataset: str = "rows", **fields: Any) -> WorkerJob:
    job = make_job(home, name, **(FAST | fields))
    spec = read_json(job.dir.config)
    spec["config"]["name"] = name
    spec["dataset"] |= {"fingerprint": dataset, "name": dataset}
    spec["split"] = SPLIT
    write_json(job.dir.config, spec)
    job = WorkerJob(job.dir.path)
    write_json(job.dir.result, {"status": "finished", "result": train_job.run(job)})
    return job


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Two data sets, a run of each, one whole model, and one that went on from the first run."""
    home = Home(tmp_path_factory.mktemp("transfer") / "home").create()
    write_model(home.models / "tiny")
    add_rows(home, "rows", conversations(60), 1_000)
    add_rows(home, "sums", sums(60), 5_000)
    trained(home, "colours", method="lora")
    trained(home, "adding", "sums", method="lora")
    trained(home, "whole", "sums", method="full", learning_rate=1e-3)
    trained(home, "then", "sums", method="lora", init_from="colours")
    return home


@pytest.fixture
def home(made: Home, tmp_path: Path) -> Home:
    """A copy, to break."""
    copy = Home(tmp_path / "home")
    shutil.copytree(made.path, copy.path)
    for config in copy.jobs.glob("*/config.json"):
        config.write_text(config.read_text().replace(str(made.path), str(copy.path)))
    return copy


def matrix(
    home: Home, name: str, runs: list[str], sets: tuple[str, ...] = ("rows", "sums"), **more: Any
) -> WorkerJob:
    config = TransferConfig.parse({"runs": runs, "datasets": list(sets)} | more)
    folder = home.jobs / name
    folder.mkdir(exist_ok=True)
    kinds = {"texts": "text"}
    dataset = [
        {
            "dataset": {"dataset_id": s, "fingerprint": s, "name": s, "kind": kinds.get(s, "chat")},
            "split": SPLIT | SPLITS.get(s, {}),
        }
        for s in sets
    ]
    order = {"job_id": name, "kind": "transfer", "home": str(home.path), "device": "cpu", "attempt": 1}
    write_json(folder / "config.json", order | {"config": config.document(), "datasets": dataset})
    return WorkerJob(folder)


def measured(home: Home, name: str, runs: list[str], *given: Any, **more: Any) -> dict[str, Any]:
    job = matrix(home, name, runs, *given, **more)
    return dict(held_to(TransferResult, transfer.run(job)))


def cells(result: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(cell["run_id"], cell["dataset_id"]): cell for cell in result["cells"]}


def test_every_run_on_every_data_set_beside_the_base(home: Home) -> None:
    result = measured(home, "all", ["colours", "adding", "whole"])
    grid = cells(result)
    assert len(grid) == 4 * 2
    assert not any(cell["reason"] for cell in grid.values())
    assert result["measured"] == 8
    own, other = grid["colours", "rows"], grid["colours", "sums"]
    assert own["relative"].low > 0
    assert own["relative"].value > other["relative"].value
    assert grid["adding", "sums"]["relative"].low > 0
    base = grid["", "sums"]["base"]["loss"].value
    assert other["base"]["loss"].value == pytest.approx(base)
    change = other["tuned"]["loss"].value - base
    assert other["change"].value == pytest.approx(change)
    assert other["relative"].value == pytest.approx(-change / base)
    assert 0 < other["n"] == other["relative"].n <= 60


def test_the_own_column_is_what_judged_the_run(home: Home) -> None:
    """The cell has the rows and the losses of the run's own verdict, where the split is the same."""
    cell = cells(measured(home, "own", ["whole"], max_rows=None))["whole", "sums"]
    judged = pq.read_table(JobDir(home.jobs / "whole").row_losses)
    held = {r["row_id"]: r for r in judged.to_pylist() if r["split"] == "test"}
    for side, column in (("base_file", "base_loss"), ("file", "tuned_loss")):
        rows = pq.read_table(JobDir(home.jobs / "own").cells / cell[side]).to_pylist()
        assert {row["row_id"] for row in rows} == set(held)
        assert all(row["loss_sum"] == pytest.approx(held[row["row_id"]][column], abs=2e-4) for row in rows)


def test_adapters_come_off_without_a_trace(home: Home) -> None:
    """Whatever was measured before it: the same numbers as with only this run, to the last digit."""
    for name, runs in (("one", ["adding"]), ("many", ["colours", "whole", "then", "adding"])):
        shutil.rmtree(home.jobs / "one" / "cells", ignore_errors=True)
        result = cells(measured(home, name, runs))
        cell = result["adding", "rows"]
        rows = [pq.read_table(home.jobs / name / "cells" / cell[k]) for k in ("base_file", "file")]
        if name == "one":
            first = rows
    assert all(a.equals(b) for a, b in zip(first, rows, strict=True))


def test_a_cell_is_measured_once(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    first = measured(home, "first", ["colours"])
    shutil.rmtree(home.cache)
    home.cache.mkdir()
    second = measured(home, "second", ["colours", "adding"])
    assert second["measured"] == 2  # those of the new run
    monkeypatch.setattr(measurements, "compute_row_losses", None)  # nothing is left to measure
    shutil.rmtree(home.jobs / "first")
    third = measured(home, "third", ["colours", "adding"])
    assert third["measured"] == 0
    assert cells(third)["colours", "sums"] == cells(first)["colours", "sums"]


def test_other_rows_and_other_weights_are_other_cells(home: Home) -> None:
    measured(home, "first", ["colours"])
    assert measured(home, "fewer", ["colours"], max_rows=5)["measured"] == 4
    assert measured(home, "shorter", ["colours"], max_length=64)["measured"] == 4
    file = home.jobs / "colours" / "model" / "adapter_model.safetensors"
    shutil.copy(home.jobs / "adding" / "model" / "adapter_model.safetensors", file)
    assert measured(home, "changed", ["colours"])["measured"] == 2  # not the base model's


def test_a_cancelled_matrix_keeps_its_cells(home: Home) -> None:
    job = matrix(home, "stopped", ["colours", "adding"])
    kept = measurements.measure_cell
    count = 0

    def counting(*given: Any) -> None:
        nonlocal count
        kept(*given)
        count += 1
        if count == 3:
            job.cancel_requested.set()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measurements, "measure_cell", counting)
        with pytest.raises(JobCancelled):
            transfer.run(job)
    assert measured(home, "again", ["colours", "adding"])["measured"] == 6 - 3


def test_rows_that_a_run_has_seen_are_left_out(home: Home) -> None:
    """A copy of the run's data under another name, and questions of it with other answers."""
    rows = conversations(60)
    add_rows(home, "copy", rows, 1_000)
    other = [[row[0], {"role": "assistant", "content": "never mind"}] for row in rows]
    add_rows(home, "asked", other, 9_000)
    result = measured(home, "seen", ["colours", "then"], ("copy", "asked", "rows"))
    split = pq.read_table(JobDir(home.jobs / "colours").split).to_pylist()
    used = {row["row_id"] for row in split if row["split"] != "test"}
    for run in ("colours", "then"):  # the second went on from the first
        for name, kind in (("copy", "trained"), ("asked", "asked")):
            cell = cells(result)[run, name]
            base = pq.read_table(home.jobs / "seen" / "cells" / cells(result)["", name]["file"])
            away = len(used & set(base["row_id"].to_pylist()))
            assert cell["left_out"][kind] == away > 0
            assert cell["n"] == base.num_rows - away
        assert cells(result)[run, "rows"]["left_out"]["trained"] == 0


def test_what_can_not_be_measured_says_why_and_the_rest_goes_on(home: Home) -> None:
    shutil.rmtree(home.jobs / "whole" / "model")
    (home.jobs / "adding" / "model" / "adapter_model.safetensors").unlink()
    write_rows(home, "few", conversations(20))
    add_rows(home, "texts", [f"Plain words number {i}, and more of them." for i in range(40)], 20_000)
    spec = read_json(home.jobs / "then" / "config.json")
    spec["config"]["task"] = "classification"
    write_json(home.jobs / "then" / "config.json", spec)
    runs = ["colours", "whole", "adding", "then", "gone"]
    grid = cells(measured(home, "bad", runs, ("rows", "few", "texts")))
    assert grid["colours", "rows"]["n"] > 0
    assert grid["colours", "texts"]["n"] > 0
    assert grid["colours", "few"]["reason"] == grid["", "few"]["reason"] == "Its split has no test rows."
    assert "It has no model" in grid["whole", "rows"]["reason"]
    assert "weights of its model are missing" in grid["adding", "rows"]["reason"]
    assert "classification head" in grid["then", "rows"]["reason"]
    assert "deleted" in grid["gone", "rows"]["reason"]


def test_broken_weights_are_named(home: Home) -> None:
    (home.jobs / "adding" / "model" / "adapter_model.safetensors").write_bytes(b"no weights")
    grid = cells(measured(home, "broken", ["adding", "colours"]))
    assert "can't be loaded" in grid["adding", "rows"]["reason"]
    assert grid["colours", "rows"]["n"] > 0


def test_what_stands_beside_it(home: Home) -> None:
    result = measured(home, "beside", ["colours", "adding", "whole", "then"])
    (distance,) = result["distances"]
    assert {distance["first"], distance["second"]} == {"rows", "sums"}
    assert 0 < distance["low"] <= distance["value"] <= distance["high"] < 1
    cosines = {frozenset((w["first"], w["second"])): w["value"] for w in result["weights"]}
    assert len(cosines) == 6
    # the run that went on from the first is more like it than one that began anew
    assert cosines[frozenset(("then", "colours"))] > cosines[frozenset(("adding", "colours"))]
    (chain,) = result["sequences"]
    assert chain.runs == ["colours", "then"]
    assert chain.datasets == ["rows"]
    grid = cells(result)
    parts = [grid[run, "rows"]["relative"].value for run in ("then", "colours")]
    assert chain.transfer.value == pytest.approx(parts[0] - parts[1])
    assert chain.transfer.n == grid["then", "rows"]["n"]


def test_the_sketch_keeps_the_cosine_of_the_weight_changes(home: Home) -> None:
    job = matrix(home, "sketch", ["colours", "adding"])
    result = transfer.run(job)
    models, flat = ModelLoader(job), []
    for name in ("colours", "adding"):
        run = find_subject(job, name).run
        assert run is not None
        with models.tuned(run) as model:
            sources = measurements.list_weight_sources(run, model, run.base(home))
            flat.append(np.concatenate([s.read()[1].numpy().ravel() for s in sources]))
    exact = flat[0] @ flat[1] / np.linalg.norm(flat[0]) / np.linalg.norm(flat[1])
    assert result["weights"][0]["value"] == pytest.approx(exact, abs=0.03)


@pytest.mark.parametrize("method", ["prompt_tuning", "ia3", "bottleneck"])
def test_methods_that_come_off_in_other_ways(home: Home, method: str) -> None:
    trained(home, "special", method=method, num_virtual_tokens=4)
    grid = cells(measured(home, "methods", ["special", "adding"]))
    alone = cells(measured(home, "alone", ["adding"]))
    assert not any(cell["reason"] for cell in grid.values())
    assert grid["adding", "rows"]["tuned"] == alone["adding", "rows"]["tuned"]
    assert grid["special", "rows"]["tuned"]["loss"] != grid["special", "rows"]["base"]["loss"]


def test_progress_is_told_in_cells(home: Home) -> None:
    job = matrix(home, "told", ["colours"])
    transfer.run(job)
    progress = [event for event in events(job, "progress") if event["unit"] == "cells"]
    assert progress[0]["total"] == 4
    stopped = matrix(home, "cancelled", ["colours"])
    cancel_when(stopped, lambda fields: fields.get("status") == "evaluating")
    shutil.rmtree(home.jobs / "told")
    with pytest.raises(JobCancelled):
        transfer.run(stopped)
