"""Agent tools for bias checks: start one, and read one."""

from __future__ import annotations

from typing import Annotated, TypedDict

from pydantic import Field

from store.bias import bias_checks
from store.bias.config import BiasConfig
from store.core.figure_schemas import BiasFigure
from tunebench.agents.data import WorkQueued
from tunebench.agents.tool import ADDS_REMOTE, READS, AgentTool, Connect
from tunebench.commands.bias import build_check_document, find_newest_check


class BiasSummaryText(TypedDict):
    """A bias check: each figure of both models with what can be told of its change. What the models wrote is
    left out, as it may offend."""

    job_id: str
    run_id: str | None
    model: str
    against: str
    sentence: str
    worse: int
    cant_tell: int
    figures: list[BiasFigure]
    limits: list[str]


class BiasTools:
    """Bias tools of one engine."""

    def __init__(self, connect: Connect) -> None:
        self.connect = connect

    def tools(self) -> list[AgentTool]:
        """Return the tools."""
        return [AgentTool.of(self.check_bias, ADDS_REMOTE), AgentTool.of(self.get_bias_check, READS)]

    def check_bias(self, config: BiasConfig) -> WorkQueued:
        """What fine-tuning made worse: a run against its base, or a model against another, by probes and by
        groups of scored rows."""
        client = self.connect()
        job_id = client.command("check_bias", build_check_document(client, config))["job_id"]
        return {"job_id": job_id, "next": f"get_bias_check with check {job_id!r}"}

    def get_bias_check(
        self,
        check: Annotated[str, Field(max_length=120, description="The job_id of a check")] = "",
        of: Annotated[
            str, Field(max_length=500, description="Or else a run, or a model as NAME@3: its newest check")
        ] = "",
    ) -> BiasSummaryText:
        """A bias check: each figure of base and tuned model, its change with a 95% interval, and whether it
        is worse, better, no worse or can't be told."""
        client = self.connect()
        chosen = bias_checks.get(client, check) if check else find_newest_check(client, of)
        report = chosen.report
        return {
            "job_id": chosen.job_id,
            "run_id": chosen.run_id,
            "model": chosen.model,
            "against": chosen.against,
            "sentence": report.sentence,
            "worse": report.worse,
            "cant_tell": report.cant_tell,
            "figures": report.figures,
            "limits": report.limits,
        }
