"""What the screen of exports reads, and whose exports they are."""

from __future__ import annotations

from dataclasses import dataclass

from pages.shared import reads
from pages.shared.session import client, kept_for
from store.catalog.export_forms import FORMS
from store.catalog.methods import METHODS
from store.documents.shipping.export import ModelExportRow
from store.documents.shipping.version import ModelVersion
from store.documents.tables.job import Job
from store.documents.tables.run import Run
from store.queries.shipping import exports


@dataclass(frozen=True)
class ExportedModel:
    """A run, or a version of a registered model. `subject`: as commands name it. `method`: of the run, empty
    where nobody knows. has_data: it has rows of its own that model and export can both answer."""

    subject: str
    title: str
    run_id: str | None
    model_id: str | None
    version: int | None
    method: str
    headed: bool
    has_data: bool

    @classmethod
    def of_run(cls, run: Run) -> ExportedModel:
        config = run["config"]
        headed = config.get("task") == "classification"
        return cls(run["run_id"], run["name"], run["run_id"], None, None, config["method"], headed, True)

    @classmethod
    def of_version(cls, version: ModelVersion, run: Run | None) -> ExportedModel:
        """`run`: of which the version was made, where it is still there."""
        subject = f"{version['name']}@{version['version']}"
        method = run["config"]["method"] if run else ""
        headed = bool(run and run["config"].get("task") == "classification")
        return cls(
            *(subject, subject, None, version["model_id"], version["version"]),
            method,
            headed,
            run is not None,
        )

    def forms(self) -> list[str]:
        """Those that can hold it."""
        method = METHODS.get(self.method)
        names = []
        for name, form in FORMS.items():
            merges = not form.needs_merge or method is None or method.merges or not method.adapter
            adapter = form.needs_merge or method is None or method.adapter
            if merges and adapter and (form.headed or not self.headed):
                names.append(name)
        return names

    def refused(self) -> str:
        """Why forms are missing; empty where none is."""
        method = METHODS.get(self.method)
        if method and method.adapter and not method.merges:
            return f"{method.title} changes no weights of the model, so it leaves as an adapter alone."
        if self.headed:
            return "A model that classifies by a head has no GGUF file: those are of models that write."
        return ""


@kept_for(reads.LIVE, most=64)
def of_model(run_id: str | None, model_id: str | None, version: int | None) -> list[ModelExportRow]:
    """Newest first."""
    if run_id is not None:
        return exports.of_run(client(), run_id)
    assert model_id is not None
    assert version is not None
    return exports.of_version(client(), model_id, version)


@kept_for(reads.LIVE, most=64)
def verifications(export: str) -> list[Job]:
    """When an export was held against its model again, newest first."""
    return exports.verifications(client(), export)


@kept_for(reads.LIVE, most=64)
def unfinished(subject: str) -> list[Job]:
    """What is being exported, and what ended without a result."""
    return exports.unfinished(client(), subject)
