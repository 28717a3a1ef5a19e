"""The ask `split`: how many rows each part of a data set would have."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import Field

from engine.data.dataset import load
from engine.data.split import check, counts, deal
from engine.job import Job
from store.config import Config, Split
from store.errors import ConfigError


class SplitAsk(Config):
    """Which data set, and how to deal its rows."""

    fingerprint: str
    split: Split = Field(default_factory=lambda: Split.parse({}))


def run(job: Job) -> dict[str, Any]:
    """Counts, and the reason under `problems` where a launch with this split would be refused."""
    ask = SplitAsk.parse(job.config)
    digests = load(job.home, ask.fingerprint, columns=["digest"])["digest"].to_numpy()
    rows = counts(deal(digests, ask.split))
    problems = []
    try:
        check(rows, ask.split)
    except ConfigError as error:
        document = error.to_dict()
        problems.append({"level": "error", **{key: document[key] for key in ("field", "message", "fix")}})
    return {"rows": rows, "kept_together": len(digests) - len(np.unique(digests)), "problems": problems}
