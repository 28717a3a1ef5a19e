"""Commands for bundles: write one from a run, open one, and launch the run that it describes."""

from __future__ import annotations

from engine.server import audit_log
from engine.server.command import CREATED, Command
from engine.server.job_submission import JobSubmission
from store.archives.config import BundleConfig, OpenBundleConfig, ReproduceConfig
from store.archives.schemas import OpenedBundle
from store.core.documents import parse_document
from store.core.errors import NotFoundError, StateError
from store.core.schemas import Job
from store.data import datasets
from store.db.database import Database, Transaction
from store.http.schemas import JobQueued, RunReproduced
from store.jobs import job_queue
from store.runs import runs
from store.runs.schemas import RunFacts
from store.training.train_config import TrainConfig

NAME_CHARACTERS = 105


class BundleCommands:
    """Bundle commands over one store; `launching` queues jobs."""

    def __init__(self, database: Database, launching: JobSubmission) -> None:
        self.database, self.launching = database, launching

    def table(self) -> dict[str, Command]:
        """Return the commands by name."""
        return {
            "bundle": Command(BundleConfig, self.bundle, audit_log.find_run_subject, makes_work=True),
            "open_bundle": Command(OpenBundleConfig, self.open_bundle, CREATED, makes_work=True),
            "reproduce": Command(ReproduceConfig, self.reproduce, CREATED, makes_work=True),
        }

    def bundle(self, config: BundleConfig) -> JobQueued:
        """Queue a job that writes a bundle. Raises StateError for a run that has not finished."""
        with self.database.transaction() as tx:
            run = runs.get_run(tx, config.run)
            if run.status != "finished" or not run.verdict:
                raise StateError(
                    f"The run {run.name!r} is {run.status} and has no metrics yet.",
                    fix="Choose a finished run.",
                    field="run",
                )
            datasets.get_dataset(tx, run.dataset_id)  # NotFoundError if it was deleted
            document = config.model_copy(update={"run": run.run_id}).model_dump()
            return {"job_id": self.launching.queue_job(tx, "bundle", f"Bundle {run.name}", document)}

    def open_bundle(self, config: OpenBundleConfig) -> JobQueued:
        """Queue a job that checks an uploaded bundle and imports its rows."""
        with self.database.transaction() as tx:
            title = f"Bundle {config.upload}"
            return {"job_id": self.launching.queue_job(tx, "open_bundle", title, config.model_dump())}

    def reproduce(self, config: ReproduceConfig) -> RunReproduced:
        """Queue the run that an opened bundle describes, and the job that compares its figures with the
        bundle's.
        """
        opened = self._opened(config.bundle)
        if why := opened.refused:
            raise StateError(f"The bundle can't be reproduced: {why}.", field="bundle")
        trained = self._config(opened, config)
        queued: list[str] = []

        def add_facts(tx: Transaction, run_id: str) -> RunFacts:
            document = {"run": run_id, "bundle": config.bundle, "name": trained.name}
            at = self.launching.clock()
            job_id = job_queue.create_id("job", at)
            title = f"{trained.name} compared with its bundle"
            new = job_queue.NewJob(job_id, "reproduction", title, document, at, after_jobs=[run_id])
            job_queue.insert(tx, new)
            queued.append(job_id)
            return {
                "reproduces": {
                    "bundle": opened.bundle,
                    "sha256": opened.sha256,
                    "run_id": opened.run.run_id,
                    "run_name": opened.run.name,
                    "opened_by": config.bundle,
                    "compared_by": job_id,
                }
            }

        run_id = self.launching.launch(trained, add_facts)["run_id"]
        return {"run_id": run_id, "job_id": queued[0]}

    def _opened(self, job_id: str) -> OpenedBundle:
        job: Job = job_queue.get_job(self.database, job_id)
        if job.kind != "open_bundle" or job.status != "finished" or not job.result:
            raise StateError(
                f"{job.title} ({job.status}) is not an opened bundle.",
                fix="Open a bundle first.",
                field="bundle",
            )
        return parse_document(OpenedBundle, job.result)

    def _config(self, opened: OpenedBundle, config: ReproduceConfig) -> TrainConfig:
        """Return the config of the original run, with the local names of its inputs."""
        name = config.name or f"{opened.run.name[:NAME_CHARACTERS]}, reproduced"
        changes: dict[str, object] = {
            "name": name,
            "parent": "",
            "dataset": self._dataset_id(opened.fingerprint, opened.dataset),
            "probe_datasets": [],
        }
        for other in opened.others:
            if other["role"] == "replay":
                changes["replay_dataset"] = self._dataset_id(other["fingerprint"], other["name"])
        probes = [other for other in opened.others if other["role"] == "probe"]
        here = [self._find(other["fingerprint"]) for other in probes]
        changes["probe_datasets"] = [dataset_id for dataset_id in here if dataset_id]
        return TrainConfig.parse(opened.config | changes)

    def _find(self, fingerprint: str) -> str | None:
        rows = datasets.list_datasets(self.database)
        return next((row.dataset_id for row in rows if row.fingerprint == fingerprint), None)

    def _dataset_id(self, fingerprint: str, name: str) -> str:
        if dataset_id := self._find(fingerprint):
            return dataset_id
        raise NotFoundError(
            f"The rows of {name!r} ({fingerprint}) are no longer available.",
            fix="Open the bundle again, or import the same file.",
            field="dataset",
        )
