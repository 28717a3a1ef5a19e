"""What the documentation says of the metrics is what the table says, and its examples work."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from engine.evaluation.metrics.measurement import SCORERS
from store.core.metric_table import KIND_TITLES, METRICS
from store.core.metrics_config import CHOICES, MetricsConfig
from store.documentation import reference_tables
from store.evaluation.config import EvaluateConfig
from store.training.train_config import TASK_TITLES, TrainConfig
from tunebench.cli import cli

DOCS = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text(encoding="utf-8")


def test_the_documentation_has_the_table_as_it_is() -> None:
    assert reference_tables.format_metrics_table() in DOCS
    assert [row["metric"] for row in reference_tables.list_metric_rows()] == list(METRICS)


def test_the_command_line_lists_every_metric_with_its_options() -> None:
    listed = {row["metric"]: row for row in json.loads(CliRunner().invoke(cli, ["metrics", "--json"]).stdout)}
    assert list(listed) == list(METRICS)
    assert listed["bleu"]["options"] == ["tokenize", "lowercase"]
    assert len(CliRunner().invoke(cli, ["metrics"]).stdout.splitlines()) == len(METRICS) + 1


def test_every_metric_can_be_chosen_and_measured() -> None:
    assert set(CHOICES) == set(METRICS)
    assert set(SCORERS) == {metric.family for metric in METRICS.values()}
    for metric in METRICS.values():
        assert metric.kind in KIND_TITLES
        assert set(metric.tasks) <= set(TASK_TITLES)
        low, high = metric.bounds
        assert low is None or high is None or low < high


@pytest.mark.parametrize("example", re.findall(r"```yaml\n(.*?)```", DOCS, re.DOTALL))
def test_the_examples_are_taken(example: str) -> None:
    document = yaml.safe_load(example)
    whole = {"metrics": document} if isinstance(document, list) else document
    if "model" in whole:
        EvaluateConfig.parse(whole)
    elif "metrics" in whole:
        MetricsConfig.parse(whole)
    else:  # fields of a run
        TrainConfig.parse({"dataset": "d", **whole})


def test_every_kind_of_constraint_is_documented() -> None:
    section = DOCS.split("Constraints: ")[1].split("\n\n")[0]
    for kind in (
        "sentences",
        "headings",
        "placeholders",
        "contains",
        "ends_with",
        "case",
        "does_not_match",
        "json",
    ):
        assert f"`{kind}`" in section
