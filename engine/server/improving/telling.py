"""What the webhook is told of an improvement, if there is one: that a person is waited for."""

from __future__ import annotations

import json

from store.db.database import Transaction
from store.documents.shipping.gate import CheckAnswer
from store.documents.tables.improvement import Improvement, ImprovementState
from store.queries import jobs
from store.queries.monitoring import webhooks
from store.queries.shipping import versions
from store.words import improvement_words


def tell(
    tx: Transaction,
    improvement: Improvement,
    state: ImprovementState,
    reason: str,
    at: float,
    *,
    answer: CheckAnswer | None = None,
) -> None:
    """That it waits for a yes or no, or has failed. answer: of its checks, once it is measured."""
    if not webhooks.webhook(tx):
        return
    message = {
        "event": "improvement",
        "improvement_id": improvement["improvement_id"],
        "improvement": improvement["name"],
        "model": versions.get_model(tx, improvement["model_id"])["name"],
        "alias": improvement["alias"],
        "title": improvement_words.STATES[state].title,
        "answer": answer,
        "reason": reason,
        "page": f"/models?model={improvement['model_id']}&tab=improve",
    }
    body = json.dumps(message, ensure_ascii=False)
    webhooks.queue(tx, jobs.new_id("message", at), None, body, jobs.utc(at))
