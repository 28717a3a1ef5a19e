"""The metric of answers that a run generates while it trains, as its config names it.

A name of the metric table whose rows have a score each and which needs no options, or own/FILE for
`metrics/FILE.py` of the home folder, whose higher scores are taken to be better.
"""

from __future__ import annotations

import difflib

from store.core.metric_table import METRICS
from store.core.metrics_config import CHOICES, MetricsConfig, list_metric_options

AUTOMATIC, NONE, OWN = "", "none", "own/"
DEFAULT = "token_f1"
NEEDS = {"prediction", "reference", "prompt", "label"}


def list_metric_names() -> list[str]:
    """Those of the table that can be asked for."""
    return [name for name, metric in METRICS.items() if _is_suitable(name) and metric.better == "higher"]


def _is_suitable(name: str) -> bool:
    metric = METRICS[name]
    by_row = metric.kind == "rows" or name == "accuracy"
    plain = not any(CHOICES[name].model_fields[option].is_required() for option in list_metric_options(name))
    return by_row and plain and set(metric.needs) <= NEEDS and name != "judge"


def check_metric(value: str) -> str:
    """The name. Raises ValueError for one that can't be asked for."""
    options = list_metric_names()
    if value in (AUTOMATIC, NONE, *options):
        return value
    if value.startswith(OWN):
        if not value.removeprefix(OWN).isidentifier():
            raise ValueError("own/ is followed by the name of a file in the home's metrics, without .py")
        return value
    near = difflib.get_close_matches(value, options, n=1)
    there = f"is it {near[0]}?" if near else f"there are {', '.join(options)}, own/FILE and none"
    raise ValueError(f"no metric {value!r} can be measured while it trains; {there}")


def build_metrics(value: str) -> MetricsConfig:
    """The one metric as an evaluation's."""
    choice = {"metric": "own", "file": value.removeprefix(OWN)} if value.startswith(OWN) else value
    return MetricsConfig.parse({"metrics": [choice]})
