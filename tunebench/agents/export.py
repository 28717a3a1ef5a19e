"""Agent tools for exports: models in other formats, and whether each matches the evaluated model."""

from __future__ import annotations

from typing import Annotated, TypedDict

from pydantic import Field

from store.core.export_schemas import ModelExportRow
from store.core.figure_schemas import Estimate
from store.export import exports
from store.export import text as export_text
from store.export.config import ModelExport
from tunebench.agents.data import WorkQueued
from tunebench.agents.queries import Limit
from tunebench.agents.tool import ADDS, READS, AgentTool, Connect


class ExportedForm(TypedDict):
    """An export, and whether it matches the evaluated model."""

    job_id: str
    name: str
    form: str
    status: str
    sentence: str
    answer_agreement: Estimate | None
    folder: str
    zip: str | None


class ExportList(TypedDict):
    """Exports, newest first."""

    exports: list[ExportedForm]


class ExportDetail(ExportedForm):
    """An export with all results of its comparison with the evaluated model."""

    mean_kl: Estimate | None
    argmax_agreement: Estimate | None
    prompts: int
    reasons: list[str]
    notices: list[str]


class ExportTools:
    """Export tools of one engine."""

    def __init__(self, connect: Connect) -> None:
        self.connect = connect

    def tools(self) -> list[AgentTool]:
        """Return the tools."""
        reads = (self.list_exports, self.get_export)
        return [*(AgentTool.of(function, READS) for function in reads), AgentTool.of(self.export_model, ADDS)]

    def export_model(self, config: ModelExport) -> WorkQueued:
        """Export a run or a model version in another format, load the export in a separate process, and
        compare it with the evaluated model. Nothing is published: only a person may set `hub`.
        """
        job_id = self.connect().command("export_model", config.document())["job_id"]
        return {"job_id": job_id, "next": f"get_export with export {job_id!r}"}

    def list_exports(self, limit: Limit = 20) -> ExportList:
        """List exports, newest first, each with whether it matches its model."""
        return {"exports": [_build_export(row) for row in exports.recent(self.connect(), limit=limit)]}

    def get_export(
        self,
        export: Annotated[str, Field(min_length=1, max_length=120, description="job_id of the export")],
    ) -> ExportDetail:
        """Get an export: how closely its answers agree with its model's, with intervals, and why it passed or
        failed.
        """
        row = exports.get(self.connect(), export)
        parity = row.parity
        return {
            **_build_export(row),
            "mean_kl": parity.mean_kl,
            "argmax_agreement": parity.argmax_agreement,
            "prompts": parity.prompts,
            "reasons": list(parity.reasons),
            "notices": list(row.notices),
        }


def _build_export(row: ModelExportRow) -> ExportedForm:
    return {
        "job_id": row.job_id,
        "name": row.name,
        "form": row.form,
        "status": row.status,
        "sentence": export_text.describe_export(row),
        "answer_agreement": row.parity.answer_agreement,
        "folder": row.folder,
        "zip": row.zip,
    }
