"""Agent tools for registered models: register a version, check a gate. Only a person can promote."""

from __future__ import annotations

from typing import Annotated, TypedDict

from pydantic import Field

from engine.registry import gate_report
from store.registry import gate_checks, model_versions
from store.registry.config import GateReference, RegisterConfig
from store.registry.gate_checks import SetGate
from store.registry.model_versions import VersionWithAliases
from store.registry.schemas import GateReport
from tunebench.agents.answers import MAX_LISTED
from tunebench.agents.data import WorkQueued
from tunebench.agents.queries import BaseModelList, Limit, list_base_models
from tunebench.agents.tool import ADDS, READS, REPLACES, AgentTool, Connect
from tunebench.commands.registry import ModelDocument, build_model_document


class ModelList(BaseModelList):
    """Base models, and versions of registered models."""

    registered: list[VersionWithAliases]
    registered_total: int


class GateChanged(TypedDict):
    """The gate of an alias, and its number of checks."""

    model: str
    alias: str
    checks: int


class GateEvaluationsStarted(TypedDict):
    """Evaluations missing for a gate are queued: poll get_job for each, then call check_gate."""

    job_ids: list[str]
    next: str


class RegistryTools:
    """Registry tools of one engine."""

    def __init__(self, connect: Connect) -> None:
        self.connect = connect

    def tools(self) -> list[AgentTool]:
        """Return the tools."""
        reads = (self.list_models, self.get_model, self.check_gate)
        adds = (self.register_model, self.gather_gate_evidence)
        return [
            *(AgentTool.of(function, READS) for function in reads),
            *(AgentTool.of(function, ADDS) for function in adds),
            AgentTool.of(self.set_gate, REPLACES),
        ]

    def list_models(self, limit: Limit = 50) -> ModelList:
        """List base models in the home folder, and registered models with their versions and aliases."""
        client = self.connect()
        return {
            **list_base_models(client, limit),
            "registered": model_versions.newest_versions(client, limit),
            "registered_total": model_versions.count_versions(client),
        }

    def get_model(
        self, model: Annotated[str, Field(min_length=1, max_length=200, description="Registered model")]
    ) -> ModelDocument:
        """Get a registered model: its versions, its aliases, and who moved them."""
        return build_model_document(self.connect(), model, limit=MAX_LISTED)

    def register_model(self, config: RegisterConfig) -> WorkQueued:
        """Register the model of a run, or a folder, as the next version of a registered model. The files are
        copied.
        """
        job_id = self.connect().command("register_model", config.model_dump())["job_id"]
        return {"job_id": job_id, "next": f"get_model with model {config.name!r}"}

    def check_gate(self, config: GateReference) -> GateReport:
        """Check a version against the gate of an alias. Returns each check with its answer, its value and a
        sentence. A gate without checks passes. Promotion is up to a person.
        """
        return gate_report.build_gate_report(*gate_checks.case(self.connect(), config.version, config.alias))

    def gather_gate_evidence(self, config: GateReference) -> GateEvaluationsStarted:
        """Queue the evaluations of a version that its gate requires and that are missing."""
        queued = self.connect().command("gather_gate_evidence", config.model_dump())["job_ids"]
        return {"job_ids": queued, "next": "get_job for each until it has ended, then check_gate"}

    def set_gate(self, config: SetGate) -> GateChanged:
        """Set the checks that a version must pass to take an alias, replacing an existing gate.
        Admins only.
        """
        body = config.model_dump() | {"gate": config.gate.document()}
        self.connect().command("set_gate", body)
        return {"model": config.model, "alias": config.alias, "checks": len(config.gate.checks)}
