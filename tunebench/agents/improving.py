"""The tool that reads improvements of registered models. Whether one takes an alias a person decides, on the
screens."""

from __future__ import annotations

import math
from typing import Any

from store.documents.shipping.gate import CheckReport
from store.documents.tables.improvement import Improvement
from store.queries.shipping import improvements, versions
from store.words import improvement_words
from tunebench.agents.answers import MOST_LISTED
from tunebench.agents.reading import Connect, Limit

ANSWERS = {
    "passed": "surely not worse than the margin allows",
    "failed": "surely worse than the margin allows",
    "cant_tell": "can't be told",
}


class ImproveTools:
    """The tool over one engine; `connect` gives its client or raises."""

    def __init__(self, connect: Connect) -> None:
        self.connect = connect

    def list_improvements(self, model: str = "", limit: Limit = 20) -> object:
        """Improvements of a registered model, newest first; without a model those under way of all models,
        oldest first. Each with its state, its new rows, and how the new version does beside the one in use
        on old and new rows, with 95% intervals; `judged_by`: new rows that judge, and
        earlier ones that do again. A person promotes or declines; no tool does."""
        client = self.connect()
        if model:
            model_id = versions.get_model(client, model)["model_id"]
            listed = improvements.of_model(client, model_id, limit=min(limit, MOST_LISTED))
        else:
            listed = improvements.in_states(client)
        return {
            "shown": len(listed[:limit]),
            "may_be_more": len(listed) >= limit,
            "improvements": [_line(improvement) for improvement in listed[:limit]],
        }


def _line(improvement: Improvement) -> dict[str, Any]:
    facts, trouble = improvement["facts"], improvement["trouble"]
    return {
        "improvement_id": improvement["improvement_id"],
        "name": improvement["name"],
        "state": improvement_words.STATES[improvement["state"]].title,
        "alias": improvement["alias"],
        "new_version": facts.get("version"),
        "in_use": facts.get("holder") or None,
        "run_id": facts.get("run_id"),
        "new_rows": facts.get("rows"),
        "judged_by": improvement_words.judges(facts["rows"]) if "rows" in facts else None,
        "checks": [_check(check) for check in facts["gate"]["checks"]] if "gate" in facts else [],
        "trouble": f"{trouble['message']} {trouble.get('fix') or ''}".strip() if trouble else None,
        "begun_by": "the schedule" if improvement["scheduled"] else improvement["begun_by_name"],
        "begun_at": improvement["begun_at"],
        "ended_by": improvement["ended_by_name"],
        "note": improvement["note"],
    }


def _check(check: CheckReport) -> str:
    """ "New rows: passed, surely …: 0.061 share (95% interval 0.018 to 0.104, n 300); above 0 is better"."""
    value = check["value"]
    answer = f"{check['title']}: {ANSWERS[check['answer']]}"
    if value is None:
        return f"{answer}. {check['sentence']}"
    low, high = value["low"], value["high"]
    if low is None or high is None or not math.isfinite(low) or not math.isfinite(high):
        return f"{answer}: {value['value']:.4g} {check['unit']} (no interval, n {value['n']:,})"
    interval = f"95% interval {low:.4g} to {high:.4g}, n {value['n']:,}"
    return f"{answer}: change {value['value']:.4g} {check['unit']} ({interval}; above 0 is better)"
