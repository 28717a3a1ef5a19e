"""The ask `split`: how many rows each part of a data set would have."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from engine.data.deal.dealing import deal_rows, later_words
from engine.data.deal.split import check, not_as_asked
from engine.worker.job import Job
from store.config.ask_config import Fingerprint
from store.config.train_config import Split
from store.contract.document import Config
from store.contract.errors import ConfigError


class SplitAsk(Config):
    """Which data set, and how to deal its rows."""

    fingerprint: Fingerprint
    split: Split = Field(default_factory=lambda: Split.parse({}))


def run(job: Job) -> dict[str, Any]:
    """Counts, what was kept together, and the reason under `problems` where a launch with this split would be
    refused. Raises ConfigError where the column to split by is not there, or no time."""
    ask = SplitAsk.parse(job.config)
    dealt = deal_rows(job.home, ask.fingerprint, ask.split)
    problems = []
    try:
        check(dealt.counts(), ask.split)
    except ConfigError as error:
        document = error.to_dict()
        problems.append({"level": "error", **{key: document[key] for key in ("field", "message", "fix")}})
    remarks = [("info", text) for text in not_as_asked(dealt.counts(), ask.split)]
    remarks += [("warning", text) for text in [later_words(dealt.later)] if text]
    problems += [{"level": level, "field": "split_by", "message": text, "fix": ""} for level, text in remarks]
    return {
        "rows": dealt.counts(),
        "kept_together": dealt.together,
        "kept": list(dealt.kept),
        "problems": problems,
    }
