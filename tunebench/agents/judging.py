"""Tools that measure models: evaluations and bias checks."""

from __future__ import annotations

from typing import Annotated, TypedDict

from pydantic import Field

from store.config.judging.bias_config import BiasConfig
from store.config.judging.evaluate_config import EvaluateConfig
from store.documents.shipping.bias import BiasFigure
from store.queries.bias import checks
from tunebench.agents.data_tools import WorkQueued
from tunebench.agents.tool import ADDS_FROM_AFAR, READS, AgentTool, Connect
from tunebench.commands.judging.bias_cli import check_document, newest_check


class BiasInWords(TypedDict):
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


class JudgeTools:
    """The tools over one engine."""

    def __init__(self, connect: Connect) -> None:
        self.connect = connect

    def tools(self) -> list[AgentTool]:
        """All of them."""
        return [
            AgentTool.of(self.evaluate, ADDS_FROM_AFAR),
            AgentTool.of(self.check_bias, ADDS_FROM_AFAR),
            AgentTool.of(self.get_bias_check, READS),
        ]

    def evaluate(self, config: EvaluateConfig) -> WorkQueued:
        """Evaluate a run or a model on a data set. What is left out is the task's: metrics, the run's own
        data set and its test rows. To compare two, give `rows_of` of the second the first's id."""
        job_id = self.connect().command("evaluate", config.document())["job_id"]
        return {"job_id": job_id, "next": f"get_evaluation with evaluation {job_id!r}"}

    def check_bias(self, config: BiasConfig) -> WorkQueued:
        """What fine-tuning made worse: a run against its base, or a model against another, by probes and by
        groups of scored rows."""
        client = self.connect()
        job_id = client.command("check_bias", check_document(client, config))["job_id"]
        return {"job_id": job_id, "next": f"get_bias_check with check {job_id!r}"}

    def get_bias_check(
        self,
        check: Annotated[str, Field(max_length=120, description="The job_id of a check")] = "",
        of: Annotated[
            str, Field(max_length=500, description="Or else a run, or a model as NAME@3: its newest check")
        ] = "",
    ) -> BiasInWords:
        """A bias check: each figure of base and tuned model, its change with a 95% interval, and whether it
        is worse, better, no worse or can't be told."""
        client = self.connect()
        chosen = checks.get(client, check) if check else newest_check(client, of)
        report = chosen["report"]
        return {
            "job_id": chosen["job_id"],
            "run_id": chosen["run_id"],
            "model": chosen["model"],
            "against": chosen["against"],
            "sentence": report["sentence"],
            "worse": report["worse"],
            "cant_tell": report["cant_tell"],
            "figures": report["figures"],
            "limits": report["limits"],
        }
