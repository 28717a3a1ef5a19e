"""Tools of registered models: register, look at a gate, export. A person promotes; no tool does."""

from __future__ import annotations

from typing import Annotated, TypedDict

from pydantic import Field

from engine.registry import gate_report
from store.core.export_schemas import ModelExportRow
from store.core.figure_schemas import Estimate
from store.export import export_text, exports
from store.export.config import ModelExport
from store.registry import gate_evidence
from store.registry.config import GateReference, RegisterConfig, SetGate
from store.registry.schemas import GateReport
from tunebench.agents.answers import MAX_LISTED
from tunebench.agents.data import WorkQueued
from tunebench.agents.queries import Limit
from tunebench.agents.tool import ADDS, READS, REPLACES, AgentTool, Connect
from tunebench.commands.registry import ModelDocument, build_model_document


class GateChanged(TypedDict):
    """The gate of an alias has so many checks."""

    model: str
    alias: str
    checks: int


class GateEvaluationsStarted(TypedDict):
    """Evaluations that a gate lacked are queued: ask get_job for each, then check_gate."""

    job_ids: list[str]
    next: str


class ExportedForm(TypedDict):
    """An export, and whether it answers as the model that was evaluated."""

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
    """The same with all that was compared."""

    mean_kl: Estimate | None
    argmax_agreement: Estimate | None
    prompts: int
    reasons: list[str]
    notices: list[str]


class RegistryTools:
    """The tools over one engine."""

    def __init__(self, connect: Connect) -> None:
        self.connect = connect

    def tools(self) -> list[AgentTool]:
        """All of them."""
        reads = (self.get_model, self.check_gate, self.list_exports, self.get_export)
        adds = (self.register_model, self.gather_gate_evidence, self.export_model)
        return [
            *(AgentTool.of(function, READS) for function in reads),
            *(AgentTool.of(function, ADDS) for function in adds),
            AgentTool.of(self.set_gate, REPLACES),
        ]

    def get_model(
        self, model: Annotated[str, Field(min_length=1, max_length=200, description="A registered model")]
    ) -> ModelDocument:
        """A registered model: its versions, where its aliases stand, and who moved them."""
        return build_model_document(self.connect(), model, limit=MAX_LISTED)

    def register_model(self, config: RegisterConfig) -> WorkQueued:
        """Copy what a run left, or a folder, as the next version of a registered model."""
        job_id = self.connect().command("register_model", config.model_dump())["job_id"]
        return {"job_id": job_id, "next": f"get_model with model {config.name!r}"}

    def check_gate(self, config: GateReference) -> GateReport:
        """Whether a version passes the gate of an alias: each check with its answer, its figure and its
        sentence. Without a check everything passes. A person promotes."""
        return gate_report.build_gate_report(
            *gate_evidence.case(self.connect(), config.version, config.alias)
        )

    def gather_gate_evidence(self, config: GateReference) -> GateEvaluationsStarted:
        """Queue the evaluations that a gate lacks of a version."""
        queued = self.connect().command("gather_gate_evidence", config.model_dump())["job_ids"]
        return {"job_ids": queued, "next": "get_job for each until it has ended, then check_gate"}

    def set_gate(self, config: SetGate) -> GateChanged:
        """Say what a version has to pass before it takes an alias; it replaces the gate that there is. For
        admins."""
        body = config.model_dump() | {"gate": config.gate.document()}
        self.connect().command("set_gate", body)
        return {"model": config.model, "alias": config.alias, "checks": len(config.gate.checks)}

    def export_model(self, config: ModelExport) -> WorkQueued:
        """Export a run or a version in another form, read it back in another process, and hold it against the
        model that was evaluated. Nothing is published: `hub` is for a person."""
        job_id = self.connect().command("export_model", config.document())["job_id"]
        return {"job_id": job_id, "next": f"get_export with export {job_id!r}"}

    def list_exports(self, limit: Limit = 20) -> ExportList:
        """Exports, newest first, each with whether it answers as its model."""
        return {"exports": [_build_export(row) for row in exports.recent(self.connect(), limit=limit)]}

    def get_export(
        self,
        export: Annotated[str, Field(min_length=1, max_length=120, description="The job_id of an export")],
    ) -> ExportDetail:
        """An export: how far its answers agree with its model's, with intervals, and why it passed or not."""
        row = exports.get(self.connect(), export)
        parity = row["parity"]
        return {
            **_build_export(row),
            "mean_kl": parity["mean_kl"],
            "argmax_agreement": parity["argmax_agreement"],
            "prompts": parity["prompts"],
            "reasons": list(parity["reasons"]),
            "notices": list(row["notices"]),
        }


def _build_export(row: ModelExportRow) -> ExportedForm:
    return {
        "job_id": row["job_id"],
        "name": row["name"],
        "form": row["form"],
        "status": row["status"],
        "sentence": export_text.describe_export(row),
        "answer_agreement": row["parity"]["answer_agreement"],
        "folder": row["folder"],
        "zip": row["zip"],
    }
