"""How answers are measured: metrics with their options, constraints, the judge, the metric of a live run."""
