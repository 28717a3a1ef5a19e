"""Agent tools to evaluate models, and to compare runs and evaluations on common rows."""

from __future__ import annotations

import itertools
from typing import Annotated, TypedDict

import numpy as np
from pydantic import Field

from engine.evaluation.comparison import run_comparison
from engine.evaluation.comparison.evaluation_text import describe_looks
from engine.evaluation.comparison.run_comparison import (
    RunDifference,
    SharedRows,
    compare_runs,
    count_run_pairs,
)
from store.core.documents import parse_document
from store.core.errors import ConfigError, QueryError
from store.core.figure_schemas import Estimate
from store.evaluation import evaluations, scored_rows
from store.evaluation.config import EvaluateConfig
from store.http.client import Client
from store.http.schemas import ComparisonRecorded
from store.runs import runs
from store.runs.schemas import Run
from tunebench.agents.data import WorkQueued
from tunebench.agents.queries import EvaluationName
from tunebench.agents.tool import ADDS_REMOTE, READS, AgentTool, Connect
from tunebench.commands.evaluation import compare_evaluations


class EvaluationTools:
    """Evaluation tools of one engine."""

    def __init__(self, connect: Connect) -> None:
        self.connect = connect

    def tools(self) -> list[AgentTool]:
        """Return the tools."""
        return [AgentTool.of(self.evaluate, ADDS_REMOTE)]

    def evaluate(self, config: EvaluateConfig) -> WorkQueued:
        """Evaluate a run or a model on a data set. Defaults: the metrics of the task, the run's own data set
        and its test split. To compare two evaluations, set `rows_of` of the second to the id of the first.
        """
        job_id = self.connect().command("evaluate", config.document())["job_id"]
        return {"job_id": job_id, "next": f"get_evaluation with evaluation {job_id!r}"}


MAX_COMPARED = 8
SEED_ONLY_NOTE = (
    "they differ in their seed alone, and of two such runs one is nearly always better by luck; compare"
    " settings with several seeds each on the page Compare"
)
SEVERAL_SEEDS_NOTE = (
    "one of them belongs to settings that were run with several seeds, whose variation also counts: see the"
    " page Compare"
)


class ComparedRun(TypedDict):
    """A compared run."""

    run_id: str
    name: str


class ComparedPair(TypedDict):
    """A pair of runs. separated: whether their difference is significant. second_minus_first_loss: null if
    they can't be compared.
    """

    between: list[str]
    sentence: str
    separated: bool
    second_minus_first_loss: Estimate | None


class ComparedRuns(TypedDict):
    """Pairwise comparisons of runs. intervals: the confidence level. looks: how often runs have been compared
    on the same rows, and how many false results that gives.
    """

    runs: list[ComparedRun]
    differences: list[ComparedPair]
    intervals: str
    looks: list[str]


class ComparedMetric(TypedDict):
    """Difference of two evaluations (first minus second) in a metric. first_is: better, worse, the same or
    inconclusive.
    """

    metric: str
    first_minus_second: float | None
    low: float | None
    high: float | None
    n: int
    first_is: str


class ComparedEvaluations(TypedDict):
    """Comparison of two evaluations, paired by row. rows_of_both: number of common rows."""

    first: str
    second: str
    rows_of_both: int
    sentence: str
    notices: list[str]
    metrics: list[ComparedMetric]


class CompareTools:
    """Comparison tools of one engine."""

    def __init__(self, connect: Connect) -> None:
        self.connect = connect

    def tools(self) -> list[AgentTool]:
        """Return the tools."""
        return [AgentTool.of(function, READS) for function in (self.compare_runs, self.compare_evaluations)]

    def compare_runs(
        self,
        names: Annotated[
            list[str], Field(min_length=2, max_length=MAX_COMPARED, description="Ids or names of runs")
        ],
    ) -> ComparedRuns:
        """Compare runs pairwise, to find out which is better. Returns the loss difference of each pair on the
        rows that both held out, with an interval corrected for the number of pairs; or that the pair is
        inconclusive; or why it can't be compared. Call a run better only if this tool does.
        """
        client = self.connect()
        chosen = list({run.run_id: run for run in (runs.get_run(client, name) for name in names)}.values())
        if len(chosen) < 2:
            raise ConfigError("There is one run to compare.", fix="Name two or more.", field="names")
        comparisons = count_run_pairs(len(chosen))
        seeded = {run.run_id for group in runs.group_repetitions(chosen) if len(group) > 1 for run in group}
        differences = [
            _compare_runs(client, *pair, comparisons, seeded) for pair in itertools.combinations(chosen, 2)
        ]
        return {
            "runs": [{"run_id": run.run_id, "name": _get_run_name(run)} for run in chosen],
            "differences": [
                {
                    "between": [pair.better, pair.other],
                    "sentence": pair.sentence,
                    "separated": pair.separated,
                    "second_minus_first_loss": pair.interval.to_estimate() if pair.interval else None,
                }
                for pair in differences
            ],
            "intervals": f"95% for all {comparisons} pairs together (Bonferroni)",
            "looks": _record_comparison(client, [run.run_id for run in chosen]),
        }

    def compare_evaluations(self, first: EvaluationName, second: EvaluationName) -> ComparedEvaluations:
        """Compare two evaluations on the same data, paired by row. Returns the difference in each metric
        (first minus second) with its interval, and whether the first is better, worse, the same or
        inconclusive.
        """
        client = self.connect()
        sides = [evaluations.get(client, name) for name in (first, second)]
        differences, comparison = compare_evaluations(client, *sides)
        return {
            "first": sides[0].name,
            "second": sides[1].name,
            "rows_of_both": comparison["common"],
            "sentence": comparison["sentence"],
            "notices": comparison["notices"],
            "metrics": [
                {
                    "metric": gap.metric.removeprefix("eval/"),
                    "first_minus_second": gap.value,
                    "low": gap.low,
                    "high": gap.high,
                    "n": gap.n,
                    "first_is": gap.first_is,
                }
                for gap in differences
            ],
        }


def _get_run_name(run: Run) -> str:
    return f"{run.name} ({run.run_id})"


def _record_comparison(client: Client, run_ids: list[str]) -> list[str]:
    answer = parse_document(ComparisonRecorded, client.command("record_comparison", {"runs": run_ids}))
    return [sentence for looks in answer["looks"] if (sentence := describe_looks(looks))]


def _compare_runs(
    client: Client, first: Run, second: Run, comparisons: int, seeded: set[str]
) -> RunDifference:
    """Compare each pair of runs; seeded: runs whose settings were run with several seeds among those
    compared.
    """
    names = _get_run_name(first), _get_run_name(second)
    for run in (first, second):
        if not (run.verdict and run.verdict.gain):
            return RunDifference(*names, None, f"{run.name} has no gain: it is {run.status}")
    reason = run_comparison.find_incomparability(first, second)
    if not reason and {first.run_id, second.run_id} & seeded:
        alone = runs.make_settings_key(first) == runs.make_settings_key(second)
        reason = SEED_ONLY_NOTE if alone else SEVERAL_SEEDS_NOTE
    if reason:
        return RunDifference(*names, None, reason)
    gain = run_comparison.require_gain(first)
    try:
        rows = scored_rows.shared_losses(client, first.run_id, second.run_id, gain.split)
    except QueryError:
        return RunDifference(*names, None, "the losses of single rows of one of them are not there")
    if not all(rows["same_tokens"].to_pylist()):
        return RunDifference(*names, None, "they count the tokens of the same rows differently")
    columns = [np.asarray(rows[name].to_numpy()) for name in ("first_loss", "second_loss", "tokens")]
    return compare_runs(*names, SharedRows(*columns), comparisons=comparisons, unit=gain.unit)
