"""Generate docs/truth.md and the tables of docs/methods.md, metrics.md and team.md: `python -m
store.documentation.reference_tables`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict

from store.core.features import RequiredRight
from store.core.metric_table import KIND_TITLES, METRICS
from store.core.metrics_config import list_metric_options
from store.core.rights import RIGHTS, TABLES
from store.evaluation import simulated_truth
from store.training import methods_text
from store.training.train_config import TASK_TITLES

HEADS = ("metric", "what it is", "unit", "better", "how it comes about", "needs", "options", "offered for")


class MetricRow(TypedDict):
    """Description of a metric."""

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


def list_metric_rows() -> list[MetricRow]:
    """Return one document per metric, in table order."""
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
            "options": list_metric_options(name),
            "tasks": list(metric.tasks),
            "library": metric.library,
        }
        for name, metric in METRICS.items()
    ]


def format_metrics_table() -> str:
    """Return the table for docs/metrics.md."""
    lines = [f"| {' | '.join(HEADS)} |", "|---" * len(HEADS) + "|"]
    for name, metric in METRICS.items():
        cells = (
            f"**{metric.title}** `eval/{name}`",
            metric.means + (f"; {metric.library}" if metric.library else ""),
            metric.unit or "its own",
            metric.better,
            KIND_TITLES[metric.kind],
            ", ".join(metric.needs),
            ", ".join(f"`{option}`" for option in list_metric_options(name)) or "–",
            ", ".join(TASK_TITLES[task] for task in metric.tasks) or "–",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


HEAD = "| request | nobody | viewer | rater | member | admin |"
_SHOWN = {"route": "", "command": "command ", "ask": "ask ", "query": "query ", "tool": "tool "}


def format_rights_table() -> str:
    """Return the table of rights: a row of names for each surface and right, with yes for each role that has
    it.
    """
    lines = [HEAD, "|---|---|---|---|---|---|"]
    for surface, table in TABLES.items():
        by_needs: dict[RequiredRight, list[str]] = {}
        for name, needs in table.items():
            if needs not in ("name", "door"):  # names have their own rows; the door is not a person
                by_needs.setdefault(needs, []).append(name)
        for needs, names in by_needs.items():
            listed = f"{_SHOWN[surface]}{', '.join(f'`{name}`' for name in names)}"
            cells = [
                "yes" if needs == "nobody" else "",
                *("yes" if needs == "nobody" or needs in rights else "" for rights in RIGHTS.values()),
            ]
            lines.append(f"| {listed} | {' | '.join(cells)} |")
    return "".join(f"{line}\n" for line in lines)


DOCS = Path(__file__).parents[2] / "docs"


def replace_table(page: str, table: str) -> str:
    """Return the page with the table that has the same first line replaced."""
    head = table.partition("\n")[0] + "\n"
    before, _, after = page.partition(head)
    rows = after.splitlines(keepends=True)
    end = next((place for place, line in enumerate(rows) if not line.startswith("|")), len(rows))
    return before + table + "".join(rows[end:])


def main() -> None:
    tables = {
        "methods.md": methods_text.format_methods_table(),
        "metrics.md": format_metrics_table(),
        "team.md": format_rights_table(),
    }
    for name, table in tables.items():
        path = DOCS / name
        path.write_text(replace_table(path.read_text("utf-8"), table), "utf-8")
    (DOCS / "truth.md").write_text(simulated_truth.format_truth_page(), "utf-8")


if __name__ == "__main__":
    main()
