"""The table of metrics in words, for the documentation and the command line."""

from __future__ import annotations

from typing import TypedDict

from store.catalog.metric_table import KIND_TITLES, METRICS, Metric
from store.config.measuring.metrics_config import options
from store.config.training.train_config import TASK_TITLES

HEADS = ("metric", "what it is", "unit", "better", "how it comes about", "needs", "options", "offered for")


class MetricRow(TypedDict):
    """A metric in words."""

    metric: str
    title: str
    means: str
    unit: str
    better: str
    kind: str
    bounds: list[float | None]
    needs: list[str]
    options: list[str]
    tasks: list[str]
    library: str


def rows() -> list[MetricRow]:
    """One document a metric, in the order of the table."""
    return [
        {
            "metric": name,
            "title": metric.title,
            "means": metric.means,
            "unit": metric.unit,
            "better": metric.better,
            "kind": metric.kind,
            "bounds": list(metric.bounds),
            "needs": list(metric.needs),
            "options": options(name),
            "tasks": list(metric.tasks),
            "library": metric.library,
        }
        for name, metric in METRICS.items()
    ]


def markdown() -> str:
    """The table for docs/metrics.md."""
    lines = [f"| {' | '.join(HEADS)} |", "|---" * len(HEADS) + "|"]
    for name, metric in METRICS.items():
        cells = (
            f"**{metric.title}** `eval/{name}`",
            metric.means + _library(metric),
            metric.unit or "its own",
            metric.better,
            KIND_TITLES[metric.kind],
            ", ".join(metric.needs),
            ", ".join(f"`{option}`" for option in options(name)) or "–",
            ", ".join(TASK_TITLES[task] for task in metric.tasks) or "–",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _library(metric: Metric) -> str:
    return f"; {metric.library}" if metric.library else ""
