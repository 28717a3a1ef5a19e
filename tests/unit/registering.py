"""Versions of registered models for tests: a run as the store has it, and what a worker would leave."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine.registry import version_keeping
from store.core.job_folder import JobDir, write_json
from store.core.model_schemas import VersionFile
from store.core.version_folders import compute_fingerprint, hash_file, list_files_below
from store.jobs import job_queue
from store.runs import runs
from store.training.train_config import TrainConfig
from tests.unit.desk import Desk


def finished_run(desk: Desk, run_id: str = "run-1", **fields: Any) -> str:
    """A finished run with a model folder of two small files."""
    config = TrainConfig(name=run_id, dataset="D", model="tiny", **fields).resolved(600)
    with desk.database.transaction() as tx:
        job_queue.insert(
            tx,
            job_queue.NewJob(
                job_id=run_id, kind="train", title=run_id, config=config.model_dump(), at=desk.clock()
            ),
        )
        runs.insert(
            tx,
            runs.NewRun(
                run_id=run_id,
                config=config,
                dataset_id="data-D",
                dataset_name="D",
                fingerprint="f",
                at=desk.clock(),
            ),
        )
    desk.end(run_id, "finished")
    folder = JobDir(desk.home.jobs / run_id)
    folder.model.mkdir(parents=True)
    write_json(folder.config, {"config": config.model_dump(), "dataset": {"fingerprint": "f"}, "split": None})
    write_json(folder.model / "tunebench.json", {"adapter": True})
    return run_id


def staged(folder: Path, contents: dict[str, str], base: str | None = "tiny", adapter: bool = True) -> Any:
    """Files in a job's folder as the job `register` leaves them; its result."""
    folder.mkdir(parents=True)
    for name, text in contents.items():
        (folder / name).write_text(text)
    files = [
        VersionFile(
            path=name,
            bytes=(folder / name).stat().st_size,
            sha256=hash_file(folder / name),
            modified_ns=(folder / name).stat().st_mtime_ns,
        )
        for name in list_files_below(folder)
    ]
    return {
        **{"base_model": base, "adapter": adapter, "notices": [], "files": files},
        "fingerprint": compute_fingerprint(files),
    }


def register(
    desk: Desk, name: str = "sums", text: str = "weights", run: str = "run-1", path: str = "", **about: Any
) -> str:
    """Register what a run left, as if its worker had come and gone; the id of the job."""
    job_id = desk("register_model", name=name, run=run, path=path)["job_id"]
    config = TrainConfig(name="r", dataset="D", model="tiny").model_dump()
    write_json(desk.home.jobs / f"{job_id}.json", {"config": config, "dataset": {"fingerprint": "f"}})
    training = (desk.home.jobs / f"{job_id}.json").read_text()
    result = staged(
        JobDir(desk.home.jobs / job_id).version,
        {"adapter_model.safetensors": text, "training.json": training},
        **about,
    )
    with desk.database.transaction() as tx:
        version_keeping.store_version(tx, desk.home, desk.job(job_id), result, desk.clock())
    desk.end(job_id, "finished", result)
    return job_id
