"""A tiny run is registered and evaluated as NAME@1: the same answers, whatever becomes of the run."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from engine.evaluation import evaluate_job
from engine.registry import register_job
from engine.worker.job import WorkerJob
from store.core.errors import ModelError
from store.core.home import Home
from store.core.job_folder import write_json
from store.core.version_folders import VersionDir, find_model_id
from store.registry.config import RegisterConfig
from tests.engine.evaluating import evaluation, home_with_rows, trained
from tests.tiny import write_model


def registering(home: Home, name: str, **fields: Any) -> WorkerJob:
    folder = home.jobs / name
    folder.mkdir()
    config = RegisterConfig.parse({"name": "sums", **fields})
    order = {"job_id": name, "kind": "register", "home": str(home.path), "device": "cpu"}
    write_json(folder / "config.json", order | {"config": {"register": config.model_dump()}})
    return WorkerJob(folder)


def placed(home: Home, job: WorkerJob, number: int) -> VersionDir:
    """As the engine does it once the job is over."""
    result = register_job.run(job)
    folder = VersionDir(home.registry / find_model_id("sums") / str(number))
    folder.path.parent.mkdir(exist_ok=True)
    os.rename(job.dir.version, folder.path)
    seal = {"reference": f"sums@{number}", "job_id": job.dir.path.name, "files": result["files"]}
    write_json(folder.seal, seal)
    return folder


def answers(job: WorkerJob) -> Any:
    evaluate_job.run(job)
    return pq.read_table(job.dir.predictions, columns=["row_id", "prediction", "loss_sum"]).to_pydict()


def test_a_version_answers_as_its_run_did_and_outlives_it(tmp_path: Path) -> None:
    home = home_with_rows(tmp_path)
    trained(home, "run")
    own = answers(evaluation(home, "of-run", run="run"))
    version = placed(home, registering(home, "reg", run="run"), 1)
    shutil.rmtree(home.jobs / "run")
    job = evaluation(home, "of-version", model="sums@1")
    assert answers(job) == own
    (version.path / "adapter_model.safetensors").write_bytes(b"other")
    with pytest.raises(ModelError, match=r"sums@1 was changed after.*adapter_model.safetensors has 5 bytes"):
        evaluate_job.run(evaluation(home, "changed", model="sums@1"))


def test_folders_are_registered_by_what_their_files_are_called(tmp_path: Path) -> None:
    home = home_with_rows(tmp_path)
    folder = write_model(tmp_path / "elsewhere")
    version = placed(home, registering(home, "reg", path=str(folder)), 1)
    assert "adapter" not in version.path.name
    answers(evaluation(home, "whole", model="sums@1", max_rows=4))
    (folder / "pytorch_model.bin").write_bytes(b"pickled")
    with pytest.raises(ModelError, match=r"pytorch_model.bin is not part of a model"):
        register_job.run(registering(home, "pickled", path=str(folder)))
    (folder / "pytorch_model.bin").unlink()
    (tmp_path / "secret.json").write_text("{}")
    (folder / "more.json").symlink_to(tmp_path / "secret.json")
    with pytest.raises(ModelError, match=r"more.json is a link to a place outside"):
        register_job.run(registering(home, "linked", path=str(folder)))
    (folder / "more.json").unlink()
    (folder / "model.safetensors").write_bytes(b"short")
    with pytest.raises(ModelError, match="truncated"):
        register_job.run(registering(home, "cut", path=str(folder)))
    assert not (home.jobs / "cut" / "version").exists()
